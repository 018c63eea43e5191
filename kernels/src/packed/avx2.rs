//! The product for AVX2, block by block of rows and columns.
//!
//! Sixteen registers are just enough for six rows by two vectors of sums.

#![allow(clippy::needless_range_loop, reason = "several arrays share an index")]
#![allow(
    unsafe_code,
    reason = "functions for instructions that the caller has to know of, and pointers, which keep \
              checks out of the innermost loops"
)]

use std::arch::asm;
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_and_ps, _mm_castps_pd, _mm_castsi128_ps, _mm_cmpgt_epi32,
    _mm_cmpgt_ps, _mm_cmplt_ps, _mm_div_ps, _mm_max_epu32, _mm_movehl_ps, _mm_mul_ps, _mm_or_ps,
    _mm_set1_epi32, _mm_set1_ps, _mm_setr_epi32, _mm_setzero_ps, _mm_store_sd, _mm_store_ss,
    _mm_storeu_ps, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castps256_ps128,
    _mm256_castsi256_si128, _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtps_epi32,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_fmsub_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maskload_ps, _mm256_max_epu32,
    _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32, _mm256_permute4x64_epi64,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use pulp::x86::V3;

use super::blocks::{
    Blocks, Floats, GELU, HARD_SWISH, Pairs, RELU, RoundsRows, Target, Unrounded, multiply,
    pointers,
};
use super::fixed::nearest;
use super::{PANEL, Product};
use crate::activation::GELU as FIT;
use crate::vectors::Vectors;

/// Values of a vector.
const LANES: usize = 8;
/// Rows of the largest block.
const ROWS: usize = 6;

/// Multiplies rows with panels of f32.
///
/// # Panics
/// When shapes do not fit.
pub(super) fn multiply_floats(
    _avx2: V3,
    vectors: Vectors,
    panels: &[f32],
    mut product: Product<'_>,
) {
    let floats = Floats::new(panels, &product);
    // SAFETY: AVX2 and FMA are there, as `V3` says, and shapes are checked.
    unsafe { multiply(&OfAvx2(&floats), vectors, &mut product) }
}

/// Multiplies rows with panels of 16-bit integers.
///
/// # Panics
/// When shapes do not fit.
pub(super) fn multiply_pairs(
    _avx2: V3,
    vectors: Vectors,
    pairs: &Pairs<'_>,
    mut product: Product<'_>,
) {
    pairs.check(&product);
    // SAFETY: AVX2 and FMA are there, as `V3` says, and shapes are checked.
    unsafe { multiply(&OfAvx2(pairs), vectors, &mut product) }
}

/// Rounds rows to whole numbers of at most `greatest`, and gives what one stands for in each.
///
/// # Panics
/// When shapes do not fit.
pub(super) fn round_rows(
    _avx2: V3,
    product: &Product<'_>,
    greatest: f32,
    rounded: &mut [i16],
    scales: &mut [f32],
) {
    let rows = Unrounded::new(product, greatest);
    // SAFETY: AVX2 and FMA are there, as `V3` says.
    unsafe { rows.round_all(&OfAvx2(&rows), rounded, scales) }
}

/// Blocks that are computed with AVX2 and FMA.
struct OfAvx2<'a, T>(&'a T);

impl Blocks for OfAvx2<'_, Floats<'_>> {
    const LANES: usize = LANES;
    const ROWS: usize = ROWS;

    unsafe fn block<const R: usize, const V: usize, const A: u8>(
        &self,
        row: usize,
        column: usize,
        to: Target,
    ) {
        let weights = self.0.weights(column);
        let bias = self.0.bias.as_ptr().wrapping_add(column);
        // SAFETY: as of this function: bias and the panel's weights are those of these columns.
        unsafe { floats::<R, V, A>(self.0, row, weights, bias, to) }
    }

    unsafe fn largest<const V: usize, const A: u8>(&self, row: usize, column: usize, to: Target) {
        // SAFETY: as of this function.
        unsafe { self.block::<ROWS, V, A>(row, column, to) }
    }
}

