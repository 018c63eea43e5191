//! The product of tiles of bf16, with sums in f32.
//!
//! Weights are rounded when they are packed, rows when the product starts, or by the product before.
//! A block is 32 rows by a panel: four tiles of sums, two of rows, two of weights, each of which is
//! loaded for two products. Inputs are filled up with zeros to whole steps, rows to whole tiles.
//!
//! Inside a piece of overlapping rows a step may reach beyond the piece, into what the next rows
//! see; weights are zero there. What is no number reaches rows that end just before it, too.

use std::arch::x86_64::{
    __m512bh, __m512i, __mmask32, _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_loadu_ps,
    _mm512_mask_storeu_epi16, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_storeu_si512,
};
use std::mem::transmute;
use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};

use super::avx512::{self, COARSE_GELU, LANES, activated};
use super::blocks::{HARD_SWISH, IDENTITY, RELU};
use super::{PANEL, Product, RowView, panels};
use crate::activation::{Activation, activate};
use crate::buffer::Buffer;
use crate::storage::Aligned;
use crate::tiles::{
    BLOCK_COLUMNS, BLOCK_ROWS, Block, Permission, STEP, STEP_WEIGHTS, TILE_ROWS, TileRows, Tiles,
    Unit,
};
use crate::vectors::{Kind, Vectors};

const _: () = assert!(PANEL == BLOCK_COLUMNS, "a panel is what a block takes");

/// Weights in tiles.
#[derive(Debug)]
pub(super) struct TiledMatrix {
    /// For each panel, for each step of 32 inputs, for each half of the panel: for each pair of
    /// inputs the pairs of sixteen columns.
    panels: Aligned<u16>,
    /// Inputs come in pieces, each of which takes whole steps.
    n_pieces: usize,
    /// Inputs of a piece.
    len: usize,
    /// Steps of a piece.
    n_steps: usize,
}

/// Inputs of the least piece that is worth a step.
const LEAST_PIECE: usize = STEP / 2;

impl TiledMatrix {
    /// Packs a matrix given by `(input, output)`, if these vectors come with tiles, for rows whose
    /// pieces are so many.
    pub(super) fn new(
        vectors: Vectors,
        shape: [usize; 2],
        n_pieces: usize,
        weight: &(impl Fn(usize, usize) -> f32 + Sync),
    ) -> Option<Self> {
        let has_tiles = matches!(vectors.kind(), Kind::Amx(..));
        let is_worth_it = shape[0] > 0 && (n_pieces == 1 || shape[0] / n_pieces >= LEAST_PIECE);
        (has_tiles && is_worth_it).then(|| Self::pack(shape, n_pieces, weight))
    }

    fn pack(
        [n_inputs, n_outputs]: [usize; 2],
        n_pieces: usize,
        weight: &(impl Fn(usize, usize) -> f32 + Sync),
    ) -> Self {
        let len = n_inputs / n_pieces;
        let n_steps = len.div_ceil(STEP);
        let n_values = n_pieces * n_steps * STEP_WEIGHTS;
        let panels = panels(n_outputs.div_ceil(PANEL), n_values, |panel, values| {
            let outputs = panel * PANEL..n_outputs.min((panel + 1) * PANEL);
            for (step, values) in values.chunks_exact_mut(STEP_WEIGHTS).enumerate() {
                let (piece, first) = (step / n_steps, step % n_steps * STEP);
                for (within, input) in (first..len.min(first + STEP)).enumerate() {
                    for (column, output) in outputs.clone().enumerate() {
                        let half = column / 16 * (STEP_WEIGHTS / 2);
                        let place = half + within / 2 * 32 + column % 16 * 2 + within % 2;
                        values[place] = round(weight(piece * len + input, output));
                    }
                }
            }
        });
        Self {
            panels,
            n_pieces,
            len,
            n_steps,
        }
    }

    /// Values of a piece that is filled up to whole steps.
    fn piece(&self) -> usize {
        self.n_steps * STEP
    }

    /// Values of a row whose pieces are filled up.
    fn stride(&self) -> usize {
        self.n_pieces * self.piece()
    }

    /// Weights of a panel.
    fn panel(&self) -> usize {
        self.n_pieces * self.n_steps * STEP_WEIGHTS
    }

