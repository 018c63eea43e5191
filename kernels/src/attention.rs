//! Attention over keys and values that are kept from earlier positions.
//!
//! Keys and values lie in pages of [`PAGE`] positions, stored like the rows of a matrix, so scores
//! are the same products as elsewhere. A query's scores are all computed, then their softmax, then
//! the sum of values in the order of positions: what a query gets does not depend on how many
//! queries come with it, so a prompt may be taken in pieces of any length.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::pointwise::exponentials;
use crate::product::{Input, is_paired, spread, tile};
use crate::rows::{pair_block, unpair_block};
use crate::storage::{BLOCK, Bf16, F16, F32, Storage, Stored, padded};
use crate::vectors::Vectors;

/// Positions of a page.
pub const PAGE: usize = 64;

/// Keys whose scores are computed together.
const KEYS: usize = 4;
/// Blocks of values whose sums are kept in registers together.
const BLOCKS: usize = 4;

/// Queries of one head over one run of cached positions.
#[derive(Debug)]
pub struct Attend<'a> {
    /// Pages of the head's keys, in order: `[PAGE, width]` each, as
    /// [`Stored::store`] writes rows.
    pub keys: Vec<&'a [u32]>,
    /// Pages of its values, likewise.
    pub values: Vec<&'a [u32]>,
    /// Each `[width]`.
    pub queries: Vec<&'a [f32]>,
    /// How many positions each query sees, from the first; at least one.
    pub seen: Vec<usize>,
    /// A result for each query, `[width]`.
    pub out: Vec<&'a mut [f32]>,
}

/// `softmax(scale * query * keys^T) * values` for each query, all tasks on all threads.
///
/// # Panics
/// When shapes do not fit, or a query sees more positions than there are, or none.
pub fn attend(vectors: Vectors, stored: Stored, scale: f32, tasks: Vec<Attend<'_>>) {
    spread(tasks, |task| match stored {
        Stored::Bf16 => task.run::<Bf16>(vectors, stored, scale),
        Stored::F16 => task.run::<F16>(vectors, stored, scale),
        Stored::F32 => task.run::<F32>(vectors, stored, scale),
    });
}

impl Attend<'_> {
    fn run<T: Storage>(mut self, vectors: Vectors, stored: Stored, scale: f32) {
        /// Queries that share what is loaded.
        const QUERIES: usize = 4;
        assert!(
            self.queries.len() == self.seen.len() && self.queries.len() == self.out.len(),
            "a length and a result for each query"
        );
        let Some(width) = self.queries.first().map(|query| query.len()) else {
            return;
        };
        let page_words = PAGE * stored.words(width);
        assert!(
            self.keys.len() == self.values.len()
                && self
                    .keys
                    .iter()
                    .chain(&self.values)
                    .all(|page| page.len() == page_words),
            "whole pages of keys and values"
        );
        let mut scratch = Scratch::default();
        let mut out = self.out.iter_mut();
        for (queries, seen) in self.queries.chunks(QUERIES).zip(self.seen.chunks(QUERIES)) {
            let longest = seen.iter().copied().max().unwrap_or(0);
            let fits = seen.iter().all(|seen| *seen > 0) && longest <= PAGE * self.keys.len();
            assert!(fits, "every query sees some of the cached positions");
            scratch.take_queries(queries, width, is_paired(stored), longest);
            let work = Group::<T> {
                vectors,
                keys: &self.keys,
                values: &self.values,
                seen,
                scale,
                scratch: &mut scratch,
                stored: PhantomData,
            };
            vectors.run(work);
            for (index, out) in out.by_ref().take(queries.len()).enumerate() {
                scratch.give(index, is_paired(stored), out);
            }
        }
    }
}

