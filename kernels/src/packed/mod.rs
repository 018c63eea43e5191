//! The product of many rows with a small matrix of weights, packed once when it is loaded.
//!
//! For convolutions and layers whose rows are many: the weights are cut into panels of 32 columns,
//! a panel stays in the first-level cache while all rows of a tile, which stay in the second, pass
//! over it, and the activation is applied to what a panel gave before it leaves the cache.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod blocks;
mod classes;
#[cfg(target_arch = "x86_64")]
mod fixed;
mod float;
#[cfg(target_arch = "x86_64")]
mod tiled;

use std::ops::Range;

use pulp::Simd;
use pulp::bytemuck::cast_slice;
use rayon::prelude::*;

use crate::activation::Activation;
use crate::buffer::Buffer;
use crate::storage::Aligned;
use crate::vectors::Vectors;

#[cfg(target_arch = "x86_64")]
use self::fixed::FixedMatrix;
#[cfg(target_arch = "x86_64")]
use self::tiled::TiledMatrix;

/// Columns that are packed side by side: two vectors of the widest kind.
pub const PANEL: usize = 32;

/// Weights in the order in which the product reads them, for one kind of vectors.
#[derive(Debug)]
pub struct PackedMatrix {
    vectors: Vectors,
    n_inputs: usize,
    n_outputs: usize,
    weights: Weights,
    /// One value for each packed output.
    bias: Aligned<f32>,
}

#[derive(Debug)]
enum Weights {
    /// Panels of [`PANEL`] outputs: for each input the weights of these outputs, zeros at the end.
    Float(Aligned<f32>),
    #[cfg(target_arch = "x86_64")]
    Fixed(FixedMatrix),
    #[cfg(target_arch = "x86_64")]
    Tiled(TiledMatrix),
}

/// How far rows and weights may be rounded before they are multiplied, where that is faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Not at all: they are f32.
    None,
    /// To the 14 bits of fixed point.
    Fine,
    /// To the eight bits of bf16, too.
    Coarse,
}

impl Rounding {
    pub const ALL: [Self; 3] = [Self::None, Self::Fine, Self::Coarse];
}

/// What happens to a product.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ending {
    /// Applied last.
    pub activation: Activation,
    /// Whether to add the product to what is there instead of writing it.
    pub adds: bool,
}

impl Ending {
    /// The product is written as it is.
    pub const PLAIN: Self = Self {
        activation: Activation::Identity,
        adds: false,
    };
    /// The product is added to what is there.
    pub const ADDED: Self = Self {
        activation: Activation::Identity,
        adds: true,
    };
}

impl From<Activation> for Ending {
    fn from(activation: Activation) -> Self {
        Self {
            activation,
            adds: false,
        }
    }
}

impl PackedMatrix {
    /// Packs a matrix given by `(input, output)`, and a bias.
    pub fn new(
        vectors: Vectors,
        [n_inputs, n_outputs]: [usize; 2],
        weight: impl Fn(usize, usize) -> f32 + Sync,
        bias: impl Fn(usize) -> f32,
        rounding: Rounding,
    ) -> Self {
        let shape = [n_inputs, n_outputs];
        Self::in_pieces(vectors, shape, 1, weight, bias, rounding)
    }

    /// As [`Self::new`] for rows that mostly come in so many pieces.
    ///
    /// # Panics
    /// When inputs do not fall into pieces of one length.
    pub fn in_pieces(
        vectors: Vectors,
        [n_inputs, n_outputs]: [usize; 2],
        n_pieces: usize,
        weight: impl Fn(usize, usize) -> f32 + Sync,
        bias: impl Fn(usize) -> f32,
        rounding: Rounding,
    ) -> Self {
        assert!(n_inputs.is_multiple_of(n_pieces), "pieces of one length");
        let packed = n_outputs.next_multiple_of(PANEL);
        let bias = (0..packed).map(|output| match output < n_outputs {
            true => bias(output),
            false => 0.0,
        });
        let rounded = Weights::rounded(vectors, [n_inputs, n_outputs], n_pieces, &weight, rounding);
        let weights =
            rounded.unwrap_or_else(|| Weights::Float(float::pack([n_inputs, n_outputs], &weight)));
        Self {
            vectors,
            n_inputs,
            n_outputs,
            weights,
            bias: Aligned::from_iter(64, bias),
        }
    }

    pub fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    pub fn n_outputs(&self) -> usize {
        self.n_outputs
    }

    pub fn vectors(&self) -> Vectors {
        self.vectors
    }

    /// A value for each output.
    pub fn bias(&self) -> &[f32] {
        &self.bias[..self.n_outputs]
    }