    fn n_panels(&self) -> usize {
        self.panels.len() / self.panel()
    }

    /// How rows lie when they are rounded one by one.
    fn one_by_one(&self) -> Layout {
        Layout {
            stride: self.stride(),
            piece_stride: self.piece(),
            overlaps: false,
        }
    }

    /// How so many rows lie when they are rounded. Where they overlap, as what a kernel sees of an
    /// image does from pixel to pixel, nothing is rounded twice.
    fn layout(&self, rows: RowView<'_>, n_rows: usize) -> Layout {
        let overlaps = rows.n_pieces == self.n_pieces && rows.stride < self.len;
        match overlaps {
            true => Layout {
                stride: rows.stride,
                piece_stride: (n_rows.next_multiple_of(TILE_ROWS) - 1) * rows.stride + self.piece(),
                overlaps,
            },
            false => self.one_by_one(),
        }
    }

    /// Room of f32 that so many rows take when they are rounded and filled up to whole tiles.
    fn values_of(&self, layout: Layout, n_rows: usize) -> usize {
        let values = match layout.overlaps {
            true => self.n_pieces * layout.piece_stride,
            false => n_rows.next_multiple_of(TILE_ROWS) * layout.stride,
        };
        values.div_ceil(2)
    }

    /// Rows that were rounded.
    fn rows<'a>(&self, values: &'a [u16], layout: Layout) -> TileRows<'a> {
        TileRows {
            values,
            stride: layout.stride,
            n_pieces: self.n_pieces,
            piece_stride: layout.piece_stride,
            n_steps: self.n_steps,
        }
    }
}

/// How rounded rows lie.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Values from one row to the next.
    stride: usize,
    /// Values from one piece of a row to the next.
    piece_stride: usize,
    overlaps: bool,
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

