//! Keys and values of everything that was read and written, for many pages at once.
//!
//! Memory is set aside once, as blocks of [`BLOCK`] positions. A page takes blocks as it grows,
//! wherever they are free, so a short page never waits for the room of a long one; its positions
//! are found through the list of its blocks. Which blocks are whose is known here, on
//! the host; the device is told in indices.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::stack::{dtype, value_bytes};
use super::{CacheFull, Slot};
use crate::config::DecoderConfig;
use crate::weights::StoredType;

/// Positions of a block. Half of one is lost to a page on average.
pub(super) const BLOCK: usize = 32;

/// Who holds which blocks, and how far each page has come.
#[derive(Debug)]
pub(super) struct Places {
    n_blocks: usize,
    /// The lowest are taken first, so that a page's blocks mostly lie side by side.
    free: BTreeSet<usize>,
    taken: BTreeMap<Slot, Taken>,
}

#[derive(Debug)]
struct Taken {
    blocks: Vec<usize>,
    /// Positions that are filled.
    filled: usize,
}

impl Places {
    pub(super) fn new(n_blocks: usize) -> Self {
        Self {
            n_blocks,
            free: (0..n_blocks).collect(),
            taken: BTreeMap::new(),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.n_blocks * BLOCK
    }

    pub(super) fn open(&mut self, positions: usize) -> Result<Slot, CacheFull> {
        let wanted = positions.div_ceil(BLOCK).max(1);
        if wanted > self.free.len() {
            return Err(CacheFull { positions });
        }
        let blocks = self.take(wanted);
        // As many slots are tried as are taken, and one more.
        let slot = (0..)
            .map(Slot)
            .find(|slot| !self.taken.contains_key(slot))
            .expect("numbers do not end");
        self.taken.insert(slot, Taken { blocks, filled: 0 });
        Ok(slot)
    }

    /// Gives a slot more blocks, if there are any.
    ///
    /// # Panics
    /// When the slot is not open.
    pub(super) fn grow(&mut self, slot: Slot, positions: usize) -> Result<(), CacheFull> {
        let wanted = positions.div_ceil(BLOCK);
        let wanted = wanted.saturating_sub(self.of(slot).blocks.len());
        if wanted > self.free.len() {
            return Err(CacheFull { positions });
        }
        let blocks = self.take(wanted);
        let taken = self.taken.get_mut(&slot).expect("the slot is open");
        taken.blocks.extend(blocks);
        Ok(())
    }

    /// Takes the lowest free blocks; there are as many.
    fn take(&mut self, n: usize) -> Vec<usize> {
        let blocks: Vec<usize> = self.free.iter().copied().take(n).collect();
        for block in &blocks {
            self.free.remove(block);
        }
        blocks
    }

    /// Gives back a slot's blocks; says which runs of positions were filled.
    pub(super) fn close(&mut self, slot: Slot) -> Vec<Range<usize>> {
        let Some(taken) = self.taken.remove(&slot) else {
            return Vec::new();
        };
        let runs = taken.runs(0..taken.filled);
        self.free.extend(taken.blocks);
        runs
    }

    /// Positions of a slot that are filled.
    pub(super) fn filled(&self, slot: Slot) -> usize {
        self.of(slot).filled
    }

    /// Fills the next positions of a slot; says where they are, as runs.
    ///
    /// # Panics
    /// When the slot has room for fewer.
    pub(super) fn extend(&mut self, slot: Slot, positions: usize) -> Vec<Range<usize>> {
        let taken = self.taken.get_mut(&slot).expect("the slot is open");
        let filled = taken.filled + positions;
        let room = taken.blocks.len() * BLOCK;
        assert!(
            filled <= room,
            "slot {} has room for {room} positions, not {filled}",
            slot.0
        );
        let runs = taken.runs(taken.filled..filled);
        taken.filled = filled;
        runs
    }

    /// Blocks that hold the filled positions of a slot, in order.
    pub(super) fn blocks(&self, slot: Slot) -> &[usize] {
        let taken = self.of(slot);
        &taken.blocks[..taken.filled.div_ceil(BLOCK)]
    }

    fn of(&self, slot: Slot) -> &Taken {
        self.taken.get(&slot).expect("the slot is open")
    }
}

impl Taken {
    /// Where positions of this page lie, joined where they lie side by side.
    fn runs(&self, positions: Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut position = positions.start;
        while position < positions.end {
            let end = positions.end.min((position / BLOCK + 1) * BLOCK);
            let start = self.blocks[position / BLOCK] * BLOCK + position % BLOCK;
            match runs.last_mut() {
                Some(run) if run.end == start => run.end += end - position,
                _ => runs.push(start..start + end - position),
            }
            position = end;
        }
        runs
    }
}

/// Keys and values of one layer.
#[derive(Debug)]
pub(super) struct LayerCache {
    keys: Pool,
    values: Pool,
}

impl LayerCache {
    /// How many blocks fit in so many bytes, all layers together.
    pub(super) fn blocks_in(config: &DecoderConfig, stored: StoredType, bytes: u64) -> usize {
        let of_position = 2 * config.n_layers * config.hidden * value_bytes(stored);
        let of_block = (of_position * BLOCK) as u64;
        usize::try_from(bytes / of_block.max(1)).unwrap_or(usize::MAX)
    }

