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
mod map;
mod mixer;
mod separable;
mod squeeze;
mod tensors;
mod transformer;

pub(crate) use activation::Activation;
pub(crate) use backbone::{Backbone, BackboneConfig, StageConfig};
pub(crate) use convolution::{Convolution, ConvolutionConfig, Depthwise, DepthwiseConfig};
pub(crate) use convolution::{Transposed, TransposedConfig};
pub(crate) use host::HostMap;
pub(crate) use map::FeatureMap;
pub(crate) use mixer::{Mixer, MixerConfig};
pub(crate) use separable::{Separable, SeparableConfig};
pub(crate) use squeeze::{Squeeze, SqueezeConfig};
pub(crate) use transformer::{LayerNorm, Transformer, TransformerConfig};
