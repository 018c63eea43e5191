//! The product of rows of pixels with a small matrix of weights.

use aligned_vec::{AVec, ConstAlign};
use pulp::{Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use super::fixed::{self, FixedMatrix};
use super::simd;

/// Columns that are packed side by side: two vectors of the widest kind.
const PANEL: usize = 32;

/// Weights in the order in which the product reads them.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    n_inputs: usize,
    n_outputs: usize,
    /// Panels of [`PANEL`] outputs: for each input the weights of these outputs, zeros at the end.
    panels: AVec<f32, ConstAlign<64>>,
    /// One value for each packed output.
    bias: AVec<f32, ConstAlign<64>>,
    /// Takes the place of `panels` where it can and may.
    #[cfg(target_arch = "x86_64")]
    fixed: Option<FixedMatrix>,
}

impl PackedMatrix {
    /// Packs a matrix given by `(input, output)`. Rows and weights of a matrix that
    /// `may_be_rounded` are multiplied in fixed point if this processor is faster at that.
    pub(crate) fn new(
        n_inputs: usize,
        n_outputs: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: impl Fn(usize) -> f32,
        may_be_rounded: bool,
    ) -> Self {
        #[cfg(target_arch = "x86_64")]
        let fixed = match may_be_rounded {
            true => FixedMatrix::new(n_inputs, n_outputs, &weight),
            false => None,
        };
        #[cfg(target_arch = "x86_64")]
        let is_fixed = fixed.is_some();
        #[cfg(not(target_arch = "x86_64"))]
        let is_fixed = {
            // Only the fixed-point product of x86-64 is written.
            let _ = may_be_rounded;
            false
        };
        let packed = n_outputs.div_ceil(PANEL) * PANEL;
        let n_panels = if is_fixed { 0 } else { packed / PANEL };
        let known = |output: usize| output < n_outputs;
        let panels = (0..n_panels * n_inputs * PANEL).map(|index| {
            let output = index / (n_inputs * PANEL) * PANEL + index % PANEL;
            let input = index / PANEL % n_inputs;
            if known(output) {
                weight(input, output)
            } else {
                0.0
            }
        });
        let bias = (0..packed).map(|output| if known(output) { bias(output) } else { 0.0 });
        Self {
            n_inputs,
            n_outputs,
            panels: AVec::from_iter(64, panels),
            bias: AVec::from_iter(64, bias),
            #[cfg(target_arch = "x86_64")]
            fixed,
        }
    }

    pub(super) fn n_outputs(&self) -> usize {
        self.n_outputs
    }
}

/// Rows of a matrix, the first of which starts at the first value. A row may lie in several
/// pieces of equal length, as what a kernel sees of an image does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    values: &'a [f32],
    /// Values from one row to the next.
    stride: usize,
    n_pieces: usize,
    /// Values from one piece of a row to the next.
    piece_stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows in one piece.
    pub(super) fn whole(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            stride,
            n_pieces: 1,
            piece_stride: 0,
        }
    }

    pub(super) fn in_pieces(self, n_pieces: usize, piece_stride: usize) -> Self {
        Self {
            n_pieces,
            piece_stride,
            ..self
        }
    }

    /// A row that lies in one piece.
    pub(super) fn row(&self, index: usize, len: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..len]
    }

    pub(super) fn from(self, first: usize) -> Self {
        Self {
            values: &self.values[first * self.stride..],
            ..self
        }
    }
}

/// Writes the product of `n_rows` rows and the matrix, plus bias, to `out`, whose rows follow each
/// other. With `adds` it is added to what `out` holds.
pub(super) fn multiply(
    rows: Rows<'_>,
    n_rows: usize,
    matrix: &PackedMatrix,
    out: &mut [f32],
    adds: bool,
) {
    let columns = 0..matrix.n_outputs;
    multiply_columns(rows, n_rows, matrix, columns, out, adds);
}

/// As [`multiply`] for some of the columns, the first of which begins a panel; rows of `out` hold
/// these columns only.
pub(super) fn multiply_columns(
    rows: Rows<'_>,
    n_rows: usize,
    matrix: &PackedMatrix,
    columns: std::ops::Range<usize>,
    out: &mut [f32],
    adds: bool,
) {
    assert!(
        columns.start.is_multiple_of(PANEL) && columns.end <= matrix.n_outputs,
        "columns of the matrix"
    );
    assert!(out.len() >= n_rows * columns.len(), "room for the product");
    #[cfg(target_arch = "x86_64")]
    if let Some(fixed) = &matrix.fixed {
        return fixed::multiply(rows, n_rows, fixed, &matrix.bias, columns, out, adds);
    }
    simd::run(Multiply {
        rows,
        n_rows,
        matrix,
        columns,
        out,
        adds,
    });
}

