//! Products of rows with matrices that are stored output by output.
//!
//! Each result is a dot product of two rows that lie in one piece, so a matrix is read in the order
//! in which it is stored. A tile is a few rows by a few outputs, whose sums stay in registers: each
//! weight is widened once for all rows of the tile and each activation is loaded once for all
//! outputs. Sums run along the row whatever the tile, which is why a row's result does not depend
//! on its company.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::pointwise;
use crate::rows::Rows;
use crate::storage::{BLOCK, Bf16, F16, F32, Matrix, Storage, Stored};
use crate::vectors::Vectors;

/// A row in blocks.
pub(crate) type Input<'a> = &'a [[f32; BLOCK]];

/// Outputs of a tile.
const OUTPUTS: usize = 4;
/// Rows that pass over a stretch of outputs together; they stay in the second-level cache.
const ROWS: usize = 96;
/// Bytes of weights that a thread takes at a time: enough to hide what taking costs, and little
/// enough that all threads end together.
const STRETCH_BYTES: usize = 256 << 10;

/// `out = rows * matrix^T`, or `out += rows * matrix^T`.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[n, in]`
    pub rows: &'a Rows,
    /// Only these rows, in this order, if given.
    pub chosen: Option<&'a [usize]>,
    /// `[out, in]`
    pub matrix: &'a Matrix,
    /// One row for each of `rows`, or of those chosen: `[n, out]`
    pub out: &'a mut Rows,
    /// Whether to add to what `out` holds.
    pub adds: bool,
}

/// `out = silu(rows * gate^T) * (rows * up^T)`.
#[derive(Debug)]
pub struct Gate<'a> {
    /// `[n, in]`
    pub rows: &'a Rows,
    /// Only these rows, in this order, if given.
    pub chosen: Option<&'a [usize]>,
    /// `[out, in]`
    pub gate: &'a Matrix,
    /// `[out, in]`
    pub up: &'a Matrix,
    /// One row for each of `rows`, or of those chosen: `[n, out]`
    pub out: &'a mut Rows,
}

/// Computes many products at once: threads meet once at the end.
///
/// # Panics
/// When shapes do not fit each other.
pub fn multiply(vectors: Vectors, products: Vec<Product<'_>>) {
    let inputs: Vec<Vec<Input<'_>>> = products
        .iter()
        .map(|product| inputs(product.rows, product.chosen, product.matrix, product.out))
        .collect();
    let mut tasks = Vec::new();
    for (product, inputs) in products.into_iter().zip(&inputs) {
        let Product {
            matrix, out, adds, ..
        } = product;
        for part in cut(out, stretch(matrix)) {
            let inputs = &inputs[part.rows.clone()];
            tasks.push((matrix, adds, inputs, part));
        }
    }
    spread(tasks, |(matrix, adds, inputs, part)| {
        let width = part.columns.len();
        let mut tile = vec![0.0; inputs.len() * width];
        fill(vectors, inputs, matrix, part.columns, &mut tile);
        for (out, tile) in part.out.into_iter().zip(tile.chunks_exact(width)) {
            match adds {
                true => out.iter_mut().zip(tile).for_each(|(out, sum)| *out += sum),
                false => out.copy_from_slice(tile),
            }
        }
    });
}

/// Computes the gated middle of many multi-layer perceptrons at once.
///
/// # Panics
/// When shapes do not fit each other.
pub fn gate(vectors: Vectors, gates: Vec<Gate<'_>>) {
    let inputs: Vec<[Vec<Input<'_>>; 2]> = gates
        .iter()
        .map(|of| [of.gate, of.up].map(|matrix| inputs(of.rows, of.chosen, matrix, of.out)))
        .collect();
    let mut tasks = Vec::new();
    for (of, inputs) in gates.into_iter().zip(&inputs) {
        let Gate { gate, up, out, .. } = of;
        for part in cut(out, stretch(gate)) {
            let inputs = [0, 1].map(|matrix: usize| &inputs[matrix][part.rows.clone()]);
            tasks.push(([gate, up], inputs, part));
        }
    }
    spread(tasks, |([gate, up], inputs, part)| {
        let width = part.columns.len();
        let mut tiles = [0, 1].map(|_| vec![0.0; inputs[0].len() * width]);
        fill(
            vectors,
            inputs[0],
            gate,
            part.columns.clone(),
            &mut tiles[0],
        );
        fill(vectors, inputs[1], up, part.columns, &mut tiles[1]);
        let tiles = tiles[0]
            .chunks_exact(width)
            .zip(tiles[1].chunks_exact(width));
        for (out, (gates, values)) in part.out.into_iter().zip(tiles) {
            pointwise::gate(vectors, gates, values, out);
        }
    });
}

/// The rows that are meant, as `matrix` reads them.
fn inputs<'a>(
    rows: &'a Rows,
    chosen: Option<&[usize]>,
    matrix: &Matrix,
    out: &Rows,
) -> Vec<Input<'a>> {
    let n = chosen.map_or(rows.n(), <[usize]>::len);
    assert_eq!(rows.width(), matrix.n_columns(), "inputs of the matrix");
    assert_eq!(out.width(), matrix.n_rows(), "outputs of the matrix");
    assert_eq!(out.n(), n, "a row of results for each row");
    let paired = is_paired(matrix.stored());
    match chosen {
        Some(chosen) => chosen.iter().map(|row| rows.blocks(*row, paired)).collect(),
        None => (0..n).map(|row| rows.blocks(row, paired)).collect(),
    }
}