    /// How the weights are kept, for logs.
    pub fn kept(&self) -> &'static str {
        match &self.weights {
            Weights::Float(_) => "f32",
            #[cfg(target_arch = "x86_64")]
            Weights::Fixed(_) => "fixed point",
            #[cfg(target_arch = "x86_64")]
            Weights::Tiled(_) => "bf16",
        }
    }

    /// Writes the product of `n_rows` rows and the matrix, plus bias, to `out`, whose rows follow
    /// each other.
    ///
    /// # Panics
    /// When shapes do not fit.
    pub fn multiply(&self, rows: RowView<'_>, n_rows: usize, ending: Ending, out: &mut [f32]) {
        self.multiply_columns(rows, n_rows, 0..self.n_outputs, ending, out);
    }

    /// As [`Self::multiply`] for some of the columns, the first of which begins a panel; rows of
    /// `out` hold these columns only.
    ///
    /// # Panics
    /// When shapes do not fit.
    pub fn multiply_columns(
        &self,
        rows: RowView<'_>,
        n_rows: usize,
        columns: Range<usize>,
        ending: Ending,
        out: &mut [f32],
    ) {
        assert!(
            columns.start.is_multiple_of(PANEL) && columns.end <= self.n_outputs,
            "columns of the matrix"
        );
        assert!(out.len() >= n_rows * columns.len(), "room for the product");
        assert!(
            self.n_inputs.is_multiple_of(rows.n_pieces),
            "pieces of one length"
        );
        if n_rows == 0 || columns.is_empty() {
            return;
        }
        let product = Product {
            rows,
            n_rows,
            n_inputs: self.n_inputs,
            bias: &self.bias,
            columns,
            ending,
            out,
        };
        match &self.weights {
            Weights::Float(panels) => float::multiply(self.vectors, panels, product),
            #[cfg(target_arch = "x86_64")]
            Weights::Fixed(fixed) => fixed::multiply(fixed, product),
            #[cfg(target_arch = "x86_64")]
            Weights::Tiled(tiled) => tiled::multiply(self.vectors, tiled, product),
        }
    }
}

/// Rows between two matrices, as the second one takes them.
#[derive(Debug)]
pub struct Passed {
    n_rows: usize,
    values: Buffer,
    /// Whether they are bf16 and filled up to tiles.
    is_tiled: bool,
}

impl PackedMatrix {
    /// Multiplies rows for another matrix: what comes out is rounded for that one as soon as it is
    /// computed, where that saves time.
    ///
    /// # Panics
    /// When shapes do not fit.
    pub fn pass(
        &self,
        rows: RowView<'_>,
        n_rows: usize,
        activation: Activation,
        next: &Self,
    ) -> Passed {
        assert_eq!(
            self.n_outputs, next.n_inputs,
            "one gives what the other takes"
        );
        #[cfg(target_arch = "x86_64")]
        if let (Weights::Tiled(tiled), Weights::Tiled(next)) = (&self.weights, &next.weights)
            && tiled::can_pass(activation, next)
            && n_rows > 0
        {
            assert!(
                self.n_inputs.is_multiple_of(rows.n_pieces),
                "pieces of one length"
            );
            let product = Product {
                rows,
                n_rows,
                n_inputs: self.n_inputs,
                bias: &self.bias,
                columns: 0..self.n_outputs,
                ending: activation.into(),
                out: &mut [],
            };
            return Passed {
                n_rows,
                values: tiled::pass(self.vectors, tiled, product, next),
                is_tiled: true,
            };
        }
        let mut values = Buffer::take(n_rows * self.n_outputs);
        self.multiply(rows, n_rows, activation.into(), &mut values);
        Passed {
            n_rows,
            values,
            is_tiled: false,
        }
    }

    /// As [`Self::multiply`] of rows that another matrix gave for this one.
    ///
    /// # Panics
    /// When shapes do not fit, or rows were meant for another kind of matrix.
    pub fn multiply_passed(&self, passed: &Passed, ending: Ending, out: &mut [f32]) {
        let Passed {
            n_rows,
            values,
            is_tiled,
        } = passed;
        if !is_tiled {
            return self.multiply(RowView::whole(values, self.n_inputs), *n_rows, ending, out);
        }
        #[cfg(target_arch = "x86_64")]
        if let Weights::Tiled(tiled) = &self.weights {
            assert!(out.len() >= n_rows * self.n_outputs, "room for the product");
            let product = Product {
                rows: RowView::whole(&[], 0),
                n_rows: *n_rows,
                n_inputs: self.n_inputs,
                bias: &self.bias,
                columns: 0..self.n_outputs,
                ending,
                out,
            };
            return tiled::multiply_passed(self.vectors, tiled, values, product);
        }
        panic!("rows that were rounded for tiles reach a matrix of tiles");
    }
}

