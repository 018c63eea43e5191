//! A depthwise convolution followed by a 1x1 one, as the layout detector uses them.

use burn::module::Module;
use quire_kernels::Rounding;

use super::{
    Activation, Convolution, ConvolutionConfig, Depthwise, DepthwiseConfig, FeatureMap, Squeeze,
    SqueezeConfig,
};
use crate::weights::{Weights, WeightsError};

/// Configuration of a [`Separable`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeparableConfig {
    pub(crate) channels_in: usize,
    pub(crate) channels_out: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) has_squeeze: bool,
}

impl SeparableConfig {
    pub(crate) fn load(
        self,
        weights: &mut Weights<'_>,
        name: &str,
    ) -> Result<Separable, WeightsError> {
        let squeeze = SqueezeConfig {
            channels: self.channels_in,
            slope: 1.0 / 6.0,
            is_residual: false,
        };
        Ok(Separable {
            depthwise: DepthwiseConfig::new(self.channels_in, self.kernel)
                .stride([self.stride; 2])
                .activation(Activation::HardSwish)
                .load(weights, &format!("{name}.depthwise"))?,
            squeeze: match self.has_squeeze {
                true => Some(squeeze.load(weights, name)?),
                false => None,
            },
            pointwise: ConvolutionConfig::new(self.channels_in, self.channels_out, 1)
                .activation(Activation::HardSwish)
                .rounded(Rounding::Fine)
                .load(weights, &format!("{name}.pointwise"))?,
        })
    }
}

/// Both convolutions are followed by hard-swish.
#[derive(Module, Debug)]
pub(crate) struct Separable {
    depthwise: Depthwise,
    squeeze: Option<Squeeze>,
    pointwise: Convolution,
}

impl Separable {
    pub(crate) fn walk<M: FeatureMap>(&self, map: &M) -> M {
        match &self.squeeze {
            Some(squeeze) => map
                .depthwise(&self.depthwise)
                .squeeze(squeeze)
                .convolve(&self.pointwise),
            None => map.separate(&self.depthwise, &self.pointwise),
        }
    }
}
