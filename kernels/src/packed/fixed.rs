//! The product in fixed point, on integers of 16 bits.
//!
//! One instruction of AVX2 multiplies sixteen pairs of them and adds neighbors, where floating
//! point multiplies eight, and AVX-512 VNNI adds up as well. A row is rounded to about 14 bits with
//! a scale of its own when the product starts, and each column of weights when it is packed. Sums
//! are whole numbers, exact over a section of inputs that is so short that no sum can overflow, and
//! floating point from section to section. The rounding is several times finer than that of bf16.
//!
//! A row with an infinity, or with what is no number, gives what is no number everywhere.

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::x86::{V3, V4};

use super::blocks::Pairs;
use super::{PANEL, Product, avx2, avx512, panels};
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
    pub(super) struct Vnni {
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

/// What this kind of vectors multiplies with.
#[derive(Clone, Copy)]
enum Chosen {
    Avx2(V3),
    Vnni(Vnni, V4),
}

impl Chosen {
    fn of(vectors: Vectors) -> Option<Self> {
        match vectors.kind() {
            Kind::Avx2(simd) => Some(Self::Avx2(simd)),
            Kind::Avx512(simd) | Kind::Amx(simd, _) => {
                Vnni::try_new().map(|vnni| Self::Vnni(vnni, simd))
            }
            Kind::Portable => None,
        }
    }

    /// Rounds rows, and gives what one stands for in each.
    fn round_rows(self, product: &Product<'_>, rounded: &mut [i16], scales: &mut [f32]) {
        let greatest = GREATEST_ROW_VALUE;
        match self {
            Self::Avx2(avx2) => avx2::round_rows(avx2, product, greatest, rounded, scales),
            Self::Vnni(_, avx512) => avx512::round_rows(avx512, product, greatest, rounded, scales),
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
    /// Packs a matrix given by `(input, output)`, if these vectors can make use of it. Where outputs
    /// are few, rounding a row takes longer than its products.
    pub(super) fn new(
        vectors: Vectors,
        [n_inputs, n_outputs]: [usize; 2],
        weight: &(impl Fn(usize, usize) -> f32 + Sync),
    ) -> Option<Self> {
        if n_inputs == 0 || !n_inputs.is_multiple_of(2) || n_outputs < PANEL {
            return None;
        }
        let chosen = Chosen::of(vectors)?;
        let n_panels = n_outputs.div_ceil(PANEL);
        let scales = panels(n_panels, PANEL, |panel, scales| {
            for (scale, output) in scales.iter_mut().zip(panel * PANEL..n_outputs) {
                *scale = column_scale(n_inputs, |input| weight(input, output));
            }
        });
        let panels = panels(n_panels, n_inputs / 2 * PANEL, |panel, pairs| {
            for (pair, pairs) in pairs.chunks_exact_mut(PANEL).enumerate() {
                let outputs = panel * PANEL..n_outputs;
                for (value, (output, scale)) in
                    pairs.iter_mut().zip(outputs.zip(&scales[panel * PANEL..]))
                {
                    if *scale > 0.0 {
                        let [low, high] = [0, 1].map(|next| {
                            nearest(weight(2 * pair + next, output) / scale).to_le_bytes()
                        });
                        *value = i32::from_le_bytes([low[0], low[1], high[0], high[1]]);
                    }
                }
            }
        });
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
    matrix.chosen.round_rows(&product, rounded, &mut scales);
    let pairs = Pairs {
        rows: cast_slice(&values),
        row_scales: &scales,
        panels: &matrix.panels,
        column_scales: &matrix.scales,
        bias: product.bias,
        n_pairs: n_inputs / 2,
        section: SECTION / 2,
    };
    match matrix.chosen {
        Chosen::Avx2(avx2) => avx2::multiply_pairs(avx2, matrix.vectors, &pairs, product),
        Chosen::Vnni(vnni, _) => avx512::multiply_pairs(vnni, matrix.vectors, &pairs, product),
    }
}

/// The nearest whole number, to even from the middle, of a value between -2^15 and 2^15.
#[inline(always)]
pub(super) fn nearest(value: f32) -> i16 {
    // Adding 1.5 * 2^23 leaves it in the low bits.
    (value + 12_582_912.0).to_bits() as i16
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

    /// Rounds a row as plain code does, and gives what one stands for in it.
    fn round(values: &[f32]) -> (Vec<i16>, f32) {
        let magnitudes = values.iter().map(|value| value.abs().to_bits());
        let most = match f32::from_bits(magnitudes.max().unwrap_or(0)) {
            most if most.is_finite() => most,
            _ => f32::NAN,
        };
        let scale = most * (1.0 / GREATEST_ROW_VALUE);
        let inverse = match GREATEST_ROW_VALUE / most {
            // Where only the least numbers are, the inverse has no place in f32.
            inverse if scale > 0.0 && inverse.is_finite() => inverse,
            _ => 0.0,
        };
        let rounded = values.iter().map(|value| nearest(value * inverse));
        (rounded.collect(), scale)
    }

    #[test]
    fn rows_are_rounded_as_plain_code_does() {
        // What the first row holds; the inverse of the last is none.
        let special = [0.0, f32::NEG_INFINITY, f32::NAN, 3.0, 1e-44];
        for vectors in Vectors::all() {
            let Some(chosen) = Chosen::of(vectors) else {
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
                    let (mut found, mut scales) = (vec![0; n_rows * n_inputs], vec![0.0; n_rows]);
                    chosen.round_rows(&product, &mut found, &mut scales);
                    for row in 0..n_rows {
                        let len = n_inputs / n_pieces;
                        let pieces =
                            (row..row + n_pieces).map(|line| &values[line * stride..][..len]);
                        let (wanted, wanted_scale) = round(&pieces.collect::<Vec<_>>().concat());
                        let scale = scales[row];
                        if wanted_scale.is_nan() {
                            assert!(scale.is_nan(), "row {row} of {n_rows}");
                            continue;
                        }
                        assert_eq!(scale, wanted_scale, "row {row} of {n_rows}");
                        let found = &found[row * n_inputs..][..n_inputs];
                        assert_eq!(found, wanted, "row {row} of {n_rows}");
                    }
                }
            }
        }
    }
}
