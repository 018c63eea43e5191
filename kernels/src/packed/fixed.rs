//! The product in fixed point, on integers of 16 bits.
//!
//! One instruction of AVX2 multiplies sixteen pairs of them and adds neighbors, where floating
//! point multiplies eight, and AVX-512 VNNI adds up as well. A row is rounded to about 14 bits with
//! a scale of its own when the product starts, and each column of weights when it is packed. Sums
//! are whole numbers, exact over a section of inputs that is so short that no sum can overflow, and
//! floating point from section to section. The rounding is several times finer than that of bf16.
//!
//! A row with an infinity, or with what is no number, gives what is no number everywhere.

use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::x86::{V3, V4};
use pulp::{NullaryFnOnce, Simd, WithSimd, cast};

use super::{PANEL, Product, avx2, put};
use crate::buffer::Buffer;
use crate::storage::Aligned;
use crate::vectors::{Kind, Vectors};

/// Inputs over which sums stay whole numbers.
const SECTION: usize = 96;
/// The greatest value of a rounded row. It and [`GREATEST_COLUMN_SUM`] share the bits of a sum.
/// Of 6,000, 10,000 and 16,000 this one came closest to the published models on the fixtures; with
/// sections half as long nothing was gained that the time was worth.
const GREATEST_ROW_VALUE: f32 = 6_000.0;
/// The greatest sum of a section of a rounded column, signs aside.
const GREATEST_COLUMN_SUM: f32 = 2_147_000_000.0 / GREATEST_ROW_VALUE;

pulp::simd_type! {
    /// AVX-512 with products of pairs of 16-bit integers.
    #[allow(missing_debug_implementations, reason = "the macro writes the type")]
    struct Vnni {
        sse: "sse",
        sse2: "sse2",
        sse3: "sse3",
        ssse3: "ssse3",
        sse4_1: "sse4.1",
        sse4_2: "sse4.2",
        popcnt: "popcnt",
        avx: "avx",
        avx2: "avx2",
        bmi1: "bmi1",
        bmi2: "bmi2",
        fma: "fma",
        lzcnt: "lzcnt",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512cd: "avx512cd",
        avx512dq: "avx512dq",
        avx512vl: "avx512vl",
        avx512vnni: "avx512vnni",
    }
}

/// The vectors of pairs of 16-bit integers, and those of f32.
#[derive(Clone, Copy)]
struct OfVnni(Vnni, V4);

impl OfVnni {
    /// Adds to the sums of each row the products of its pairs with `V` vectors of a panel from
    /// `vector` on, section by section.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    fn add_products<const R: usize, const V: usize>(
        self,
        rows: [&[i32]; R],
        weights: &[i32],
        vector: usize,
        sums: &mut [[<V4 as Simd>::f32s; V]; R],
    ) {
        let (f, bw) = (self.0.avx512f, self.0.avx512bw);
        let n = rows[0].len();
        let (weights, _) = V4::as_simd_i32s(&weights[..n * PANEL]);
        for first in (0..n).step_by(SECTION / 2) {
            let section = SECTION.min(2 * (n - first)) / 2;
            let mut part: [&[i32]; R] = [&[]; R];
            for index in 0..R {
                part[index] = &rows[index][first..][..section];
            }
            let weights = &weights[first * (PANEL / 16)..][..section * (PANEL / 16)];
            let mut whole = [[f._mm512_setzero_si512(); V]; R];
            for (pair, weights) in weights.chunks_exact(PANEL / 16).enumerate() {
                for index in 0..R {
                    let value = f._mm512_set1_epi32(part[index][pair]);
                    for place in 0..V {
                        let products = bw._mm512_madd_epi16(value, cast(weights[vector + place]));
                        // Product and sum become one instruction.
                        whole[index][place] = f._mm512_add_epi32(whole[index][place], products);
                    }
                }
            }
            for index in 0..R {
                for place in 0..V {
                    let floats = f._mm512_cvtepi32_ps(whole[index][place]);
                    let sum = f._mm512_add_ps(cast(sums[index][place]), floats);
                    sums[index][place] = cast(sum);
                }
            }
        }
    }
}

/// What this kind of vectors multiplies with.
#[derive(Clone, Copy)]
enum Chosen {
    Avx2(V3),
    Vnni(OfVnni),
}

impl Chosen {
    fn of(vectors: Vectors) -> Option<Self> {
        match vectors.kind() {
            Kind::Avx2(simd) => Some(Self::Avx2(simd)),
            Kind::Avx512(simd) | Kind::Amx(simd, _) => {
                Vnni::try_new().map(|vnni| Self::Vnni(OfVnni(vnni, simd)))
            }
            Kind::Portable => None,
        }
    }
}

