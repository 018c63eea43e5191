//! The angle classifier: whether a line of text stands upright or upside down.

use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

use crate::nn::{
    Activation, Convolution, ConvolutionConfig, Depthwise, DepthwiseConfig, FeatureMap, Input,
    Squeeze, SqueezeConfig, WorkMap,
};
use crate::weights::{Weights, WeightsError};

pub(crate) static MOBILE: &[u8] = include_bytes!("../../assets/classifier.safetensors");

/// One inverted residual block.
#[derive(Debug, Clone, Copy)]
struct BlockConfig {
    wide: usize,
    channels_out: usize,
    kernel: usize,
    stride: [usize; 2],
    has_squeeze: bool,
    activation: Activation,
}

/// The published classifier, 0.13 million parameters.
fn blocks() -> Vec<BlockConfig> {
    let small = |wide, stride, has_squeeze| BlockConfig {
        wide,
        channels_out: 8,
        kernel: 3,
        stride,
        has_squeeze,
        activation: Activation::Relu,
    };
    let large = |wide, channels_out, stride| BlockConfig {
        wide,
        channels_out,
        kernel: 5,
        stride,
        has_squeeze: true,
        activation: Activation::HardSwish,
    };
    vec![
        small(8, [2, 1], true),
        small(24, [2, 1], false),
        small(32, [1, 1], false),
        large(32, 16, [2, 1]),
        large(88, 16, [1, 1]),
        large(88, 16, [1, 1]),
        large(40, 16, [1, 1]),
        large(48, 16, [1, 1]),
        large(104, 32, [2, 1]),
        large(200, 32, [1, 1]),
        large(200, 32, [1, 1]),
    ]
}

/// Tells lines that stand upright from lines that are upside down. A clone shares the weights.
#[derive(Module, Debug)]
pub struct AngleClassifier {
    stem: Convolution,
    blocks: Vec<Block>,
    last: Convolution,
    head: Convolution,
}

impl AngleClassifier {
    /// Loads the classifier from the weights inside the program.
    ///
    /// # Errors
    /// When the embedded weights are damaged.
    pub fn load(device: &Device) -> Result<Self, WeightsError> {
        let mut weights = Weights::open("angle classifier", MOBILE, device)?;
        let mut channels = 8;
        let stem = ConvolutionConfig::new(3, channels, 3)
            .stride([2, 2])
            .activation(Activation::HardSwish)
            .load(&mut weights, "stem")?;
        let mut loaded = Vec::new();
        for (index, block) in blocks().into_iter().enumerate() {
            loaded.push(Block::load(
                &mut weights,
                &format!("blocks.{index}"),
                channels,
                block,
            )?);
            channels = block.channels_out;
        }
        let classifier = Self {
            stem,
            blocks: loaded,
            last: ConvolutionConfig::new(channels, 200, 1)
                .activation(Activation::HardSwish)
                .load(&mut weights, "last")?,
            head: ConvolutionConfig::new(200, 2, 1).load(&mut weights, "head")?,
        };
        weights.finish()?;
        Ok(classifier)
    }

    /// Gives the probabilities of 0 and of 180 degrees.
    ///
    /// # Shapes
    /// - `lines`: `[n, 3, 48, 192]`
    /// - output: `[n, 2]`
    ///
    /// # Panics
    /// When the shape is another one.
    pub fn forward(&self, lines: Tensor<4>) -> Tensor<2> {
        self.angles(lines.into())
    }

    /// As [`Self::forward`].
    pub(crate) fn angles(&self, lines: Input) -> Tensor<2> {
        let [_, channels, height, width] = lines.dims();
        assert!(
            [channels, height, width] == [3, 48, 192],
            "the angle classifier wants [n, 3, 48, 192], not {:?}",
            lines.dims(),
        );
        let logits = match lines {
            Input::Host(lines) => self.walk(&lines).into_rows(),
            Input::Device(lines) => self.walk(&lines).into_rows(),
        };
        softmax(logits, 1)
    }

    /// What [`Self::forward`] multiplies and adds for lines of this size.
    pub fn multiply_adds(&self, dims: [usize; 4]) -> u64 {
        WorkMap::count(dims, |lines| self.walk(lines))
    }

    fn walk<M: FeatureMap>(&self, lines: &M) -> M {
        let mut map = lines.convolve(&self.stem);
        for block in &self.blocks {
            map = block.walk(&map);
        }
        map.convolve(&self.last)
            .max_pool()
            .mean()
            .convolve(&self.head)
    }
}

#[derive(Module, Debug)]
struct Block {
    expand: Convolution,
    depthwise: Depthwise,
    squeeze: Option<Squeeze>,
    project: Convolution,
    is_residual: bool,
}

impl Block {
    fn load(
        weights: &mut Weights<'_>,
        name: &str,
        channels_in: usize,
        config: BlockConfig,
    ) -> Result<Self, WeightsError> {
        let BlockConfig {
            wide,
            channels_out,
            kernel,
            stride,
            has_squeeze,
            activation,
        } = config;
        let squeeze = SqueezeConfig {
            channels: wide,
            slope: 0.2,
            is_residual: false,
        };
        Ok(Self {
            expand: ConvolutionConfig::new(channels_in, wide, 1)
                .activation(activation)
                .load(weights, &format!("{name}.expand"))?,
            depthwise: DepthwiseConfig::new(wide, kernel)
                .stride(stride)
                .activation(activation)
                .load(weights, &format!("{name}.depthwise"))?,
            squeeze: match has_squeeze {
                true => Some(squeeze.load(weights, name)?),
                false => None,
            },
            project: ConvolutionConfig::new(wide, channels_out, 1)
                .load(weights, &format!("{name}.project"))?,
            is_residual: channels_in == channels_out && stride == [1, 1],
        })
    }

    fn walk<M: FeatureMap>(&self, map: &M) -> M {
        let wide = map.convolve(&self.expand).depthwise(&self.depthwise);
        let wide = match &self.squeeze {
            Some(squeeze) => wide.squeeze(squeeze),
            None => wide,
        };
        let output = wide.convolve(&self.project);
        match self.is_residual {
            true => output.add(map),
            false => output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::HostMap;
    use crate::nn::tests::{assert_close, images};

    #[test]
    fn both_walks_give_the_same_logits() {
        let classifier = AngleClassifier::load(&Device::flex()).unwrap();
        let lines = images([3, 3, 48, 192]);
        let host = HostMap::take(&lines).unwrap();
        assert_close(
            classifier.walk(&host).into_rows(),
            classifier.walk(&lines).into_rows(),
            1e-3,
        );
    }
}
