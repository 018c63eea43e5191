//! The most that a core can do, for measuring it.

use std::hint::black_box;

use pulp::{Simd, WithSimd};

use crate::vectors::Vectors;

/// Sums that do not wait for each other: two units of four cycles want eight at least, and the
/// registers of the narrowest vectors hold sixteen values.
const SUMS: usize = 10;

/// Multiplies and adds on registers alone, `n_rounds` times, and gives the number of multiply-adds
/// that were done. No product can do more of them a second on the calling thread.
pub fn multiply_on_registers(vectors: Vectors, n_rounds: u64) -> u64 {
    let (lanes, sum) = vectors.run(Rounds(n_rounds));
    black_box(sum);
    n_rounds * (SUMS * lanes) as u64
}

struct Rounds(u64);

impl WithSimd for Rounds {
    type Output = (usize, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (usize, f32) {
        // Neither is known to the compiler, and sums stay bounded.
        let factor = simd.splat_f32s(black_box(0.5));
        let addend = simd.splat_f32s(black_box(1.0));
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, addend);
            }
        }
        let mut total = sums[0];
        for sum in &sums[1..] {
            total = simd.add_f32s(total, *sum);
        }
        (S::F32_LANES, simd.reduce_sum_f32s(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiply_adds_are_counted_by_lanes() {
        for vectors in Vectors::all() {
            let one = multiply_on_registers(vectors, 1);
            assert!(one >= SUMS as u64, "{}", vectors.name());
            assert_eq!(multiply_on_registers(vectors, 1000), 1000 * one);
        }
    }
}