/// # Safety
/// AVX2 and FMA are there, and `R` rows from `row` on; `V` vectors stand at `weights` for each
/// input, [`PANEL`] values apart, and at `bias`; there is room at `to`.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn floats<const R: usize, const V: usize, const A: u8>(
    blocks: &Floats<'_>,
    row: usize,
    mut weights: *const f32,
    bias: *const f32,
    to: Target,
) {
    let mut sums = [[_mm256_setzero_ps(); V]; R];
    for vector in 0..V {
        // SAFETY: as of this function.
        let bias = unsafe { _mm256_loadu_ps(bias.add(LANES * vector)) };
        for index in 0..R {
            sums[index][vector] = bias;
        }
    }
    let stride = blocks.rows.stride;
    let mut piece = blocks.rows.values.as_ptr().wrapping_add(row * stride);
    for _ in 0..blocks.rows.n_pieces {
        let rows = pointers::<R, _>(piece, stride);
        // SAFETY: as of this function, for a piece of each row.
        sums = unsafe { add_piece::<R, V>(sums, &rows, blocks.len, weights) };
        weights = weights.wrapping_add(blocks.len * PANEL);
        piece = piece.wrapping_add(blocks.rows.piece_stride);
    }
    // SAFETY: as of this function.
    unsafe { put::<R, V, A>(sums, to) }
}

/// Sums to which the products of a piece of each row are added.
///
/// # Safety
/// AVX2 and FMA are there, rows have `len` values, and `V` vectors stand at `weights` for each,
/// [`PANEL`] values apart.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_piece<const R: usize, const V: usize>(
    mut sums: [[__m256; V]; R],
    rows: &[*const f32; R],
    len: usize,
    mut weights: *const f32,
) -> [[__m256; V]; R] {
    for input in 0..len {
        let mut of_input = [_mm256_setzero_ps(); V];
        for vector in 0..V {
            // SAFETY: as of this function.
            of_input[vector] = unsafe { _mm256_loadu_ps(weights.add(LANES * vector)) };
        }
        for index in 0..R {
            // SAFETY: as of this function.
            let value = _mm256_set1_ps(unsafe { *rows[index].add(input) });
            for vector in 0..V {
                sums[index][vector] = _mm256_fmadd_ps(value, of_input[vector], sums[index][vector]);
            }
        }
        weights = weights.wrapping_add(PANEL);
    }
    sums
}

impl RoundsRows for OfAvx2<'_, Unrounded<'_>> {
    unsafe fn some<const R: usize>(&self, row: usize, to: *mut i16, scales: &mut [f32]) {
        // SAFETY: as of this function.
        unsafe { self.0.round::<R>(row, to, scales) }
    }
}

impl Unrounded<'_> {
    /// Rounds `R` rows, four at most, from `row` on. What follows from their greatest magnitudes is
    /// computed for all of them at once.
    ///
    /// # Safety
    /// AVX2 and FMA are there, and these rows; there is room for them at `to`.
    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn round<const R: usize>(&self, row: usize, to: *mut i16, scales: &mut [f32]) {
        let (len, n_pieces) = (self.len, self.rows.n_pieces);
        let whole = len / (2 * LANES) * (2 * LANES);
        let bits_of_magnitude = _mm256_set1_epi32(i32::MAX);
        let mut most = [_mm256_setzero_si256(); 4];
        let mut of_rest = [0; 4];
        for index in 0..R {
            for piece in 0..n_pieces {
                let values = self.piece(row + index, piece);
                let mut two = [most[index]; 2];
                for first in (0..whole).step_by(2 * LANES) {
                    for half in 0..2 {
                        let from = values.wrapping_add(first + half * LANES).cast();
                        // SAFETY: values of the piece.
                        let bits = unsafe { _mm256_loadu_si256(from) };
                        let magnitude = _mm256_and_si256(bits, bits_of_magnitude);
                        two[half] = _mm256_max_epu32(two[half], magnitude);
                    }
                }
                most[index] = _mm256_max_epu32(two[0], two[1]);
                for place in whole..len {
                    // SAFETY: a value of the piece.
                    let magnitude = unsafe { (*values.add(place)).abs() };
                    of_rest[index] = magnitude.to_bits().max(of_rest[index]);
                }
            }
        }
        let mut most = greatest_of_each(most);
        if whole < len {
            let [a, b, c, d] = of_rest.map(u32::cast_signed);
            most = _mm_max_epu32(most, _mm_setr_epi32(a, b, c, d));
        }
        let (all_scales, inverses) = scales_of(most, self.greatest);
        scales[..R].copy_from_slice(&all_scales[..R]);
        for index in 0..R {
            let inverse = _mm256_set1_ps(inverses[index]);
            for piece in 0..n_pieces {
                let values = self.piece(row + index, piece);
                let to = to.wrapping_add((index * n_pieces + piece) * len);
                for first in (0..whole).step_by(2 * LANES) {
                    // SAFETY: values of the piece and their room.
                    unsafe {
                        let from = values.add(first);
                        let low = _mm256_mul_ps(_mm256_loadu_ps(from), inverse);
                        let high = _mm256_mul_ps(_mm256_loadu_ps(from.add(LANES)), inverse);
                        // To the nearest, to even from the middle; halves of each come in turns.
                        let mixed =
                            _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
                        let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
                        _mm256_storeu_si256(to.add(first).cast(), ordered);
                    }
                }
                for place in whole..len {
                    // SAFETY: a value of the piece and its room.
                    unsafe { *to.add(place) = nearest(*values.add(place) * inverses[index]) };
                }
            }
        }
    }
}