pub(crate) fn is_paired(stored: Stored) -> bool {
    match stored {
        Stored::Bf16 => Bf16::PAIRED,
        Stored::F16 => F16::PAIRED,
        Stored::F32 => F32::PAIRED,
    }
}

/// Outputs that a thread takes at a time.
fn stretch(matrix: &Matrix) -> usize {
    let row_bytes = (4 * matrix.stored().words(matrix.n_columns())).max(1);
    (STRETCH_BYTES / row_bytes / OUTPUTS).max(2) * OUTPUTS
}

/// A part of a result that one thread computes.
struct Part<'a> {
    rows: Range<usize>,
    columns: Range<usize>,
    /// The columns of each row.
    out: Vec<&'a mut [f32]>,
}

/// Cuts results into at most [`ROWS`] rows by `width` columns, none of them empty.
fn cut(out: &mut Rows, width: usize) -> Vec<Part<'_>> {
    let (n, n_columns) = (out.n(), out.width());
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut first_of_tile = 0;
    for (index, row) in out.iter_mut().enumerate() {
        if index % ROWS == 0 {
            first_of_tile = parts.len();
            let rows = index..n.min(index + ROWS);
            parts.extend((0..n_columns).step_by(width).map(|first| Part {
                rows: rows.clone(),
                columns: first..n_columns.min(first + width),
                out: Vec::with_capacity(rows.len()),
            }));
        }
        for (part, piece) in parts[first_of_tile..].iter_mut().zip(row.chunks_mut(width)) {
            part.out.push(piece);
        }
    }
    parts
}

/// Does the tasks on all threads.
pub(crate) fn spread<T: Send>(tasks: Vec<T>, work: impl Fn(T) + Send + Sync) {
    match tasks.len() {
        1 => tasks.into_iter().for_each(work),
        _ => tasks.into_par_iter().with_max_len(1).for_each(work),
    }
}

/// Computes some outputs of some rows: `out` is `[inputs, columns]`.
pub(crate) fn fill(
    vectors: Vectors,
    inputs: &[Input<'_>],
    matrix: &Matrix,
    columns: Range<usize>,
    out: &mut [f32],
) {
    match matrix.stored() {
        Stored::Bf16 => fill_from::<Bf16>(vectors, inputs, matrix, columns, out),
        Stored::F16 => fill_from::<F16>(vectors, inputs, matrix, columns, out),
        Stored::F32 => fill_from::<F32>(vectors, inputs, matrix, columns, out),
    }
}

fn fill_from<T: Storage>(
    vectors: Vectors,
    inputs: &[Input<'_>],
    matrix: &Matrix,
    columns: Range<usize>,
    out: &mut [f32],
) {
    let per_row = matrix.blocks_per_row();
    vectors.run(Fill::<T> {
        inputs,
        weights: &matrix.blocks::<T>()[columns.start * per_row..columns.end * per_row],
        per_row,
        n_outputs: columns.len(),
        out,
    });
}

struct Fill<'a, T: Storage> {
    inputs: &'a [Input<'a>],
    /// Rows of the outputs that are meant.
    weights: &'a [T::Block],
    per_row: usize,
    n_outputs: usize,
    out: &'a mut [f32],
}

