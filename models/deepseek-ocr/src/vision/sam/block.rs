//! A block of SAM: attention and two products, each behind a norm and added to its input.

use burn::tensor::Tensor;

use super::attention::{Attention, AttentionConfig};
use crate::vision::layers::{Activation, LayerNorm, Linear, Loader};
use crate::weights::CheckpointError;

/// Configuration of a [`Block`].
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockConfig {
    pub(super) width: usize,
    pub(super) n_heads: usize,
    /// Side of the windows; none where attention sees the whole view.
    pub(super) window: Option<usize>,
    /// Side that the table of relative positions was made for.
    pub(super) table_side: usize,
    /// Width between the two products.
    pub(super) mlp: usize,
    pub(super) epsilon: f64,
}

impl BlockConfig {
    pub(super) fn load(self, mut loader: Loader<'_, '_>) -> Result<Block, CheckpointError> {
        let Self {
            width,
            mlp,
            epsilon,
            ..
        } = self;
        let attention = AttentionConfig {
            width,
            n_heads: self.n_heads,
            window: self.window,
            table_side: self.table_side,
        };
        Ok(Block {
            attention_norm: LayerNorm::load(&mut loader, "norm1", width, epsilon)?,
            attention: attention.load(loader.at("attn"))?,
            mlp_norm: LayerNorm::load(&mut loader, "norm2", width, epsilon)?,
            expand: Linear::load(&mut loader, "mlp.lin1", [width, mlp])?,
            reduce: Linear::load(&mut loader, "mlp.lin2", [mlp, width])?,
        })
    }
}

#[derive(Debug)]
pub(super) struct Block {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    expand: Linear,
    reduce: Linear,
}

impl Block {
    /// # Shapes
    /// - `map` and output: `[n, g, g, width]`
    pub(super) fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let normal = self.attention_norm.forward(map.clone());
        let map = self.attention.forward_onto(map, normal);
        let normal = self.mlp_norm.forward(map.clone());
        let expanded = self.expand.forward_to(normal, Activation::Gelu);
        self.reduce.forward_onto(map, expanded)
    }
}