/// What one stands for in each of four rows that are rounded to whole numbers of at most
/// `greatest`, given the bits of their greatest magnitudes, and what their values are multiplied by.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn scales_of(most: __m128i, greatest: f32) -> ([f32; 4], [f32; 4]) {
    // No number if there is an infinity or what is no number, which have the greatest bits.
    let beyond = _mm_cmpgt_epi32(most, _mm_set1_epi32(f32::MAX.to_bits().cast_signed()));
    let most = _mm_or_ps(_mm_castsi128_ps(most), _mm_castsi128_ps(beyond));
    let scale = _mm_mul_ps(most, _mm_set1_ps(1.0 / greatest));
    let inverse = _mm_div_ps(_mm_set1_ps(greatest), most);
    // Where only the least numbers are, the inverse has no place in f32.
    let is_finite = _mm_cmplt_ps(inverse, _mm_set1_ps(f32::INFINITY));
    let is_usable = _mm_and_ps(is_finite, _mm_cmpgt_ps(scale, _mm_setzero_ps()));
    let inverse = _mm_and_ps(inverse, is_usable);
    let (mut scales, mut inverses) = ([0.0; 4], [0.0; 4]);
    // SAFETY: there is room for four values.
    unsafe {
        _mm_storeu_ps(scales.as_mut_ptr(), scale);
        _mm_storeu_ps(inverses.as_mut_ptr(), inverse);
    }
    (scales, inverses)
}

/// The greatest value of each of four vectors.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn greatest_of_each([a, b, c, d]: [__m256i; 4]) -> __m128i {
    let of_two = |a, b| _mm256_max_epu32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (ab, cd) = (of_two(a, b), of_two(c, d));
    let all = _mm256_max_epu32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
    _mm_max_epu32(
        _mm256_castsi256_si128(all),
        _mm256_extracti128_si256::<1>(all),
    )
}

impl Blocks for OfAvx2<'_, Pairs<'_>> {
    const LANES: usize = LANES;
    const ROWS: usize = ROWS;

    unsafe fn block<const R: usize, const V: usize, const A: u8>(
        &self,
        row: usize,
        column: usize,
        to: Target,
    ) {
        let weights = self.0.weights(column);
        // SAFETY: as of this function: the panel's weights are those of these columns.
        unsafe { pairs::<R, V, A>(self.0, row, column, weights, to) }
    }

    unsafe fn largest<const V: usize, const A: u8>(&self, row: usize, column: usize, to: Target) {
        // SAFETY: as of this function.
        unsafe { self.block::<ROWS, V, A>(row, column, to) }
    }
}

/// # Safety
/// AVX2 and FMA are there; rows from `row` on and columns from `column` on exist, and their weights
/// begin at `weights`; there is room at `to`.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn pairs<const R: usize, const V: usize, const A: u8>(
    blocks: &Pairs<'_>,
    row: usize,
    column: usize,
    weights: *const i32,
    to: Target,
) {
    let (n, section) = (blocks.n_pairs, blocks.section);
    let first_row = blocks.rows.as_ptr().wrapping_add(row * n);
    let rows = pointers::<R, _>(first_row, n);
    let mut done = n.min(section);
    // SAFETY: as of this function, for the pairs of a section.
    let mut sums = unsafe { section_of::<R, V>(&rows, 0, done, weights) };
    while done < n {
        let end = n.min(done + section);
        // SAFETY: as above.
        let more = unsafe { section_of::<R, V>(&rows, done, end, weights) };
        for index in 0..R {
            for vector in 0..V {
                sums[index][vector] = _mm256_add_ps(sums[index][vector], more[index][vector]);
            }
        }
        done = end;
    }
    let scales = blocks.column_scales.as_ptr().wrapping_add(column);
    let bias = blocks.bias.as_ptr().wrapping_add(column);
    let row_scales = blocks.row_scales.as_ptr().wrapping_add(row);
    for vector in 0..V {
        // SAFETY: as of this function.
        let (scale, bias) = unsafe {
            let at = LANES * vector;
            (
                _mm256_loadu_ps(scales.add(at)),
                _mm256_loadu_ps(bias.add(at)),
            )
        };
        for index in 0..R {
            // SAFETY: every row has a scale.
            let of_row = _mm256_set1_ps(unsafe { *row_scales.add(index) });
            let scale = _mm256_mul_ps(scale, of_row);
            sums[index][vector] = _mm256_fmadd_ps(sums[index][vector], scale, bias);
        }
    }
    // SAFETY: as of this function.
    unsafe { put::<R, V, A>(sums, to) }
}

