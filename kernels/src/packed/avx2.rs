//! The inner loops for AVX2, each a function of its own.
//!
//! Sixteen registers are just enough for six rows by two vectors of sums. Inlined into a function
//! that does more, the compiler keeps some of them in memory, and a sum that goes through memory
//! waits twice as long for its next product: the loop then reaches 40% of what it does alone.

#![allow(clippy::needless_range_loop, reason = "several arrays share an index")]
#![allow(
    unsafe_code,
    reason = "functions for instructions that the caller has to know of, and loads from pointers, \
              which keep checks out of the innermost loop"
)]

use std::arch::x86_64::{
    __m256, __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps,
};

use pulp::x86::V3;

use super::PANEL;

/// Values of a vector.
const LANES: usize = 8;

/// Adds to the sums of each row the products of its values with `V` vectors of a panel from
/// `vector` on. Sums are those of the first row, then those of the second, and so on.
///
/// # Panics
/// When rows are of different lengths, or weights or sums are missing.
pub(super) fn add_floats<const R: usize, const V: usize>(
    _avx2: V3,
    rows: [&[f32]; R],
    weights: &[f32],
    vector: usize,
    sums: &mut [[f32; LANES]],
) {
    let n = check::<R, V, f32>(&rows, weights.len(), vector, sums.len());
    // SAFETY: AVX2 and FMA are there, as `V3` says. Rows have `n` values, weights `n` times a
    // panel, of which the vectors are a part, and there are `R * V` sums: `check` has seen to it.
    unsafe {
        floats::<R, V>(
            rows.map(<[f32]>::as_ptr),
            n,
            weights.as_ptr().add(LANES * vector),
            sums,
        )
    }
}

/// As [`add_floats`] for pairs of integers of 16 bits. Sums are whole numbers over a section of so
/// many pairs, at least one, and f32 from section to section.
///
/// # Panics
/// When rows are of different lengths, or weights or sums are missing.
pub(super) fn add_pairs<const R: usize, const V: usize>(
    _avx2: V3,
    rows: [&[i32]; R],
    weights: &[i32],
    vector: usize,
    section: usize,
    sums: &mut [[f32; LANES]],
) {
    let n = check::<R, V, i32>(&rows, weights.len(), vector, sums.len());
    let rows = rows.map(<[i32]>::as_ptr);
    for first in (0..n).step_by(section) {
        let weights = &weights[first * PANEL + LANES * vector..];
        let n = section.min(n - first);
        // SAFETY: as in `add_floats`, for the pairs of a section, which begins within the rows.
        unsafe { pairs::<R, V>(&rows, first, n, weights.as_ptr(), sums) }
    }
}

/// The length of rows.
fn check<const R: usize, const V: usize, T>(
    rows: &[&[T]; R],
    n_weights: usize,
    vector: usize,
    n_sums: usize,
) -> usize {
    let n = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == n), "rows of one length");
    assert!(n_weights >= n * PANEL, "a panel of weights");
    assert!((vector + V) * LANES <= PANEL, "vectors of a panel");
    assert_eq!(n_sums, R * V, "a vector of sums for each");
    n
}

/// # Safety
/// Rows have `n` values, weights `n` times [`PANEL`] but for what stands before the first vector,
/// and there are `R * V` sums.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn floats<const R: usize, const V: usize>(
    rows: [*const f32; R],
    n: usize,
    mut weights: *const f32,
    sums: &mut [[f32; LANES]],
) {
    let mut now = [[_mm256_setzero_ps(); V]; R];
    for index in 0..R {
        for vector in 0..V {
            // SAFETY: a reference to eight values.
            now[index][vector] = unsafe { _mm256_loadu_ps(sums[index * V + vector].as_ptr()) };
        }
    }
    for input in 0..n {
        let mut of_input: [__m256; V] = [_mm256_setzero_ps(); V];
        for vector in 0..V {
            // SAFETY: the vectors of this input lie in its panel.
            of_input[vector] = unsafe { _mm256_loadu_ps(weights.add(LANES * vector)) };
        }
        for index in 0..R {
            // SAFETY: rows have `n` values.
            let value = _mm256_set1_ps(unsafe { *rows[index].add(input) });
            for vector in 0..V {
                now[index][vector] = _mm256_fmadd_ps(value, of_input[vector], now[index][vector]);
            }
        }
        weights = weights.wrapping_add(PANEL);
    }
    for index in 0..R {
        for vector in 0..V {
            // SAFETY: a reference to eight values.
            unsafe {
                _mm256_storeu_ps(sums[index * V + vector].as_mut_ptr(), now[index][vector]);
            }
        }
    }
}

/// # Safety
/// Rows have `first + n` pairs; the rest as for [`floats`].
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn pairs<const R: usize, const V: usize>(
    rows: &[*const i32; R],
    first: usize,
    n: usize,
    mut weights: *const i32,
    sums: &mut [[f32; LANES]],
) {
    let rows = rows.map(|row| row.wrapping_add(first));
    let mut now = [[_mm256_setzero_si256(); V]; R];
    for pair in 0..n {
        let mut of_pair: [__m256i; V] = [_mm256_setzero_si256(); V];
        for vector in 0..V {
            let from = weights.wrapping_add(LANES * vector).cast::<__m256i>();
            // SAFETY: the vectors of this pair lie in its panel.
            of_pair[vector] = unsafe { _mm256_loadu_si256(from) };
        }
        for index in 0..R {
            // SAFETY: rows have so many pairs.
            let value = _mm256_set1_epi32(unsafe { *rows[index].add(pair) });
            for vector in 0..V {
                let products = _mm256_madd_epi16(value, of_pair[vector]);
                now[index][vector] = _mm256_add_epi32(now[index][vector], products);
            }
        }
        weights = weights.wrapping_add(PANEL);
    }
    for index in 0..R {
        for vector in 0..V {
            let sum = sums[index * V + vector].as_mut_ptr();
            // SAFETY: a reference to eight values.
            unsafe {
                let floats = _mm256_cvtepi32_ps(now[index][vector]);
                _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), floats));
            }
        }
    }
}
