//! The backbone of the text detector and the recognizer.

use std::ops::Range;

use burn::module::Module;
use quire_kernels::Rounding;

use super::{Activation, Convolution, ConvolutionConfig, FeatureMap, Mixer, MixerConfig, in_bands};
use crate::weights::{Weights, WeightsError};

/// Configuration of a [`Backbone`].
#[derive(Debug, Clone)]
pub(crate) struct BackboneConfig {
    pub(crate) stem: StemConfig,
    pub(crate) stages: Vec<StageConfig>,
}

/// Configuration of a [`Stem`], with the channels inside it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StemConfig {
    Forked(usize),
    Plain(usize),
}

/// Configuration of a [`Stage`].
#[derive(Debug, Clone)]
pub(crate) struct StageConfig {
    pub(crate) channels: usize,
    /// Stride of the block that enters the stage; the first stage has none.
    pub(crate) stride: [usize; 2],
    /// Whether each block squeezes.
    pub(crate) squeezes: Vec<bool>,
}

impl BackboneConfig {
    /// Loads `stem` and `stages`.
    pub(crate) fn load(&self, weights: &mut Weights<'_>) -> Result<Backbone, WeightsError> {
        let first = self.stages.first().map_or(0, |stage| stage.channels);
        let stem = self.stem.load(weights, first)?;
        let mut stages = Vec::new();
        let mut channels = first;
        for (index, config) in self.stages.iter().enumerate() {
            let name = format!("stages.{index}");
            let enter = MixerConfig {
                channels_in: channels,
                channels_out: config.channels,
                stride: config.stride,
                has_squeeze: false,
            };
            let enter = match index {
                0 => None,
                _ => Some(enter.load(weights, &format!("{name}.enter"))?),
            };
            channels = config.channels;
            let mut blocks = Vec::new();
            for (block, &has_squeeze) in config.squeezes.iter().enumerate() {
                let config = MixerConfig {
                    channels_in: channels,
                    channels_out: channels,
                    stride: [1, 1],
                    has_squeeze,
                };
                blocks.push(config.load(weights, &format!("{name}.blocks.{block}"))?);
            }
            stages.push(Stage { enter, blocks });
        }
        Ok(Backbone { stem, stages })
    }
}

/// A stem that divides the size by four, then stages of blocks.
#[derive(Module, Debug)]
pub(crate) struct Backbone {
    stem: Stem,
    stages: Vec<Stage>,
}

#[derive(Module, Debug)]
struct Stage {
    enter: Option<Mixer>,
    blocks: Vec<Mixer>,
}

impl Backbone {
    /// Gives the output of every stage.
    ///
    /// # Shapes
    /// - `image`: `[n, 3, h, w]`
    /// - output: `[n, stage channels, h / 4, w / 4]` and smaller, by the strides of the stages
    pub(crate) fn walk<M: FeatureMap>(&self, image: &M) -> Vec<M> {
        let n_lines = image.dims()[2].div_ceil(SCALE);
        let mut map = in_bands(n_lines, 1, image, |lines| self.stem.walk(image, lines));
        let mut outputs = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            for block in stage.enter.iter().chain(&stage.blocks) {
                map = map.mix(block);
            }
            outputs.push(map.clone());
        }
        outputs
    }
}

/// What brings an image to a quarter of its size.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has one of it, and modules of burn do not go into boxes"
)]
enum Stem {
    Forked(ForkedStem),
    Plain(PlainStem),
}

/// Two ways side by side, a maximum and two small convolutions, between strided convolutions.
#[derive(Module, Debug)]
struct ForkedStem {
    enter: Convolution,
    left_a: Convolution,
    left_b: Convolution,
    merge: Convolution,
    leave: Convolution,
}

/// Two strided convolutions.
#[derive(Module, Debug)]
struct PlainStem {
    enter: Convolution,
    leave: Convolution,
}