/// Memory for a few queries, used again for the next ones.
#[derive(Default)]
struct Scratch {
    /// Queries in blocks, in the order in which keys are widened.
    queries: Vec<[f32; BLOCK]>,
    /// Scores of each query, then their exponentials.
    scores: Vec<f32>,
    /// From the scores of one query to those of the next.
    stride: usize,
    /// Sums of the exponentials.
    sums: Vec<f32>,
    /// Sums of values in blocks, in the order in which they are widened.
    out: Vec<[f32; BLOCK]>,
    /// Blocks of a query.
    n_blocks: usize,
}

impl Scratch {
    fn take_queries(&mut self, queries: &[&[f32]], width: usize, paired: bool, longest: usize) {
        self.n_blocks = padded(width) / BLOCK;
        self.queries.clear();
        for query in queries {
            assert_eq!(query.len(), width, "queries of one width");
            for values in query.chunks(BLOCK) {
                let mut block = [0.0; BLOCK];
                block[..values.len()].copy_from_slice(values);
                let mut ordered = block;
                if paired {
                    pair_block(&block, &mut ordered);
                }
                self.queries.push(ordered);
            }
        }
        self.stride = longest.div_ceil(KEYS) * KEYS;
        self.scores.clear();
        self.scores.resize(queries.len() * self.stride, 0.0);
        self.sums.clear();
        self.out.clear();
        self.out.resize(queries.len() * self.n_blocks, [0.0; BLOCK]);
    }

    /// Writes the result of a query.
    fn give(&self, index: usize, paired: bool, out: &mut [f32]) {
        let blocks = &self.out[index * self.n_blocks..][..self.n_blocks];
        for (out, block) in out.chunks_mut(BLOCK).zip(blocks) {
            let mut values = *block;
            if paired {
                unpair_block(block, &mut values);
            }
            for (out, value) in out.iter_mut().zip(values) {
                *out = value / self.sums[index];
            }
        }
    }
}

/// A few queries of one head.
struct Group<'a, T: Storage> {
    vectors: Vectors,
    keys: &'a [&'a [u32]],
    values: &'a [&'a [u32]],
    seen: &'a [usize],
    scale: f32,
    scratch: &'a mut Scratch,
    stored: PhantomData<T>,
}

impl<T: Storage> WithSimd for Group<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        match self.seen.len() {
            1 => self.score::<S, 1>(simd),
            2 => self.score::<S, 2>(simd),
            3 => self.score::<S, 3>(simd),
            _ => self.score::<S, 4>(simd),
        }
        for (index, seen) in self.seen.iter().enumerate() {
            let scores = &mut self.scratch.scores[index * self.scratch.stride..][..*seen];
            scores.iter_mut().for_each(|score| *score *= self.scale);
            self.scratch.sums.push(exponentials(self.vectors, scores));
        }
        let mut first = 0;
        while first < self.seen.len() {
            // Two queries share the positions that both see.
            first += match self.seen.len() - first {
                1 => self.add_values::<S, 1>(simd, first),
                _ => self.add_values::<S, 2>(simd, first),
            };
        }
    }
}