impl Weights {
    #[cfg(target_arch = "x86_64")]
    fn rounded(
        vectors: Vectors,
        shape: [usize; 2],
        n_pieces: usize,
        weight: &(impl Fn(usize, usize) -> f32 + Sync),
        rounding: Rounding,
    ) -> Option<Self> {
        let fixed = || FixedMatrix::new(vectors, shape, weight).map(Self::Fixed);
        match rounding {
            Rounding::None => None,
            Rounding::Fine => fixed(),
            Rounding::Coarse => {
                let tiled = TiledMatrix::new(vectors, shape, n_pieces, weight).map(Self::Tiled);
                tiled.or_else(fixed)
            }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn rounded(
        _vectors: Vectors,
        _shape: [usize; 2],
        _n_pieces: usize,
        _weight: &impl Fn(usize, usize) -> f32,
        _rounding: Rounding,
    ) -> Option<Self> {
        None
    }
}

/// Panels of so many values each, filled side by side; what is not filled is zero.
fn panels<T: Copy + Default + Send>(
    n_panels: usize,
    n_values: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) -> Aligned<T> {
    let mut panels = Aligned::with_capacity(64, n_panels * n_values);
    panels.resize(n_panels * n_values, T::default());
    if n_values > 0 {
        let each = panels.par_chunks_exact_mut(n_values).enumerate();
        each.for_each(|(panel, values)| fill(panel, values));
    }
    panels
}

/// Rows of a matrix, the first of which starts at the first value. A row may lie in several
/// pieces of equal length, as what a kernel sees of an image does.
#[derive(Debug, Clone, Copy)]
pub struct RowView<'a> {
    values: &'a [f32],
    /// Values from one row to the next.
    stride: usize,
    n_pieces: usize,
    /// Values from one piece of a row to the next.
    piece_stride: usize,
}

impl<'a> RowView<'a> {
    /// Rows in one piece.
    pub fn whole(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            stride,
            n_pieces: 1,
            piece_stride: 0,
        }
    }

    /// The same rows in `n_pieces` pieces, at least one.
    pub fn in_pieces(self, n_pieces: usize, piece_stride: usize) -> Self {
        Self {
            n_pieces: n_pieces.max(1),
            piece_stride,
            ..self
        }
    }

    /// The rows from one on.
    pub fn from(self, first: usize) -> Self {
        Self {
            values: &self.values[first * self.stride..],
            ..self
        }
    }

    /// A piece of a row.
    #[inline(always)]
    fn piece(&self, row: usize, piece: usize, len: usize) -> &'a [f32] {
        &self.values[row * self.stride + piece * self.piece_stride..][..len]
    }
}

/// A product to be computed, its shapes checked.
struct Product<'a> {
    rows: RowView<'a>,
    n_rows: usize,
    n_inputs: usize,
    /// Of all packed outputs.
    bias: &'a [f32],
    columns: Range<usize>,
    ending: Ending,
    out: &'a mut [f32],
}

impl Product<'_> {
    /// Applies the activation to some columns of all rows, counted from the first that is computed.
    #[inline(always)]
    fn finish(&mut self, columns: Range<usize>) {
        let stride = self.columns.len();
        let out = &mut self.out[..self.n_rows * stride];
        self.ending.activation.apply_columns(out, stride, columns);
    }
}

/// Writes or adds the vectors of `finished`, by row and vector, to `n_columns` columns of `out`,
/// whose rows are `stride` apart.
#[inline(always)]
fn put<S: Simd, const R: usize, const V: usize>(
    simd: S,
    finished: impl Fn(usize, usize) -> S::f32s,
    out: &mut [f32],
    stride: usize,
    n_columns: usize,
    adds: bool,
) {
    let lanes = S::F32_LANES;
    if n_columns == V * lanes {
        for index in 0..R {
            let (out, _) = S::as_mut_simd_f32s(&mut out[index * stride..][..V * lanes]);
            for (vector, out) in out.iter_mut().enumerate() {
                let value = finished(index, vector);
                *out = if adds {
                    simd.add_f32s(*out, value)
                } else {
                    value
                };
            }
        }
        return;
    }
    for index in 0..R {
        let out = &mut out[index * stride..][..n_columns];
        for (vector, out) in out.chunks_mut(lanes).enumerate() {
            let value = [finished(index, vector)];
            for (out, value) in out.iter_mut().zip(cast_slice::<_, f32>(&value)) {
                *out = if adds { *out + value } else { *value };
            }
        }
    }
}

#[cfg(test)]
mod tests;
