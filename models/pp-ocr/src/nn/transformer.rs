//! Transformer blocks of the recognizer's neck. Sequences are maps of height 1.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Activation, Convolution, ConvolutionConfig, FeatureMap};
use crate::weights::{Weights, WeightsError};

/// Configuration of a [`Transformer`] block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransformerConfig {
    pub(crate) channels: usize,
    pub(crate) n_heads: usize,
    /// Width of the feed-forward layer.
    pub(crate) wide: usize,
}

impl TransformerConfig {
    pub(crate) fn load(
        self,
        weights: &mut Weights<'_>,
        name: &str,
    ) -> Result<Transformer, WeightsError> {
        let Self {
            channels,
            n_heads,
            wide,
        } = self;
        let mut linear = |layer: &str, channels_in, channels_out, activation| {
            ConvolutionConfig::new(channels_in, channels_out, 1)
                .activation(activation)
                .load(weights, &format!("{name}.{layer}"))
        };
        let identity = Activation::Identity;
        Ok(Transformer {
            mix: linear("attention.mix", channels, 3 * channels, identity)?,
            project: linear("attention.project", channels, channels, identity)?,
            expand: linear("feed_forward.expand", channels, wide, Activation::Swish)?,
            reduce: linear("feed_forward.project", wide, channels, identity)?,
            attention_norm: norm(weights, &format!("{name}.attention_norm"), channels)?,
            feed_forward_norm: norm(weights, &format!("{name}.feed_forward_norm"), channels)?,
            n_heads,
        })
    }
}

fn norm(weights: &mut Weights<'_>, name: &str, channels: usize) -> Result<LayerNorm, WeightsError> {
    LayerNorm::load(weights, name, channels, 1e-5)
}

/// Attention and feed-forward layer, each behind a norm and added to its input.
#[derive(Module, Debug)]
pub(crate) struct Transformer {
    attention_norm: LayerNorm,
    /// To the queries, keys and values of all heads.
    mix: Convolution,
    project: Convolution,
    feed_forward_norm: LayerNorm,
    expand: Convolution,
    reduce: Convolution,
    n_heads: usize,
}

impl Transformer {
    /// # Shapes
    /// - `sequence` and output: `[n, channels, 1, steps]`
    pub(crate) fn walk<M: FeatureMap>(&self, sequence: M) -> M {
        let mixed = sequence.normalize(&self.attention_norm).convolve(&self.mix);
        let attended = mixed.attend(self.n_heads).convolve(&self.project);
        let sequence = sequence.add(&attended);
        let expanded = sequence
            .normalize(&self.feed_forward_norm)
            .convolve(&self.expand);
        sequence.add(&expanded.convolve(&self.reduce))
    }
}

/// Layer norm over channels.
#[derive(Module, Debug)]
pub(crate) struct LayerNorm {
    /// `[channels]`
    pub(crate) weight: Param<Tensor<1>>,
    /// `[channels]`
    pub(crate) bias: Param<Tensor<1>>,
    pub(crate) epsilon: f64,
}

impl LayerNorm {
    pub(crate) fn load(
        weights: &mut Weights<'_>,
        name: &str,
        channels: usize,
        epsilon: f64,
    ) -> Result<Self, WeightsError> {
        let scale = weights.take(&format!("{name}.weight"), &[channels])?;
        let shift = weights.take(&format!("{name}.bias"), &[channels])?;
        Ok(Self {
            weight: weights.parameter(&scale, [channels]),
            bias: weights.parameter(&shift, [channels]),
            epsilon,
        })
    }
}
