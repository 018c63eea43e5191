//! Plain attention with as many heads for keys and values as for queries.
//!
//! Two forms. Tokens: one new position for each of many pages, all in one product, each page
//! looking at its own blocks of the cache. Prompt: many new positions of one page, each looking at
//! those before it.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor};

use super::Slot;
use super::kv_cache::{BLOCK, LayerCache, Places, indices};
use super::linear::{Linear, Place};
use super::rope::Rotation;
use super::stack::dtype;
use crate::config::DecoderConfig;
use crate::weights::{CheckpointError, Weights};

/// Added to what must not be seen. Not infinity, which shading languages may treat as they like;
/// nothing else comes near it, so its exponential is zero all the same.
const UNSEEN: f32 = -1e30;

/// Queries of a prompt that look at the same time: bounds what is held of their logits, which is
/// 170 MB in f32 for 8,192 positions and ten heads.
const QUERIES: usize = 512;

/// Where a step's new positions go, and what they see. One for all layers.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
pub(super) enum Span {
    /// One position for each of many pages.
    Tokens {
        /// `[rows]`, where in the cache.
        places: Tensor<1, Int>,
        /// `[rows * blocks]`, what each page has there; short pages name a block of theirs again.
        blocks: Tensor<1, Int>,
        /// `[1, rows, 1, blocks * BLOCK]`, added to the logits.
        mask: Tensor<4>,
    },
    /// The next positions of one page.
    Prompt {
        /// Where in the cache.
        runs: Vec<Range<usize>>,
        /// The page's blocks; none when all that it has is new.
        blocks: Option<Tensor<1, Int>>,
        /// For each [`QUERIES`] of the positions, `[1, queries, keys]`, added to the logits.
        masks: Vec<Tensor<3>>,
    },
}

impl Span {
    /// Takes the next position of each slot; says which positions they are.
    pub(super) fn tokens(
        places: &mut Places,
        slots: &[Slot],
        device: &Device,
    ) -> (Self, Tensor<1, Int>) {
        let positions: Vec<usize> = slots.iter().map(|&slot| places.filled(slot)).collect();
        let written: Vec<usize> = slots
            .iter()
            .flat_map(|&slot| places.extend(slot, 1))
            .map(|run| run.start)
            .collect();
        let held: Vec<&[usize]> = slots.iter().map(|&slot| places.blocks(slot)).collect();
        let width = held.iter().map(|held| held.len()).max().unwrap_or(0);
        let mut blocks = Vec::with_capacity(slots.len() * width);
        for held in &held {
            blocks.extend_from_slice(held);
            blocks.extend(std::iter::repeat_n(held[0], width - held.len()));
        }
        let positions = indices(&positions, device);
        let mask = unseen(&positions, width * BLOCK, device);
        let span = Self::Tokens {
            places: indices(&written, device),
            blocks: indices(&blocks, device),
            mask: mask.reshape([1, slots.len(), 1, width * BLOCK]),
        };
        (span, positions)
    }

    /// Takes the next positions of a slot; says which positions they are.
    pub(super) fn prompt(
        places: &mut Places,
        slot: Slot,
        n: usize,
        device: &Device,
    ) -> (Self, Tensor<1, Int>) {
        let past = places.filled(slot);
        let runs = places.extend(slot, n);
        let blocks = (past > 0).then(|| indices(places.blocks(slot), device));
        let n_keys = match &blocks {
            Some(blocks) => blocks.dims()[0] * BLOCK,
            None => n,
        };
        let positions: Vec<usize> = (past..past + n).collect();
        let masks = positions
            .chunks(QUERIES)
            .map(|queries| unseen(&indices(queries, device), n_keys, device).unsqueeze())
            .collect();
        let span = Self::Prompt {
            runs,
            blocks,
            masks,
        };
        (span, indices(&positions, device))
    }
}

/// What positions must not see, `[positions, keys]`: keys after themselves.
fn unseen(positions: &Tensor<1, Int>, n_keys: usize, device: &Device) -> Tensor<2> {
    let [n] = positions.dims();
    let keys = Tensor::<1, Int>::arange(0..n_keys as i64, device);
    let keys = keys.unsqueeze_dim::<2>(0).expand([n, n_keys]);
    let positions = positions.clone().unsqueeze_dim::<2>(1).expand([n, n_keys]);
    keys.greater(positions).float().cast(DType::F32) * UNSEEN
}

