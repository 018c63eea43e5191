//! Activations: rows of f32 in the order in which products read them.

use std::sync::OnceLock;

use rayon::prelude::*;

use crate::storage::{Aligned, BLOCK, padded};

/// Rows `[n, width]` of f32. In memory each is padded with zeros to whole blocks.
#[derive(Debug, Clone)]
pub struct Rows {
    n: usize,
    width: usize,
    stride: usize,
    values: Aligned<f32>,
    /// The same with the even places of each block before its odd ones, made when it is asked for.
    paired: OnceLock<Aligned<f32>>,
}

impl Rows {
    pub fn zeros(n: usize, width: usize) -> Self {
        let stride = padded(width.max(1));
        let mut values = Aligned::with_capacity(64, n * stride);
        values.resize(n * stride, 0.0);
        Self {
            n,
            width,
            stride,
            values,
            paired: OnceLock::new(),
        }
    }

    /// Rows that follow each other in `values`.
    ///
    /// # Panics
    /// When `values` is no whole number of rows.
    pub fn from_values(values: &[f32], width: usize) -> Self {
        let n = values.len().checked_div(width).unwrap_or(0);
        assert_eq!(values.len(), n * width, "whole rows");
        let mut rows = Self::zeros(n, width);
        for index in 0..n {
            rows.row_mut(index)
                .copy_from_slice(&values[index * width..][..width]);
        }
        rows
    }

    pub fn n(&self) -> usize {
        self.n
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.stride..][..self.width]
    }

    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        self.paired.take();
        &mut self.values[index * self.stride..][..self.width]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.n).map(|index| self.row(index))
    }

    /// All rows in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.paired.take();
        let width = self.width;
        self.values
            .chunks_exact_mut(self.stride)
            .map(move |row| &mut row[..width])
    }

    /// All rows, for many threads.
    pub fn par_iter_mut(&mut self) -> impl IndexedParallelIterator<Item = &mut [f32]> {
        self.paired.take();
        let width = self.width;
        self.values
            .par_chunks_exact_mut(self.stride)
            .map(move |row| &mut row[..width])
    }

    /// The rows of these indices.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut selected = Self::zeros(indices.len(), self.width);
        for (to, from) in indices.iter().enumerate() {
            selected.row_mut(to).copy_from_slice(self.row(*from));
        }
        selected
    }

    /// All values without padding.
    pub fn to_vec(&self) -> Vec<f32> {
        self.iter().flatten().copied().collect()
    }

    /// A row in blocks, in the order of halves that a storage has.
    pub(crate) fn blocks(&self, index: usize, paired: bool) -> &[[f32; BLOCK]] {
        let values = match paired {
            true => self.paired.get_or_init(|| self.pair()),
            false => &self.values,
        };
        let (blocks, _) = values[index * self.stride..][..padded(self.width)].as_chunks();
        blocks
    }

    fn pair(&self) -> Aligned<f32> {
        /// Fewer values are not worth waking a thread.
        const PART: usize = 1 << 16;
        let mut paired = Aligned::with_capacity(64, self.values.len());
        paired.resize(self.values.len(), 0.0);
        paired
            .par_chunks_mut(PART)
            .zip(self.values.par_chunks(PART))
            .for_each(|(paired, values)| {
                let (paired, _) = paired.as_chunks_mut();
                for (paired, values) in paired.iter_mut().zip(values.as_chunks().0) {
                    pair_block(values, paired);
                }
            });
        paired
    }
}

/// Even places first.
#[inline]
pub(crate) fn pair_block(values: &[f32; BLOCK], paired: &mut [f32; BLOCK]) {
    for index in 0..BLOCK / 2 {
        paired[index] = values[2 * index];
        paired[BLOCK / 2 + index] = values[2 * index + 1];
    }
}

/// Undoes [`pair_block`].
#[inline]
pub(crate) fn unpair_block(paired: &[f32; BLOCK], values: &mut [f32; BLOCK]) {
    for index in 0..BLOCK / 2 {
        values[2 * index] = paired[index];
        values[2 * index + 1] = paired[BLOCK / 2 + index];
    }
}
