//! The product for AVX-512, block by block of rows and columns.
//!
//! Eight rows by two vectors of sums are as many as two units of four or five cycles need, and leave
//! registers for all that an activation takes.

#![allow(clippy::needless_range_loop, reason = "several arrays share an index")]
#![allow(
    unsafe_code,
    reason = "functions for instructions that the caller has to know of, and pointers, which keep \
              checks out of the innermost loops"
)]

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm256_max_epu32, _mm512_abs_ps, _mm512_add_ps,
    _mm512_castps_si512, _mm512_castsi512_si256, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_dpwssd_epi32, _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_storeu_epi16, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_max_epu32, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_packs_epi32,
    _mm512_permutex2var_ps, _mm512_permutexvar_epi64, _mm512_permutexvar_ps, _mm512_range_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi64, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

use pulp::x86::V4;

use super::avx2::{greatest_of_each, scales_of};
use super::blocks::{
    Blocks, Floats, GELU, HARD_SWISH, Pairs, RELU, RoundsRows, Target, Unrounded, multiply,
    pointers,
};
use super::fixed::Vnni;
use super::{PANEL, Product};
use crate::vectors::Vectors;

/// Values of a vector.
pub(super) const LANES: usize = 16;
/// Rows of the largest block.
const ROWS: usize = 8;

/// Multiplies rows with panels of f32.
///
/// # Panics
/// When shapes do not fit.
pub(super) fn multiply_floats(
    _avx512: V4,
    vectors: Vectors,
    panels: &[f32],
    mut product: Product<'_>,
) {
    let floats = Floats::new(panels, &product);
    // SAFETY: AVX-512 is there, as `V4` says, and shapes are checked.
    unsafe { multiply(&OfAvx512(&floats), vectors, &mut product) }
}

/// Multiplies rows with panels of 16-bit integers.
///
/// # Panics
/// When shapes do not fit.
pub(super) fn multiply_pairs(
    _vnni: Vnni,
    vectors: Vectors,
    pairs: &Pairs<'_>,
    mut product: Product<'_>,
) {
    pairs.check(&product);
    // SAFETY: AVX-512 and VNNI are there, as `Vnni` says, and shapes are checked.
    unsafe { multiply(&OfAvx512(pairs), vectors, &mut product) }
}

/// Rounds rows to whole numbers of at most `greatest`, and gives what one stands for in each.
///
/// # Panics
/// When shapes do not fit.
pub(super) fn round_rows(
    _avx512: V4,
    product: &Product<'_>,
    greatest: f32,
    rounded: &mut [i16],
    scales: &mut [f32],
) {
    let rows = Unrounded::new(product, greatest);
    // SAFETY: AVX-512 is there, as `V4` says.
    unsafe { rows.round_all(&OfAvx512(&rows), rounded, scales) }
}

/// Blocks that are computed with AVX-512.
struct OfAvx512<'a, T>(&'a T);