/// What computes all that is no product of tiles.
#[derive(Debug, Clone, Copy)]
enum Loops {
    /// AVX-512 with the instruction that rounds to bf16.
    Wide(#[allow(dead_code, reason = "says that there are such instructions")] Permission),
    /// Plain code, to test what is around it on CPUs without.
    #[cfg(test)]
    Plain,
}

fn permission(vectors: Vectors) -> Permission {
    let Kind::Amx(_, permission) = vectors.kind() else {
        unreachable!("a matrix is packed in tiles only where there are tiles");
    };
    permission
}

pub(super) fn multiply(vectors: Vectors, matrix: &TiledMatrix, product: Product<'_>) {
    let permission = permission(vectors);
    let mut tiles = Unit::new(permission);
    multiply_with(
        &mut tiles,
        Loops::Wide(permission),
        vectors,
        matrix,
        product,
    );
}

/// Whether products may end with this activation when they are passed on to this matrix.
pub(super) fn can_pass(activation: Activation, next: &TiledMatrix) -> bool {
    Ended::of(activation).is_some() && next.n_pieces == 1
}

/// What a product gives, rounded and filled up for another matrix.
pub(super) fn pass(
    vectors: Vectors,
    matrix: &TiledMatrix,
    product: Product<'_>,
    next: &TiledMatrix,
) -> Buffer {
    let permission = permission(vectors);
    let mut tiles = Unit::new(permission);
    pass_with(&mut tiles, Loops::Wide(permission), matrix, &product, next)
}

/// Multiplies rows that were passed, whatever rows the product has.
pub(super) fn multiply_passed(
    vectors: Vectors,
    matrix: &TiledMatrix,
    passed: &Buffer,
    product: Product<'_>,
) {
    let permission = permission(vectors);
    let (mut tiles, loops) = (Unit::new(permission), Loops::Wide(permission));
    let rows = matrix.rows(cast_slice(passed), matrix.one_by_one());
    multiply_rounded(&mut tiles, loops, vectors, rows, matrix, product);
}

fn multiply_with(
    tiles: &mut impl Tiles,
    loops: Loops,
    vectors: Vectors,
    matrix: &TiledMatrix,
    product: Product<'_>,
) {
    let layout = matrix.layout(product.rows, product.n_rows);
    let mut rounded = Buffer::take(matrix.values_of(layout, product.n_rows));
    let rounded = cast_slice_mut(&mut rounded);
    round_rows(loops, matrix, &product, layout, rounded);
    let rows = matrix.rows(rounded, layout);
    multiply_rounded(tiles, loops, vectors, rows, matrix, product);
}

/// # Panics
/// When the matrices do not fit, or the activation is none that can pass.
fn pass_with(
    tiles: &mut impl Tiles,
    loops: Loops,
    matrix: &TiledMatrix,
    product: &Product<'_>,
    next: &TiledMatrix,
) -> Buffer {
    let (n_rows, bias) = (product.n_rows, product.bias);
    let layout = matrix.layout(product.rows, n_rows);
    let mut rounded = Buffer::take(matrix.values_of(layout, n_rows));
    let rounded = cast_slice_mut(&mut rounded);
    round_rows(loops, matrix, product, layout, rounded);
    let rows = matrix.rows(rounded, layout);
    let mut passed = Buffer::take(next.values_of(next.one_by_one(), n_rows));
    let values: &mut [u16] = cast_slice_mut(&mut passed);
    let (stride, n_panels) = (next.stride(), matrix.n_panels());
    assert_eq!(
        n_panels * PANEL,
        stride,
        "one matrix gives what the other takes"
    );
    let Some(ended) = Ended::of(product.ending.activation) else {
        unreachable!("the activation is asked for before");
    };
    each_block(tiles, rows, n_rows, matrix, bias, 0..n_panels, |block| {
        let out = &mut values[block.row * stride + block.panel * PANEL..];
        ended.put_rounded(loops, block.sums, out, stride);
    });
    passed
}

/// As [`multiply_with`] for rows that are rounded and filled up.
fn multiply_rounded(
    tiles: &mut impl Tiles,
    loops: Loops,
    vectors: Vectors,
    rows: TileRows<'_>,
    matrix: &TiledMatrix,
    product: Product<'_>,
) {
    let Product {
        n_rows,
        bias,
        columns,
        ending,
        out,
        ..
    } = product;
    let stride = columns.len();
    let ended = Ended::of(ending.activation);
    let first_panel = columns.start / PANEL;
    let panels = first_panel..columns.end.div_ceil(PANEL);
    each_block(tiles, rows, n_rows, matrix, bias, panels, |block| {
        let column = (block.panel - first_panel) * PANEL;
        let n_columns = PANEL.min(stride - column);
        let n_some = block.sums.len().min(n_rows.saturating_sub(block.row));
        if n_some == 0 {
            return;
        }
        let to = Place {
            out: &mut out[block.row * stride + column..],
            stride,
            n_columns,
            adds: ending.adds,
        };
        ended
            .unwrap_or(Ended::Identity)
            .put(loops, &block.sums[..n_some], to);
    });
    if ended.is_none() {
        activate(vectors, ending.activation, &mut out[..n_rows * stride]);
    }
}

/// Where rows of a block go.
struct Place<'a> {
    /// From the first value on.
    out: &'a mut [f32],
    /// Values from row to row.
    stride: usize,
    n_columns: usize,
    /// Whether they are added to what is there.
    adds: bool,
}

/// Some rows of a panel, multiplied.
struct Multiplied<'a> {
    sums: &'a [[f32; BLOCK_COLUMNS]],
    panel: usize,
    /// The first row.
    row: usize,
}

