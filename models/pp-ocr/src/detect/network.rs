//! The text detector: a backbone, a feature pyramid and a DBNet head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use quire_kernels::Rounding;

use crate::mode::Mode;
use crate::nn::{
    Activation, Backbone, BackboneConfig, Convolution, ConvolutionConfig, Depthwise,
    DepthwiseConfig, FeatureMap, Input, Squeeze, SqueezeConfig, StageConfig, StemConfig,
    Transposed, TransposedConfig, WorkMap, in_bands,
};
use crate::weights::{Weights, WeightsError};

pub(crate) static SMALL: &[u8] = include_bytes!("../../assets/detector.safetensors");
static TINY: &[u8] = include_bytes!("../../assets/tiny-detector.safetensors");

/// Weights of the detector of a mode.
pub(crate) fn weights_of(mode: Mode) -> &'static [u8] {
    match mode {
        Mode::Small => SMALL,
        Mode::Tiny => TINY,
    }
}

/// Configuration of a [`TextDetector`].
#[derive(Debug, Clone)]
pub struct TextDetectorConfig {
    backbone: BackboneConfig,
    /// Channels of the feature pyramid; a quarter of them at each level reaches the head.
    pyramid: usize,
    /// Size of the kernels that smooth the pyramid.
    smooth: usize,
    /// Whether it ends lines at wide spaces.
    splits_lines: bool,
}

impl TextDetectorConfig {
    /// PP-OCRv6 small, 2.45 million parameters.
    pub fn small() -> Self {
        Self {
            backbone: backbone(24, [48, 96, 192, 384]),
            pyramid: 96,
            smooth: 7,
            splits_lines: false,
        }
    }

    /// PP-OCRv6 tiny, 0.43 million parameters.
    pub fn tiny() -> Self {
        Self {
            backbone: backbone(16, [32, 48, 64, 160]),
            pyramid: 64,
            smooth: 5,
            splits_lines: true,
        }
    }

    /// Builds the network with weights in the format of `reference/convert.py`.
    ///
    /// # Errors
    /// When the weights are not exactly those of this configuration.
    pub fn load(&self, bytes: &[u8], device: &Device) -> Result<TextDetector, WeightsError> {
        let mut weights = Weights::open("text detector", bytes, device)?;
        let detector = TextDetector {
            backbone: self.backbone.load(&mut weights)?,
            neck: Neck::load(&mut weights, self)?,
            head: Head::load(&mut weights, self.pyramid)?,
            splits_lines: self.splits_lines,
        };
        weights.finish()?;
        Ok(detector)
    }
}

/// Both published sizes differ in their widths only.
fn backbone(stem: usize, channels: [usize; 4]) -> BackboneConfig {
    let stage = |channels, stride: usize, squeezes: &[bool]| StageConfig {
        channels,
        stride: [stride; 2],
        squeezes: squeezes.to_vec(),
    };
    BackboneConfig {
        stem: StemConfig::Forked(stem),
        stages: vec![
            stage(channels[0], 1, &[true, false]),
            stage(channels[1], 2, &[true, false]),
            stage(channels[2], 2, &[true, false, true, false]),
            stage(channels[3], 2, &[true, false]),
        ],
    }
}

/// Finds where text is. A clone shares the weights.
#[derive(Module, Debug)]
pub struct TextDetector {
    backbone: Backbone,
    neck: Neck,
    head: Head,
    /// Whether it ends lines at wide spaces.
    #[module(skip)]
    pub(super) splits_lines: bool,
}

impl TextDetector {
    /// Loads PP-OCRv6 small from the weights inside the program.
    ///
    /// # Errors
    /// When the embedded weights are damaged.
    pub fn load(device: &Device) -> Result<Self, WeightsError> {
        Self::of(Mode::Small, device)
    }

    /// Loads the detector of a mode from the weights inside the program.
    ///
    /// # Errors
    /// When the embedded weights are damaged.
    pub fn of(mode: Mode, device: &Device) -> Result<Self, WeightsError> {
        let config = match mode {
            Mode::Small => TextDetectorConfig::small(),
            Mode::Tiny => TextDetectorConfig::tiny(),
        };
        config.load(weights_of(mode), device)
    }

    /// Gives for every pixel the probability that it lies in the core of a line of text.
    ///
    /// # Shapes
    /// - `images`: `[n, 3, h, w]`, h and w multiples of 32
    /// - output: `[n, 1, h, w]`
    ///
    /// # Panics
    /// When the shape is another one.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.probabilities(images.into())
    }

    /// As [`Self::forward`].
    pub(crate) fn probabilities(&self, images: Input) -> Tensor<4> {
        let [batch, channels, height, width] = images.dims();
        assert!(
            channels == 3 && height % 32 == 0 && width % 32 == 0,
            "the text detector wants [n, 3, h, w] with h and w multiples of 32, not {:?}",
            images.dims(),
        );
        let rows = match images {
            Input::Host(images) => self.walk(&images).into_rows(),
            Input::Device(images) => self.walk(&images).into_rows(),
        };
        rows.reshape([batch, 1, height, width])
    }

    /// What [`Self::forward`] multiplies and adds for images of this size.
    pub fn multiply_adds(&self, dims: [usize; 4]) -> u64 {
        WorkMap::count(dims, |images| self.walk(images))
    }

    fn walk<M: FeatureMap>(&self, images: &M) -> M {
        let stages = self.backbone.walk(images);
        self.head.walk(&self.neck.walk(stages))
    }
}