impl Blocks for OfAvx512<'_, Floats<'_>> {
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
/// AVX-512 is there, and `R` rows from `row` on; `V` vectors stand at `weights` for each input,
/// [`PANEL`] values apart, and at `bias`; there is room at `to`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn floats<const R: usize, const V: usize, const A: u8>(
    blocks: &Floats<'_>,
    row: usize,
    mut weights: *const f32,
    bias: *const f32,
    to: Target,
) {
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for vector in 0..V {
        // SAFETY: as of this function.
        let bias = unsafe { _mm512_loadu_ps(bias.add(LANES * vector)) };
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
/// AVX-512 is there, rows have `len` values, and `V` vectors stand at `weights` for each, [`PANEL`]
/// values apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn add_piece<const R: usize, const V: usize>(
    mut sums: [[__m512; V]; R],
    rows: &[*const f32; R],
    len: usize,
    mut weights: *const f32,
) -> [[__m512; V]; R] {
    for input in 0..len {
        let mut of_input = [_mm512_setzero_ps(); V];
        for vector in 0..V {
            // SAFETY: as of this function.
            of_input[vector] = unsafe { _mm512_loadu_ps(weights.add(LANES * vector)) };
        }
        for index in 0..R {
            // SAFETY: as of this function.
            let value = _mm512_set1_ps(unsafe { *rows[index].add(input) });
            for vector in 0..V {
                sums[index][vector] = _mm512_fmadd_ps(value, of_input[vector], sums[index][vector]);
            }
        }
        weights = weights.wrapping_add(PANEL);
    }
    sums
}

impl Blocks for OfAvx512<'_, Pairs<'_>> {
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
/// AVX-512 and VNNI are there; rows from `row` on and columns from `column` on exist, and their
/// weights begin at `weights`; there is room at `to`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
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
                sums[index][vector] = _mm512_add_ps(sums[index][vector], more[index][vector]);
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
                _mm512_loadu_ps(scales.add(at)),
                _mm512_loadu_ps(bias.add(at)),
            )
        };
        for index in 0..R {
            // SAFETY: every row has a scale.
            let of_row = _mm512_set1_ps(unsafe { *row_scales.add(index) });
            let scale = _mm512_mul_ps(scale, of_row);
            sums[index][vector] = _mm512_fmadd_ps(sums[index][vector], scale, bias);
        }
    }
    // SAFETY: as of this function.
    unsafe { put::<R, V, A>(sums, to) }
}

/// Sums over the pairs of a section, which are whole numbers.
///
/// # Safety
/// AVX-512 and VNNI are there, rows have so many pairs, and `V` vectors stand at `weights` for each,
/// [`PANEL`] values apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
unsafe fn section_of<const R: usize, const V: usize>(
    rows: &[*const i32; R],
    first: usize,
    end: usize,
    weights: *const i32,
) -> [[__m512; V]; R] {
    let mut whole = [[_mm512_setzero_si512(); V]; R];
    let mut weights = weights.wrapping_add(first * PANEL);
    for pair in first..end {
        let mut of_pair: [__m512i; V] = [_mm512_setzero_si512(); V];
        for vector in 0..V {
            let from = weights.wrapping_add(LANES * vector).cast::<__m512i>();
            // SAFETY: as of this function.
            of_pair[vector] = unsafe { _mm512_loadu_si512(from) };
        }
        for index in 0..R {
            // SAFETY: as of this function.
            let value = _mm512_set1_epi32(unsafe { *rows[index].add(pair) });
            for vector in 0..V {
                whole[index][vector] =
                    _mm512_dpwssd_epi32(whole[index][vector], value, of_pair[vector]);
            }
        }
        weights = weights.wrapping_add(PANEL);
    }
    let mut floats = [[_mm512_setzero_ps(); V]; R];
    for index in 0..R {
        for vector in 0..V {
            floats[index][vector] = _mm512_cvtepi32_ps(whole[index][vector]);
        }
    }
    floats
}

impl RoundsRows for OfAvx512<'_, Unrounded<'_>> {
    unsafe fn some<const R: usize>(&self, row: usize, to: *mut i16, scales: &mut [f32]) {
        // SAFETY: as of this function.
        unsafe { round::<R>(self.0, row, to, scales) }
    }
}

