//! A product cut into blocks of rows and columns, whose sums stay in registers to the end.
//!
//! A block is a function of its own, so that the compiler has no reason to keep some sums in memory,
//! and it does all that happens to them before they leave the registers: layers with few inputs
//! spend as much time on what follows a product as on the product.

#![allow(
    unsafe_code,
    reason = "functions for instructions that the caller has to know of, and pointers, which keep \
              checks out of the innermost loops"
)]

use std::hint::black_box;

use super::{PANEL, Product, RowView};
use crate::activation::{Activation, activate};
use crate::vectors::Vectors;

/// Activations that are applied in registers, as parameters of blocks.
pub(super) const IDENTITY: u8 = 0;
pub(super) const RELU: u8 = 1;
pub(super) const GELU: u8 = 2;
pub(super) const HARD_SWISH: u8 = 3;

/// What blocks are computed of, with certain instructions.
pub(super) trait Blocks {
    /// Values of a vector. A block has columns for one or two.
    const LANES: usize;
    /// Rows of the largest block.
    const ROWS: usize;

    /// Computes `R` rows from `row` on by `V` vectors of columns from `column` on.
    ///
    /// # Safety
    /// The instructions are there, rows and columns exist, and so does where they go.
    unsafe fn block<const R: usize, const V: usize, const A: u8>(
        &self,
        row: usize,
        column: usize,
        to: Target,
    );

    /// As [`Self::block`] for [`Self::ROWS`] rows.
    ///
    /// # Safety
    /// As of [`Self::block`].
    unsafe fn largest<const V: usize, const A: u8>(&self, row: usize, column: usize, to: Target);
}

/// Where a block goes.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// Place of its first value.
    pub(super) out: *mut f32,
    /// Values from row to row.
    pub(super) stride: usize,
    pub(super) n_columns: usize,
    /// Whether it is added to what is there.
    pub(super) adds: bool,
}

/// Rows and weights in f32.
pub(super) struct Floats<'a> {
    pub(super) rows: RowView<'a>,
    /// Values of a piece of a row.
    pub(super) len: usize,
    /// Panels: for each input the weights of all outputs.
    pub(super) panels: &'a [f32],
    pub(super) bias: &'a [f32],
}

impl<'a> Floats<'a> {
    /// What a product is computed of.
    ///
    /// # Panics
    /// When shapes do not fit.
    pub(super) fn new(panels: &'a [f32], product: &Product<'a>) -> Self {
        // Without inputs there are no weights, and every sum is the bias.
        let n_packed = panels.len().checked_div(product.n_inputs);
        check(product, n_packed.unwrap_or(product.bias.len()));
        Self {
            rows: product.rows,
            len: piece_len(product),
            panels,
            bias: product.bias,
        }
    }

    /// Where the weights of a column begin.
    pub(super) fn weights(&self, column: usize) -> *const f32 {
        let n_inputs = self.rows.n_pieces * self.len;
        let panel = column / PANEL * n_inputs * PANEL + column % PANEL;
        self.panels.as_ptr().wrapping_add(panel)
    }
}

/// Rows in pairs of 16-bit integers, and weights likewise.
pub(super) struct Pairs<'a> {
    /// Rows of `n_pairs`, one after the other.
    pub(super) rows: &'a [i32],
    /// What one stands for in each row.
    pub(super) row_scales: &'a [f32],
    /// Panels: for each pair of inputs the pairs of all outputs.
    pub(super) panels: &'a [i32],
    /// What one stands for in each packed column.
    pub(super) column_scales: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) n_pairs: usize,
    /// Pairs over which sums stay whole numbers, at least one; from section to section they are
    /// f32.
    pub(super) section: usize,
}

impl Pairs<'_> {
    /// Panics unless this is all that the product is computed of.
    pub(super) fn check(&self, product: &Product<'_>) {
        assert!(self.section > 0 && self.n_pairs > 0, "pairs");
        let n_rows = product.n_rows;
        assert!(
            self.rows.len() >= n_rows * self.n_pairs && self.row_scales.len() >= n_rows,
            "all rows and their scales"
        );
        let n_packed = self.column_scales.len();
        check(product, (self.panels.len() / self.n_pairs).min(n_packed));
    }

    /// Where the weights of a column begin.
    pub(super) fn weights(&self, column: usize) -> *const i32 {
        let panel = column / PANEL * self.n_pairs * PANEL + column % PANEL;
        self.panels.as_ptr().wrapping_add(panel)
    }
}

/// Rows to be rounded to 16-bit integers.
pub(super) struct Unrounded<'a> {
    pub(super) rows: RowView<'a>,
    n_rows: usize,
    /// Values of a piece of a row.
    pub(super) len: usize,
    /// The greatest whole number of a row.
    pub(super) greatest: f32,
}

/// What rounds them, with certain instructions.
pub(super) trait RoundsRows {
    /// Rounds `R` rows, one or four, from `row` on, and gives what one stands for in each.
    ///
    /// # Safety
    /// The instructions are there, and the rows; there is room for them at `to`.
    unsafe fn some<const R: usize>(&self, row: usize, to: *mut i16, scales: &mut [f32]);
}

