//! The most that the cores of this machine can do, all of those that read at the same time.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use quire_kernels::{Vectors, multiply_floats, multiply_tiles};

/// How long it is measured: longer than a clock that steps up or down takes for it.
const LASTING: Duration = Duration::from_millis(300);
/// Rounds between looks at the clock: some microseconds.
const ROUNDS: usize = 10_000;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peak {
    /// Instructions that products are made of.
    pub path: &'static str,
    /// Of one core while the others are as busy.
    pub flops_a_core: f64,
}

impl Peak {
    /// Measures on so many threads at once.
    pub(super) fn measure(n_threads: usize) -> Self {
        let barrier = Barrier::new(n_threads);
        let run = || {
            barrier.wait();
            flops(LASTING)
        };
        let sum: f64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(run)).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended.map(|flops| flops.unwrap_or_default()).sum()
        });
        Self {
            path: Vectors::chosen().name(),
            flops_a_core: sum / n_threads as f64,
        }
    }
}

fn flops(lasting: Duration) -> f64 {
    let vectors = Vectors::chosen();
    let start = Instant::now();
    let mut operations = 0;
    while start.elapsed() < lasting {
        let multiplied = multiply_tiles(vectors, ROUNDS);
        let multiplied = multiplied.unwrap_or_else(|| multiply_floats(vectors, ROUNDS));
        black_box(multiplied.result);
        operations += multiplied.operations;
    }
    operations as f64 / start.elapsed().as_secs_f64()
}
