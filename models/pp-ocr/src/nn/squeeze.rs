//! Squeeze and excitation: channels scaled by a gate computed of their means.

use burn::module::Module;

use super::{Activation, Convolution, ConvolutionConfig};
use crate::weights::{Weights, WeightsError};

/// Configuration of a [`Squeeze`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SqueezeConfig {
    pub(crate) channels: usize,
    /// Slope of the hard sigmoid that makes the gate: 1/6 in backbones, 1/5 in older parts.
    pub(crate) slope: f32,
    /// Whether the input is added to the scaled map.
    pub(crate) is_residual: bool,
}

impl SqueezeConfig {
    /// Loads `{name}.squeeze.reduce` and `{name}.squeeze.expand`.
    pub(crate) fn load(
        self,
        weights: &mut Weights<'_>,
        name: &str,
    ) -> Result<Squeeze, WeightsError> {
        let narrow = self.channels / 4;
        Ok(Squeeze {
            reduce: ConvolutionConfig::new(self.channels, narrow, 1)
                .activation(Activation::Relu)
                .load(weights, &format!("{name}.squeeze.reduce"))?,
            expand: ConvolutionConfig::new(narrow, self.channels, 1)
                .activation(Activation::HardSigmoid { slope: self.slope })
                .load(weights, &format!("{name}.squeeze.expand"))?,
            is_residual: self.is_residual,
        })
    }
}

/// The two layers that make the gate.
#[derive(Module, Debug)]
pub(crate) struct Squeeze {
    pub(crate) reduce: Convolution,
    pub(crate) expand: Convolution,
    pub(crate) is_residual: bool,
}