impl<'a> Unrounded<'a> {
    /// Rows of a product.
    ///
    /// # Panics
    /// When rows are missing.
    pub(super) fn new(product: &Product<'a>, greatest: f32) -> Self {
        Self {
            rows: product.rows,
            n_rows: product.n_rows,
            len: piece_len(product),
            greatest,
        }
    }

    /// Where a piece of a row begins.
    pub(super) fn piece(&self, row: usize, piece: usize) -> *const f32 {
        let at = row * self.rows.stride + piece * self.rows.piece_stride;
        self.rows.values.as_ptr().wrapping_add(at)
    }

    /// Rounds all rows, and gives what one stands for in each.
    ///
    /// # Panics
    /// When there is no room for all.
    ///
    /// # Safety
    /// The instructions are there.
    pub(super) unsafe fn round_all(
        &self,
        by: &impl RoundsRows,
        rounded: &mut [i16],
        scales: &mut [f32],
    ) {
        let (n_rows, n_inputs) = (self.n_rows, self.rows.n_pieces * self.len);
        let room = rounded.len() >= n_rows * n_inputs && scales.len() >= n_rows;
        assert!(room, "room for all rows and their scales");
        let first = rounded.as_mut_ptr();
        let at = |row: usize| first.wrapping_add(row * n_inputs);
        let mut row = 0;
        // SAFETY: as of this function; all rows are there, and so is their room.
        unsafe {
            while row + 4 <= n_rows {
                by.some::<4>(row, at(row), &mut scales[row..]);
                row += 4;
            }
            while row < n_rows {
                by.some::<1>(row, at(row), &mut scales[row..]);
                row += 1;
            }
        }
    }
}

/// Values of a piece of a row. Panics unless all pieces of all rows are there.
pub(super) fn piece_len(product: &Product<'_>) -> usize {
    let RowView {
        values,
        stride,
        n_pieces,
        piece_stride,
    } = product.rows;
    let len = product.n_inputs / n_pieces;
    let last = (product.n_rows - 1) * stride + (n_pieces - 1) * piece_stride;
    assert!(values.len() >= last + len, "all pieces of all rows");
    len
}

/// Panics unless there are packed columns, bias and room for all columns of the product.
pub(super) fn check(product: &Product<'_>, n_packed: usize) {
    let end = product.columns.end.next_multiple_of(PANEL);
    assert!(product.columns.start.is_multiple_of(PANEL), "whole panels");
    assert!(n_packed >= end && product.bias.len() >= end, "all columns");
    let room = product.n_rows * product.columns.len();
    assert!(product.out.len() >= room, "room for the product");
}

/// # Safety
/// The instructions of the blocks are there; rows, columns and room are those of the product.
pub(super) unsafe fn multiply(blocks: &impl Blocks, vectors: Vectors, product: &mut Product<'_>) {
    // SAFETY: as of this function.
    unsafe {
        match product.ending.activation {
            Activation::Relu => all_columns::<_, RELU>(blocks, product),
            Activation::Gelu => all_columns::<_, GELU>(blocks, product),
            Activation::HardSwish => all_columns::<_, HARD_SWISH>(blocks, product),
            other => {
                all_columns::<_, IDENTITY>(blocks, product);
                let n_values = product.n_rows * product.columns.len();
                activate(vectors, other, &mut product.out[..n_values]);
            }
        }
    }
}

/// # Safety
/// As of [`multiply`].
unsafe fn all_columns<B: Blocks, const A: u8>(blocks: &B, product: &mut Product<'_>) {
    let stride = product.columns.len();
    for first in (0..stride).step_by(2 * B::LANES) {
        let to = Target {
            out: product.out.as_mut_ptr().wrapping_add(first),
            stride,
            n_columns: (2 * B::LANES).min(stride - first),
            adds: product.ending.adds,
        };
        let column = product.columns.start + first;
        // SAFETY: as of this function; the first column of the product begins a panel, so that
        // columns of a block are those of one panel.
        unsafe {
            match to.n_columns > B::LANES {
                true => all_rows::<B, 2, A>(blocks, product.n_rows, column, to),
                false => all_rows::<B, 1, A>(blocks, product.n_rows, column, to),
            }
        }
    }
}

/// # Safety
/// As of [`Blocks::block`], for so many rows.
unsafe fn all_rows<B: Blocks, const V: usize, const A: u8>(
    blocks: &B,
    n_rows: usize,
    column: usize,
    to: Target,
) {
    let at = |row: usize| Target {
        out: to.out.wrapping_add(row * to.stride),
        ..to
    };
    let mut row = 0;
    // SAFETY: as of this function.
    unsafe {
        while row + B::ROWS <= n_rows {
            blocks.largest::<V, A>(row, column, at(row));
            row += B::ROWS;
        }
        while row + 2 <= n_rows {
            blocks.block::<2, V, A>(row, column, at(row));
            row += 2;
        }
        if row < n_rows {
            blocks.block::<1, V, A>(row, column, at(row));
        }
    }
}

/// Where each of `R` rows begins, as the compiler does not see: it would compute all places anew
/// from the first one for every input, which takes instructions that the products need.
#[inline(always)]
pub(super) fn pointers<const R: usize, T>(first: *const T, stride: usize) -> [*const T; R] {
    black_box(std::array::from_fn(|index| {
        first.wrapping_add(index * stride)
    }))
}
