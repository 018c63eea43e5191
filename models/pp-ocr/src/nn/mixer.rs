//! The block that backbones of the text detector and the recognizer are made of.

use burn::module::Module;
use quire_kernels::Rounding;

use super::{
    Activation, Convolution, ConvolutionConfig, Depthwise, DepthwiseConfig, Squeeze, SqueezeConfig,
};
use crate::weights::{Weights, WeightsError};

/// Configuration of a [`Mixer`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct MixerConfig {
    pub(crate) channels_in: usize,
    /// A block that keeps its channels adds its input to its output.
    pub(crate) channels_out: usize,
    pub(crate) stride: [usize; 2],
    pub(crate) has_squeeze: bool,
}

impl MixerConfig {
    pub(crate) fn load(self, weights: &mut Weights<'_>, name: &str) -> Result<Mixer, WeightsError> {
        let wide = 2 * self.channels_in;
        let squeeze = SqueezeConfig {
            channels: self.channels_in,
            slope: 1.0 / 6.0,
            is_residual: false,
        };
        Ok(Mixer {
            depthwise: DepthwiseConfig::new(self.channels_in, 3)
                .stride(self.stride)
                .load(weights, &format!("{name}.depthwise"))?,
            squeeze: match self.has_squeeze {
                true => Some(squeeze.load(weights, name)?),
                false => None,
            },
            expand: ConvolutionConfig::new(self.channels_in, wide, 1)
                .rounded(Rounding::Coarse)
                .activation(Activation::Gelu)
                .load(weights, &format!("{name}.expand"))?,
            project: ConvolutionConfig::new(wide, self.channels_out, 1)
                .rounded(Rounding::Coarse)
                .load(weights, &format!("{name}.project"))?,
            is_residual: self.channels_in == self.channels_out,
        })
    }
}

/// A depthwise convolution that mixes pixels, then two 1x1 convolutions that mix channels.
#[derive(Module, Debug)]
pub(crate) struct Mixer {
    pub(crate) depthwise: Depthwise,
    pub(crate) squeeze: Option<Squeeze>,
    /// To twice the channels, with GELU.
    pub(crate) expand: Convolution,
    pub(crate) project: Convolution,
    /// Whether the output of `depthwise` and `squeeze` is added at the end.
    pub(crate) is_residual: bool,
}