impl StemConfig {
    /// Loads the layers of `stem`.
    fn load(self, weights: &mut Weights<'_>, channels_out: usize) -> Result<Stem, WeightsError> {
        let mut layer = |name: &str, config: ConvolutionConfig, activation| {
            config
                .activation(activation)
                .rounded(Rounding::Coarse)
                .load(weights, &format!("stem.{name}"))
        };
        let relu = Activation::Relu;
        let unstrided = ConvolutionConfig::new;
        match self {
            Self::Forked(channels) => Ok(Stem::Forked(ForkedStem {
                enter: layer("enter", halving(3, channels), relu)?,
                left_a: layer("left_a", unstrided(channels, channels / 2, 2), relu)?,
                left_b: layer("left_b", unstrided(channels / 2, channels, 2), relu)?,
                merge: layer("merge", halving(2 * channels, channels), relu)?,
                leave: layer("leave", unstrided(channels, channels_out, 1), relu)?,
            })),
            Self::Plain(channels) => Ok(Stem::Plain(PlainStem {
                enter: layer("enter", halving(3, channels), Activation::Gelu)?,
                leave: layer(
                    "leave",
                    halving(channels, channels_out),
                    Activation::Identity,
                )?,
            })),
        }
    }
}

impl Stem {
    /// Makes some lines of the output. The maps inside are the largest of all, some 400 MB for a
    /// page; of the lines around those that are needed, few are made too.
    fn walk<M: FeatureMap>(&self, image: &M, lines: Range<usize>) -> M {
        // Lines of the map at half the size: the first that is seen, and one more, so that they
        // begin with an even one. What follows has the first of them to drop.
        let dropped = lines.start.min(1);
        let above = 2 * (lines.start - dropped);
        let height = image.dims()[2].div_ceil(2);
        let seen = |below: usize| above..height.min(2 * lines.end + below);
        let left = dropped..dropped + lines.len();
        match self {
            Self::Forked(stem) => {
                // Two small convolutions and a maximum look at the line below each: the last two
                // lines are wrong where the map goes on, and not seen.
                let entered = image.convolve_lines(&stem.enter, seen(2));
                let small = entered.convolve(&stem.left_a).convolve(&stem.left_b);
                let joined = entered.dilate_and_join(&small);
                drop((entered, small));
                joined
                    .convolve_lines(&stem.merge, left)
                    .convolve(&stem.leave)
            }
            Self::Plain(stem) => image
                .convolve_lines(&stem.enter, seen(0))
                .convolve_lines(&stem.leave, left),
        }
    }
}

/// By how much the stem divides the size of an image.
const SCALE: usize = 4;

/// A 3x3 convolution of stride 2.
fn halving(channels_in: usize, channels_out: usize) -> ConvolutionConfig {
    ConvolutionConfig::new(channels_in, channels_out, 3).stride([2, 2])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::Mode;
    use crate::detect::network::SMALL;
    use crate::nn::HostMap;
    use crate::nn::map::BAND;
    use crate::nn::tests::{assert_close, images};
    use crate::recognize::weights_of;

    #[test]
    fn bands_of_a_stem_join_to_what_it_gives_in_one_piece() {
        let mut weights = Weights::open("text detector", SMALL, &Device::flex()).unwrap();
        let forked = StemConfig::Forked(24).load(&mut weights, 48).unwrap();
        let tiny = weights_of(Mode::Tiny);
        let mut weights = Weights::open("recognizer", tiny, &Device::flex()).unwrap();
        let plain = StemConfig::Plain(24).load(&mut weights, 48).unwrap();
        for stem in [forked, plain] {
            for n_lines in [2 * BAND, 2 * BAND + 1, 3 * BAND, 4 * BAND - 1] {
                for missing in [0, 1, 3] {
                    let image = images([1, 3, SCALE * n_lines - missing, 20]);
                    let image = HostMap::take(&image).unwrap();
                    let whole = stem.walk(&image, 0..n_lines);
                    let banded = in_bands(n_lines, 1, &image, |lines| stem.walk(&image, lines));
                    assert_eq!(whole.dims(), banded.dims(), "{n_lines} lines");
                    assert_close(whole.into_rows(), banded.into_rows(), 1e-5);
                }
            }
        }
    }
}