impl<T: Storage> Group<'_, T> {
    /// The products of all `R` queries with all keys that one of them sees.
    #[inline(always)]
    fn score<S: Simd, const R: usize>(&mut self, simd: S) {
        let Scratch {
            queries,
            scores,
            stride,
            n_blocks,
            ..
        } = &mut *self.scratch;
        let (n_blocks, stride) = (*n_blocks, *stride);
        let queries: [Input<'_>; R] =
            std::array::from_fn(|row| &queries[row * n_blocks..][..n_blocks]);
        for (page, position) in self.keys.iter().zip((0..stride).step_by(PAGE)) {
            let keys: &[T::Block] = pulp::bytemuck::cast_slice(page);
            let positions = PAGE.min(stride - position);
            for first in (0..positions).step_by(KEYS) {
                let keys: [&[T::Block]; KEYS] =
                    std::array::from_fn(|key| &keys[(first + key) * n_blocks..][..n_blocks]);
                let found = tile::<S, T, R, KEYS, false>(simd, queries, keys);
                for (row, found) in found.iter().enumerate() {
                    scores[row * stride + position + first..][..KEYS].copy_from_slice(found);
                }
            }
        }
    }

    /// Adds up the values of `R` queries from `first` on.
    #[inline(always)]
    fn add_values<S: Simd, const R: usize>(&mut self, simd: S, first: usize) -> usize {
        let n_blocks = self.scratch.n_blocks;
        let half = BLOCK / 2 / S::F32_LANES;
        let mut block = 0;
        while block < n_blocks {
            for vector in 0..half {
                match n_blocks - block >= BLOCKS {
                    true => self.add_blocks::<S, R, BLOCKS>(simd, first, block, vector),
                    false => self.add_blocks::<S, R, 1>(simd, first, block, vector),
                }
            }
            block += if n_blocks - block >= BLOCKS {
                BLOCKS
            } else {
                1
            };
        }
        R
    }

    /// Adds up one vector of each half of `B` blocks: first what all `R` queries see, then what
    /// each sees beyond.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    fn add_blocks<S: Simd, const R: usize, const B: usize>(
        &mut self,
        simd: S,
        first: usize,
        block: usize,
        vector: usize,
    ) {
        let Scratch {
            scores,
            stride,
            out,
            n_blocks,
            ..
        } = &mut *self.scratch;
        let seen = &self.seen[first..first + R];
        let shared = seen.iter().copied().min().unwrap_or(0);
        let span = Span {
            pages: self.values,
            n_blocks: *n_blocks,
            block,
            vector,
        };
        let mut weights: [&[f32]; R] = [&[]; R];
        for row in 0..R {
            weights[row] = &scores[(first + row) * *stride..][..seen[row]];
        }
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[[zero; 2]; B]; R];
        span.add::<S, T, R, B>(simd, weights, 0..shared, &mut sums);
        for row in 0..R {
            let mut alone = [sums[row]];
            span.add::<S, T, 1, B>(simd, [weights[row]], shared..seen[row], &mut alone);
            for index in 0..B {
                let to = &mut out[(first + row) * *n_blocks + block + index];
                let (to, _) = S::as_mut_simd_f32s(to);
                let half = to.len() / 2;
                to[vector] = alone[0][index][0];
                to[half + vector] = alone[0][index][1];
            }
        }
    }
}

/// Some blocks of the values of all positions.
struct Span<'a> {
    pages: &'a [&'a [u32]],
    n_blocks: usize,
    block: usize,
    vector: usize,
}

impl Span<'_> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "several arrays share an index")]
    fn add<S: Simd, T: Storage, const R: usize, const B: usize>(
        &self,
        simd: S,
        weights: [&[f32]; R],
        positions: Range<usize>,
        sums: &mut [[[S::f32s; 2]; B]; R],
    ) {
        let mut now = *sums;
        let mut position = positions.start;
        while position < positions.end {
            let within = position % PAGE;
            let n = (PAGE - within).min(positions.end - position);
            let page: &[T::Block] = pulp::bytemuck::cast_slice(self.pages[position / PAGE]);
            let page = &page[within * self.n_blocks..][..n * self.n_blocks];
            let mut part: [&[f32]; R] = [&[]; R];
            for row in 0..R {
                part[row] = &weights[row][position..][..n];
            }
            for (index, blocks) in page.chunks_exact(self.n_blocks).enumerate() {
                let blocks = &blocks[self.block..][..B];
                for block in 0..B {
                    let widened = T::widen(simd, &blocks[block], self.vector);
                    for row in 0..R {
                        let weight = simd.splat_f32s(part[row][index]);
                        for side in 0..2 {
                            now[row][block][side] =
                                simd.mul_add_e_f32s(weight, widened[side], now[row][block][side]);
                        }
                    }
                }
            }
            position += n;
        }
        *sums = now;
    }
}
