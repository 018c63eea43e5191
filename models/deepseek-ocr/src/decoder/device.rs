//! The decoder in burn, for any device.
//!
//! A step queues all its work and waits for the device once, for the tokens it chose. Pages that
//! add one token go through the layers together; a page that adds a piece of its prompt goes alone.

use burn::tensor::{DType, Device, Tensor};

use super::attention::Span;
use super::block::Block;
use super::choose::choose;
use super::kv_cache::{LayerCache, Places, indices};
use super::linear::{Linear, Place};
use super::norm::RmsNorm;
use super::rope::{Rope, Rotation};
use super::stack::{dtype, stack};
use super::{CacheFull, Chosen, Decoder, Input, Row, Slot};
use crate::config::DecoderConfig;
use crate::stages::Stages;
use crate::weights::{CheckpointError, StoredType, Weights};

/// How a [`DeviceDecoder`] is set up.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    pub device: Device,
    /// What weights and cache are kept in and products are computed in. Norms, router, softmax and
    /// sums over layers are in f32 whatever this is.
    pub dtype: StoredType,
    /// Memory set aside for keys and values. A position of the published model takes 61,440 bytes
    /// in 16 bits.
    pub cache_bytes: u64,
}

impl DeviceOptions {
    /// Whether the device computes in this type: many know no bf16, some no f16.
    pub fn is_supported(&self) -> bool {
        self.device.supports_dtype(dtype(self.dtype))
    }
}

/// The language model on a device of burn.
#[derive(Debug)]
pub struct DeviceDecoder {
    device: Device,
    /// `[vocabulary, hidden]`.
    embedding: Tensor<2>,
    pub(super) blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    rope: Rope,
    max_positions: usize,
    dtype: DType,
    caches: Vec<LayerCache>,
    places: Places,
}

impl DeviceDecoder {
    /// Takes the decoder's tensors from a checkpoint and sets memory aside.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(
        weights: &mut Weights,
        config: &DecoderConfig,
        options: DeviceOptions,
    ) -> Result<Self, CheckpointError> {
        let place = Place {
            device: options.device.clone(),
            dtype: options.dtype,
        };
        let table = [config.vocabulary, config.hidden];
        let embedding = weights.take("model.embed_tokens.weight", &table)?;
        let embedding = stack(&[embedding], table, &place.device, place.dtype);
        let blocks = (0..config.n_layers)
            .map(|index| Block::load(weights, index, config, &place))
            .collect::<Result<Vec<_>, _>>()?;
        let norm = "model.norm.weight";
        let norm = RmsNorm::load(weights, norm, config.hidden, config.epsilon, &place)?;
        let head = Linear::load(weights, &["lm_head.weight".to_owned()], table, &place)?;
        let n_blocks = LayerCache::blocks_in(config, options.dtype, options.cache_bytes);
        let cache = |_| LayerCache::new(config, n_blocks, &place.device, place.dtype);
        Ok(Self {
            rope: Rope::new(config, &place.device),
            embedding,
            blocks,
            norm,
            head,
            max_positions: config.max_positions,
            dtype: dtype(options.dtype),
            caches: (0..config.n_layers).map(cache).collect(),
            places: Places::new(n_blocks),
            device: options.device,
        })
    }

    /// One new token for each of many slots, through all layers, `[rows, hidden]`.
    fn take_tokens(&mut self, slots: &[Slot], tokens: &[u32], stages: &mut Stages) -> Tensor<2> {
        let hidden = self.embed(tokens);
        self.check_room(slots.iter().map(|&slot| (slot, 1)));
        let (span, positions) = Span::tokens(&mut self.places, slots, &self.device);
        let rotation = self.rope.at(positions);
        self.walk(hidden, &rotation, &span, stages)
    }

    /// A piece of one slot's prompt through all layers, `[n, hidden]`.
    fn take_prompt(&mut self, slot: Slot, prompt: &Tensor<2>, stages: &mut Stages) -> Tensor<2> {
        let [n, _] = prompt.dims();
        assert!(n > 0, "a piece of a prompt has a position");
        self.check_room([(slot, n)]);
        let hidden = prompt.clone().cast(DType::F32);
        stages.keep("inputs_embeds", &hidden);
        let (span, positions) = Span::prompt(&mut self.places, slot, n, &self.device);
        let rotation = self.rope.at(positions);
        self.walk(hidden, &rotation, &span, stages)
    }

    fn walk(
        &mut self,
        mut hidden: Tensor<2>,
        rotation: &Rotation,
        span: &Span,
        stages: &mut Stages,
    ) -> Tensor<2> {
        for (block, cache) in self.blocks.iter().zip(&mut self.caches) {
            hidden = block.forward(hidden, rotation, span, cache, stages);
        }
        hidden
    }

    /// # Shapes
    /// - `hidden`: `[n, hidden]`, f32
    /// - output: `[n, vocabulary]`, f32
    fn head(&self, hidden: Tensor<2>, stages: &mut Stages) -> Tensor<2> {
        let normed = self.norm.forward(hidden);
        stages.keep("final_norm", &normed);
        let logits = self.head.forward(normed.cast(self.dtype)).cast(DType::F32);
        stages.keep("logits", &logits);
        logits
    }

    fn check_room(&self, wanted: impl IntoIterator<Item = (Slot, usize)>) {
        for (slot, n) in wanted {
            let end = self.places.filled(slot) + n;
            let max = self.max_positions;
            assert!(end <= max, "slot {} would pass position {max}", slot.0);
        }
    }
}

