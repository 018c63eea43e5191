//! The most that a thread can multiply: what products are measured against.

use pulp::{Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use crate::tiles::Unit;
#[cfg(target_arch = "x86_64")]
use crate::vectors::Kind;
use crate::vectors::Vectors;

/// Sums that do not wait for each other: enough for two units that take four cycles.
const SUMS: usize = 12;

/// What was multiplied in registers.
#[derive(Debug, Clone, Copy)]
pub struct Multiplied {
    /// Products and sums, each counted.
    pub operations: u64,
    /// Depends on all of them, so that none is left out.
    pub result: f32,
}

/// Multiplies and adds f32 in registers, so many rounds.
pub fn multiply_floats(vectors: Vectors, rounds: usize) -> Multiplied {
    vectors.run(Floats { rounds })
}

/// Multiplies and adds in tiles of bf16, so many rounds; None on paths without.
pub fn multiply_tiles(vectors: Vectors, rounds: usize) -> Option<Multiplied> {
    #[cfg(target_arch = "x86_64")]
    if let Kind::Amx(_, permission) = vectors.kind() {
        let operations = Unit::new(permission).multiply_registers(rounds);
        let result = 0.0;
        return Some(Multiplied { operations, result });
    }
    let _ = (vectors, rounds);
    None
}

struct Floats {
    rounds: usize,
}

impl WithSimd for Floats {
    type Output = Multiplied;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Multiplied {
        // Not known to the compiler, and so little that sums stay numbers.
        let factor = simd.splat_f32s(std::hint::black_box(1e-3));
        let mut sums = [simd.splat_f32s(1.0); SUMS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, factor);
            }
        }
        let mut all = sums[0];
        for sum in &sums[1..] {
            all = simd.add_f32s(all, *sum);
        }
        Multiplied {
            operations: 2 * (self.rounds * SUMS * S::F32_LANES) as u64,
            result: simd.reduce_sum_f32s(all),
        }
    }
}