/// Multiplies block by block. Rows of a block are handed on while the next one is multiplied, some
/// between two steps: the units that multiply tiles and those for all else work at the same time,
/// but a processor does not look so far ahead that it finds work for both by itself.
///
/// Rows that fill up a tile are handed on, too.
fn each_block(
    tiles: &mut impl Tiles,
    rows: TileRows<'_>,
    n_rows: usize,
    matrix: &TiledMatrix,
    bias: &[f32],
    panels: Range<usize>,
    mut end: impl FnMut(Multiplied<'_>),
) {
    let panel_weights = matrix.panel();
    let all_steps = matrix.n_pieces * matrix.n_steps;
    let (bias, _) = bias.as_chunks::<PANEL>();
    let mut sums = [Block::ZERO, Block::ZERO];
    let [now, before] = &mut sums;
    let (mut now, mut before) = (now, before);
    // What is in `before`: panel, first row and their number.
    let mut waiting = (0, 0, 0);
    for row in (0..n_rows).step_by(BLOCK_ROWS) {
        let rows = rows.from(row);
        for panel in panels.clone() {
            let weights = &matrix.panels[panel * panel_weights..][..panel_weights];
            let bias = &bias[panel];
            let (of_panel, first, n_waiting) = waiting;
            let hand_on = |step: usize| {
                let share = |step: usize| step * n_waiting / all_steps;
                let some = share(step)..share(step + 1);
                if !some.is_empty() {
                    end(Multiplied {
                        sums: &before.0[some.clone()],
                        panel: of_panel,
                        row: first + some.start,
                    });
                }
            };
            let n_tiles = if n_rows - row > TILE_ROWS { 2 } else { 1 };
            match n_tiles {
                2 => tiles.multiply::<2>(rows, weights, bias, now, hand_on),
                _ => tiles.multiply::<1>(rows, weights, bias, now, hand_on),
            }
            waiting = (panel, row, n_tiles * TILE_ROWS);
            std::mem::swap(&mut now, &mut before);
        }
    }
    let (panel, row, n_waiting) = waiting;
    if n_waiting > 0 {
        end(Multiplied {
            sums: &before.0[..n_waiting],
            panel,
            row,
        });
    }
}

/// Activations that are applied while a block is written.
#[derive(Debug, Clone, Copy)]
enum Ended {
    Identity,
    Relu,
    /// bf16 has eight bits: a coarser GELU does no harm.
    Gelu,
    HardSwish,
}

impl Ended {
    fn of(activation: Activation) -> Option<Self> {
        match activation {
            Activation::Identity => Some(Self::Identity),
            Activation::Relu => Some(Self::Relu),
            Activation::Gelu => Some(Self::Gelu),
            Activation::HardSwish => Some(Self::HardSwish),
            _ => None,
        }
    }

    /// Writes sums, or adds them to what is there.
    ///
    /// # Panics
    /// When there is no room, or nothing to write.
    #[allow(unsafe_code, reason = "functions for instructions")]
    fn put(self, loops: Loops, sums: &[[f32; BLOCK_COLUMNS]], to: Place<'_>) {
        let end = (sums.len() - 1) * to.stride + to.n_columns;
        assert!(to.out.len() >= end, "room for a block");
        match loops {
            // SAFETY: the permission says that the instructions are there, and there is room.
            Loops::Wide(_) => unsafe {
                match self {
                    Self::Identity => put::<IDENTITY>(sums, to),
                    Self::Relu => put::<RELU>(sums, to),
                    Self::Gelu => put::<COARSE_GELU>(sums, to),
                    Self::HardSwish => put::<HARD_SWISH>(sums, to),
                }
            },
            #[cfg(test)]
            Loops::Plain => tests::put(self.activation(), sums, to),
        }
    }

    /// Writes sums as bf16.
    ///
    /// # Panics
    /// When there is no room, or nothing to write.
    #[allow(unsafe_code, reason = "functions for instructions")]
    fn put_rounded(
        self,
        loops: Loops,
        sums: &[[f32; BLOCK_COLUMNS]],
        out: &mut [u16],
        stride: usize,
    ) {
        assert!(
            out.len() >= (sums.len() - 1) * stride + PANEL,
            "room for a block"
        );
        match loops {
            // SAFETY: the permission says that the instructions are there; there is room.
            Loops::Wide(_) => unsafe {
                match self {
                    Self::Identity => put_rounded::<IDENTITY>(sums, out, stride),
                    Self::Relu => put_rounded::<RELU>(sums, out, stride),
                    Self::Gelu => put_rounded::<COARSE_GELU>(sums, out, stride),
                    Self::HardSwish => put_rounded::<HARD_SWISH>(sums, out, stride),
                }
            },
            #[cfg(test)]
            Loops::Plain => tests::put_rounded(self.activation(), sums, out, stride),
        }
    }

    #[cfg(test)]
    fn activation(self) -> Activation {
        match self {
            Self::Identity => Activation::Identity,
            Self::Relu => Activation::Relu,
            Self::Gelu => Activation::Gelu,
            Self::HardSwish => Activation::HardSwish,
        }
    }
}

/// # Safety
/// AVX-512 is there, and room for all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
#[allow(unsafe_code, reason = "a function for instructions")]
unsafe fn put<const A: u8>(sums: &[[f32; BLOCK_COLUMNS]], to: Place<'_>) {
    let masks = [0, 1].map(|half| avx512::first(to.n_columns, half));
    let first = to.out.as_mut_ptr();
    for (row, sums) in sums.iter().enumerate() {
        let out = first.wrapping_add(row * to.stride);
        for (half, mask) in masks.into_iter().enumerate() {
            let at = out.wrapping_add(LANES * half);
            // SAFETY: half a row of the block; what is masked out is neither read nor written.
            unsafe {
                let mut sum = _mm512_loadu_ps(sums.as_ptr().add(LANES * half));
                if to.adds {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, at));
                }
                _mm512_mask_storeu_ps(at, mask, activated::<A>(sum));
            }
        }
    }
}

