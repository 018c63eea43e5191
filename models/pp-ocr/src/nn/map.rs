//! What a network is walked over.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{Convolution, Depthwise, LayerNorm, Mixer, Squeeze, Transposed};

/// A batch of maps of features with the operations that the networks need.
///
/// Dimensions are given as `[batch, channels, height, width]` whatever the layout in memory. A
/// sequence is a map of height 1. A network never holds a map longer than it needs it, since a
/// map that nothing else holds may be changed in place.
///
/// # Panics
/// Operations panic when channels do not fit a layer or sizes of two maps differ: networks check
/// their input once and shapes inside are fixed by their configuration.
pub(crate) trait FeatureMap: Clone {
    fn dims(&self) -> [usize; 4];

    /// The channels of every pixel, `[batch * height * width, channels]`.
    fn into_rows(self) -> Tensor<2>;

    fn convolve(&self, layer: &Convolution) -> Self;

    fn depthwise(&self, layer: &Depthwise) -> Self;

    /// Transposed 2x2 convolution of stride 2.
    fn grow(&self, layer: &Transposed) -> Self;

    /// Scales channels by a gate computed of their means.
    fn squeeze(self, layer: &Squeeze) -> Self;

    /// A whole backbone block.
    fn mix(&self, layer: &Mixer) -> Self;

    /// A depthwise convolution, then a dense one.
    fn separate(&self, depthwise: &Depthwise, dense: &Convolution) -> Self {
        self.depthwise(depthwise).convolve(dense)
    }

    /// Maximum of 2x2 windows at stride 1, padded right and bottom to keep the size, and joined with
    /// another map.
    fn dilate_and_join(&self, other: &Self) -> Self;

    /// Maximum of 2x2 windows at stride 2; a last odd row or column is dropped.
    fn max_pool(&self) -> Self;

    /// Mean of `[height, width]` windows that do not overlap; what does not fill one is dropped.
    fn mean_pool(&self, window: [usize; 2]) -> Self;

    /// Mean of each channel, as a map of size 1x1.
    fn mean(&self) -> Self;

    /// Repeats every pixel `factor` times in both directions.
    fn repeat(&self, factor: usize) -> Self;

    fn concat(parts: Vec<Self>) -> Self;

    /// A run of lines of a map of batch 1.
    fn lines(&self, lines: Range<usize>) -> Self;

    /// Maps of batch 1 one below the other.
    fn stack(parts: Vec<Self>) -> Self;

    fn add(self, other: &Self) -> Self;

    /// Adds a map of half the height and width, every pixel of which counts for four.
    fn add_repeated(self, smaller: &Self) -> Self {
        self.add(&smaller.repeat(2))
    }

    /// Layer norm over channels.
    fn normalize(&self, layer: &LayerNorm) -> Self;

    /// Multi-head self-attention along the width of a map of height 1, whose channels are the
    /// queries, keys and values of all heads, one after the other.
    fn attend(&self, n_heads: usize) -> Self;

    /// For every pixel the class to which a linear layer gives the greatest logit, and its share
    /// of the softmax over all classes.
    fn likeliest(&self, layer: &Convolution) -> Vec<(usize, f32)>;
}