/// Sums over the pairs of a section, which are whole numbers.
///
/// # Safety
/// AVX2 is there, rows have so many pairs, and `V` vectors stand at `weights` for each, [`PANEL`]
/// values apart.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn section_of<const R: usize, const V: usize>(
    rows: &[*const i32; R],
    first: usize,
    end: usize,
    weights: *const i32,
) -> [[__m256; V]; R] {
    let mut whole = [[_mm256_setzero_si256(); V]; R];
    let mut weights = weights.wrapping_add(first * PANEL);
    for pair in first..end {
        let mut of_pair: [__m256i; V] = [_mm256_setzero_si256(); V];
        for vector in 0..V {
            let from = weights.wrapping_add(LANES * vector).cast::<__m256i>();
            // SAFETY: as of this function.
            of_pair[vector] = unsafe { _mm256_loadu_si256(from) };
        }
        for index in 0..R {
            // SAFETY: as of this function.
            let value = _mm256_set1_epi32(unsafe { *rows[index].add(pair) });
            for vector in 0..V {
                let products = _mm256_madd_epi16(value, of_pair[vector]);
                whole[index][vector] = _mm256_add_epi32(whole[index][vector], products);
            }
        }
        weights = weights.wrapping_add(PANEL);
    }
    let mut floats = [[_mm256_setzero_ps(); V]; R];
    for index in 0..R {
        for vector in 0..V {
            floats[index][vector] = _mm256_cvtepi32_ps(whole[index][vector]);
        }
    }
    floats
}

/// Ends a block: adds what is there if that is asked for, applies the activation and writes.
///
/// # Safety
/// AVX2 and FMA are there, and room for `R` rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn put<const R: usize, const V: usize, const A: u8>(mut sums: [[__m256; V]; R], to: Target) {
    if to.n_columns == V * LANES {
        let at =
            |index: usize, vector: usize| to.out.wrapping_add(index * to.stride + LANES * vector);
        if to.adds {
            for index in 0..R {
                for vector in 0..V {
                    // SAFETY: a vector of the block.
                    let there = unsafe { _mm256_loadu_ps(at(index, vector)) };
                    sums[index][vector] = _mm256_add_ps(there, sums[index][vector]);
                }
            }
        }
        let (groups, rest) = sums.as_flattened().as_chunks::<TOGETHER>();
        let n_grouped = groups.len() * TOGETHER;
        let write = |place: usize, value: __m256| {
            // SAFETY: a vector of the block.
            unsafe { _mm256_storeu_ps(at(place / V, place % V), value) }
        };
        for (group, sums) in groups.iter().enumerate() {
            let values = activated::<A, TOGETHER>(*sums);
            for index in 0..TOGETHER {
                write(group * TOGETHER + index, values[index]);
            }
        }
        for (index, sum) in rest.iter().enumerate() {
            let [value] = activated::<A, 1>([*sum]);
            write(n_grouped + index, value);
        }
        return;
    }
    // SAFETY: as of this function.
    unsafe { put_some::<R, V, A>(&sums, to) }
}

/// As [`put`] for fewer columns than vectors have.
///
/// # Safety
/// As of [`put`].
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn put_some<const R: usize, const V: usize, const A: u8>(
    sums: &[[__m256; V]; R],
    to: Target,
) {
    let n_last = to.n_columns - (V - 1) * LANES;
    for index in 0..R {
        for vector in 0..V {
            let n = if vector + 1 < V { LANES } else { n_last };
            let at = to.out.wrapping_add(index * to.stride + LANES * vector);
            // SAFETY: some columns of the block.
            unsafe {
                let sum = match to.adds {
                    true => _mm256_add_ps(load_some(at, n), sums[index][vector]),
                    false => sums[index][vector],
                };
                let [value] = activated::<A, 1>([sum]);
                store_some(at, n, value);
            }
        }
    }
}

