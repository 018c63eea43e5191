//! The product of tiles of bf16, with sums in f32.
//!
//! Weights are rounded when they are packed, rows when the product starts. A block is 32 rows by a
//! panel: four tiles of sums, two of rows, two of weights, each of which is loaded for two products.
//! Inputs are filled up with zeros to whole steps, rows to whole tiles.

use std::arch::x86_64::{__m512bh, _mm512_cvtne2ps_pbh, _mm512_loadu_ps};
use std::mem::transmute;
use std::ops::Range;

use pulp::bytemuck::cast_slice_mut;
use pulp::{Simd, WithSimd};

use super::{PANEL, Product};
use crate::activation::Activation;
use crate::buffer::Buffer;
use crate::storage::Aligned;
use crate::tiles::{BLOCK_COLUMNS, BLOCK_ROWS, Block, STEP, STEP_WEIGHTS, TILE_ROWS, Tiles, Unit};
use crate::vectors::{Kind, Vectors};

const _: () = assert!(PANEL == BLOCK_COLUMNS, "a panel is what a block takes");

/// Weights in tiles.
#[derive(Debug)]
pub(super) struct TiledMatrix {
    /// For each panel, for each step of 32 inputs, for each half of the panel: for each pair of
    /// inputs the pairs of sixteen columns.
    panels: Aligned<u16>,
    n_steps: usize,
}

impl TiledMatrix {
    /// Packs a matrix given by `(input, output)`, if these vectors come with tiles.
    pub(super) fn new(
        vectors: Vectors,
        shape: [usize; 2],
        weight: &impl Fn(usize, usize) -> f32,
    ) -> Option<Self> {
        let has_tiles = matches!(vectors.kind(), Kind::Amx(..));
        (has_tiles && shape[0] > 0).then(|| Self::pack(shape, weight))
    }

    fn pack([n_inputs, n_outputs]: [usize; 2], weight: &impl Fn(usize, usize) -> f32) -> Self {
        let n_steps = n_inputs.div_ceil(STEP);
        let panel = n_steps * STEP_WEIGHTS;
        let panels = (0..n_outputs.div_ceil(PANEL) * panel).map(|index| {
            let (step, within) = (index % panel / STEP_WEIGHTS, index % STEP_WEIGHTS);
            let (half, within) = (within / (STEP_WEIGHTS / 2), within % (STEP_WEIGHTS / 2));
            let input = step * STEP + within / 32 * 2 + within % 2;
            let output = index / panel * PANEL + half * 16 + within % 32 / 2;
            match input < n_inputs && output < n_outputs {
                true => round(weight(input, output)),
                false => 0,
            }
        });
        Self {
            panels: Aligned::from_iter(64, panels),
            n_steps,
        }
    }
}

/// To the nearest bf16, of two equally near ones to the even. What is no number stays so.
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let even = bits >> 16 & 1;
    let rounded = bits.wrapping_add(0x7fff + even) >> 16;
    // The bit keeps a number that is none from becoming infinite.
    let none = bits >> 16 | 0x40;
    (if value.is_nan() { none } else { rounded }) as u16
}

pub(super) fn multiply(vectors: Vectors, matrix: &TiledMatrix, product: Product<'_>) {
    let Kind::Amx(_, permission) = vectors.kind() else {
        unreachable!("a matrix is packed in tiles only where there are tiles");
    };
    multiply_with(&mut Unit::new(permission), vectors, matrix, product);
}

/// bf16 has eight bits: a coarser GELU does no harm, and takes as much time as some products.
fn coarse(activation: Activation) -> Activation {
    match activation {
        Activation::Gelu => Activation::CoarseGelu,
        other => other,
    }
}

fn multiply_with(
    tiles: &mut impl Tiles,
    vectors: Vectors,
    matrix: &TiledMatrix,
    mut product: Product<'_>,
) {
    product.ending.activation = coarse(product.ending.activation);
    let stride = matrix.n_steps * STEP;
    let filled = product.n_rows.next_multiple_of(TILE_ROWS);
    let mut rounded = Buffer::take(filled * stride / 2);
    let rounded: &mut [u16] = cast_slice_mut(&mut rounded);
    round_rows(vectors, &product, stride, rounded);
    vectors.run(Multiply {
        tiles,
        rows: rounded,
        stride,
        matrix,
        product,
    });
}