/// Weights rounded and in the order in which the product reads them.
pub(super) struct FixedMatrix {
    chosen: Chosen,
    vectors: Vectors,
    /// Panels of [`PANEL`] outputs: for each pair of inputs the pairs of all outputs.
    panels: Aligned<i32>,
    /// What one of a whole number of each packed output stands for.
    scales: Aligned<f32>,
}

impl std::fmt::Debug for FixedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FixedMatrix")
            .field("vectors", &self.vectors)
            .field("pairs", &self.panels.len())
            .finish_non_exhaustive()
    }
}

impl FixedMatrix {
    /// Packs a matrix given by `(input, output)`, if these vectors can make use of it.
    pub(super) fn new(
        vectors: Vectors,
        [n_inputs, n_outputs]: [usize; 2],
        weight: &impl Fn(usize, usize) -> f32,
    ) -> Option<Self> {
        if n_inputs == 0 || !n_inputs.is_multiple_of(2) {
            return None;
        }
        let chosen = Chosen::of(vectors)?;
        let packed = n_outputs.next_multiple_of(PANEL);
        let scale = |output: usize| match output < n_outputs {
            true => column_scale(n_inputs, |input| weight(input, output)),
            false => 0.0,
        };
        let scales: Aligned<f32> = Aligned::from_iter(64, (0..packed).map(scale));
        let rounded = |input: usize, output: usize| match output < n_outputs {
            true if scales[output] > 0.0 => nearest(weight(input, output) / scales[output]),
            _ => 0,
        };
        let pairs = (0..packed * n_inputs / 2).map(|index| {
            let output = index / (n_inputs / 2 * PANEL) * PANEL + index % PANEL;
            let input = index / PANEL % (n_inputs / 2) * 2;
            let [low, high] = [0, 1].map(|next| rounded(input + next, output).to_le_bytes());
            i32::from_le_bytes([low[0], low[1], high[0], high[1]])
        });
        let panels = Aligned::from_iter(64, pairs);
        Some(Self {
            chosen,
            vectors,
            panels,
            scales,
        })
    }
}

/// The least scale with which a column fits 16 bits and no section of it can overflow.
fn column_scale(n_inputs: usize, weight: impl Fn(usize) -> f32) -> f32 {
    let greatest = (0..n_inputs)
        .map(|input| weight(input).abs())
        .fold(0.0, f32::max);
    let sections = (0..n_inputs).step_by(SECTION).map(|first| {
        let last = n_inputs.min(first + SECTION);
        // Rounding may add half to every value.
        let half = (last - first) as f32 / 2.0;
        let sum: f32 = (first..last).map(|input| weight(input).abs()).sum();
        sum / (GREATEST_COLUMN_SUM - half)
    });
    sections.fold(greatest / 32_767.0, f32::max)
}

pub(super) fn multiply(matrix: &FixedMatrix, product: Product<'_>) {
    let (n_rows, n_inputs) = (product.n_rows, product.n_inputs);
    let mut values = Buffer::take(n_rows * n_inputs / 2);
    let mut scales = Buffer::take(n_rows);
    let rounded = cast_slice_mut(&mut values);
    match matrix.chosen {
        Chosen::Avx2(avx2) => {
            let greatest = GREATEST_ROW_VALUE;
            avx2::round_rows(avx2, &product, greatest, rounded, &mut scales);
        }
        Chosen::Vnni(_) => round_rows(matrix.vectors, &product, rounded, &mut scales),
    }
    let pairs: &[i32] = cast_slice(&values);
    match matrix.chosen {
        Chosen::Avx2(avx2) => {
            let pairs = avx2::Pairs {
                rows: pairs,
                row_scales: &scales,
                panels: &matrix.panels,
                column_scales: &matrix.scales,
                bias: product.bias,
                n_pairs: n_inputs / 2,
                section: SECTION / 2,
            };
            avx2::multiply_pairs(avx2, matrix.vectors, &pairs, product);
        }
        Chosen::Vnni(vnni) => vnni.0.vectorize(Multiply {
            vnni,
            pairs,
            scales: &scales,
            matrix,
            product,
        }),
    }
}

/// Rounds rows and gives what one stands for in each.
fn round_rows(vectors: Vectors, product: &Product<'_>, rounded: &mut [i16], scales: &mut [f32]) {
    vectors.run(RoundRows {
        product,
        rounded,
        scales,
    });
}

