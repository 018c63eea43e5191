//! The product in fixed point, for processors that multiply pairs of 16-bit integers.
//!
//! AVX-512 VNNI takes twice as many products in an instruction as floating point does. A row of
//! pixels is rounded to about 14 bits with a scale of its own when the product starts, and each
//! column of weights when it is loaded. Sums are whole numbers, exact over a section of inputs that
//! is so short that no sum can overflow, and floating point from section to section. The rounding
//! is several times finer than that of bf16, and the parity tests hold it to the published models.

use std::ops::Range;

use aligned_vec::{AVec, ConstAlign};
use pulp::bytemuck::cast_slice_mut;
use pulp::x86::V4;
use pulp::{NullaryFnOnce, Simd, cast, f32x16, i16x32};

use super::buffer::Buffer;
use super::product::Rows;
use super::simd::run_loops;

/// Columns packed side by side: two vectors.
const PANEL: usize = 32;
const LANES: usize = 16;
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

/// Weights rounded and in the order in which the product reads them.
#[derive(Debug)]
pub(super) struct FixedMatrix {
    n_inputs: usize,
    /// Panels of [`PANEL`] outputs: for each pair of inputs two vectors of pairs.
    panels: AVec<i16, ConstAlign<64>>,
    /// What a whole number of each packed output stands for.
    scales: AVec<f32, ConstAlign<64>>,
}