/// # Safety
/// AVX-512 and its extension for bf16 are there, and room for all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
#[allow(unsafe_code, reason = "a function for instructions")]
unsafe fn put_rounded<const A: u8>(sums: &[[f32; BLOCK_COLUMNS]], out: &mut [u16], stride: usize) {
    for (row, sums) in sums.iter().enumerate() {
        let [low, high] = [0, 1].map(|half: usize| {
            // SAFETY: half a row of the block.
            let sum = unsafe { _mm512_loadu_ps(sums.as_ptr().add(LANES * half)) };
            activated::<A>(sum)
        });
        let rounded = _mm512_cvtne2ps_pbh(high, low);
        let at = out.as_mut_ptr().wrapping_add(row * stride);
        // SAFETY: room for a row of the block; as many bits as 32 values of 16 have.
        unsafe { _mm512_storeu_si512(at.cast(), transmute::<__m512bh, __m512i>(rounded)) };
    }
}

/// Rounds rows, and fills them up with zeros to whole steps and tiles.
fn round_rows(
    loops: Loops,
    matrix: &TiledMatrix,
    product: &Product<'_>,
    layout: Layout,
    rounded: &mut [u16],
) {
    let work = RoundRows {
        matrix,
        product,
        layout,
        rounded,
    };
    match loops {
        // SAFETY: the permission says that the instructions are there.
        #[allow(unsafe_code, reason = "a function for instructions that are there")]
        Loops::Wide(_) => unsafe { round_with_instruction(work) },
        #[cfg(test)]
        Loops::Plain => work.each_stretch(|values, out| {
            for (out, value) in out.iter_mut().zip(values) {
                *out = round(*value);
            }
        }),
    }
}

/// # Safety
/// There are AVX-512 and its extension for bf16.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")]
#[allow(unsafe_code, reason = "a function for instructions")]
unsafe fn round_with_instruction(work: RoundRows<'_>) {
    work.each_stretch(
        #[inline(always)]
        |values, out| {
            let (values, last_values) = values.as_chunks::<STEP>();
            let (out, last_out) = out.as_chunks_mut::<STEP>();
            for (out, values) in out.iter_mut().zip(values) {
                // SAFETY: as many values, and room for them.
                unsafe {
                    let [low, high] = [0, LANES].map(|at| _mm512_loadu_ps(values[at..].as_ptr()));
                    let both = _mm512_cvtne2ps_pbh(high, low);
                    _mm512_storeu_si512(
                        out.as_mut_ptr().cast(),
                        transmute::<__m512bh, __m512i>(both),
                    );
                }
            }
            let n = last_values.len().min(last_out.len());
            if n > 0 {
                let from = last_values.as_ptr();
                // SAFETY: what is masked out is neither read nor written.
                unsafe {
                    let [low, high] = [0, 1].map(|half| {
                        let mask = avx512::first(n, half);
                        _mm512_maskz_loadu_ps(mask, from.wrapping_add(LANES * half))
                    });
                    let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                    let mask = ((1u64 << n) - 1) as __mmask32;
                    _mm512_mask_storeu_epi16(last_out.as_mut_ptr().cast(), mask, both);
                }
            }
        },
    );
}

struct RoundRows<'a> {
    matrix: &'a TiledMatrix,
    product: &'a Product<'a>,
    layout: Layout,
    rounded: &'a mut [u16],
}