struct RoundRows<'a, 'p> {
    product: &'a Product<'p>,
    rounded: &'a mut [i16],
    scales: &'a mut [f32],
}

impl WithSimd for RoundRows<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            product,
            rounded,
            scales,
        } = self;
        let n_pieces = product.rows.n_pieces;
        let len = product.n_inputs / n_pieces;
        let lines = rounded.chunks_exact_mut(product.n_inputs).zip(scales);
        for (row, (rounded, scale)) in lines.enumerate() {
            let mut most = 0;
            for piece in 0..n_pieces {
                let values = product.rows.piece(row, piece, len);
                most = greatest_magnitude(simd, most, values);
            }
            // No number if there is an infinity or what is no number.
            let most = match most >= f32::INFINITY.to_bits() {
                true => f32::NAN,
                false => f32::from_bits(most),
            };
            *scale = most * (1.0 / GREATEST_ROW_VALUE);
            let inverse = if *scale > 0.0 {
                GREATEST_ROW_VALUE / most
            } else {
                0.0
            };
            // Where only the least numbers are, the inverse has no place in f32.
            let inverse = if inverse.is_infinite() { 0.0 } else { inverse };
            for (piece, rounded) in rounded.chunks_exact_mut(len).enumerate() {
                let values = product.rows.piece(row, piece, len);
                for (rounded, value) in rounded.iter_mut().zip(values) {
                    *rounded = nearest(value * inverse);
                }
            }
        }
    }
}

/// The nearest whole number, to even from the middle, of a value between -2^15 and 2^15.
#[inline(always)]
pub(super) fn nearest(value: f32) -> i16 {
    // Adding 1.5 * 2^23 leaves it in the low bits.
    (value + 12_582_912.0).to_bits() as i16
}

/// The greatest magnitude, as bits: by them magnitudes stand in the order of whole numbers, those
/// of infinities and of what is no number last.
#[inline(always)]
fn greatest_magnitude<S: Simd>(simd: S, before: u32, values: &[f32]) -> u32 {
    let magnitude = |value: S::f32s| simd.transmute_u32s_f32s(simd.abs_f32s(value));
    let (whole, rest) = S::as_simd_f32s(values);
    let mut most = [simd.splat_u32s(0); 2];
    let (pairs, last) = whole.as_chunks::<2>();
    for pair in pairs {
        most[0] = simd.max_u32s(most[0], magnitude(pair[0]));
        most[1] = simd.max_u32s(most[1], magnitude(pair[1]));
    }
    for value in last {
        most[0] = simd.max_u32s(most[0], magnitude(*value));
    }
    let most = [simd.max_u32s(most[0], most[1])];
    let mut all = before;
    for &bits in cast_slice::<_, u32>(&most) {
        all = all.max(bits);
    }
    for value in rest {
        all = all.max(value.abs().to_bits());
    }
    all
}

struct Multiply<'a> {
    vnni: OfVnni,
    /// Rounded rows, two values together.
    pairs: &'a [i32],
    /// What one stands for in each row.
    scales: &'a [f32],
    matrix: &'a FixedMatrix,
    product: Product<'a>,
}

impl NullaryFnOnce for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let lanes = V4::F32_LANES;
        let columns = self.product.columns.clone();
        for panel in columns.start / PANEL..columns.end.div_ceil(PANEL) {
            let end = columns.end.min((panel + 1) * PANEL);
            let mut first = panel * PANEL;
            while first < end {
                let block = first..end.min(first + 2 * lanes);
                if block.len() > lanes {
                    self.all_rows::<2>(block);
                } else {
                    self.all_rows::<1>(block);
                }
                first += 2 * lanes;
            }
            self.product
                .finish(panel * PANEL - columns.start..end - columns.start);
        }
    }
}