/// Rounds `R` rows, four at most, from `row` on. What follows from their greatest magnitudes is
/// computed for all of them at once.
///
/// # Safety
/// AVX-512 is there, and these rows; there is room for them at `to`.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn round<const R: usize>(
    rows: &Unrounded<'_>,
    row: usize,
    to: *mut i16,
    scales: &mut [f32],
) {
    const TWO: usize = 2 * LANES;
    let (len, n_pieces) = (rows.len, rows.rows.n_pieces);
    let whole = len / TWO * TWO;
    let rest = [0, 1].map(|half| first(len - whole, half));
    let all = [__mmask16::MAX; 2];
    // Two vectors of a piece; what is masked out is zero.
    let two = |piece: *const f32, at: usize, masks: [__mmask16; 2]| {
        [0, 1].map(|half| {
            let from = piece.wrapping_add(at + LANES * half);
            // SAFETY: as of this function; what is masked out is not read.
            unsafe { _mm512_maskz_loadu_ps(masks[half], from) }
        })
    };
    let mut most = [_mm512_setzero_si512(); 4];
    for index in 0..R {
        let mut greatest = [most[index]; 2];
        for piece in 0..n_pieces {
            let piece = rows.piece(row + index, piece);
            let mut see = |values: [__m512; 2]| {
                for half in 0..2 {
                    let magnitude = _mm512_castps_si512(_mm512_abs_ps(values[half]));
                    greatest[half] = _mm512_max_epu32(greatest[half], magnitude);
                }
            };
            for at in (0..whole).step_by(TWO) {
                see(two(piece, at, all));
            }
            if whole < len {
                see(two(piece, whole, rest));
            }
        }
        most[index] = _mm512_max_epu32(greatest[0], greatest[1]);
    }
    let halves = most.map(|most| {
        let upper = _mm512_extracti64x4_epi64::<1>(most);
        _mm256_max_epu32(_mm512_castsi512_si256(most), upper)
    });
    let (all_scales, inverses) = scales_of(greatest_of_each(halves), rows.greatest);
    scales[..R].copy_from_slice(&all_scales[..R]);
    let in_order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    for index in 0..R {
        let inverse = _mm512_set1_ps(inverses[index]);
        // To the nearest, to even from the middle; quarters of each vector come in turns.
        let rounded = |[low, high]: [__m512; 2]| {
            let [low, high] =
                [low, high].map(|values| _mm512_cvtps_epi32(_mm512_mul_ps(values, inverse)));
            _mm512_permutexvar_epi64(in_order, _mm512_packs_epi32(low, high))
        };
        for piece in 0..n_pieces {
            let to = to.wrapping_add((index * n_pieces + piece) * len);
            let piece = rows.piece(row + index, piece);
            for at in (0..whole).step_by(TWO) {
                let values = rounded(two(piece, at, all));
                // SAFETY: there is room for all values of the piece.
                unsafe { _mm512_storeu_si512(to.add(at).cast(), values) };
            }
            if whole < len {
                let values = rounded(two(piece, whole, rest));
                let mask = (1u32 << (len - whole)) - 1;
                // SAFETY: there is room for the rest, and nothing else is written.
                unsafe { _mm512_mask_storeu_epi16(to.add(whole), mask, values) };
            }
        }
    }
}

