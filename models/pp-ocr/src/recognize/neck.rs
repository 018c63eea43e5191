//! What stands between the recognizer's backbone and its head: the last map becomes a sequence, and
//! its steps see each other.

use burn::module::Module;

use crate::nn::{
    Activation, Convolution, ConvolutionConfig, Depthwise, DepthwiseConfig, FeatureMap, LayerNorm,
    Transformer, TransformerConfig,
};
use crate::weights::{Weights, WeightsError};

/// Configuration of a [`Neck`].
#[derive(Debug, Clone, Copy)]
pub(super) enum NeckConfig {
    /// Steps see the whole line.
    Attentive(AttentiveConfig),
    /// Steps see two to each side.
    Local,
}

/// Configuration of an [`AttentiveNeck`].
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentiveConfig {
    pub(super) n_heads: usize,
    pub(super) n_blocks: usize,
}

impl NeckConfig {
    /// Loads the layers of `neck`.
    pub(super) fn load(
        self,
        weights: &mut Weights<'_>,
        channels_in: usize,
        channels_out: usize,
    ) -> Result<Neck, WeightsError> {
        match self {
            Self::Attentive(config) => config
                .load(weights, channels_in, channels_out)
                .map(Neck::Attentive),
            Self::Local => LocalNeck::load(weights, channels_in, channels_out).map(Neck::Local),
        }
    }
}

/// Turns the last map into a sequence.
#[derive(Module, Debug)]
pub(super) enum Neck {
    Attentive(AttentiveNeck),
    Local(LocalNeck),
}

impl Neck {
    /// # Shapes
    /// - `map`: `[n, c, 3, w]`
    /// - output: `[n, channels, 1, w / 2]`
    pub(super) fn walk<M: FeatureMap>(&self, map: M) -> M {
        let pooled = map.mean_pool([3, 2]);
        match self {
            Self::Attentive(neck) => neck.walk(pooled),
            Self::Local(neck) => neck.walk(&pooled),
        }
    }
}

/// Transformer blocks beside a way around them.
#[derive(Module, Debug)]
pub(super) struct AttentiveNeck {
    skip: Convolution,
    reduce: Convolution,
    local: Depthwise,
    blocks: Vec<Transformer>,
    norm: LayerNorm,
}

impl AttentiveConfig {
    fn load(
        self,
        weights: &mut Weights<'_>,
        channels_in: usize,
        channels: usize,
    ) -> Result<AttentiveNeck, WeightsError> {
        let mut linear = |name: &str| {
            ConvolutionConfig::new(channels_in, channels, 1)
                .activation(Activation::Swish)
                .load(weights, &format!("neck.{name}"))
        };
        let skip = linear("skip")?;
        let reduce = linear("reduce")?;
        let local = along_the_line(channels, 7)
            .activation(Activation::Swish)
            .load(weights, "neck.local")?;
        let block = TransformerConfig {
            channels,
            n_heads: self.n_heads,
            wide: 2 * channels,
        };
        let blocks = (0..self.n_blocks)
            .map(|index| block.load(weights, &format!("neck.blocks.{index}")))
            .collect::<Result<_, _>>()?;
        // The published graph has a finer epsilon here than inside the blocks.
        let norm = LayerNorm::load(weights, "neck.norm", channels, 1e-6)?;
        Ok(AttentiveNeck {
            skip,
            reduce,
            local,
            blocks,
            norm,
        })
    }
}

impl AttentiveNeck {
    fn walk<M: FeatureMap>(&self, pooled: M) -> M {
        let skipped = pooled.convolve(&self.skip);
        let reduced = pooled.convolve(&self.reduce);
        let local = reduced.depthwise(&self.local);
        let mut sequence = reduced.add(&local);
        for block in &self.blocks {
            sequence = block.walk(sequence);
        }
        sequence.normalize(&self.norm).add(&skipped)
    }
}

/// One convolution along the line.
#[derive(Module, Debug)]
pub(super) struct LocalNeck {
    depthwise: Depthwise,
    pointwise: Convolution,
    reduce: Convolution,
}

impl LocalNeck {
    fn load(
        weights: &mut Weights<'_>,
        channels_in: usize,
        channels_out: usize,
    ) -> Result<Self, WeightsError> {
        Ok(Self {
            depthwise: along_the_line(channels_in, 5)
                .activation(Activation::HardSwish)
                .load(weights, "neck.depthwise")?,
            pointwise: ConvolutionConfig::new(channels_in, channels_in, 1)
                .activation(Activation::HardSwish)
                .load(weights, "neck.pointwise")?,
            reduce: ConvolutionConfig::new(channels_in, channels_out, 1)
                .load(weights, "neck.reduce")?,
        })
    }

    fn walk<M: FeatureMap>(&self, pooled: &M) -> M {
        pooled
            .depthwise(&self.depthwise)
            .convolve(&self.pointwise)
            .convolve(&self.reduce)
    }
}

/// A depthwise convolution of a map of height 1.
fn along_the_line(channels: usize, width: usize) -> DepthwiseConfig {
    DepthwiseConfig {
        kernel: [1, width],
        ..DepthwiseConfig::new(channels, width)
    }
}