impl FixedMatrix {
    /// Packs a matrix given by `(input, output)`, if this processor can make use of it.
    pub(super) fn new(
        n_inputs: usize,
        n_outputs: usize,
        weight: impl Fn(usize, usize) -> f32,
    ) -> Option<Self> {
        if !n_inputs.is_multiple_of(2) || !Vnni::is_available() {
            return None;
        }
        let packed = n_outputs.div_ceil(PANEL) * PANEL;
        let scale = |output: usize| match output < n_outputs {
            true => column_scale(n_inputs, |input| weight(input, output)),
            false => 0.0,
        };
        let scales: AVec<f32, ConstAlign<64>> = AVec::from_iter(64, (0..packed).map(scale));
        let panels = (0..packed * n_inputs).map(|index| {
            let within = index % (2 * PANEL);
            let output = index / (n_inputs * PANEL) * PANEL + within / 2;
            let input = index / (2 * PANEL) % (n_inputs / 2) * 2 + within % 2;
            match output < n_outputs && scales[output] > 0.0 {
                true => (weight(input, output) / scales[output]).round_ties_even() as i16,
                false => 0,
            }
        });
        let panels = AVec::from_iter(64, panels);
        Some(Self {
            n_inputs,
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

/// See [`multiply_columns`](super::product::multiply_columns).
pub(super) fn multiply(
    rows: Rows<'_>,
    n_rows: usize,
    matrix: &FixedMatrix,
    bias: &[f32],
    columns: Range<usize>,
    out: &mut [f32],
    adds: bool,
) {
    let Some(vnni) = Vnni::try_new() else {
        unreachable!("a matrix is packed only where the processor can multiply it");
    };
    let n_inputs = matrix.n_inputs;
    let mut values = Buffer::take(n_rows * n_inputs / 2);
    let values: &mut [i16] = cast_slice_mut(&mut values[..n_rows * n_inputs / 2]);
    let mut scales = Buffer::take(n_rows);
    let lines = values.chunks_exact_mut(n_inputs).zip(scales.iter_mut());
    for (index, (values, scale)) in lines.enumerate() {
        *scale = round_row(rows.row(index, n_inputs), values);
    }
    let pairs: &[i32] = pulp::bytemuck::cast_slice(values);
    vnni.vectorize(Multiply {
        vnni,
        pairs,
        scales: &scales,
        matrix,
        bias,
        columns,
        out,
        adds,
    });
}

/// Rounds a row and gives what one stands for.
fn round_row(row: &[f32], rounded: &mut [i16]) -> f32 {
    let mut scale = 0.0;
    run_loops(
        #[inline(always)]
        || {
            let mut most = [0.0f32; LANES];
            let (whole, rest) = row.as_chunks::<LANES>();
            for values in whole {
                for (most, value) in most.iter_mut().zip(values) {
                    *most = most.max(value.abs());
                }
            }
            let most = rest
                .iter()
                .chain(&most)
                .fold(0.0f32, |most, value| most.max(value.abs()));
            scale = most / GREATEST_ROW_VALUE;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for (rounded, value) in rounded.iter_mut().zip(row) {
                // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits.
                *rounded = (value * inverse + 12_582_912.0).to_bits() as i16;
            }
        },
    );
    scale
}

struct Multiply<'a> {
    vnni: Vnni,
    /// Rounded rows, two values together.
    pairs: &'a [i32],
    /// What one stands for in each row.
    scales: &'a [f32],
    matrix: &'a FixedMatrix,
    bias: &'a [f32],
    columns: Range<usize>,
    out: &'a mut [f32],
    adds: bool,
}

impl NullaryFnOnce for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let n_rows = self.scales.len();
        for panel in self.columns.start / PANEL..self.columns.end.div_ceil(PANEL) {
            for first in (0..self.matrix.n_inputs).step_by(SECTION) {
                let mut row = 0;
                while row + 12 <= n_rows {
                    self.some_rows::<12>(row, panel, first);
                    row += 12;
                }
                while row + 4 <= n_rows {
                    self.some_rows::<4>(row, panel, first);
                    row += 4;
                }
                while row < n_rows {
                    self.some_rows::<1>(row, panel, first);
                    row += 1;
                }
            }
        }
    }
}

impl Multiply<'_> {
    /// One section of `R` rows by one panel.
    #[inline(always)]
    fn some_rows<const R: usize>(&mut self, row: usize, panel: usize, first: usize) {
        let (f, bw) = (self.vnni.avx512f, self.vnni.avx512bw);
        let n_pairs = self.matrix.n_inputs / 2;
        let section = SECTION.min(self.matrix.n_inputs - first) / 2;
        let rows: [&[i32]; R] = std::array::from_fn(|index| {
            &self.pairs[(row + index) * n_pairs + first / 2..][..section]
        });
        let weights = &self.matrix.panels[(panel * n_pairs + first / 2) * 2 * PANEL..];
        let (weights, _) = weights[..section * 2 * PANEL].as_chunks::<PANEL>();
        let mut sums = [[f._mm512_setzero_si512(); 2]; R];
        for (pair, weights) in weights.chunks_exact(2).take(section).enumerate() {
            let weights: [i16x32; 2] = [cast(weights[0]), cast(weights[1])];
            for index in 0..R {
                let value = f._mm512_set1_epi32(rows[index][pair]);
                for vector in 0..2 {
                    let product = bw._mm512_madd_epi16(value, cast(weights[vector]));
                    // Product and sum become one instruction.
                    sums[index][vector] = f._mm512_add_epi32(sums[index][vector], product);
                }
            }
        }
        let stride = self.columns.len();
        let column = panel * PANEL - self.columns.start;
        let n_columns = PANEL.min(stride - column);
        let scales: &[f32] = &self.matrix.scales[panel * PANEL..][..PANEL];
        let bias: &[f32] = &self.bias[panel * PANEL..][..PANEL];
        for (index, sums) in sums.into_iter().enumerate() {
            let out = &mut self.out[(row + index) * stride + column..][..n_columns];
            let row_scale = f._mm512_set1_ps(self.scales[row + index]);
            let (whole, rest) = V4::as_mut_simd_f32s(out);
            for (vector, sum) in sums.into_iter().enumerate() {
                if vector * LANES >= n_columns {
                    break;
                }
                let scale: f32x16 = V4::as_simd_f32s(scales).0[vector];
                let bias: f32x16 = V4::as_simd_f32s(bias).0[vector];
                let scale = f._mm512_mul_ps(cast(scale), row_scale);
                let sum = f._mm512_cvtepi32_ps(sum);
                if let Some(out) = whole.get_mut(vector) {
                    let before = match (first > 0, self.adds) {
                        (true, _) => cast(*out),
                        (false, true) => f._mm512_add_ps(cast(*out), cast(bias)),
                        (false, false) => cast(bias),
                    };
                    *out = cast(f._mm512_fmadd_ps(sum, scale, before));
                } else {
                    let added: [f32; LANES] = cast(f._mm512_mul_ps(sum, scale));
                    let bias: [f32; LANES] = cast(bias);
                    for ((out, added), bias) in rest.iter_mut().zip(added).zip(bias) {
                        let before = match (first > 0, self.adds) {
                            (true, _) => *out,
                            (false, true) => *out + bias,
                            (false, false) => bias,
                        };
                        *out = before + added;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product of rows and a matrix of equal values, one result for each output.
    fn product(n_inputs: usize, n_outputs: usize, value: f32, weight: f32) -> Option<Vec<f32>> {
        let matrix = FixedMatrix::new(n_inputs, n_outputs, |_, _| weight)?;
        let rows = vec![value; n_inputs];
        let bias = vec![0.5; n_outputs.div_ceil(PANEL) * PANEL];
        let mut out = vec![0.0; n_outputs];
        let rows = Rows::whole(&rows, n_inputs);
        multiply(rows, 1, &matrix, &bias, 0..n_outputs, &mut out, false);
        Some(out)
    }

    #[test]
    fn greatest_values_everywhere_do_not_overflow() {
        for (n_inputs, value, weight) in [(768, 3.0, 7.0), (96, -1e4, 1e4), (1536, -1e-6, -2.0)] {
            let Some(out) = product(n_inputs, 40, value, weight) else {
                println!("this processor has no fixed point");
                return;
            };
            let exact = n_inputs as f32 * value * weight;
            for value in out {
                assert!(
                    (value - 0.5 - exact).abs() <= exact.abs() * 1e-3,
                    "{value} for {exact}"
                );
            }
        }
    }

    #[test]
    fn zeros_give_the_bias() {
        for (value, weight) in [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)] {
            if let Some(out) = product(100, 33, value, weight) {
                assert!(out.iter().all(|&value| value == 0.5));
            }
        }
    }
}
