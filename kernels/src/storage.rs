//! Matrices as a file holds them, and how their values become f32.

use std::fmt;
use std::ops::Deref;

use aligned_vec::{AVec, ConstAlign};
use half::{bf16, f16};
use pulp::Simd;
use pulp::bytemuck::{self, Pod};

/// Values that are read together. A row of a matrix is a whole number of blocks.
pub(crate) const BLOCK: usize = 32;

/// Memory that begins at a cache line.
pub(crate) type Aligned<T> = AVec<T, ConstAlign<64>>;

/// A width rounded up to whole blocks: values that a row takes in memory.
pub fn padded(width: usize) -> usize {
    width.div_ceil(BLOCK) * BLOCK
}

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stored {
    Bf16,
    F16,
    F32,
}

impl Stored {
    /// Bytes of one value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Words of 32 bits that so many values take, in whole blocks.
    pub fn words(self, width: usize) -> usize {
        padded(width) * self.bytes() / 4
    }

    /// Writes values as they are stored, rounded to the nearest; `words` has room for
    /// [`Self::words`] of them, and what is left over is cleared.
    pub fn store(self, values: &[f32], words: &mut [u32]) {
        assert_eq!(words.len(), self.words(values.len()), "room for the values");
        match self {
            Self::Bf16 => store_pairs(values, words, |value| bf16::from_f32(value).to_bits()),
            Self::F16 => store_pairs(values, words, |value| f16::from_f32(value).to_bits()),
            Self::F32 => {
                let (now, rest) = words.split_at_mut(values.len());
                for (word, value) in now.iter_mut().zip(values) {
                    *word = value.to_bits();
                }
                rest.fill(0);
            }
        }
    }
}

/// Two values a word, the first in its low half.
fn store_pairs(values: &[f32], words: &mut [u32], narrow: impl Fn(f32) -> u16) {
    let (pairs, last) = values.as_chunks::<2>();
    let (now, rest) = words.split_at_mut(pairs.len());
    for (word, pair) in now.iter_mut().zip(pairs) {
        *word = u32::from(narrow(pair[0])) | u32::from(narrow(pair[1])) << 16;
    }
    rest.fill(0);
    if let ([value], Some(word)) = (last, rest.first_mut()) {
        *word = u32::from(narrow(*value));
    }
}

/// A matrix `[n_rows, n_columns]`, row-major. Linear layers keep theirs as `[out, in]`.
///
/// It is used where its bytes are if rows are whole blocks of 32 values and the bytes begin at a
/// multiple of four; otherwise it is copied once, when it is made.
pub struct Matrix {
    source: Source,
    stored: Stored,
    n_rows: usize,
    n_columns: usize,
}

enum Source {
    Held(Box<dyn Deref<Target = [u8]> + Send + Sync>),
    Copied(Aligned<u32>),
}

impl Matrix {
    /// A matrix over little-endian bytes.
    ///
    /// # Panics
    /// When there are not exactly as many bytes as the matrix has.
    pub fn new<B>(bytes: B, stored: Stored, n_rows: usize, n_columns: usize) -> Self
    where
        B: Deref<Target = [u8]> + Send + Sync + 'static,
    {
        assert_eq!(
            Some(bytes.len()),
            n_rows
                .checked_mul(n_columns)
                .and_then(|values| values.checked_mul(stored.bytes())),
            "bytes of a matrix of {n_rows} rows and {n_columns} columns"
        );
        let is_usable = cfg!(target_endian = "little")
            && n_columns.is_multiple_of(BLOCK)
            && bytemuck::try_cast_slice::<u8, u32>(&bytes).is_ok();
        let source = match is_usable {
            true => Source::Held(Box::new(bytes)),
            false => Source::Copied(copy(&bytes, stored, n_rows, n_columns)),
        };
        Self {
            source,
            stored,
            n_rows,
            n_columns,
        }
    }

    pub fn stored(&self) -> Stored {
        self.stored
    }

    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub fn n_columns(&self) -> usize {
        self.n_columns
    }

    /// Bytes that were copied because they could not be used where they are.
    pub fn copied_bytes(&self) -> usize {
        match &self.source {
            Source::Held(_) => 0,
            Source::Copied(words) => 4 * words.len(),
        }
    }