impl<T: Storage> WithSimd for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut output = 0;
        while output + OUTPUTS <= self.n_outputs {
            self.all_rows::<S, OUTPUTS>(simd, output);
            output += OUTPUTS;
        }
        while output < self.n_outputs {
            self.all_rows::<S, 1>(simd, output);
            output += 1;
        }
    }
}

impl<T: Storage> Fill<'_, T> {
    /// Passes all rows over `W` outputs.
    #[inline(always)]
    fn all_rows<S: Simd, const W: usize>(&mut self, simd: S, output: usize) {
        let most = if S::REGISTER_COUNT >= 32 { T::ROWS } else { 2 };
        let n = self.inputs.len();
        let mut row = 0;
        while row < n {
            // Tiles of about one size: one row alone costs nearly as much as a few.
            let n_tiles = (n - row).div_ceil(most);
            row += match (n - row).div_ceil(n_tiles) {
                1 => self.some_rows::<S, 1, W>(simd, row, output),
                2 => self.some_rows::<S, 2, W>(simd, row, output),
                3 => self.some_rows::<S, 3, W>(simd, row, output),
                4 => self.some_rows::<S, 4, W>(simd, row, output),
                5 => self.some_rows::<S, 5, W>(simd, row, output),
                _ => self.some_rows::<S, 6, W>(simd, row, output),
            };
        }
    }

    #[inline(always)]
    fn some_rows<S: Simd, const R: usize, const W: usize>(
        &mut self,
        simd: S,
        row: usize,
        output: usize,
    ) -> usize {
        let inputs: [Input<'_>; R] = std::array::from_fn(|index| self.inputs[row + index]);
        let weights: [&[T::Block]; W] = std::array::from_fn(|index| {
            &self.weights[(output + index) * self.per_row..][..self.per_row]
        });
        // The first rows bring the weights into the cache, those of the next outputs ahead of time.
        let sums = match row {
            0 => tile::<S, T, R, W, true>(simd, inputs, weights),
            _ => tile::<S, T, R, W, false>(simd, inputs, weights),
        };
        for (index, sums) in sums.iter().enumerate() {
            let out = (row + index) * self.n_outputs + output;
            self.out[out..out + W].copy_from_slice(sums);
        }
        R
    }
}

/// The dot products of `R` rows with `W` stored rows. `AHEAD` asks for the `W` rows that follow.
///
/// Loops over indices instead of closures: a closure is compiled for no vectors if it is not inlined.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
pub(crate) fn tile<S: Simd, T: Storage, const R: usize, const W: usize, const AHEAD: bool>(
    simd: S,
    inputs: [Input<'_>; R],
    weights: [&[T::Block]; W],
) -> [[f32; W]; R] {
    let n_blocks = weights[0].len();
    // Said so that the compiler need not ask at every block.
    let inputs = inputs.map(|input| &input[..n_blocks]);
    let weights = weights.map(|weights| &weights[..n_blocks]);
    let half = BLOCK / 2 / S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); W]; R];
    for block in 0..n_blocks {
        if AHEAD {
            for output in 0..W {
                ask_for(&weights[output][block], W * n_blocks);
            }
        }
        for vector in 0..half {
            let mut widened = [[simd.splat_f32s(0.0); 2]; W];
            for output in 0..W {
                widened[output] = T::widen(simd, &weights[output][block], vector);
            }
            for side in 0..2 {
                for row in 0..R {
                    let (values, _) = S::as_simd_f32s(&inputs[row][block]);
                    let value = values[side * half + vector];
                    for output in 0..W {
                        sums[row][output] =
                            simd.mul_add_e_f32s(value, widened[output][side], sums[row][output]);
                    }
                }
            }
        }
    }
    let mut out = [[0.0; W]; R];
    for row in 0..R {
        for output in 0..W {
            out[row][output] = simd.reduce_sum_f32s(sums[row][output]);
        }
    }
    out
}

/// Begins to load what lies so many blocks behind a block. Nothing happens where nothing is.
///
/// Processors do so by themselves for what is read in order, but stop at the end of each page of
/// memory and while a tile of many rows computes.
#[inline(always)]
fn ask_for<B>(block: &B, blocks: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(sse) = pulp::core_arch::x86::Sse::try_new() {
        let place = std::ptr::from_ref(block).wrapping_add(blocks).cast::<i8>();
        sse._mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(place);
        if size_of::<B>() > 64 {
            sse._mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(place.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (block, blocks);
}
