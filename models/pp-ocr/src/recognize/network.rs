//! The recognizer: a backbone that keeps the width, a transformer neck and a CTC head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use quire_kernels::Rounding;

use super::neck::{AttentiveConfig, Neck, NeckConfig};
use super::pitch::Pitch;
use crate::mode::Mode;
use crate::nn::{
    Backbone, BackboneConfig, Convolution, ConvolutionConfig, FeatureMap, Input, StageConfig,
    StemConfig, WorkMap,
};
use crate::weights::{Weights, WeightsError};

static SMALL: &[u8] = include_bytes!("../../assets/recognizer.safetensors");
static SMALL_CHARSET: &str = include_str!("../../assets/charset.txt");
static TINY: &[u8] = include_bytes!("../../assets/tiny-recognizer.safetensors");
static TINY_CHARSET: &str = include_str!("../../assets/tiny-charset.txt");

/// Weights of the recognizer of a mode.
pub(crate) fn weights_of(mode: Mode) -> &'static [u8] {
    match mode {
        Mode::Small => SMALL,
        Mode::Tiny => TINY,
    }
}

/// Characters of the recognizer of a mode, one a line.
pub(crate) fn charset_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Small => SMALL_CHARSET,
        Mode::Tiny => TINY_CHARSET,
    }
}

/// Configuration of a [`TextRecognizer`].
#[derive(Debug, Clone)]
pub struct TextRecognizerConfig {
    backbone: BackboneConfig,
    neck: NeckConfig,
    /// Channels that leave the neck.
    channels: usize,
    pitch: Pitch,
}

impl TextRecognizerConfig {
    /// PP-OCRv6 small, 5.27 million parameters.
    pub fn small() -> Self {
        let stages = vec![
            stage(96, &[true, false, false]),
            stage(192, &[true, false, true, false, true, false]),
            stage(384, &[true, false]),
        ];
        Self {
            backbone: BackboneConfig {
                stem: StemConfig::Forked(48),
                stages,
            },
            neck: NeckConfig::Attentive(AttentiveConfig {
                n_heads: 8,
                n_blocks: 2,
            }),
            channels: 120,
            pitch: Pitch::SMALL,
        }
    }

    /// PP-OCRv6 tiny, 1.1 million parameters.
    pub fn tiny() -> Self {
        let stages = vec![
            stage(48, &[true, false]),
            stage(96, &[true, false]),
            stage(160, &[true, false, false]),
        ];
        Self {
            backbone: BackboneConfig {
                stem: StemConfig::Plain(24),
                stages,
            },
            neck: NeckConfig::Local,
            channels: 80,
            pitch: Pitch::TINY,
        }
    }

    /// Builds the network with weights in the format of `reference/convert.py`. `charset` has one
    /// character a line.
    ///
    /// # Errors
    /// When the weights are not exactly those of this configuration and charset.
    pub fn load(
        &self,
        bytes: &[u8],
        charset: &'static str,
        device: &Device,
    ) -> Result<TextRecognizer, WeightsError> {
        let mut weights = Weights::open("text recognizer", bytes, device)?;
        // Blank comes before the characters and the space after them.
        let n_classes = charset.lines().count() + 2;
        let recognizer = TextRecognizer {
            backbone: self.backbone.load(&mut weights)?,
            neck: self.load_neck(&mut weights)?,
            head: ConvolutionConfig::new(self.channels, n_classes, 1)
                .rounded(Rounding::Coarse)
                .load(&mut weights, "head")?,
            charset,
            pitch: self.pitch,
        };
        weights.finish()?;
        Ok(recognizer)
    }

    fn load_neck(&self, weights: &mut Weights<'_>) -> Result<Neck, WeightsError> {
        let last = self.backbone.stages.last();
        let channels_in = last.map_or(0, |stage| stage.channels);
        self.neck.load(weights, channels_in, self.channels)
    }
}

/// A stage that halves the height and keeps the width.
fn stage(channels: usize, squeezes: &[bool]) -> StageConfig {
    StageConfig {
        channels,
        stride: [2, 1],
        squeezes: squeezes.to_vec(),
    }
}

/// Reads lines of text. A clone shares the weights.
#[derive(Module, Debug)]
pub struct TextRecognizer {
    backbone: Backbone,
    neck: Neck,
    head: Convolution,
    #[module(skip)]
    charset: &'static str,
    #[module(skip)]
    pub(super) pitch: Pitch,
}

/// What the recognizer takes a step of a line for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The likeliest class: 0 is blank, then the characters of [`TextRecognizer::charset`].
    pub class: usize,
    /// Its probability.
    pub probability: f32,
}

impl TextRecognizer {
    /// Loads PP-OCRv6 small from the weights inside the program.
    ///
    /// # Errors
    /// When the embedded weights are damaged.
    pub fn load(device: &Device) -> Result<Self, WeightsError> {
        Self::of(Mode::Small, device)
    }

    /// Loads the recognizer of a mode from the weights inside the program.
    ///
    /// # Errors
    /// When the embedded weights are damaged.
    pub fn of(mode: Mode, device: &Device) -> Result<Self, WeightsError> {
        let config = match mode {
            Mode::Small => TextRecognizerConfig::small(),
            Mode::Tiny => TextRecognizerConfig::tiny(),
        };
        config.load(weights_of(mode), charset_of(mode), device)
    }