struct Multiply<'a> {
    rows: Rows<'a>,
    n_rows: usize,
    matrix: &'a PackedMatrix,
    columns: std::ops::Range<usize>,
    out: &'a mut [f32],
    adds: bool,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    /// Goes panel by panel, so that a panel stays in the first-level cache while all rows of the
    /// tile, which stay in the second, pass over it.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            rows,
            n_rows,
            matrix,
            columns,
            out,
            adds,
        } = self;
        let lanes = S::F32_LANES;
        let out_stride = columns.len();
        for panel in columns.start / PANEL..columns.end.div_ceil(PANEL) {
            let panel_values = matrix.n_inputs * PANEL;
            let weights = &matrix.panels[panel * panel_values..][..panel_values];
            let (weights, _) = S::as_simd_f32s(weights);
            let (bias, _) = S::as_simd_f32s(&matrix.bias[panel * PANEL..][..PANEL]);
            let mut vector = 0;
            while vector < PANEL / lanes {
                let column = panel * PANEL + vector * lanes;
                if column >= columns.end {
                    break;
                }
                let n_columns = (columns.end - column).min(2 * lanes);
                let mut block = Block {
                    simd,
                    rows,
                    n_inputs: matrix.n_inputs,
                    weights,
                    bias,
                    vector,
                    adds,
                };
                let to = Target {
                    out: &mut *out,
                    stride: out_stride,
                    column: column - columns.start,
                    n_columns,
                };
                if n_columns > lanes {
                    block.all_rows::<2>(n_rows, to);
                } else {
                    block.all_rows::<1>(n_rows, to);
                }
                vector += 2;
            }
        }
    }
}

/// One or two vectors of columns.
struct Block<'a, S: Simd> {
    simd: S,
    rows: Rows<'a>,
    n_inputs: usize,
    /// A panel.
    weights: &'a [S::f32s],
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

    #[inline(always)]
    fn some_rows<const R: usize, const V: usize>(&mut self, row: usize, to: &mut Target<'_>) {
        let simd = self.simd;
        let vectors = PANEL / S::F32_LANES;
        let piece = self.n_inputs / self.rows.n_pieces;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (index, weights) in self.weights.chunks_exact(piece * vectors).enumerate() {
            let values = &self.rows.values[index * self.rows.piece_stride..];
            let rows: [&[f32]; R] =
                std::array::from_fn(|index| &values[(row + index) * self.rows.stride..][..piece]);
            for (input, weights) in weights.chunks_exact(vectors).take(piece).enumerate() {
                let weights: [S::f32s; V] =
                    std::array::from_fn(|index| weights[self.vector + index]);
                for index in 0..R {
                    let value = simd.splat_f32s(rows[index][input]);
                    for vector in 0..V {
                        sums[index][vector] =
                            simd.mul_add_f32s(value, weights[vector], sums[index][vector]);
                    }
                }
            }
        }
        for (index, sums) in sums.into_iter().enumerate() {
            let start = (row + index) * to.stride + to.column;
            let out = &mut to.out[start..start + to.n_columns];
            let (whole, rest) = S::as_mut_simd_f32s(out);
            for (vector, sum) in sums.into_iter().enumerate() {
                let sum = simd.add_f32s(sum, self.bias[self.vector + vector]);
                if let Some(out) = whole.get_mut(vector) {
                    *out = if self.adds {
                        simd.add_f32s(*out, sum)
                    } else {
                        sum
                    };
                } else {
                    let sum = [sum];
                    let sum: &[f32] = pulp::bytemuck::cast_slice(&sum);
                    for (out, sum) in rest.iter_mut().zip(sum) {
                        *out = if self.adds { *out + sum } else { *sum };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from -1 to 1 that differ from place to place.
    fn value(index: usize) -> f32 {
        (index * 7919 % 2003) as f32 / 1001.0 - 1.0
    }

    fn check(n_rows: usize, n_inputs: usize, n_outputs: usize, may_be_rounded: bool) {
        let weight = |input: usize, output: usize| value(3 * input + 17 * output);
        let matrix = PackedMatrix::new(n_inputs, n_outputs, weight, value, may_be_rounded);
        // Rows with something between them, in which nothing may be read.
        let stride = n_inputs + 3;
        let mut rows: Vec<f32> = (0..n_rows * stride).map(value).collect();
        for row in rows.chunks_exact_mut(stride) {
            row[n_inputs..].fill(f32::NAN);
        }
        let mut out: Vec<f32> = (0..n_rows * n_outputs).map(value).collect();
        multiply(Rows::whole(&rows, stride), n_rows, &matrix, &mut out, true);
        for (index, found) in out.into_iter().enumerate() {
            let (row, output) = (index / n_outputs, index % n_outputs);
            let products =
                (0..n_inputs).map(|input| rows[row * stride + input] * weight(input, output));
            let exact = value(index) + value(output) + products.sum::<f32>();
            let tolerance = if may_be_rounded { 1e-2 } else { 1e-3 };
            assert!(
                (found - exact).abs() < tolerance,
                "{found} for {exact} at {row}, {output}"
            );
        }
    }

    #[test]
    fn product_is_right_for_sizes_that_fit_no_vector() {
        for n_rows in [1, 2, 5, 12, 13, 31] {
            for (n_inputs, n_outputs) in [(1, 1), (9, 12), (24, 24), (120, 49), (97, 96)] {
                check(n_rows, n_inputs, n_outputs, false);
            }
        }
    }

    #[test]
    fn rounded_product_is_close_for_sizes_that_fit_no_vector() {
        for n_rows in [1, 3, 12, 13, 31] {
            for (n_inputs, n_outputs) in [(2, 1), (96, 10), (98, 24), (120, 49), (192, 96)] {
                check(n_rows, n_inputs, n_outputs, true);
            }
        }
    }
}
