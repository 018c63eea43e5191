//! One layer of the decoder: attention, then a network, each added to what came in.

use burn::tensor::{DType, Tensor};

use super::attention::{Attention, Span};
use super::kv_cache::LayerCache;
use super::linear::{GatedMlp, Place};
use super::moe::Experts;
use super::norm::RmsNorm;
use super::rope::Rotation;
use super::stack::dtype;
use crate::config::DecoderConfig;
use crate::stages::Stages;
use crate::weights::{CheckpointError, Weights};

/// One layer.
#[derive(Debug)]
pub(super) struct Block {
    index: usize,
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    pub(super) mlp: Mlp,
    dtype: DType,
}

/// What follows attention.
#[derive(Debug)]
pub(super) enum Mlp {
    Dense(Box<GatedMlp>),
    Experts(Box<Experts>),
}

impl Block {
    /// Loads `model.layers.{index}`.
    pub(super) fn load(
        weights: &mut Weights,
        index: usize,
        config: &DecoderConfig,
        place: &Place,
    ) -> Result<Self, CheckpointError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let mut norm = |part: &str| {
            let name = name(&format!("{part}_layernorm.weight"));
            RmsNorm::load(weights, &name, config.hidden, config.epsilon, place)
        };
        let attention_norm = norm("input")?;
        let mlp_norm = norm("post_attention")?;
        let attention = Attention::load(weights, &name("self_attn"), config, place)?;
        let mlp = match config.has_experts(index) {
            true => {
                let experts = Experts::load(weights, &name("mlp"), config, place)?;
                Mlp::Experts(Box::new(experts))
            }
            false => {
                let (hidden, middle) = (config.hidden, config.dense_mlp);
                let mlp = GatedMlp::load(weights, &name("mlp"), hidden, middle, place)?;
                Mlp::Dense(Box::new(mlp))
            }
        };
        Ok(Self {
            index,
            attention_norm,
            attention,
            mlp_norm,
            mlp,
            dtype: dtype(place.dtype),
        })
    }

    /// What passes through the layers stays in f32: it is small, and sums of many layers lose
    /// most in 8 bits.
    ///
    /// # Shapes
    /// - input and output: `[n, hidden]`, f32
    pub(super) fn forward(
        &self,
        input: Tensor<2>,
        rotation: &Rotation,
        span: &Span,
        cache: &mut LayerCache,
        stages: &mut Stages,
    ) -> Tensor<2> {
        let normed = self.attention_norm.forward(input.clone()).cast(self.dtype);
        let attended = self.attention.forward(normed, rotation, span, cache);
        let input = input + attended.cast(DType::F32);
        let normed = self.mlp_norm.forward(input.clone());
        let output = input
            + match &self.mlp {
                Mlp::Dense(mlp) => mlp.forward(normed.cast(self.dtype)).cast(DType::F32),
                Mlp::Experts(experts) => experts.forward(normed, self.index, stages),
            };
        stages.keep(&format!("layer_{}", self.index), &output);
        output
    }
}