    /// By how much lines are narrowed before anything is known of their page.
    pub fn first_squeeze(&self) -> f32 {
        self.pitch.first
    }

    /// The characters in the order of their classes, which start at 1; the last is the space.
    pub fn charset(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.charset.lines().chain([" "])
    }

    /// Gives logits, that is values before the softmax over classes.
    ///
    /// # Shapes
    /// - `lines`: `[n, 3, 48, w]`, w a multiple of 8
    /// - output: `[n, w / 8, classes]`
    ///
    /// # Panics
    /// When the shape is another one.
    pub fn forward(&self, lines: Tensor<4>) -> Tensor<3> {
        let [batch, n_steps] = check(lines.dims());
        let logits = match Input::from(lines) {
            Input::Host(lines) => self.features(&lines).convolve(&self.head).into_rows(),
            Input::Device(lines) => self.features(&lines).convolve(&self.head).into_rows(),
        };
        let [_, n_classes] = logits.dims();
        logits.reshape([batch, n_steps, n_classes])
    }

    /// Gives the likeliest class of every step of every line, and never holds all logits.
    ///
    /// # Shapes
    /// - `lines`: `[n, 3, 48, w]`, w a multiple of 8
    /// - output: n times w / 8 steps
    ///
    /// # Panics
    /// When the shape is another one.
    pub fn steps(&self, lines: Tensor<4>) -> Vec<Vec<Step>> {
        self.steps_of(lines.into())
    }

    /// As [`Self::steps`].
    pub(crate) fn steps_of(&self, lines: Input) -> Vec<Vec<Step>> {
        let [batch, n_steps] = check(lines.dims());
        let likeliest = match lines {
            Input::Host(lines) => self.features(&lines).likeliest(&self.head),
            Input::Device(lines) => self.features(&lines).likeliest(&self.head),
        };
        let step = |&(class, probability): &(usize, f32)| Step { class, probability };
        (0..batch)
            .map(|line| {
                likeliest[line * n_steps..][..n_steps]
                    .iter()
                    .map(step)
                    .collect()
            })
            .collect()
    }

    /// What [`Self::steps`] multiplies and adds for lines of this size.
    pub fn multiply_adds(&self, dims: [usize; 4]) -> u64 {
        WorkMap::count(dims, |lines| self.features(lines).likeliest(&self.head))
    }

    /// # Shapes
    /// - output: `[n, channels, 1, w / 8]`
    fn features<M: FeatureMap>(&self, lines: &M) -> M {
        match self.backbone.walk(lines).pop() {
            Some(map) => self.neck.walk(map),
            None => unreachable!("a backbone has stages"),
        }
    }
}

/// Checks the shape of a batch and gives the number of lines and of steps.
fn check(dims: [usize; 4]) -> [usize; 2] {
    let [batch, channels, height, width] = dims;
    assert!(
        channels == 3 && height == 48 && width % 8 == 0 && width > 0,
        "the recognizer wants [n, 3, 48, w] with w a multiple of 8, not {dims:?}",
    );
    [batch, width / 8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::HostMap;
    use crate::nn::tests::{assert_close, images, tolerance};

    #[test]
    fn both_walks_see_the_same_features() {
        for mode in Mode::ALL {
            let recognizer = TextRecognizer::of(mode, &Device::flex()).unwrap();
            for dims in [[1, 3, 48, 8], [3, 3, 48, 200], [1, 3, 48, 1000]] {
                let lines = images(dims);
                let host = HostMap::take(&lines).unwrap();
                let host = recognizer.features(&host).into_rows();
                // Features go from about -5 to 5, and values are rounded along thirty layers.
                // In bf16 the worst of the tiny network, on noise, was off by 0.5.
                let tolerance = tolerance(1e-1, 1.0);
                assert_close(host, recognizer.features(&lines).into_rows(), tolerance);
            }
        }
    }

    #[test]
    fn both_walks_read_the_same_classes() {
        let recognizer = TextRecognizer::load(&Device::flex()).unwrap();
        let lines = images([2, 3, 48, 160]);
        let host = HostMap::take(&lines).unwrap();
        let host = recognizer.features(&host).likeliest(&recognizer.head);
        let tensor = recognizer.features(&lines).likeliest(&recognizer.head);
        assert_eq!(host.len(), tensor.len());
        for (host, tensor) in host.iter().zip(&tensor) {
            let difference = (host.1 - tensor.1).abs();
            assert!(difference < tolerance(1e-2, 8e-2), "{host:?} {tensor:?}");
            assert!(host.0 == tensor.0 || host.1 < 0.5, "{host:?} {tensor:?}");
        }
    }

    #[test]
    fn threads_share_one_set_of_weights() {
        let recognizer = TextRecognizer::load(&Device::flex()).unwrap();
        let copy = recognizer.clone();
        let (one, other) = (recognizer.head.packed.unwrap(), copy.head.packed.unwrap());
        assert!(std::sync::Arc::ptr_eq(&one, &other));
    }
}
