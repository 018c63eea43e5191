//! The inner loop of products: some rows with two vectors of columns, the sums in registers.

use pulp::{Simd, WithSimd};

use super::loops::run;

/// What products on this CPU work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Values of a vector.
    pub(super) lanes: usize,
    /// Rows whose sums stay in registers.
    pub(super) rows: usize,
}

/// Sizes of the instruction set that [`run`] chooses.
pub(super) fn sizes() -> Sizes {
    struct Ask;

    impl WithSimd for Ask {
        type Output = Sizes;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> Sizes {
            Sizes {
                lanes: S::F32_LANES,
                rows: if S::REGISTER_COUNT >= 32 { 12 } else { 6 },
            }
        }
    }

    run(Ask)
}

/// Adds to the sums of each row the products of its values with as many pairs of vectors.
#[inline(always)]
pub(super) fn accumulate<S: Simd, const R: usize>(
    simd: S,
    rows: [&[f32]; R],
    pairs: &[S::f32s],
    sums: &mut [[S::f32s; 2]; R],
) {
    // A copy of its own, which the compiler keeps in registers.
    let mut registers = *sums;
    for (index, pair) in pairs.as_chunks::<2>().0.iter().enumerate() {
        for row in 0..R {
            let value = simd.splat_f32s(rows[row][index]);
            for vector in 0..2 {
                registers[row][vector] =
                    simd.mul_add_f32s(value, pair[vector], registers[row][vector]);
            }
        }
    }
    *sums = registers;
}