/// The first values of a vector, zeros after them.
///
/// # Safety
/// AVX2 is there, and so many values.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_some(from: *const f32, n: usize) -> __m256 {
    let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), places);
    // SAFETY: what is not asked for is not read.
    unsafe { _mm256_maskload_ps(from, mask) }
}

/// Writes the first values of a vector. A store with a mask takes many times as long on some CPUs.
///
/// # Safety
/// AVX2 is there, and room for so many values.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_some(mut to: *mut f32, n: usize, value: __m256) {
    if n >= LANES {
        // SAFETY: there is room for eight values.
        return unsafe { _mm256_storeu_ps(to, value) };
    }
    let mut rest = _mm256_castps256_ps128(value);
    // SAFETY: there is room for four, two and one value where these bits are set.
    unsafe {
        if n & 4 != 0 {
            _mm_storeu_ps(to, rest);
            rest = _mm256_extractf128_ps::<1>(value);
            to = to.wrapping_add(4);
        }
        if n & 2 != 0 {
            _mm_store_sd(to.cast(), _mm_castps_pd(rest));
            rest = _mm_movehl_ps(rest, rest);
            to = to.wrapping_add(2);
        }
        if n & 1 != 0 {
            _mm_store_ss(to, rest);
        }
    }
}

/// What [`Activation`] says of each value; what is no number stays so, as the second operand of a
/// maximum or minimum is what comes out when there is one.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn activated<const A: u8, const N: usize>(mut x: [__m256; N]) -> [__m256; N] {
    if A == GELU {
        return gelu(x);
    }
    for x in &mut x {
        *x = match A {
            RELU => _mm256_max_ps(_mm256_setzero_ps(), *x),
            HARD_SWISH => {
                let share = _mm256_fmadd_ps(*x, _mm256_set1_ps(1.0 / 6.0), _mm256_set1_ps(0.5));
                let above = _mm256_max_ps(_mm256_setzero_ps(), share);
                _mm256_mul_ps(*x, _mm256_min_ps(_mm256_set1_ps(1.0), above))
            }
            _ => *x,
        };
    }
    x
}

/// Vectors whose activations are computed side by side. Each step of a polynomial waits for the one
/// before, and a processor does not look far enough ahead to find the next vector by itself.
const TOGETHER: usize = 4;

#[inline]
#[target_feature(enable = "avx2,fma")]
fn gelu<const N: usize>(x: [__m256; N]) -> [__m256; N] {
    let (mut above, mut inside, mut place) = (x, x, x);
    let scale = _mm256_set1_ps(2.0 / (FIT.bound * FIT.bound));
    for index in 0..N {
        above[index] = _mm256_max_ps(_mm256_set1_ps(-FIT.bound), x[index]);
        inside[index] = _mm256_min_ps(_mm256_set1_ps(FIT.bound), above[index]);
        let square = _mm256_mul_ps(inside[index], inside[index]);
        place[index] = _mm256_fmsub_ps(square, scale, _mm256_set1_ps(1.0));
    }
    let last = FIT.coefficients.len() - 1;
    let mut odd = [_mm256_set1_ps(FIT.coefficients[last]); N];
    for power in (0..last).rev() {
        let coefficient = _mm256_set1_ps(FIT.coefficients[power]);
        for index in 0..N {
            odd[index] = _mm256_fmadd_ps(odd[index], place[index], coefficient);
        }
        if let Some(odd) = odd.first_chunk_mut::<TOGETHER>() {
            step_for_step(odd);
        }
    }
    for index in 0..N {
        let share = _mm256_fmadd_ps(inside[index], odd[index], _mm256_set1_ps(0.5));
        odd[index] = _mm256_mul_ps(above[index], share);
    }
    odd
}

/// Keeps the compiler from computing one vector to its end before it begins the next.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn step_for_step([a, b, c, d]: &mut [__m256; TOGETHER]) {
    // SAFETY: nothing is done.
    unsafe {
        asm!(
            "/* {a} {b} {c} {d} */",
            a = inout(ymm_reg) * a,
            b = inout(ymm_reg) * b,
            c = inout(ymm_reg) * c,
            d = inout(ymm_reg) * d,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
}