    /// The bytes that products read.
    pub fn bytes(&self) -> &[u8] {
        match &self.source {
            Source::Held(bytes) => bytes,
            Source::Copied(words) => bytemuck::cast_slice(words),
        }
    }

    /// Writes a row as f32, which is exact.
    ///
    /// # Panics
    /// When there is no such row, or `out` is not as wide as the matrix.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n_rows, "row {row} of {}", self.n_rows);
        assert_eq!(out.len(), self.n_columns, "values of a row");
        let n_words = self.stored.words(self.n_columns);
        let words = &self.words()[row * n_words..][..n_words];
        match self.stored {
            Stored::F32 => {
                for (out, word) in out.iter_mut().zip(words) {
                    *out = f32::from_bits(*word);
                }
            }
            Stored::Bf16 => widen_pairs(words, out, |bits| bf16::from_bits(bits).to_f32()),
            Stored::F16 => widen_pairs(words, out, |bits| f16::from_bits(bits).to_f32()),
        }
    }

    /// Blocks of all rows.
    pub(crate) fn blocks<T: Storage>(&self) -> &[T::Block] {
        bytemuck::cast_slice(self.words())
    }

    pub(crate) fn blocks_per_row(&self) -> usize {
        self.n_columns.div_ceil(BLOCK)
    }

    fn words(&self) -> &[u32] {
        match &self.source {
            // Whether this can be done was asked when the matrix was made.
            Source::Held(bytes) => bytemuck::cast_slice(bytes),
            Source::Copied(words) => words,
        }
    }
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matrix")
            .field("stored", &self.stored)
            .field("n_rows", &self.n_rows)
            .field("n_columns", &self.n_columns)
            .field("copied_bytes", &self.copied_bytes())
            .finish()
    }
}

/// Rows in whole blocks.
fn copy(bytes: &[u8], stored: Stored, n_rows: usize, n_columns: usize) -> Aligned<u32> {
    let n_words = stored.words(n_columns);
    let mut copied = Aligned::with_capacity(64, n_rows * n_words);
    copied.resize(n_rows * n_words, 0);
    if copied.is_empty() {
        return copied;
    }
    let rows = bytes.chunks_exact(n_columns * stored.bytes());
    for (row, words) in rows.zip(copied.chunks_exact_mut(n_words)) {
        match stored {
            Stored::F32 => {
                for (word, value) in words.iter_mut().zip(row.as_chunks::<4>().0) {
                    *word = u32::from_le_bytes(*value);
                }
            }
            Stored::Bf16 | Stored::F16 => {
                let bits = |value: &[u8; 2]| u32::from(u16::from_le_bytes(*value));
                for (word, pair) in words.iter_mut().zip(row.as_chunks::<2>().0.chunks(2)) {
                    *word = bits(&pair[0]) | pair.get(1).map_or(0, |second| bits(second) << 16);
                }
            }
        }
    }
    copied
}

fn widen_pairs(words: &[u32], out: &mut [f32], widen: impl Fn(u16) -> f32) {
    for (pair, word) in out.chunks_mut(2).zip(words) {
        pair[0] = widen(*word as u16);
        if let Some(second) = pair.get_mut(1) {
            *second = widen((*word >> 16) as u16);
        }
    }
}

/// How a block of 32 values is stored and becomes two halves of 16 f32.
pub(crate) trait Storage: Send + Sync + 'static {
    type Block: Pod;

    /// Whether the halves are the values at even and at odd places, which is what words of two
    /// values fall into, or the first and the last 16.
    const PAIRED: bool;

    /// Rows of a tile of four outputs whose sums stay in 32 registers, beside what widening takes.
    const ROWS: usize;

    /// Vector `index` of both halves.
    fn widen<S: Simd>(simd: S, block: &Self::Block, index: usize) -> [S::f32s; 2];
}

pub(crate) struct Bf16;
pub(crate) struct F16;
pub(crate) struct F32;

impl Storage for Bf16 {
    type Block = [u32; BLOCK / 2];

    const PAIRED: bool = true;
    const ROWS: usize = 5;