/// A feature pyramid from the coarsest level down to the finest, all levels joined at the end.
#[derive(Module, Debug)]
struct Neck {
    /// Finest level first, here and below.
    laterals: Vec<Lateral>,
    smooths: Vec<Smooth>,
}

/// Brings a stage to the channels of the pyramid.
#[derive(Module, Debug)]
struct Lateral {
    convolution: Convolution,
    squeeze: Squeeze,
}

/// Smooths a level of the pyramid and brings it to its share of the head's channels.
#[derive(Module, Debug)]
struct Smooth {
    depthwise: Depthwise,
    convolution: Convolution,
    squeeze: Squeeze,
}

impl Neck {
    fn load(weights: &mut Weights<'_>, config: &TextDetectorConfig) -> Result<Self, WeightsError> {
        let pyramid = config.pyramid;
        let stages = &config.backbone.stages;
        let n_levels = stages.len();
        let share = pyramid / n_levels;
        let squeeze = |channels| SqueezeConfig {
            channels,
            slope: 0.2,
            is_residual: true,
        };
        let mut laterals = Vec::new();
        let mut smooths = Vec::new();
        for (level, stage) in stages.iter().enumerate() {
            let name = format!("neck.laterals.{level}");
            laterals.push(Lateral {
                convolution: ConvolutionConfig::new(stage.channels, pyramid, 1)
                    .without_bias()
                    .rounded(Rounding::Coarse)
                    .load(weights, &format!("{name}.convolution"))?,
                squeeze: squeeze(pyramid).load(weights, &name)?,
            });
            let name = format!("neck.smooths.{level}");
            smooths.push(Smooth {
                depthwise: DepthwiseConfig::new(pyramid, config.smooth)
                    .load(weights, &format!("{name}.depthwise"))?,
                convolution: ConvolutionConfig::new(pyramid, share, 1)
                    .without_bias()
                    .rounded(Rounding::Coarse)
                    .load(weights, &format!("{name}.convolution"))?,
                squeeze: squeeze(share).load(weights, &name)?,
            });
        }
        Ok(Self { laterals, smooths })
    }

    /// # Shapes
    /// - `stages`: `[n, stage channels, h, w]` and each next one half as large
    /// - output: `[n, pyramid / levels, h, w]` and each one before half as large, coarsest level
    ///   first
    fn walk<M: FeatureMap>(&self, stages: Vec<M>) -> Vec<M> {
        let mut above: Option<M> = None;
        let mut parts = Vec::with_capacity(stages.len());
        for (level, stage) in stages.into_iter().enumerate().rev() {
            let lateral = &self.laterals[level];
            let map = stage.level(&lateral.convolution, &lateral.squeeze, above.as_ref());
            let smooth = &self.smooths[level];
            let smoothed = map.separate(&smooth.depthwise, &smooth.convolution);
            parts.push(smoothed.squeeze(&smooth.squeeze));
            above = Some(map);
        }
        parts
    }
}

/// Grows the map back to the size of the image.
#[derive(Module, Debug)]
struct Head {
    merge: Convolution,
    grow_a: Transposed,
    grow_b: Transposed,
}

impl Head {
    fn load(weights: &mut Weights<'_>, pyramid: usize) -> Result<Self, WeightsError> {
        let narrow = pyramid / 4;
        let grow = |channels_out, activation| TransposedConfig {
            channels_in: narrow,
            channels_out,
            activation,
        };
        Ok(Self {
            merge: ConvolutionConfig::new(pyramid, narrow, 3)
                .activation(Activation::Relu)
                .rounded(Rounding::Coarse)
                .load(weights, "head.merge")?,
            grow_a: grow(narrow, Activation::Relu).load(weights, "head.grow_a")?,
            grow_b: grow(1, Activation::Sigmoid).load(weights, "head.grow_b")?,
        })
    }

    /// # Shapes
    /// - `parts`: the levels of the pyramid, the finest last, `[n, pyramid / levels, h, w]`
    /// - output: `[n, 1, 4 h, 4 w]`
    fn walk<M: FeatureMap>(&self, parts: &[M]) -> M {
        let Some(finest) = parts.last() else {
            unreachable!("a pyramid has levels");
        };
        let height = finest.dims()[2];
        in_bands(height, 4, finest, |lines| {
            let dropped = lines.start.min(1);
            let seen = lines.start - dropped..height.min(lines.end + 1);
            M::concat_lines(parts, seen)
                .convolve_lines(&self.merge, dropped..dropped + lines.len())
                .grow(&self.grow_a)
                .grow(&self.grow_b)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::HostMap;
    use crate::nn::tests::{assert_close, images};

    #[test]
    fn both_walks_give_the_same_map() {
        for mode in Mode::ALL {
            let detector = TextDetector::of(mode, &Device::flex()).unwrap();
            // The last one is made in bands.
            for dims in [[1, 3, 32, 32], [2, 3, 96, 160], [1, 3, 160, 96]] {
                let images = images(dims);
                let host = HostMap::take(&images).unwrap();
                let host = detector.walk(&host).into_rows();
                assert_close(host, detector.walk(&images).into_rows(), 5e-3);
            }
        }
    }
}
