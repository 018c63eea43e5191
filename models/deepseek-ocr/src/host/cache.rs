//! Keys and values of all pages that are being written.
//!
//! A place is a list of blocks of 64 positions with all layers in them. Blocks are set aside before
//! a step needs them, because a step cannot fail; memory is taken only as the page grows, and
//! blocks of closed places are used again. Blocks of one size leave no gaps between places,
//! whatever their lengths.

use quire_kernels::{PAGE, Stored};

use crate::config::DecoderConfig;
use crate::decoder::{CacheFull, Slot};

/// Keys and values of [`PAGE`] positions: `[layers, 2, heads, PAGE, head]`.
type Block = Vec<u32>;

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    stored: Stored,
    n_layers: usize,
    n_heads: usize,
    head_size: usize,
    /// Blocks that fit into memory.
    n_blocks: usize,
    /// Blocks set aside for open places.
    n_reserved: usize,
    places: Vec<Option<Place>>,
    /// Blocks that closed places have left.
    left: Vec<Block>,
}

#[derive(Debug)]
struct Place {
    blocks: Vec<Block>,
    n_reserved: usize,
    /// Positions written so far.
    len: usize,
}

impl Cache {
    pub(super) fn new(config: &DecoderConfig, stored: Stored, bytes: u64) -> Self {
        let mut cache = Self {
            stored,
            n_layers: config.n_layers,
            n_heads: config.n_heads,
            head_size: config.head_size(),
            n_blocks: 0,
            n_reserved: 0,
            places: Vec::new(),
            left: Vec::new(),
        };
        let block_bytes = 4 * cache.block_words().max(1) as u64;
        cache.n_blocks = usize::try_from(bytes / block_bytes).unwrap_or(usize::MAX / PAGE);
        cache
    }

    /// Positions of all places together.
    pub(super) fn capacity(&self) -> usize {
        self.n_blocks * PAGE
    }

    pub(super) fn open(&mut self, positions: usize) -> Result<Slot, CacheFull> {
        let n_reserved = positions.div_ceil(PAGE);
        if n_reserved > self.n_blocks - self.n_reserved {
            return Err(CacheFull { positions });
        }
        self.n_reserved += n_reserved;
        let place = Some(Place {
            blocks: Vec::new(),
            n_reserved,
            len: 0,
        });
        match self.places.iter().position(Option::is_none) {
            Some(free) => {
                self.places[free] = place;
                Ok(Slot(free))
            }
            None => {
                self.places.push(place);
                Ok(Slot(self.places.len() - 1))
            }
        }
    }

    /// # Panics
    /// When the place is not open.
    pub(super) fn grow(&mut self, slot: Slot, positions: usize) -> Result<(), CacheFull> {
        let n_free = self.n_blocks - self.n_reserved;
        let place = self.places.get_mut(slot.0).and_then(Option::as_mut);
        let place = place.expect("places that grow are open");
        let n_more = positions.div_ceil(PAGE).saturating_sub(place.n_reserved);
        if n_more > n_free {
            return Err(CacheFull { positions });
        }
        place.n_reserved += n_more;
        self.n_reserved += n_more;
        Ok(())
    }

    /// Closing twice does no harm.
    pub(super) fn close(&mut self, slot: Slot) {
        if let Some(place) = self.places.get_mut(slot.0).and_then(Option::take) {
            self.n_reserved -= place.n_reserved;
            self.left.extend(place.blocks);
        }
    }

    /// Makes room for `n` more positions and gives the first of them.
    ///
    /// # Panics
    /// When the place is not open, or has room for fewer positions.
    pub(super) fn extend(&mut self, slot: Slot, n: usize) -> usize {
        let block_words = self.block_words();
        let place = self.places.get_mut(slot.0).and_then(Option::as_mut);
        let place = place.expect("a step names places that are open");
        let start = place.len;
        place.len += n;
        let n_blocks = place.len.div_ceil(PAGE);
        assert!(
            n_blocks <= place.n_reserved,
            "{} positions in a place that has room for {}",
            place.len,
            place.n_reserved * PAGE
        );
        while place.blocks.len() < n_blocks {
            let block = self.left.pop().unwrap_or_else(|| vec![0; block_words]);
            place.blocks.push(block);
        }
        start
    }

    /// Writes keys and values of all heads at a position, each `[hidden]`.
    pub(super) fn write(&mut self, slot: Slot, layer: usize, position: usize, kv: [&[f32]; 2]) {
        let (stored, head_size) = (self.stored, self.head_size);
        let row_words = stored.words(head_size);
        let first = [0, 1].map(|side| self.run_start(layer, side, 0));
        let run_words = PAGE * row_words;
        let Some(place) = self.places.get_mut(slot.0).and_then(Option::as_mut) else {
            return;
        };
        let block = &mut place.blocks[position / PAGE];
        for (first, values) in first.into_iter().zip(kv) {
            for (head, values) in values.chunks_exact(head_size).enumerate() {
                let start = first + head * run_words + position % PAGE * row_words;
                stored.store(values, &mut block[start..start + row_words]);
            }
        }
    }