impl RoundRows<'_> {
    /// Calls `round` for each stretch of values that stay together, and its place.
    #[inline(always)]
    fn each_stretch(self, round: impl Fn(&[f32], &mut [u16])) {
        let Product {
            rows,
            n_rows,
            n_inputs,
            ..
        } = *self.product;
        let Layout {
            stride,
            piece_stride,
            overlaps,
        } = self.layout;
        if overlaps {
            let pieces = self.rounded.chunks_exact_mut(piece_stride);
            for (piece, out) in pieces.take(rows.n_pieces).enumerate() {
                let len = (n_rows - 1) * rows.stride + self.matrix.len;
                let (out, rest) = out.split_at_mut(len);
                rest.fill(0);
                round(rows.piece(0, piece, len), out);
            }
            return;
        }
        // Windows that were copied out lie in one piece.
        let rows = match rows.n_pieces {
            1 => rows.in_pieces(self.matrix.n_pieces, self.matrix.len),
            _ => rows,
        };
        let len = n_inputs / rows.n_pieces;
        // Pieces of rows are filled up where the matrix has them, too.
        let room = match self.matrix.n_pieces {
            1 => len,
            n_pieces => {
                assert_eq!(n_pieces, rows.n_pieces, "pieces of the matrix");
                piece_stride
            }
        };
        for (row, out) in self.rounded.chunks_exact_mut(stride).enumerate() {
            if row >= n_rows {
                out.fill(0);
                continue;
            }
            let (pieces, rest) = out.split_at_mut(rows.n_pieces * room);
            if !rest.is_empty() {
                rest.fill(0);
            }
            for (piece, out) in pieces.chunks_exact_mut(room).enumerate() {
                let (out, rest) = out.split_at_mut(len);
                if !rest.is_empty() {
                    rest.fill(0);
                }
                round(rows.piece(row, piece, len), out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::super::Ending;
    use super::*;
    use crate::tiles::Model;

    /// A block that is ended by plain code.
    fn ended(activation: Activation, sums: &[f32]) -> Vec<f32> {
        let mut row = sums.to_vec();
        activation.apply(&mut row);
        row
    }

    pub(super) fn put(activation: Activation, sums: &[[f32; BLOCK_COLUMNS]], to: Place<'_>) {
        for (row, sums) in sums.iter().enumerate() {
            let out = &mut to.out[row * to.stride..][..to.n_columns];
            let there = |out: &f32| if to.adds { *out } else { 0.0 };
            let sums: Vec<f32> = sums
                .iter()
                .zip(&*out)
                .map(|(sum, out)| sum + there(out))
                .collect();
            out.copy_from_slice(&ended(activation, &sums));
        }
    }

    pub(super) fn put_rounded(
        activation: Activation,
        sums: &[[f32; BLOCK_COLUMNS]],
        out: &mut [u16],
        stride: usize,
    ) {
        for (row, sums) in sums.iter().enumerate() {
            let values = ended(activation, sums);
            for (out, value) in out[row * stride..].iter_mut().zip(values) {
                *out = round(value);
            }
        }
    }

    /// Plain code, and the instructions where they are.
    fn all_loops() -> Vec<Loops> {
        let wide = Permission::ask().map(Loops::Wide);
        if wide.is_none() {
            println!("skipped in part: this CPU has no tiles");
        }
        std::iter::once(Loops::Plain).chain(wide).collect()
    }

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

    #[test]
    fn rows_are_rounded_alike_by_plain_code_and_by_instructions() {
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
        let matrix = TiledMatrix::pack([values.len(), 1], 1, &|_, _| 1.0);
        let layout = matrix.one_by_one();
        let mut rounded = vec![1; TILE_ROWS * layout.stride];
        for loops in all_loops() {
            rounded.fill(1);
            round_rows(loops, &matrix, &product, layout, &mut rounded);
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

    /// Values from -1 to 1 that differ from place to place.
    fn value(index: usize) -> f32 {
        (index * 7919 % 2003) as f32 / 1001.0 - 1.0
    }

    fn rounded(value: f32) -> f64 {
        bf16::from_f32(value).to_f64()
    }

    proptest! {
        #[test]
        fn products_of_modeled_tiles_are_close_to_exact_ones_of_rounded_values(
            (n_rows, n_inputs, n_outputs) in (1usize..70, 1usize..140, 1usize..100),
            n_pieces in 1usize..4,
            // Values between rows, or of the row before.
            between in -30isize..5,
            knows_pieces: bool,
            adds: bool,
        ) {
            let stride = n_inputs.saturating_add_signed(between).max(1);
            let n_inputs = n_inputs * n_pieces;
            let weight = |input: usize, output: usize| value(3 * input + 17 * output);
            let of_matrix = if knows_pieces { n_pieces } else { 1 };
            let matrix = TiledMatrix::pack([n_inputs, n_outputs], of_matrix, &weight);
            let piece_stride = (n_rows + 1) * stride;
            let n_values = n_pieces * (piece_stride + n_inputs);
            let values: Vec<f32> = (0..n_values).map(value).collect();
            let bias: Vec<f32> = (0..n_outputs.next_multiple_of(PANEL)).map(value).collect();
            for loops in all_loops() {
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
                multiply_with(&mut Model, loops, Vectors::widest(), &matrix, product);
                for (index, found) in out.iter().enumerate() {
                    let (row, output) = (index / n_outputs, index % n_outputs);
                    let exact: f64 = (0..n_inputs)
                        .map(|input| {
                            let len = n_inputs / n_pieces;
                            let at = input / len * piece_stride + row * stride + input % len;
                            rounded(values[at]) * rounded(weight(input, output))
                        })
                        .sum();
                    let exact = exact + f64::from(bias[output]) + if adds { 0.5 } else { 0.0 };
                    let error = (f64::from(*found) - exact).abs();
                    prop_assert!(error < 2e-4, "{} for {} at {}, {}", found, exact, row, output);
                }
            }
        }

        #[test]
        fn rows_pass_through_two_matrices_of_modeled_tiles(
            (n_rows, n_inputs, n_middle, n_outputs) in (1usize..70, 1usize..90, 1usize..90, 1usize..70),
            activation in prop::sample::select(vec![
                Activation::Identity,
                Activation::Relu,
                Activation::Gelu,
                Activation::HardSwish,
            ]),
        ) {
            let weights = [
                |input: usize, output: usize| value(3 * input + 17 * output) / 4.0,
                |input: usize, output: usize| value(5 * input + 13 * output) / 4.0,
            ];
            let first = TiledMatrix::pack([n_inputs, n_middle], 1, &weights[0]);
            let second = TiledMatrix::pack([n_middle, n_outputs], 1, &weights[1]);
            let values: Vec<f32> = (0..n_rows * n_inputs).map(value).collect();
            let bias: Vec<f32> = (0..128).map(value).collect();
            for loops in all_loops() {
                let mut out = vec![0.0; n_rows * n_outputs];
                let product = |columns: usize, ending, out| Product {
                    rows: RowView::whole(&values, n_inputs),
                    n_rows,
                    n_inputs,
                    bias: &bias,
                    columns: 0..columns,
                    ending,
                    out,
                };
                let to_pass = product(n_middle, activation.into(), &mut []);
                let passed = pass_with(&mut Model, loops, &first, &to_pass, &second);
                let product = product(n_outputs, Ending::PLAIN, &mut out);
                let rows = second.rows(cast_slice(&passed), second.one_by_one());
                multiply_rounded(&mut Model, loops, Vectors::widest(), rows, &second, product);
                for (row, found) in out.chunks_exact(n_outputs).enumerate() {
                    let mut middle: Vec<f32> = (0..n_middle)
                        .map(|output| {
                            let products = (0..n_inputs).map(|input| {
                                rounded(values[row * n_inputs + input])
                                    * rounded(weights[0](input, output))
                            });
                            products.sum::<f64>() as f32 + bias[output]
                        })
                        .collect();
                    activation.apply(&mut middle);
                    // What comes out between may be rounded to a neighbor, one part in 256 away.
                    let most: f64 = middle.iter().map(|value| f64::from(value.abs()) / 900.0).sum();
                    for (output, found) in found.iter().enumerate() {
                        let exact: f64 = (0..n_middle)
                            .map(|input| rounded(middle[input]) * rounded(weights[1](input, output)))
                            .sum();
                        let error = (f64::from(*found) - exact - f64::from(bias[output])).abs();
                        prop_assert!(error < most + 2e-3, "{} for {}", found, exact);
                    }
                }
            }
        }
    }
}
