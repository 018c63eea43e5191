//! The product in f32.

use pulp::{Simd, WithSimd};

use super::{PANEL, Product, RowView, panels, put};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
use crate::storage::Aligned;
#[cfg(target_arch = "x86_64")]
use crate::vectors::Kind;
use crate::vectors::Vectors;

/// See [`Weights::Float`](super::Weights::Float).
pub(super) fn pack(
    [n_inputs, n_outputs]: [usize; 2],
    weight: &(impl Fn(usize, usize) -> f32 + Sync),
) -> Aligned<f32> {
    panels(
        n_outputs.div_ceil(PANEL),
        n_inputs * PANEL,
        |panel, values| {
            let outputs = panel * PANEL..n_outputs.min((panel + 1) * PANEL);
            for (input, values) in values.chunks_exact_mut(PANEL).enumerate() {
                for (value, output) in values.iter_mut().zip(outputs.clone()) {
                    *value = weight(input, output);
                }
            }
        },
    )
}

pub(super) fn multiply(vectors: Vectors, panels: &[f32], product: Product<'_>) {
    #[cfg(target_arch = "x86_64")]
    match vectors.kind() {
        Kind::Avx2(avx2) => return avx2::multiply_floats(avx2, vectors, panels, product),
        Kind::Avx512(avx512) | Kind::Amx(avx512, _) => {
            return avx512::multiply_floats(avx512, vectors, panels, product);
        }
        Kind::Portable => {}
    }
    vectors.run(Multiply { panels, product });
}

struct Multiply<'a> {
    panels: &'a [f32],
    product: Product<'a>,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            panels,
            mut product,
        } = self;
        let lanes = S::F32_LANES;
        let columns = product.columns.clone();
        let panel_values = product.n_inputs * PANEL;
        for panel in columns.start / PANEL..columns.end.div_ceil(PANEL) {
            let weights = &panels[panel * panel_values..][..panel_values];
            let (bias, _) = S::as_simd_f32s(&product.bias[panel * PANEL..][..PANEL]);
            let end = columns.end.min((panel + 1) * PANEL);
            let mut vector = 0;
            while panel * PANEL + vector * lanes < end {
                let column = panel * PANEL + vector * lanes;
                let mut block = Block {
                    simd,
                    rows: product.rows,
                    n_inputs: product.n_inputs,
                    weights,
                    bias,
                    vector,
                    adds: product.ending.adds,
                };
                let n_columns = (end - column).min(2 * lanes);
                let to = Target {
                    out: &mut *product.out,
                    stride: columns.len(),
                    column: column - columns.start,
                    n_columns,
                };
                if n_columns > lanes {
                    block.all_rows::<2>(product.n_rows, to);
                } else {
                    block.all_rows::<1>(product.n_rows, to);
                }
                vector += 2;
            }
            product.finish(panel * PANEL - columns.start..end - columns.start);
        }
    }
}

/// One or two vectors of columns.
struct Block<'a, S: Simd> {
    simd: S,
    rows: RowView<'a>,
    n_inputs: usize,
    /// A panel.
    weights: &'a [f32],
    /// Bias of the panel.
    bias: &'a [S::f32s],
    /// The first vector of the panel that is meant.
    vector: usize,
    adds: bool,
}

/// Where a block goes.
struct Target<'a> {
    out: &'a mut [f32],
    stride: usize,
    column: usize,
    n_columns: usize,
}

impl<S: Simd> Block<'_, S> {
    #[inline(always)]
    fn all_rows<const V: usize>(&mut self, n_rows: usize, mut to: Target<'_>) {
        let mut row = 0;
        // With 32 registers twelve rows by two vectors of sums fit, with 16 six rows.
        if S::REGISTER_COUNT >= 32 {
            while row + 12 <= n_rows {
                self.some_rows::<12, V>(row, &mut to);
                row += 12;
            }
        }
        while row + 6 <= n_rows {
            self.some_rows::<6, V>(row, &mut to);
            row += 6;
        }
        while row + 2 <= n_rows {
            self.some_rows::<2, V>(row, &mut to);
            row += 2;
        }
        if row < n_rows {
            self.some_rows::<1, V>(row, &mut to);
        }
    }

    /// Loops over indices instead of closures, which may fail to be inlined.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    fn some_rows<const R: usize, const V: usize>(&mut self, row: usize, to: &mut Target<'_>) {
        let simd = self.simd;
        let n_pieces = self.rows.n_pieces;
        let len = self.n_inputs / n_pieces;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for piece in 0..n_pieces {
            let mut rows: [&[f32]; R] = [&[]; R];
            for index in 0..R {
                rows[index] = self.rows.piece(row + index, piece, len);
            }
            let weights = &self.weights[piece * len * PANEL..][..len * PANEL];
            // A copy of its own, which the compiler keeps in registers.
            let mut registers = sums;
            let (weights, _) = S::as_simd_f32s(weights);
            for (input, weights) in weights.chunks_exact(PANEL / S::F32_LANES).enumerate() {
                let mut now = [simd.splat_f32s(0.0); V];
                now.copy_from_slice(&weights[self.vector..self.vector + V]);
                for index in 0..R {
                    let value = simd.splat_f32s(rows[index][input]);
                    for vector in 0..V {
                        registers[index][vector] =
                            simd.mul_add_e_f32s(value, now[vector], registers[index][vector]);
                    }
                }
            }
            sums = registers;
        }
        let out = &mut to.out[row * to.stride + to.column..];
        put::<S, R, V>(
            simd,
            #[inline(always)]
            |index: usize, vector: usize| {
                simd.add_f32s(sums[index][vector], self.bias[self.vector + vector])
            },
            out,
            to.stride,
            to.n_columns,
            self.adds,
        );
    }
}