    pub(super) fn new(
        config: &DecoderConfig,
        n_blocks: usize,
        device: &Device,
        stored: StoredType,
    ) -> Self {
        let pool = || Pool::new(config, n_blocks, device, stored);
        Self {
            keys: pool(),
            values: pool(),
        }
    }

    /// Writes one position for each of many pages.
    ///
    /// # Shapes
    /// - `places`: `[rows]`, positions of the pool
    /// - `keys`, `values`: `[heads, rows, head]`
    pub(super) fn write_rows(
        &mut self,
        places: &Tensor<1, Int>,
        keys: Tensor<3>,
        values: Tensor<3>,
    ) {
        self.keys.write_rows(places.clone(), keys);
        self.values.write_rows(places.clone(), values);
    }

    /// Writes many positions of one page.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[heads, n, head]`, n the length of all runs
    pub(super) fn write_runs(
        &mut self,
        runs: &[Range<usize>],
        keys: &Tensor<3>,
        values: &Tensor<3>,
    ) {
        self.keys.write_runs(runs, keys);
        self.values.write_runs(runs, values);
    }

    /// Reads blocks, as keys and values `[heads, blocks * BLOCK, head]`.
    pub(super) fn read(&self, blocks: &Tensor<1, Int>) -> (Tensor<3>, Tensor<3>) {
        (self.keys.read(blocks), self.values.read(blocks))
    }

    /// Sets positions to zero.
    pub(super) fn clear(&mut self, runs: &[Range<usize>]) {
        self.keys.clear(runs);
        self.values.clear(runs);
    }
}

/// `[heads, positions, head]`, written in place: nobody else may hold it while it is, or the device
/// would copy all of it. Empty only while a write is being put together.
#[derive(Debug)]
struct Pool(Option<Tensor<3>>);

impl Pool {
    fn new(config: &DecoderConfig, n_blocks: usize, device: &Device, stored: StoredType) -> Self {
        // Devices do not like tensors of nothing; a cache without blocks is never written.
        let positions = n_blocks.max(1) * BLOCK;
        let shape = [config.n_heads, positions, config.head_size()];
        Self(Some(Tensor::zeros(shape, (device, dtype(stored)))))
    }

    fn change(&mut self, change: impl FnOnce(Tensor<3>) -> Tensor<3>) {
        let pool = self.0.take().expect("no write is under way");
        self.0 = Some(change(pool));
    }

    fn write_rows(&mut self, places: Tensor<1, Int>, values: Tensor<3>) {
        self.change(|pool| pool.select_assign(1, places, values, IndexingUpdateOp::Assign));
    }

    fn write_runs(&mut self, runs: &[Range<usize>], values: &Tensor<3>) {
        let [heads, _, head] = values.dims();
        let mut first = 0;
        for run in runs {
            let part = values.clone().narrow(1, first, run.len());
            first += run.len();
            self.change(|pool| pool.slice_assign([0..heads, run.clone(), 0..head], part));
        }
    }

    fn read(&self, blocks: &Tensor<1, Int>) -> Tensor<3> {
        let pool = self.0.clone().expect("no write is under way");
        let [heads, positions, head] = pool.dims();
        let [n_blocks] = blocks.dims();
        pool.reshape([heads, positions / BLOCK, BLOCK * head])
            .select(1, blocks.clone())
            .reshape([heads, n_blocks * BLOCK, head])
    }