/// One layer's attention.
#[derive(Debug)]
pub(super) struct Attention {
    /// Queries, keys, values.
    qkv: Linear,
    output: Linear,
    n_heads: usize,
    dtype: DType,
}

impl Attention {
    /// Loads `{prefix}.q_proj` and so on.
    pub(super) fn load(
        weights: &mut Weights,
        prefix: &str,
        config: &DecoderConfig,
        place: &Place,
    ) -> Result<Self, CheckpointError> {
        let name = |part: &str| format!("{prefix}.{part}_proj.weight");
        let shape = [config.hidden; 2];
        let qkv = [name("q"), name("k"), name("v")];
        Ok(Self {
            qkv: Linear::load(weights, &qkv, shape, place)?,
            output: Linear::load(weights, &[name("o")], shape, place)?,
            n_heads: config.n_heads,
            dtype: dtype(place.dtype),
        })
    }

    /// # Shapes
    /// - input and output: `[n, hidden]`, of the type that was loaded
    pub(super) fn forward(
        &self,
        input: Tensor<2>,
        rotation: &Rotation,
        span: &Span,
        cache: &mut LayerCache,
    ) -> Tensor<2> {
        let [n, hidden] = input.dims();
        let head = hidden / self.n_heads;
        let qkv = self.qkv.forward(input);
        // [n, heads * head] -> [heads, n, head]
        let part = |index: usize| {
            let part = qkv.clone().narrow(1, index * hidden, hidden);
            part.reshape([n, self.n_heads, head]).swap_dims(0, 1)
        };
        // The scale goes into the queries: unscaled logits may leave the range of f16.
        let scale = 1.0 / (head as f64).sqrt();
        let queries = rotation.turn(part(0).cast(DType::F32)) * scale;
        let queries = queries.cast(self.dtype);
        let keys = rotation.turn(part(1).cast(DType::F32)).cast(self.dtype);
        let values = part(2);
        let seen = match span {
            Span::Tokens {
                places,
                blocks,
                mask,
            } => {
                cache.write_rows(places, keys, values);
                let (keys, values) = cache.read(blocks);
                attend_rows(queries, keys, values, mask)
            }
            Span::Prompt {
                runs,
                blocks,
                masks,
            } => {
                cache.write_runs(runs, &keys, &values);
                let (keys, values) = match blocks {
                    Some(blocks) => cache.read(blocks),
                    None => (keys, values),
                };
                attend_prompt(&queries, &keys, &values, masks)
            }
        };
        self.output
            .forward(seen.swap_dims(0, 1).reshape([n, hidden]))
    }
}

/// Each row looks at its own keys.
///
/// # Shapes
/// - `queries` and output: `[heads, rows, head]`
/// - `keys`, `values`: `[heads, rows * n, head]`
fn attend_rows(
    queries: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    mask: &Tensor<4>,
) -> Tensor<3> {
    let [heads, rows, head] = queries.dims();
    let n = keys.dims()[1] / rows;
    let keys = keys.reshape([heads, rows, n, head]);
    let values = values.reshape([heads, rows, n, head]);
    let logits = queries
        .reshape([heads, rows, 1, head])
        .matmul(keys.swap_dims(2, 3));
    let weights = softmax(logits.cast(DType::F32) + mask.clone(), 3);
    weights
        .cast(values.dtype())
        .matmul(values)
        .reshape([heads, rows, head])
}

/// Every position looks at those before it and itself, some queries at a time.
///
/// # Shapes
/// - `queries` and output: `[heads, n, head]`
/// - `keys`, `values`: `[heads, keys, head]`
fn attend_prompt(
    queries: &Tensor<3>,
    keys: &Tensor<3>,
    values: &Tensor<3>,
    masks: &[Tensor<3>],
) -> Tensor<3> {
    let mut first = 0;
    let mut seen = Vec::with_capacity(masks.len());
    for mask in masks {
        let n = mask.dims()[1];
        let queries = queries.clone().narrow(1, first, n);
        first += n;
        let logits = queries.matmul(keys.clone().swap_dims(1, 2));
        let weights = softmax(logits.cast(DType::F32) + mask.clone(), 2);
        seen.push(weights.cast(values.dtype()).matmul(values.clone()));
    }
    Tensor::cat(seen, 1)
}