/// Ends a block: adds what is there if that is asked for, applies the activation and writes.
///
/// # Safety
/// AVX-512 is there, and room for `R` rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn put<const R: usize, const V: usize, const A: u8>(mut sums: [[__m512; V]; R], to: Target) {
    if to.n_columns == V * LANES {
        let at =
            |index: usize, vector: usize| to.out.wrapping_add(index * to.stride + LANES * vector);
        if to.adds {
            for index in 0..R {
                for vector in 0..V {
                    // SAFETY: a vector of the block.
                    let there = unsafe { _mm512_loadu_ps(at(index, vector)) };
                    sums[index][vector] = _mm512_add_ps(there, sums[index][vector]);
                }
            }
        }
        for index in 0..R {
            for vector in 0..V {
                let value = activated::<A>(sums[index][vector]);
                // SAFETY: a vector of the block.
                unsafe { _mm512_storeu_ps(at(index, vector), value) };
            }
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
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
unsafe fn put_some<const R: usize, const V: usize, const A: u8>(
    sums: &[[__m512; V]; R],
    to: Target,
) {
    let masks: [__mmask16; V] = std::array::from_fn(|vector| first(to.n_columns, vector));
    for index in 0..R {
        for vector in 0..V {
            let at = to.out.wrapping_add(index * to.stride + LANES * vector);
            let mut sum = sums[index][vector];
            // SAFETY: what is not of the block is neither read nor written.
            unsafe {
                if to.adds {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(masks[vector], at), sum);
                }
                _mm512_mask_storeu_ps(at, masks[vector], activated::<A>(sum));
            }
        }
    }
}

/// Which values of a vector are among the first `n_columns`.
#[inline(always)]
pub(super) fn first(n_columns: usize, vector: usize) -> __mmask16 {
    let n = n_columns.saturating_sub(LANES * vector).min(LANES);
    ((1u32 << n) - 1) as __mmask16
}

/// An activation of [`activated`] besides those of blocks: GELU to an error of 1e-4, for what is
/// rounded to eight bits anyway. Infinity becomes what is no number.
pub(super) const COARSE_GELU: u8 = 16;

/// What [`Activation`](crate::Activation) says of each value; what is no number stays so, as the
/// second operand of a maximum or minimum is what comes out when there is one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
pub(super) fn activated<const A: u8>(x: __m512) -> __m512 {
    match A {
        RELU => _mm512_max_ps(_mm512_setzero_ps(), x),
        GELU => gelu(x),
        COARSE_GELU => coarse_gelu(x),
        HARD_SWISH => {
            let share = _mm512_fmadd_ps(x, _mm512_set1_ps(1.0 / 6.0), _mm512_set1_ps(0.5));
            let above = _mm512_max_ps(_mm512_setzero_ps(), share);
            _mm512_mul_ps(x, _mm512_min_ps(_mm512_set1_ps(1.0), above))
        }
        _ => x,
    }
}

/// What ReLU has more than GELU, an even function that vanishes far out: polynomials on sixteen
/// parts of the way from zero to a bound, where coefficients are looked up in registers.
struct Excess<const N: usize> {
    bound: f32,
    /// Parts in the way from zero to the bound; the first is half of one.
    n_parts: f32,
    /// Those of low powers first, each of all parts. Of the magnitude itself.
    coefficients: [[f32; LANES]; N],
}

/// Fitted to the least greatest error of each part: 4e-6. Beyond the bound it is what it is there.
const FINE: Excess<4> = Excess {
    bound: 4.8,
    n_parts: 15.49,
    coefficients: [
        [
            0.0,
            -0.000_394_273_03,
            -0.004_605_592,
            -0.004_135_719_5,
            0.038_259_726,
            0.159_031_53,
            0.342_568_55,
            0.514_670_9,
            0.595_577_96,
            0.557_570_46,
            0.434_829_74,
            0.287_877_26,
            0.163_940_38,
            0.081_081_01,
            0.035_078_68,
            0.013_412_159,
        ],
        [
            0.500_044_8,
            0.505_975_1,
            0.533_510_8,
            0.534_083_96,
            0.419_548_57,
            0.160_933_4,
            -0.162_982_76,
            -0.421_357_36,
            -0.527_747_75,
            -0.485_576_63,
            -0.360_754_76,
            -0.225_032_73,
            -0.120_347_24,
            -0.055_895_817,
            -0.022_743_048,
            -0.008_197_636,
        ],
        [
            -0.400_702_5,
            -0.431_436_5,
            -0.492_578_27,
            -0.496_450_25,
            -0.393_031_15,
            -0.208_069_16,
            -0.017_255_656,
            0.112_163_01,
            0.158_817_6,
            0.143_224_34,
            0.100_892_99,
            0.059_094_2,
            0.029_610_343,
            0.012_895_101,
            0.004_929_266_4,
            0.001_673_755_4,
        ],
        [
            0.019_665_463,
            0.076_069_66,
            0.122_119_404,
            0.125_157_1,
            0.093_941_91,
            0.049_758_665,
            0.012_239_955,
            -0.009_388_206,
            -0.016_210_847,
            -0.014_289_388,
            -0.009_501_941_5,
            -0.005_209_383,
            -0.002_440_575_3,
            -0.000_995_198_5,
            -0.000_357_062_88,
            -0.000_114_140_5,
        ],
    ],
};

/// The same, 1e-4. Beyond the bound, where the last part begins, it is zero.
const COARSE: Excess<3> = Excess {
    bound: 4.1,
    n_parts: 14.5,
    coefficients: [
        [
            0.0,
            0.001_030_555_3,
            0.016_598_605,
            0.070_330_39,
            0.169_438_45,
            0.290_061_77,
            0.388_878_97,
            0.429_924_5,
            0.403_868_7,
            0.328_955_68,
            0.235_405_18,
            0.149_422_59,
            0.084_721_304,
            0.043_138_318,
            0.019_807_477,
            0.0,
        ],
        [
            0.499_871_7,
            0.488_680_66,
            0.417_657_35,
            0.266_547_47,
            0.065_807_946,
            -0.125_036_95,
            -0.253_494_95,
            -0.299_192_43,
            -0.275_170_12,
            -0.212_979_48,
            -0.143_244_89,
            -0.085_167_65,
            -0.045_231_32,
            -0.021_605_162,
            -0.009_326_68,
            0.0,
        ],
        [
            -0.396_809_3,
            -0.366_615_36,
            -0.284_964_2,
            -0.178_378_76,
            -0.076_561_324,
            -0.001_000_702_3,
            0.040_771_05,
            0.053_490_59,
            0.047_954_99,
            0.035_044_268,
            0.022_045_916,
            0.012_237_018,
            0.006_073_520_5,
            0.002_717_205,
            0.001_101_574_9,
            0.0,
        ],
    ],
};

/// 1.5 * 2^23: adding it leaves the nearest whole number in the low bits.
const ROUND: f32 = 12_582_912.0;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
fn gelu(x: __m512) -> __m512 {
    let magnitude = _mm512_min_ps(_mm512_set1_ps(FINE.bound), _mm512_abs_ps(x));
    let scale = _mm512_set1_ps(FINE.n_parts / FINE.bound);
    let part = _mm512_fmadd_ps(magnitude, scale, _mm512_set1_ps(ROUND));
    let of_part = |power: usize| {
        // SAFETY: a coefficient for each part.
        let of_all = unsafe { _mm512_loadu_ps(FINE.coefficients[power].as_ptr()) };
        _mm512_permutexvar_ps(_mm512_castps_si512(part), of_all)
    };
    let mut more = of_part(3);
    for power in (0..3).rev() {
        more = _mm512_fmadd_ps(more, magnitude, of_part(power));
    }
    _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), more)
}