/// Rounds rows and fills them up to `stride` values, and with rows of zeros to whole tiles.
fn round_rows(vectors: Vectors, product: &Product<'_>, stride: usize, rounded: &mut [u16]) {
    let work = RoundRows {
        product,
        stride,
        rounded,
    };
    // CPUs with tiles have an instruction for it; the model of tiles may run on others.
    if has_rounding() && matches!(vectors.kind(), Kind::Amx(..)) {
        // SAFETY: the instructions are there.
        #[allow(unsafe_code, reason = "a function for instructions just asked for")]
        unsafe {
            round_with_instruction(work);
        }
    } else {
        vectors.run(work);
    }
}

fn has_rounding() -> bool {
    is_x86_feature_detected!("avx512bf16")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// # Safety
/// There are AVX-512 and its extension for bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[allow(unsafe_code, reason = "a function for instructions")]
unsafe fn round_with_instruction(work: RoundRows<'_>) {
    work.each_piece(
        #[inline(always)]
        |values, out| {
            let (values, last_values) = values.as_chunks::<32>();
            let (out, last_out) = out.as_chunks_mut::<32>();
            for (out, values) in out.iter_mut().zip(values) {
                let half = |index: usize| {
                    // SAFETY: sixteen of the 32 values.
                    unsafe { _mm512_loadu_ps(values[16 * index..].as_ptr()) }
                };
                let both = _mm512_cvtne2ps_pbh(half(1), half(0));
                // SAFETY: as many bits as 32 values of 16 have; any are such values.
                *out = unsafe { transmute::<__m512bh, [u16; 32]>(both) };
            }
            for (out, value) in last_out.iter_mut().zip(last_values) {
                *out = round(*value);
            }
        },
    );
}

struct RoundRows<'a> {
    product: &'a Product<'a>,
    stride: usize,
    rounded: &'a mut [u16],
}

impl WithSimd for RoundRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        self.each_piece(
            #[inline(always)]
            |values, out| {
                for (out, value) in out.iter_mut().zip(values) {
                    *out = round(*value);
                }
            },
        );
    }
}

impl RoundRows<'_> {
    /// Calls `round` for each piece of each row and its place.
    #[inline(always)]
    fn each_piece(self, round: impl Fn(&[f32], &mut [u16])) {
        let Product {
            rows,
            n_rows,
            n_inputs,
            ..
        } = *self.product;
        let len = n_inputs / rows.n_pieces;
        for (row, out) in self.rounded.chunks_exact_mut(self.stride).enumerate() {
            if row >= n_rows {
                out.fill(0);
                continue;
            }
            let (out, rest) = out.split_at_mut(n_inputs);
            rest.fill(0);
            for (piece, out) in out.chunks_exact_mut(len).enumerate() {
                round(rows.piece(row, piece, len), out);
            }
        }
    }
}

struct Multiply<'a, T: Tiles> {
    tiles: &'a mut T,
    /// Rounded and filled up.
    rows: &'a [u16],
    stride: usize,
    matrix: &'a TiledMatrix,
    product: Product<'a>,
}

impl<T: Tiles> WithSimd for Multiply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let columns = self.product.columns.clone();
        let n_rows = self.product.n_rows;
        let panel_weights = self.matrix.n_steps * STEP_WEIGHTS;
        let mut sums = Block::ZERO;
        for panel in columns.start / PANEL..columns.end.div_ceil(PANEL) {
            let weights = &self.matrix.panels[panel * panel_weights..][..panel_weights];
            let some = panel * PANEL..columns.end.min((panel + 1) * PANEL);
            let mut row = 0;
            while row < n_rows {
                let rows = &self.rows[row * self.stride..];
                match n_rows - row > TILE_ROWS {
                    true => self
                        .tiles
                        .multiply::<2>(rows, self.stride, weights, &mut sums),
                    false => self
                        .tiles
                        .multiply::<1>(rows, self.stride, weights, &mut sums),
                }
                let last = n_rows.min(row + BLOCK_ROWS);
                self.give(simd, row..last, &some, &sums);
                row = last;
            }
            self.product
                .finish(some.start - columns.start..some.end - columns.start);
        }
    }
}

