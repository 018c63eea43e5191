//! The backbone of the text detector and the recognizer.

use burn::module::Module;

use super::{Activation, Convolution, ConvolutionConfig, FeatureMap, Mixer, MixerConfig};
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
        let mut map = self.stem.walk_in_bands(image);
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
    fn walk<M: FeatureMap>(&self, image: &M) -> M {
        match self {
            Self::Forked(stem) => {
                let entered = image.convolve(&stem.enter);
                let left = entered.convolve(&stem.left_a).convolve(&stem.left_b);
                let joined = entered.dilate_and_join(&left);
                drop((entered, left));
                joined.convolve(&stem.merge).convolve(&stem.leave)
            }
            Self::Plain(stem) => image.convolve(&stem.enter).convolve(&stem.leave),
        }
    }

    /// Walks a tall image band by band: the maps inside the stem are the largest of all, some
    /// 400 MB for a page, and a band of them is gone before the next is made.
    fn walk_in_bands<M: FeatureMap>(&self, image: &M) -> M {
        let [batch, _, height, _] = image.dims();
        let n_lines = height.div_ceil(SCALE);
        if batch != 1 || n_lines <= 2 * BAND {
            return self.walk(image);
        }
        let bands = (0..n_lines).step_by(BAND).map(|first| {
            let end = n_lines.min(first + BAND);
            // A line of the output sees at most three lines of the image above it and seven below
            // its first: a neighbor on each side is computed with what is missing there, and dropped.
            let above = first.min(1);
            let seen = SCALE * (first - above)..height.min(SCALE * (end + 1));
            let band = self.walk(&image.lines(seen));
            band.lines(above..above + end - first)
        });
        M::stack(bands.collect())
    }
}

/// By how much the stem divides the size of an image.
const SCALE: usize = 4;
/// Lines of the output made at once: the overlap of bands costs 3% of the stem's work.
const BAND: usize = 64;

/// A 3x3 convolution of stride 2.
fn halving(channels_in: usize, channels_out: usize) -> ConvolutionConfig {
    ConvolutionConfig::new(channels_in, channels_out, 3).stride([2, 2])
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::detect::network::SMALL;
    use crate::nn::HostMap;
    use crate::nn::tests::{assert_close, images};

    #[test]
    fn bands_of_a_stem_join_to_what_it_gives_in_one_piece() {
        let mut weights = Weights::open("text detector", SMALL, &Device::flex()).unwrap();
        let stem = StemConfig::Forked(24).load(&mut weights, 48).unwrap();
        for n_lines in [2 * BAND, 2 * BAND + 1, 3 * BAND, 4 * BAND - 1] {
            for missing in [0, 1, 3] {
                let image = images([1, 3, SCALE * n_lines - missing, 20]);
                let image = HostMap::take(&image).unwrap();
                let (whole, banded) = (stem.walk(&image), stem.walk_in_bands(&image));
                assert_eq!(whole.dims(), banded.dims(), "{n_lines} lines");
                assert_close(whole.into_rows(), banded.into_rows(), 1e-5);
            }
        }
    }
}