    /// Keys (`side` 0) or values (1) of a head at the first `n` positions, in pages.
    pub(super) fn run(
        &self,
        slot: Slot,
        layer: usize,
        side: usize,
        head: usize,
        n: usize,
    ) -> Vec<&[u32]> {
        let start = self.run_start(layer, side, head);
        let run_words = PAGE * self.stored.words(self.head_size);
        let place = self.places.get(slot.0).and_then(Option::as_ref);
        let blocks = place.map_or(&[][..], |place| &place.blocks[..n.div_ceil(PAGE)]);
        blocks
            .iter()
            .map(|block| &block[start..start + run_words])
            .collect()
    }

    pub(super) fn stored(&self) -> Stored {
        self.stored
    }

    /// Bytes of keys and values that one layer has at so many positions.
    pub(super) fn layer_bytes(&self, positions: usize) -> u64 {
        (2 * self.n_heads * 4 * self.stored.words(self.head_size) * positions) as u64
    }

    fn run_start(&self, layer: usize, side: usize, head: usize) -> usize {
        ((layer * 2 + side) * self.n_heads + head) * PAGE * self.stored.words(self.head_size)
    }

    fn block_words(&self) -> usize {
        self.run_start(self.n_layers, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> DecoderConfig {
        DecoderConfig {
            hidden: 64,
            n_layers: 2,
            n_heads: 4,
            dense_mlp: 64,
            n_dense_layers: 1,
            n_experts: 4,
            experts_per_token: 2,
            expert_mlp: 32,
            n_shared_experts: 1,
            vocabulary: 100,
            max_positions: 1000,
            rope_theta: 10_000.0,
            epsilon: 1e-6,
        }
    }

    /// Layers, keys and values, heads of 16 padded to 32, positions, two bytes.
    const BLOCK_BYTES: u64 = 2 * 2 * 4 * 32 * 64 * 2;

    #[test]
    fn places_are_refused_when_memory_is_set_aside_and_given_again_when_it_is_back() {
        let mut cache = Cache::new(&config(), Stored::Bf16, 5 * BLOCK_BYTES + 17);
        assert_eq!(cache.capacity(), 5 * PAGE);
        let first = cache.open(3 * PAGE).unwrap();
        assert_eq!(
            cache.open(3 * PAGE),
            Err(CacheFull {
                positions: 3 * PAGE
            })
        );
        let second = cache.open(PAGE + 1).unwrap();
        assert_ne!(first, second);
        assert!(cache.open(1).is_err());
        cache.close(first);
        cache.close(first);
        assert_eq!(cache.open(3 * PAGE), Ok(first));
    }

    #[test]
    fn place_grows_while_memory_can_be_set_aside() {
        let mut cache = Cache::new(&config(), Stored::Bf16, 4 * BLOCK_BYTES);
        let page = cache.open(1).unwrap();
        let other = cache.open(2 * PAGE).unwrap();
        assert_eq!(cache.grow(page, PAGE), Ok(()));
        assert_eq!(cache.grow(page, PAGE + 1), Ok(()));
        let positions = 2 * PAGE + 1;
        assert_eq!(cache.grow(page, positions), Err(CacheFull { positions }));
        assert_eq!(cache.extend(page, 2 * PAGE), 0);
        cache.close(other);
        assert_eq!(cache.grow(page, 4 * PAGE), Ok(()));
        cache.close(page);
        assert!(cache.open(4 * PAGE).is_ok(), "all of it came back");
    }

    #[test]
    fn memory_is_taken_as_a_page_grows_and_used_again() {
        let mut cache = Cache::new(&config(), Stored::Bf16, 100 * BLOCK_BYTES);
        let slot = cache.open(50 * PAGE).unwrap();
        assert_eq!(cache.extend(slot, PAGE - 1), 0);
        assert_eq!(cache.extend(slot, 1), PAGE - 1);
        let blocks = |cache: &Cache| {
            cache
                .places
                .iter()
                .flatten()
                .map(|of| of.blocks.len())
                .sum::<usize>()
        };
        assert_eq!(blocks(&cache), 1);
        assert_eq!(cache.extend(slot, 2), PAGE);
        assert_eq!(blocks(&cache), 2);
        cache.close(slot);
        let slot = cache.open(2 * PAGE).unwrap();
        cache.extend(slot, 2 * PAGE);
        assert_eq!((blocks(&cache), cache.left.len()), (2, 0));
    }

    #[test]
    fn heads_find_what_was_written_for_them() {
        let mut cache = Cache::new(&config(), Stored::F32, 1 << 20);
        let slot = cache.open(PAGE + 5).unwrap();
        cache.extend(slot, PAGE + 5);
        let keys: Vec<f32> = (0..64).map(|value| value as f32).collect();
        let values: Vec<f32> = keys.iter().map(|value| -value).collect();
        cache.write(slot, 1, PAGE + 3, [&keys, &values]);
        let run = cache.run(slot, 1, 1, 2, PAGE + 4);
        assert_eq!(run.len(), 2);
        let row = &run[1][3 * 32..4 * 32];
        let found: Vec<f32> = row.iter().map(|word| f32::from_bits(*word)).collect();
        assert_eq!(found[..16], values[32..48]);
        assert_eq!(found[16..], [0.0; 16]);
        assert!(
            cache.run(slot, 0, 1, 2, PAGE + 4)[1]
                .iter()
                .all(|word| *word == 0)
        );
    }
}
