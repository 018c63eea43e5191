//! CLIP-L, fed with what SAM saw in place of patches.

use burn::tensor::{Tensor, TensorData};

use super::attention::attend;
use super::host;
use super::layers::{Activation, LayerNorm, Linear, Loader};
use super::positions::GridPositions;
use crate::config::ClipConfig;
use crate::stages::Stages;
use crate::weights::CheckpointError;

/// The first model's second tower.
#[derive(Debug)]
pub(super) struct Clip {
    /// `[1, 1, width]`, with its position.
    class: Tensor<3>,
    pub(super) positions: GridPositions,
    first_norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Clip {
    pub(super) fn load(
        mut loader: Loader<'_, '_>,
        config: &ClipConfig,
    ) -> Result<Self, CheckpointError> {
        let ClipConfig { width, epsilon, .. } = *config;
        let side = config.table_side;
        let patch = config.unused_patch;
        let mut embeddings = loader.at("embeddings");
        // The checkpoint has CLIP's own patches, but SAM's places stand for them.
        embeddings.discard("patch_embedding.weight", &[width, 3, patch, patch])?;
        let class = embeddings.tensor("class_embedding", [width])?;
        let shape = [side * side + 1, width];
        let mut positions = embeddings.values("position_embedding.weight", &shape)?;
        // Row 0 belongs to the class token and is never resampled.
        let grid = positions.split_off(width);
        let class_position: Tensor<1> = Tensor::from_data(
            TensorData::new(positions, [width]),
            (loader.device, loader.dtype),
        );
        let class = class + class_position;
        let blocks = (0..config.n_blocks)
            .map(|index| {
                let loader = loader.at(&format!("transformer.layers.{index}"));
                Block::load(loader, config)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            class: class.reshape([1, 1, width]),
            positions: GridPositions::new(grid, side, loader.device, loader.dtype),
            first_norm: LayerNorm::load(&mut loader, "pre_layrnorm", width, epsilon)?,
            blocks,
        })
    }

    /// # Shapes
    /// - `tokens`: `[n, q * q, width]`
    /// - output: `[n, q * q, width]`, without the class token
    pub(super) fn forward(&self, tokens: Tensor<3>, stages: &mut Stages) -> Tensor<3> {
        let [n, places, width] = tokens.dims();
        let tokens = tokens + self.positions.at(places.isqrt());
        let class = self.class.clone().expand([n, 1, width]);
        let tokens = Tensor::cat(vec![class, tokens], 1);
        stages.keep("clip_embed", &tokens);
        let mut tokens = self.first_norm.forward(tokens);
        for (index, block) in self.blocks.iter().enumerate() {
            tokens = block.forward(tokens);
            stages.keep(&format!("clip_layer_{index}"), &tokens);
        }
        // There is neither a mask nor a norm at the end.
        stages.keep("clip_out", &tokens);
        tokens.slice_dim(1, 1..places + 1)
    }
}

/// Attention and two products, each behind a norm and added to its input.
#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    /// To the queries, keys and values of all heads.
    mix: Linear,
    project: Linear,
    mlp_norm: LayerNorm,
    expand: Linear,
    reduce: Linear,
    n_heads: usize,
}

impl Block {
    fn load(mut loader: Loader<'_, '_>, config: &ClipConfig) -> Result<Self, CheckpointError> {
        let ClipConfig {
            width,
            mlp,
            epsilon,
            n_heads,
            ..
        } = *config;
        let loader = &mut loader;
        Ok(Self {
            attention_norm: LayerNorm::load(loader, "layer_norm1", width, epsilon)?,
            mix: Linear::load(loader, "self_attn.qkv_proj", [width, 3 * width])?,
            project: Linear::load(loader, "self_attn.out_proj", [width, width])?,
            mlp_norm: LayerNorm::load(loader, "layer_norm2", width, epsilon)?,
            expand: Linear::load(loader, "mlp.fc1", [width, mlp])?,
            reduce: Linear::load(loader, "mlp.fc2", [mlp, width])?,
            n_heads,
        })
    }

    /// # Shapes
    /// - `tokens` and output: `[n, places, width]`
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let mixed = self
            .mix
            .forward(self.attention_norm.forward(tokens.clone()));
        let tokens = self.project.forward_onto(tokens, self.attend(mixed));
        let normal = self.mlp_norm.forward(tokens.clone());
        let expanded = self.expand.forward_to(normal, Activation::QuickGelu);
        self.reduce.forward_onto(tokens, expanded)
    }

    /// # Shapes
    /// - `mixed`: `[n, places, 3 * width]`
    /// - output: `[n, places, width]`
    fn attend(&self, mixed: Tensor<3>) -> Tensor<3> {
        let [n, places, width] = mixed.dims();
        let width = width / 3;
        if let Linear::Packed(_) = self.mix {
            let mixed = mixed.reshape([n, 1, places, 3 * width]);
            return host::attend(mixed, self.n_heads, None, None).reshape([n, places, width]);
        }
        let head = width / self.n_heads;
        let parts = mixed
            .reshape([n, places, 3, self.n_heads, head])
            .permute([2, 0, 3, 1, 4]);
        let part = |index: usize| -> Tensor<4> {
            parts.clone().slice_dim(0, index..index + 1).squeeze_dim(0)
        };
        let queries = part(0) * (1.0 / (head as f64).sqrt());
        attend(queries, part(1), part(2), None)
            .swap_dims(1, 2)
            .reshape([n, places, width])
    }
}