    /// What a page leaves behind must be finite: positions past the end of the next page have a
    /// weight of zero, and zero times infinity is no number.
    fn clear(&mut self, runs: &[Range<usize>]) {
        for run in runs {
            self.change(|pool| {
                let [heads, _, head] = pool.dims();
                pool.slice_fill([0..heads, run.clone(), 0..head], 0.0f32)
            });
        }
    }
}

/// Sends indices to the device.
pub(super) fn indices(values: &[usize], device: &Device) -> Tensor<1, Int> {
    // No index of this model comes near the end of 32 bits; `Places` counts blocks.
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Architecture, ModelConfig};

    fn one(run: Range<usize>) -> [Range<usize>; 1] {
        [run]
    }

    #[test]
    fn page_takes_blocks_where_they_are_free_and_positions_follow_them() {
        let mut places = Places::new(6);
        let first = places.open(BLOCK).unwrap();
        let second = places.open(2 * BLOCK).unwrap();
        places.close(first);
        let third = places.open(BLOCK + 1).unwrap();
        assert_eq!(third, first);
        assert_eq!(places.extend(third, 3), one(0..3));
        // Block 0 was free, then block 3.
        assert_eq!(
            places.extend(third, BLOCK),
            [3..BLOCK, 3 * BLOCK..3 * BLOCK + 3]
        );
        assert_eq!(places.blocks(third), [0, 3]);
        assert_eq!(
            places.extend(second, 2 * BLOCK),
            one(BLOCK..3 * BLOCK),
            "blocks side by side are one run"
        );
        assert_eq!(places.filled(second), 2 * BLOCK);
    }

    #[test]
    fn full_cache_says_so_until_a_page_leaves() {
        let mut places = Places::new(3);
        let page = places.open(3 * BLOCK).unwrap();
        assert_eq!(places.open(1), Err(CacheFull { positions: 1 }));
        places.close(page);
        places.close(page);
        assert!(places.open(3 * BLOCK).is_ok());
        assert_eq!(places.capacity(), 3 * BLOCK);
    }

    #[test]
    fn page_grows_into_blocks_that_are_free_and_stays_what_it_was_without() {
        let mut places = Places::new(4);
        let page = places.open(BLOCK).unwrap();
        let other = places.open(BLOCK).unwrap();
        places.extend(page, BLOCK);
        assert!(places.grow(page, 2 * BLOCK + 1).is_ok());
        assert_eq!(places.extend(page, 3), one(2 * BLOCK..2 * BLOCK + 3));
        let positions = 5 * BLOCK;
        assert_eq!(places.grow(page, positions), Err(CacheFull { positions }));
        assert!(places.grow(page, 1).is_ok(), "what it has is enough");
        places.close(other);
        assert!(places.grow(page, 4 * BLOCK).is_ok());
        assert_eq!(places.close(page), [0..BLOCK, 2 * BLOCK..2 * BLOCK + 3]);
        assert!(places.open(4 * BLOCK).is_ok());
    }

    #[test]
    fn closed_page_leaves_nothing_behind() {
        let config = DecoderConfig {
            hidden: 4,
            n_layers: 1,
            n_heads: 2,
            dense_mlp: 1,
            n_dense_layers: 1,
            n_experts: 1,
            experts_per_token: 1,
            expert_mlp: 1,
            n_shared_experts: 1,
            vocabulary: 1,
            max_positions: 8,
            rope_theta: 10_000.0,
            epsilon: 1e-6,
        };
        let device = Device::flex();
        let mut cache = LayerCache::new(&config, 2, &device, StoredType::F32);
        let written = Tensor::full([2, 3, 2], f32::NAN, &device);
        cache.write_runs(&one(30..33), &written, &written);
        cache.clear(&one(30..33));
        let (keys, values) = cache.read(&indices(&[0, 1], &device));
        for read in [keys, values] {
            assert_eq!(read.abs().sum().into_scalar::<f32>(), 0.0);
        }
    }

    #[test]
    fn budget_in_bytes_counts_keys_and_values_of_all_layers() {
        let config = ModelConfig::published(Architecture::One).decoder;
        // 480 MiB hold 8,192 positions in 16 bits.
        let blocks = LayerCache::blocks_in(&config, StoredType::Bf16, 480 << 20);
        assert_eq!(blocks * BLOCK, 8192);
        let blocks = LayerCache::blocks_in(&config, StoredType::F32, 480 << 20);
        assert_eq!(blocks * BLOCK, 4096);
    }
}
