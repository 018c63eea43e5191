//! SAM's neck, and the compressor that halves the sides twice. There is no activation and no norm
//! in the compressor.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use crate::config::SamConfig;
use crate::stages::Stages;
use crate::vision::layers::{LayerNorm, Linear, Loader};
use crate::weights::CheckpointError;

#[derive(Debug)]
pub(super) struct Neck {
    /// The 1x1 convolution.
    narrow: Linear,
    narrow_norm: LayerNorm,
    mix: Convolution,
    mix_norm: LayerNorm,
    halve: Convolution,
    quarter: Convolution,
}

impl Neck {
    pub(super) fn load(
        loader: &mut Loader<'_, '_>,
        config: &SamConfig,
        channels_out: usize,
    ) -> Result<Self, CheckpointError> {
        let SamConfig {
            width,
            neck,
            epsilon,
            compressor: [middle, _],
            ..
        } = *config;
        Ok(Self {
            narrow: Linear::load_patches(loader, "neck.0", [width, neck], 1, false)?,
            narrow_norm: LayerNorm::load(loader, "neck.1", neck, epsilon)?,
            mix: Convolution::load(loader, "neck.2", [neck, neck], 1)?,
            mix_norm: LayerNorm::load(loader, "neck.3", neck, epsilon)?,
            halve: Convolution::load(loader, "net_2", [neck, middle], 2)?,
            quarter: Convolution::load(loader, "net_3", [middle, channels_out], 2)?,
        })
    }

    /// # Shapes
    /// - `map`: `[n, g, g, width]`
    /// - output: `[n, channels, q, q]`
    pub(super) fn forward(&self, map: Tensor<4>, stages: &mut Stages) -> Tensor<4> {
        // The norms are over the channels of each place, so between convolutions the channels
        // stand last.
        let map = self.narrow_norm.forward(self.narrow.forward(map));
        let map = self.mix.forward(map.permute([0, 3, 1, 2]));
        let map = self.mix_norm.forward(map.permute([0, 2, 3, 1]));
        let map = map.permute([0, 3, 1, 2]);
        stages.keep("sam_neck", &map);
        let map = self.quarter.forward(self.halve.forward(map));
        stages.keep("sam_out", &map);
        map
    }
}

/// A 3x3 convolution without bias, padded by one.
#[derive(Debug)]
struct Convolution {
    /// `[out, in, 3, 3]`
    weight: Tensor<4>,
    stride: usize,
}

impl Convolution {
    fn load(
        loader: &mut Loader<'_, '_>,
        name: &str,
        [channels_in, channels_out]: [usize; 2],
        stride: usize,
    ) -> Result<Self, CheckpointError> {
        let shape = [channels_out, channels_in, 3, 3];
        Ok(Self {
            weight: loader.tensor(&format!("{name}.weight"), shape)?,
            stride,
        })
    }

    /// # Shapes
    /// - `map`: `[n, in, h, w]`
    /// - output: `[n, out, h / stride, w / stride]`, rounded up
    fn forward(&self, map: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([self.stride; 2], [1, 1], [1, 1], 1);
        conv2d(map, self.weight.clone(), None, options)
    }
}