    /// bf16 is the upper half of f32.
    #[inline(always)]
    fn widen<S: Simd>(simd: S, block: &Self::Block, index: usize) -> [S::f32s; 2] {
        let words = S::as_simd_u32s(block).0[index];
        let even = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16));
        let odd = simd.and_u32s(words, simd.splat_u32s(0xffff_0000));
        [bytemuck::cast(even), bytemuck::cast(odd)]
    }
}

impl Storage for F16 {
    type Block = [u32; BLOCK / 2];

    const PAIRED: bool = true;
    const ROWS: usize = 4;

    #[inline(always)]
    fn widen<S: Simd>(simd: S, block: &Self::Block, index: usize) -> [S::f32s; 2] {
        let words = S::as_simd_u32s(block).0[index];
        let even = simd.and_u32s(words, simd.splat_u32s(0xffff));
        let odd = simd.wrapping_dyn_shr_u32s(words, simd.splat_u32s(16));
        [widen_f16(simd, even), widen_f16(simd, odd)]
    }
}

/// Moves exponent and fraction to their places in f32 and multiplies by the difference of the
/// biases, which also brings small numbers without a leading one to their value. Infinities and
/// what is no number get the highest exponent instead.
#[inline(always)]
fn widen_f16<S: Simd>(simd: S, halves: S::u32s) -> S::f32s {
    const SPECIAL: u32 = 0x7c00 << 13;
    let bias = simd.splat_f32s(f32::from_bits((112 + 127) << 23));
    let sign = simd.and_u32s(halves, simd.splat_u32s(0x8000));
    let sign = simd.wrapping_dyn_shl_u32s(sign, simd.splat_u32s(16));
    let rest = simd.and_u32s(halves, simd.splat_u32s(0x7fff));
    let rest = simd.wrapping_dyn_shl_u32s(rest, simd.splat_u32s(13));
    let number: S::u32s = bytemuck::cast(simd.mul_f32s(bytemuck::cast(rest), bias));
    let special = simd.or_u32s(rest, simd.splat_u32s(0x7f80_0000));
    let is_special = simd.greater_than_or_equal_u32s(rest, simd.splat_u32s(SPECIAL));
    let bits = simd.select_u32s(is_special, special, number);
    bytemuck::cast(simd.or_u32s(bits, sign))
}

impl Storage for F32 {
    type Block = [u32; BLOCK];

    const PAIRED: bool = false;
    const ROWS: usize = 6;

    #[inline(always)]
    fn widen<S: Simd>(_simd: S, block: &Self::Block, index: usize) -> [S::f32s; 2] {
        let (words, _) = S::as_simd_u32s(block);
        let half = words.len() / 2;
        [
            bytemuck::cast(words[index]),
            bytemuck::cast(words[half + index]),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_values_come_back_rounded_to_the_nearest() {
        let values = [1.0f32, -2.5, 1.003_906_3, f32::INFINITY, 3e-6];
        for stored in [Stored::Bf16, Stored::F16, Stored::F32] {
            let mut words = vec![7; stored.words(values.len())];
            stored.store(&values, &mut words);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let bytes = bytes[..values.len() * stored.bytes()].to_vec();
            let matrix = Matrix::new(bytes, stored, 1, values.len());
            let mut found = [0.0; 5];
            matrix.row(0, &mut found);
            for (found, value) in found.iter().zip(values) {
                let expected = match stored {
                    Stored::Bf16 => bf16::from_f32(value).to_f32(),
                    Stored::F16 => f16::from_f32(value).to_f32(),
                    Stored::F32 => value,
                };
                assert_eq!(*found, expected, "{stored:?}");
            }
        }
    }

    #[test]
    fn bytes_are_used_where_they_are_when_they_can_be() {
        let bytes = vec![0u8; 3 * 64 * 2 + 4];
        let start = bytes.as_ptr().align_offset(4);
        let held: &'static [u8] = bytes.leak();
        let whole = &held[start..][..3 * 64 * 2];
        assert_eq!(Matrix::new(whole, Stored::Bf16, 3, 64).copied_bytes(), 0);
        let odd = &held[start + 1..][..3 * 64 * 2];
        assert!(Matrix::new(odd, Stored::Bf16, 3, 64).copied_bytes() > 0);
        let narrow = &held[start..][..3 * 33 * 2];
        assert!(Matrix::new(narrow, Stored::Bf16, 3, 33).copied_bytes() > 0);
    }
}
