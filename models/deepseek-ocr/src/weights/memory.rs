//! What a network takes in memory, by mode and batch: reckoned, so that a machine can be chosen
//! before anything is loaded.

use super::StoredType;
use super::expected::{ExpectedTensor, Group, expected_tensors};
use crate::config::{EncoderConfig, ModelConfig, QueryEncoderConfig};
use crate::preprocess::Mode;

/// What weights, cache and vectors are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Computed {
    /// SAM, the second encoder and the projector.
    pub towers: StoredType,
    pub decoder: StoredType,
}

impl Computed {
    /// The CPU: its decoder takes numbers of the published type where the file maps them.
    pub const CPU: Self = Self {
        towers: StoredType::F32,
        decoder: StoredType::Bf16,
    };

    /// Other devices, in the published type.
    pub const DEVICE: Self = Self {
        towers: StoredType::Bf16,
        decoder: StoredType::Bf16,
    };
}

/// Bytes that reading takes at most, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// All tensors in the type that is computed with.
    pub weights: u64,
    /// Keys and values of all pages of the batch, each as long as a page can get.
    pub cache: u64,
    /// The towers while they encode views.
    pub vision: u64,
    /// Vectors of the prompts and of one step of the decoder.
    pub decoder: u64,
}

impl MemoryNeed {
    /// Everything together.
    pub fn total(&self) -> u64 {
        let parts = [self.weights, self.cache, self.vision, self.decoder];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// Views go through the towers together while they take no more than this, unless set otherwise.
const TOGETHER_BYTES: u64 = 1 << 30;
/// What the towers hold at most of products of queries with keys, and of their softmax.
const SCORE_BYTES: u64 = 2 * (128 << 20);

/// Reckons what a batch of so many pages takes.
pub fn memory_need(
    config: &ModelConfig,
    mode: &Mode,
    batch: usize,
    computed: Computed,
) -> MemoryNeed {
    let towers = computed.towers.size() as u64;
    let size = computed.decoder.size() as u64;
    let bytes = |tensor: &ExpectedTensor| match tensor.group {
        Group::Sam | Group::Encoder | Group::Projector => tensor.n_values().saturating_mul(towers),
        _ => tensor.n_values().saturating_mul(size),
    };
    let tensors = expected_tensors(config);
    let decoder = &config.decoder;
    let position = 2 * (decoder.n_layers * decoder.hidden) as u64;
    let positions = (decoder.max_positions * batch) as u64;
    let views = [
        (mode.base_size, batch),
        (mode.image_size, batch * n_tiles(mode)),
    ];
    let vision = views.map(|(side, n)| {
        let one = tower_values(config, side as usize) * towers;
        (one * n as u64).min(one.max(TOGETHER_BYTES)) + SCORE_BYTES
    });
    // Hidden state, queries, keys, values and the widest middle of a layer, for a prompt of every
    // page, and logits of a step.
    let widest = decoder
        .dense_mlp
        .max(decoder.shared_mlp() + decoder.expert_mlp);
    let prompt = (most_vision_slots(config, mode) + PROMPT_TOKENS) * batch;
    let vectors = prompt * (6 * decoder.hidden + 3 * widest);
    MemoryNeed {
        weights: tensors.iter().map(bytes).fold(0, u64::saturating_add),
        cache: position * positions * size,
        vision: vision.into_iter().max().unwrap_or(0),
        decoder: vectors as u64 * size + (batch * decoder.vocabulary * 4) as u64,
    }
}

/// A question takes fewer.
const PROMPT_TOKENS: usize = 64;

/// Slots of an image that a page takes at most: with tiles, those of the longest grid.
pub fn most_vision_slots(config: &ModelConfig, mode: &Mode) -> usize {
    let (base, tile) = (
        compressed(config, mode.base_size),
        compressed(config, mode.image_size),
    );
    let n = n_tiles(mode);
    if matches!(config.encoder, EncoderConfig::Queries(_)) {
        let queries = QueryEncoderConfig::QUERIES;
        let n_of = |side| {
            queries
                .iter()
                .find(|(known, _)| *known == side)
                .map(|(_, n)| *n)
        };
        let of = |side, q: usize| n_of(side).unwrap_or(q * q);
        return of(mode.base_size, base) + n * of(mode.image_size, tile) + 1;
    }
    // Each row of a grid ends in a newline, so one column with all tiles has the most.
    base * (base + 1) + 1 + n * tile * (tile + 1)
}

fn n_tiles(mode: &Mode) -> usize {
    if mode.crop {
        mode.max_tiles as usize
    } else {
        0
    }
}

/// Side of what SAM's compressor gives of a view.
fn compressed(config: &ModelConfig, side: u32) -> usize {
    (side as usize / config.sam.patch).div_ceil(4)
}

/// Numbers that are alive at the widest place of the towers, for one view: in SAM the stream and
/// the normed stream beside queries, keys, values and result, or beside the middle of the MLP
/// before and after its activation.
fn tower_values(config: &ModelConfig, side: usize) -> u64 {
    let sam = &config.sam;
    let grid = side / sam.patch;
    let in_sam = grid * grid * (2 * sam.width + 2 * sam.mlp()).max(6 * sam.width);
    let vectors = grid.div_ceil(4) * grid.div_ceil(4);
    let in_encoder = match &config.encoder {
        EncoderConfig::Clip(clip) => (vectors + 1) * (6 * clip.width + 2 * clip.mlp),
        EncoderConfig::Queries(queries) => 2 * vectors * (6 * queries.width + 3 * queries.mlp),
    };
    in_sam.max(in_encoder) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;

    fn mode(base: u32, image: u32, crop: bool, max_tiles: u32) -> Mode {
        Mode {
            base_size: base,
            image_size: image,
            crop,
            max_tiles,
            tile_threshold: 640,
        }
    }

    #[test]
    fn slots_are_those_of_the_published_modes() {
        let one = ModelConfig::published(Architecture::One);
        for (mode, slots) in [
            (mode(512, 512, false, 9), 73),
            (mode(640, 640, false, 9), 111),
            (mode(1024, 1024, false, 9), 273),
            (mode(1280, 1280, false, 9), 421),
            (mode(1024, 640, true, 9), 1263),
            (mode(1024, 640, true, 6), 933),
        ] {
            assert_eq!(most_vision_slots(&one, &mode), slots, "{mode:?}");
        }
        let two = ModelConfig::published(Architecture::Two);
        assert_eq!(most_vision_slots(&two, &mode(1024, 768, true, 6)), 1121);
        assert_eq!(most_vision_slots(&two, &mode(1024, 1024, false, 6)), 257);
    }

    #[test]
    fn weights_and_cache_are_those_of_the_design() {
        let one = ModelConfig::published(Architecture::One);
        let need = memory_need(&one, &mode(1024, 1024, false, 9), 1, Computed::DEVICE);
        assert_eq!(need.weights, 6_672_212_480);
        assert_eq!(need.cache, 480 << 20);
        let more = memory_need(&one, &mode(1024, 1024, false, 9), 16, Computed::DEVICE);
        assert_eq!(more.cache, 16 * need.cache);
        assert!(more.total() > need.total());
        // The towers bound what they take at once.
        let most = memory_need(&one, &mode(1024, 640, true, 9), 64, Computed::CPU);
        assert!(most.vision <= TOGETHER_BYTES + SCORE_BYTES);
        let wider = memory_need(&one, &mode(1024, 1024, false, 9), 1, Computed::CPU);
        assert_eq!(wider.weights - need.weights, 2 * 401_369_600);
    }
}