/// Polynomials of the value itself, of low powers first: those of parts from zero up, then those of
/// parts from the least one up to zero.
const COARSE_GELU_OF: [[[f32; LANES]; 2]; 3] = {
    let mut all = [[[0.0; LANES]; 2]; 3];
    let mut part = 0;
    while part < LANES {
        let mut power = 0;
        while power < 3 {
            let more = COARSE.coefficients[power][part];
            all[power][0][part] = if power == 1 { 1.0 - more } else { -more };
            if part > 0 {
                all[power][1][LANES - part] = if power == 1 { more } else { -more };
            }
            power += 1;
        }
        part += 1;
    }
    all
};

/// Seven operations, which compete with the products of tiles.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
fn coarse_gelu(x: __m512) -> __m512 {
    const LESS_MAGNITUDE_WITH_SIGN_OF_FIRST: i32 = 0b00_10;
    let scale = COARSE.n_parts / COARSE.bound;
    let last = _mm512_set1_ps((LANES - 1) as f32 / scale);
    let inside = _mm512_range_ps::<LESS_MAGNITUDE_WITH_SIGN_OF_FIRST>(x, last);
    let part = _mm512_fmadd_ps(inside, _mm512_set1_ps(scale), _mm512_set1_ps(ROUND));
    let of_part = |power: usize| {
        let [up, down] = &COARSE_GELU_OF[power];
        // SAFETY: a coefficient for each part.
        let (up, down) = unsafe { (_mm512_loadu_ps(up.as_ptr()), _mm512_loadu_ps(down.as_ptr())) };
        _mm512_permutex2var_ps(up, _mm512_castps_si512(part), down)
    };
    let slope = _mm512_fmadd_ps(of_part(2), x, of_part(1));
    _mm512_fmadd_ps(slope, x, of_part(0))
}
