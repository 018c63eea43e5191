//! The recognizer: a backbone that keeps the width, a transformer neck and a CTC head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::nn::{
    Activation, Backbone, BackboneConfig, Convolution, ConvolutionConfig, Depthwise,
    DepthwiseConfig, FeatureMap, HostMap, LayerNorm, StageConfig, Transformer, TransformerConfig,
};
use crate::weights::{Weights, WeightsError};

pub(crate) static SMALL: &[u8] = include_bytes!("../../assets/recognizer.safetensors");
pub(crate) static SMALL_CHARSET: &str = include_str!("../../assets/charset.txt");

/// Configuration of a [`TextRecognizer`].
#[derive(Debug, Clone)]
pub struct TextRecognizerConfig {
    backbone: BackboneConfig,
    /// Channels of the neck.
    channels: usize,
    n_heads: usize,
    n_blocks: usize,
}

impl TextRecognizerConfig {
    /// PP-OCRv6 small, 5.27 million parameters.
    pub fn small() -> Self {
        let stage = |channels, squeezes: &[bool]| StageConfig {
            channels,
            stride: [2, 1],
            squeezes: squeezes.to_vec(),
        };
        let stages = vec![
            stage(96, &[true, false, false]),
            stage(192, &[true, false, true, false, true, false]),
            stage(384, &[true, false]),
        ];
        let backbone = BackboneConfig { stem: 48, stages };
        Self {
            backbone,
            channels: 120,
            n_heads: 8,
            n_blocks: 2,
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
            neck: Neck::load(&mut weights, self)?,
            head: ConvolutionConfig::new(self.channels, n_classes, 1)
                .rounded()
                .load(&mut weights, "head")?,
            charset,
        };
        weights.finish()?;
        Ok(recognizer)
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
        TextRecognizerConfig::small().load(SMALL, SMALL_CHARSET, device)
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
        let [batch, n_steps] = check(&lines);
        let logits = match HostMap::take(&lines) {
            Some(lines) => self.features(&lines).convolve(&self.head).into_rows(),
            None => self.features(&lines).convolve(&self.head).into_rows(),
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
        let [batch, n_steps] = check(&lines);
        let likeliest = match HostMap::take(&lines) {
            Some(lines) => self.features(&lines).likeliest(&self.head),
            None => self.features(&lines).likeliest(&self.head),
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
fn check(lines: &Tensor<4>) -> [usize; 2] {
    let [batch, channels, height, width] = lines.dims();
    assert!(
        channels == 3 && height == 48 && width % 8 == 0 && width > 0,
        "the recognizer wants [n, 3, 48, w] with w a multiple of 8, not {:?}",
        lines.dims(),
    );
    [batch, width / 8]
}

/// Turns the last map into a sequence and lets its steps see each other.
#[derive(Module, Debug)]
struct Neck {
    skip: Convolution,
    reduce: Convolution,
    local: Depthwise,
    blocks: Vec<Transformer>,
    norm: LayerNorm,
}

impl Neck {
    fn load(
        weights: &mut Weights<'_>,
        config: &TextRecognizerConfig,
    ) -> Result<Self, WeightsError> {
        let channels = config.channels;
        let channels_in = config
            .backbone
            .stages
            .last()
            .map_or(0, |stage| stage.channels);
        let mut linear = |name: &str| {
            ConvolutionConfig::new(channels_in, channels, 1)
                .activation(Activation::Swish)
                .load(weights, &format!("neck.{name}"))
        };
        let skip = linear("skip")?;
        let reduce = linear("reduce")?;
        let local = DepthwiseConfig {
            kernel: [1, 7],
            ..DepthwiseConfig::new(channels, 7)
        }
        .activation(Activation::Swish)
        .load(weights, "neck.local")?;
        let block = TransformerConfig {
            channels,
            n_heads: config.n_heads,
            wide: 2 * channels,
        };
        let blocks = (0..config.n_blocks)
            .map(|index| block.load(weights, &format!("neck.blocks.{index}")))
            .collect::<Result<_, _>>()?;
        // The published graph has a finer epsilon here than inside the blocks.
        let norm = LayerNorm::load(weights, "neck.norm", channels, 1e-6)?;
        Ok(Self {
            skip,
            reduce,
            local,
            blocks,
            norm,
        })
    }

    /// # Shapes
    /// - `map`: `[n, c, 3, w]`
    /// - output: `[n, channels, 1, w / 2]`
    fn walk<M: FeatureMap>(&self, map: M) -> M {
        let pooled = map.mean_pool([3, 2]);
        let skipped = pooled.convolve(&self.skip);
        let reduced = pooled.convolve(&self.reduce);
        let local = reduced.depthwise(&self.local);
        let mut sequence = reduced.add(&local);
        for block in &self.blocks {
            sequence = block.walk(sequence);
        }
        sequence.normalize(&self.norm).add(&skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::tests::{assert_close, images};

    #[test]
    fn both_walks_see_the_same_features() {
        let recognizer = TextRecognizer::load(&Device::flex()).unwrap();
        for dims in [[1, 3, 48, 8], [3, 3, 48, 200], [1, 3, 48, 1000]] {
            let lines = images(dims);
            let host = HostMap::take(&lines).unwrap();
            let host = recognizer.features(&host).into_rows();
            // Features go from about -5 to 5, and fixed point rounds along thirty layers.
            assert_close(host, recognizer.features(&lines).into_rows(), 6e-2);
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
            assert!((host.1 - tensor.1).abs() < 1e-2, "{host:?} {tensor:?}");
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
