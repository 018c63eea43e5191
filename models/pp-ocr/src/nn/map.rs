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

    /// Whether a large map is better made some lines at a time, each while it is in the cache.
    fn is_made_in_bands(&self) -> bool {
        false
    }

    fn convolve(&self, layer: &Convolution) -> Self;

    /// Some lines of a convolution.
    fn convolve_lines(&self, layer: &Convolution, lines: Range<usize>) -> Self;

    /// A level of a feature pyramid: a 1x1 convolution without bias and activation, squeezed, and
    /// the level above it added, of half the height and width, every pixel of which counts for
    /// four.
    fn level(&self, layer: &Convolution, squeeze: &Squeeze, above: Option<&Self>) -> Self;

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

    /// Joins the channels of maps. Every pixel of a smaller map is repeated in both directions
    /// until it is as large as the largest.
    fn concat(parts: &[Self]) -> Self {
        let height = parts.iter().map(|part| part.dims()[2]).max();
        Self::concat_lines(parts, 0..height.unwrap_or(0))
    }

    /// Some lines of maps that are joined so.
    fn concat_lines(parts: &[Self], lines: Range<usize>) -> Self;

    /// Maps of batch 1 one below the other, of so many lines together.
    fn stack(parts: impl Iterator<Item = Self>, n_lines: usize) -> Self;

    fn add(self, other: &Self) -> Self;

    /// Layer norm over channels.
    fn normalize(&self, layer: &LayerNorm) -> Self;

    /// Multi-head self-attention along the width of a map of height 1, whose channels are the
    /// queries, keys and values of all heads, one after the other.
    fn attend(&self, n_heads: usize) -> Self;

    /// For every pixel the class to which a linear layer gives the greatest logit, and its share
    /// of the softmax over all classes.
    fn likeliest(&self, layer: &Convolution) -> Vec<(usize, f32)>;
}

/// Lines of a map made at once. The input of a page's stem is then some hundred kilobytes.
pub(super) const BAND: usize = 16;

/// Makes a map of `scale` times so many lines, in bands if that is better for maps like `like`.
pub(crate) fn in_bands<M: FeatureMap>(
    n_lines: usize,
    scale: usize,
    like: &M,
    make: impl Fn(Range<usize>) -> M,
) -> M {
    if n_lines <= 2 * BAND || !like.is_made_in_bands() {
        return make(0..n_lines);
    }
    let first = (0..n_lines).step_by(BAND);
    let bands = first.map(|first| make(first..n_lines.min(first + BAND)));
    M::stack(bands, scale * n_lines)
}