impl Decoder for DeviceDecoder {
    /// In f32.
    ///
    /// # Panics
    /// When there is no token, or one that the vocabulary does not have.
    fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let [vocabulary, _] = self.embedding.dims();
        let tokens: Vec<usize> = tokens.iter().map(|&token| token as usize).collect();
        assert!(
            tokens.iter().all(|&token| token < vocabulary),
            "tokens are below {vocabulary}"
        );
        let rows = indices(&tokens, &self.device);
        self.embedding.clone().select(0, rows).cast(DType::F32)
    }

    fn open(&mut self, positions: usize) -> Result<Slot, CacheFull> {
        self.places.open(positions)
    }

    /// # Panics
    /// When the slot is not open.
    fn grow(&mut self, slot: Slot, positions: usize) -> Result<(), CacheFull> {
        self.places.grow(slot, positions)
    }

    fn close(&mut self, slot: Slot) {
        let runs = self.places.close(slot);
        for cache in &mut self.caches {
            cache.clear(&runs);
        }
    }

    /// # Panics
    /// When a slot is not open, is asked for twice or goes past what it was opened for, or when the
    /// device fails.
    fn step(&mut self, rows: &[Row]) -> Vec<Chosen> {
        if rows.is_empty() {
            return Vec::new();
        }
        let mut distinct: Vec<Slot> = rows.iter().map(|row| row.slot).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), rows.len(), "a slot has one row in a step");
        let stages = &mut Stages::ignored();
        let mut slots = Vec::new();
        let mut tokens = Vec::new();
        let mut order = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            if let Input::Token(token) = row.input {
                slots.push(row.slot);
                tokens.push(token);
                order.push(index);
            }
        }
        let mut last = Vec::new();
        if !slots.is_empty() {
            last.push(self.take_tokens(&slots, &tokens, stages));
        }
        for (index, row) in rows.iter().enumerate() {
            if let Input::Prompt(prompt) = &row.input {
                let hidden = self.take_prompt(row.slot, prompt, stages);
                let [n, _] = hidden.dims();
                last.push(hidden.narrow(0, n - 1, 1));
                order.push(index);
            }
        }
        let logits = self.head(Tensor::cat(last, 0), stages);
        let banned: Vec<&[u32]> = order.iter().map(|&row| &*rows[row].banned).collect();
        let chosen = choose(logits, &banned);
        let mut chosen: Vec<_> = order.into_iter().zip(chosen).collect();
        chosen.sort_unstable_by_key(|&(row, _)| row);
        chosen.into_iter().map(|(_, chosen)| chosen).collect()
    }

    fn logits(&mut self, row: &Row, stages: &mut Stages) -> Tensor<2> {
        let hidden = match &row.input {
            Input::Token(token) => self.take_tokens(&[row.slot], &[*token], stages),
            Input::Prompt(prompt) => self.take_prompt(row.slot, prompt, stages),
        };
        self.head(hidden, stages)
    }

    fn capacity(&self) -> usize {
        self.places.capacity()
    }
}

#[cfg(test)]
impl DeviceDecoder {
    /// Makes every router's chosen scores add up to one, as others did by mistake.
    pub(crate) fn plant_renormalization(&mut self) {
        for block in &mut self.blocks {
            if let super::block::Mlp::Experts(experts) = &mut block.mlp {
                experts.renormalizes = true;
            }
        }
    }
}