impl Multiply<'_> {
    /// All rows by one or two vectors of columns.
    #[inline(always)]
    fn all_rows<const V: usize>(&mut self, columns: Range<usize>) {
        let n_rows = self.product.n_rows;
        let mut row = 0;
        while row + 12 <= n_rows {
            self.some_rows::<12, V>(row, &columns);
            row += 12;
        }
        while row + 6 <= n_rows {
            self.some_rows::<6, V>(row, &columns);
            row += 6;
        }
        while row + 2 <= n_rows {
            self.some_rows::<2, V>(row, &columns);
            row += 2;
        }
        if row < n_rows {
            self.some_rows::<1, V>(row, &columns);
        }
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    fn some_rows<const R: usize, const V: usize>(&mut self, row: usize, columns: &Range<usize>) {
        let simd = self.vnni.1;
        let lanes = V4::F32_LANES;
        let n_pairs = self.product.n_inputs / 2;
        let mut rows: [&[i32]; R] = [&[]; R];
        for index in 0..R {
            rows[index] = &self.pairs[(row + index) * n_pairs..][..n_pairs];
        }
        let panel = columns.start / PANEL;
        let vector = columns.start % PANEL / lanes;
        let weights = &self.matrix.panels[panel * n_pairs * PANEL..][..n_pairs * PANEL];
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        self.vnni.add_products(rows, weights, vector, &mut sums);
        let scales = &self.matrix.scales[columns.start..][..V * lanes];
        let (scales, _) = V4::as_simd_f32s(scales);
        let bias = &self.product.bias[columns.start..][..V * lanes];
        let (bias, _) = V4::as_simd_f32s(bias);
        let (stride, n_columns) = (self.product.columns.len(), columns.len());
        let start = row * stride + columns.start - self.product.columns.start;
        let out = &mut self.product.out[start..];
        let adds = self.product.ending.adds;
        put::<_, R, V>(
            simd,
            #[inline(always)]
            |index: usize, vector: usize| {
                let row_scale = simd.splat_f32s(self.scales[row + index]);
                let scale = simd.mul_f32s(scales[vector], row_scale);
                simd.mul_add_f32s(sums[index][vector], scale, bias[vector])
            },
            out,
            stride,
            n_columns,
            adds,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ending, PackedMatrix, Rounding, RowView};
    use super::*;

    #[test]
    fn greatest_values_everywhere_do_not_overflow() {
        for vectors in Vectors::all() {
            for (n_inputs, value, weight) in [(768, 3.0, 7.0), (96, -1e4, 1e4), (1536, -1e-6, -2.0)]
            {
                let shape = [n_inputs, 40];
                let matrix =
                    PackedMatrix::new(vectors, shape, |_, _| weight, |_| 0.5, Rounding::Coarse);
                let rows = vec![value; n_inputs];
                let mut out = vec![0.0; 40];
                matrix.multiply(RowView::whole(&rows, n_inputs), 1, Ending::PLAIN, &mut out);
                let exact = n_inputs as f32 * value * weight;
                for value in out {
                    let error = (value - 0.5 - exact).abs();
                    // With tiles, values that may be rounded are bf16, of eight bits.
                    let relative = if matrix.kept() == "bf16" { 1e-2 } else { 1e-3 };
                    assert!(error <= exact.abs() * relative, "{value} for {exact}");
                }
            }
        }
    }

    #[test]
    fn rows_are_rounded_alike_by_loops_of_their_own() {
        // What the first row holds; the inverse of the last is none.
        let special = [0.0, f32::NEG_INFINITY, f32::NAN, 3.0, 1e-44];
        for vectors in Vectors::all() {
            let Kind::Avx2(avx2) = vectors.kind() else {
                continue;
            };
            for (n_rows, n_inputs, n_pieces) in [
                (1, 2, 1),
                (4, 16, 1),
                (5, 96, 1),
                (11, 38, 1),
                (9, 60, 3),
                (8, 102, 2),
            ] {
                for value in special {
                    let stride = n_inputs / n_pieces + 3;
                    let mut values: Vec<f32> = (0..(n_rows + n_pieces) * stride)
                        .map(|index| (index * 7919 % 2003) as f32 / 7.0 - 143.0)
                        .collect();
                    values[..n_inputs].fill(value);
                    let product = Product {
                        rows: RowView::whole(&values, stride).in_pieces(n_pieces, stride),
                        n_rows,
                        n_inputs,
                        bias: &[],
                        columns: 0..0,
                        ending: Ending::PLAIN,
                        out: &mut [],
                    };
                    let room = || (vec![0; n_rows * n_inputs], vec![0.0; n_rows]);
                    let (mut wanted, mut wanted_scales) = room();
                    round_rows(vectors, &product, &mut wanted, &mut wanted_scales);
                    let (mut found, mut scales) = room();
                    avx2::round_rows(avx2, &product, GREATEST_ROW_VALUE, &mut found, &mut scales);
                    for row in 0..n_rows {
                        let (scale, wanted_scale) = (scales[row], wanted_scales[row]);
                        if wanted_scale.is_nan() {
                            assert!(scale.is_nan(), "row {row} of {n_rows}");
                            continue;
                        }
                        assert_eq!(scale, wanted_scale, "row {row} of {n_rows}");
                        let place = row * n_inputs..(row + 1) * n_inputs;
                        assert_eq!(found[place.clone()], wanted[place], "row {row} of {n_rows}");
                    }
                }
            }
        }
    }
}