impl<T: Tiles> Multiply<'_, T> {
    /// Writes what was computed of some rows, or adds it.
    #[inline(always)]
    fn give<S: Simd>(&mut self, simd: S, rows: Range<usize>, columns: &Range<usize>, sums: &Block) {
        let product = &mut self.product;
        let stride = product.columns.len();
        let column = columns.start - product.columns.start;
        let bias = &product.bias[columns.start..][..PANEL];
        let (bias_vectors, _) = S::as_simd_f32s(bias);
        let adds = product.ending.adds;
        for (row, sums) in rows.zip(&sums.0) {
            let out = &mut product.out[row * stride + column..][..columns.len()];
            let (vectors, _) = S::as_simd_f32s(sums.as_slice());
            let (whole, rest) = S::as_mut_simd_f32s(out);
            let done = whole.len() * S::F32_LANES;
            for ((out, sum), bias) in whole.iter_mut().zip(vectors).zip(bias_vectors) {
                let sum = simd.add_f32s(*sum, *bias);
                *out = if adds { simd.add_f32s(*out, sum) } else { sum };
            }
            for ((out, sum), bias) in rest.iter_mut().zip(&sums[done..]).zip(&bias[done..]) {
                let sum = sum + bias;
                *out = if adds { *out + sum } else { sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::super::{Ending, RowView};
    use super::*;
    use crate::tiles::Model;

    #[test]
    fn values_are_rounded_to_the_nearest_even() {
        let mut state = 1u32;
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(state);
            let (found, wanted) = (round(value), bf16::from_f32(value));
            match value.is_nan() {
                true => assert!(bf16::from_bits(found).is_nan()),
                false => assert_eq!(found, wanted.to_bits(), "{value}"),
            }
        }
    }

    /// Where there is one.
    #[test]
    fn instruction_rounds_as_plain_code_does() {
        if !has_rounding() {
            println!("skipped: this CPU has no instruction that rounds to bf16");
            return;
        }
        let mut state = 1u32;
        let mut values: Vec<f32> = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from_bits(state)
            })
            .collect();
        values.extend([f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::MAX]);
        let mut out = [];
        let product = Product {
            rows: RowView::whole(&values, values.len()),
            n_rows: 1,
            n_inputs: values.len(),
            bias: &[],
            columns: 0..0,
            ending: Ending::PLAIN,
            out: &mut out,
        };
        let stride = values.len().next_multiple_of(STEP);
        let mut rounded = vec![1; TILE_ROWS * stride];
        for vectors in Vectors::all() {
            rounded.fill(1);
            round_rows(vectors, &product, stride, &mut rounded);
            let (row, filling) = rounded.split_at(values.len());
            assert!(filling.iter().all(|value| *value == 0));
            for (found, value) in row.iter().zip(&values) {
                let found = bf16::from_bits(*found);
                match (value.is_nan(), value.is_subnormal()) {
                    (true, _) => assert!(found.is_nan()),
                    // The instruction takes them for zero.
                    (_, true) => assert!(found.to_f32().abs() <= 1.2e-38),
                    _ => assert_eq!(found.to_bits(), round(*value), "{value}"),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn products_of_modeled_tiles_are_close_to_exact_ones_of_rounded_values(
            (n_rows, n_inputs, n_outputs) in (0usize..70, 1usize..140, 1usize..100),
            n_pieces in 1usize..4,
            adds: bool,
        ) {
            let value = |index: usize| (index * 7919 % 2003) as f32 / 1001.0 - 1.0;
            let n_inputs = n_inputs * n_pieces;
            let weight = |input: usize, output: usize| value(3 * input + 17 * output);
            let matrix = TiledMatrix::pack([n_inputs, n_outputs], &weight);
            let stride = n_inputs / n_pieces + 3;
            let values: Vec<f32> = (0..n_pieces * (n_rows + 1) * stride).map(value).collect();
            let piece_stride = (n_rows + 1) * stride;
            let bias: Vec<f32> = (0..n_outputs.next_multiple_of(PANEL)).map(value).collect();
            for vectors in Vectors::all() {
                let mut out = vec![0.5; n_rows * n_outputs];
                let product = Product {
                    rows: RowView::whole(&values, stride).in_pieces(n_pieces, piece_stride),
                    n_rows,
                    n_inputs,
                    bias: &bias,
                    columns: 0..n_outputs,
                    ending: if adds { Ending::ADDED } else { Ending::PLAIN },
                    out: &mut out,
                };
                multiply_with(&mut Model, vectors, &matrix, product);
                for (index, found) in out.iter().enumerate() {
                    let (row, output) = (index / n_outputs, index % n_outputs);
                    let exact: f64 = (0..n_inputs)
                        .map(|input| {
                            let len = n_inputs / n_pieces;
                            let at = input / len * piece_stride + row * stride + input % len;
                            let rounded = |value| bf16::from_f32(value).to_f64();
                            rounded(values[at]) * rounded(weight(input, output))
                        })
                        .sum();
                    let exact = exact + f64::from(bias[output]) + if adds { 0.5 } else { 0.0 };
                    let error = (f64::from(*found) - exact).abs();
                    prop_assert!(error < 2e-4, "{} for {} at {}, {}", found, exact, row, output);
                }
            }
        }
    }
}
