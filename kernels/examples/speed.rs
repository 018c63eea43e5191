//! Prints how fast products of the shapes of a 3B decoder are, beside reading memory.
//!
//! ```text
//! cargo run --release -p quire-kernels --example speed [-- Bf16]
//! ```
//!
//! Matrices are cycled through so that none is found in a cache. With few rows the bytes a second
//! tell, with many the operations. Everything is timed for each kind of instructions but the
//! portable one; the best of several runs is shown.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::time::Instant;

use quire_kernels::{Matrix, Product, Rows, Stored, Vectors, multiply, read_through};

/// More than any cache holds.
const BYTES: usize = 512 << 20;

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let bytes: &'static [u8] = noise(BYTES).leak();
    let widest = Vectors::widest();
    let seconds = best(20, || {
        std::hint::black_box(read_through(widest, bytes));
    });
    println!(
        "reading              {:7.2} GB/s",
        BYTES as f64 / seconds / 1e9
    );
    for vectors in Vectors::all() {
        if vectors.name() == "portable" {
            continue;
        }
        println!("{}", vectors.name());
        for stored in [Stored::Bf16, Stored::F16, Stored::F32] {
            if !format!("{stored:?}").contains(&only) {
                continue;
            }
            for [inputs, outputs] in [[1280, 1280], [1280, 896], [896, 1280], [6848, 1280]] {
                for n in [1, 2, 4, 6, 16, 96] {
                    time(vectors, bytes, stored, [n, inputs, outputs]);
                }
            }
        }
    }
}

/// bf16, f16 and f32 of moderate size, whichever way the bytes are taken.
fn noise(n: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..n)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            match index % 2 {
                0 => (state >> 24) as u8,
                _ => 0x3c | (state >> 24) as u8 & 0x81,
            }
        })
        .collect()
}

fn time(vectors: Vectors, bytes: &'static [u8], stored: Stored, shape: [usize; 3]) {
    let [n, inputs, outputs] = shape;
    let matrix_bytes = inputs * outputs * stored.bytes();
    // Few rows take many matrices to be worth timing, many rows few.
    let n_matrices = (BYTES / matrix_bytes).min(256 / n).max(4);
    let matrices: Vec<Matrix> = bytes
        .chunks_exact(matrix_bytes)
        .take(n_matrices)
        .map(|bytes| Matrix::new(bytes, stored, outputs, inputs))
        .collect();
    let rows = Rows::from_values(&vec![0.5; n * inputs], inputs);
    let mut out = Rows::zeros(n, outputs);
    let seconds = best(20, || {
        for matrix in &matrices {
            let product = Product {
                rows: &rows,
                chosen: None,
                matrix,
                out: &mut out,
                adds: false,
            };
            multiply(vectors, vec![product]);
        }
    });
    let weights = (n_matrices * inputs * outputs) as f64;
    println!(
        "{:<5} {inputs:>5} -> {outputs:<5} {n:>3} rows {:7.2} GB/s {:8.1} GFLOP/s",
        format!("{stored:?}"),
        weights * stored.bytes() as f64 / seconds / 1e9,
        2.0 * weights * n as f64 / seconds / 1e9,
    );
}

fn best(runs: usize, mut work: impl FnMut()) -> f64 {
    let seconds = (0..runs).map(|_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}
