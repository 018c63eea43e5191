//! Layers that the four networks share.
//!
//! A network is written once, as a walk over a [`FeatureMap`]. Two things can be walked: a burn
//! tensor on any device ([`tensors`]), and on the CPU a map kept channels-last in host memory
//! ([`host`]), where whole blocks are computed tile by tile while they are in the cache. Both read
//! the same modules and give the same answers; the tests hold both against the published models.

mod activation;
mod backbone;
mod convolution;
mod host;
mod images;
mod map;
mod mixer;
mod separable;
mod squeeze;
mod tensors;
mod transformer;
mod work;

pub(crate) use activation::Activation;
pub(crate) use backbone::{Backbone, BackboneConfig, StageConfig, StemConfig};
pub(crate) use convolution::{Convolution, ConvolutionConfig, Depthwise, DepthwiseConfig};
pub(crate) use convolution::{Transposed, TransposedConfig};
pub(crate) use host::HostMap;
pub use images::Images;
pub(crate) use images::Input;
pub(crate) use map::{FeatureMap, in_bands};
pub(crate) use mixer::{Mixer, MixerConfig};
pub(crate) use separable::{Separable, SeparableConfig};
pub(crate) use squeeze::{Squeeze, SqueezeConfig};
pub(crate) use transformer::{LayerNorm, Transformer, TransformerConfig};
pub(crate) use work::WorkMap;

#[cfg(test)]
pub(crate) mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    /// Images with structure at several scales, from -1 to 1.
    pub(crate) fn images(dims: [usize; 4]) -> Tensor<4> {
        let [_, _, height, width] = dims;
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|index| {
                let (plane, y, x) = (
                    index / (height * width),
                    index / width % height,
                    index % width,
                );
                let wave = ((x + 2 * plane) as f32 / 5.0).sin() * (y as f32 / 7.0).cos();
                wave / 2.0 + (index * 7919 % 2003) as f32 / 2003.0 - 0.5
            })
            .collect();
        Tensor::from_data(TensorData::new(values, dims), &Device::flex())
    }

    /// By how much values may differ that are rounded in fixed point or, where the CPU has tiles,
    /// to bf16.
    pub(crate) fn tolerance(fixed_point: f32, bf16: f32) -> f32 {
        match quire_kernels::Vectors::chosen().path() {
            quire_kernels::Path::Amx => bf16,
            _ => fixed_point,
        }
    }

    #[track_caller]
    pub(crate) fn assert_close(left: Tensor<2>, right: Tensor<2>, tolerance: f32) {
        assert_eq!(left.dims(), right.dims());
        let error: f32 = (left - right).abs().max().into_scalar();
        assert!(error <= tolerance, "greatest difference {error}");
    }
}
