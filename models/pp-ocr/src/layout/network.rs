//! The layout detector: PicoDet with the ten classes of CDLA.

use burn::module::Module;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, s};
use quire_kernels::Rounding;

use crate::nn::{
    Activation, Convolution, ConvolutionConfig, FeatureMap, Input, Separable, SeparableConfig,
    WorkMap,
};
use crate::weights::{Weights, WeightsError};

pub(crate) static CDLA: &[u8] = include_bytes!("../../assets/layout.safetensors");

/// Classes that the detector tells apart.
pub const N_CLASSES: usize = 10;
/// Bins of the distribution over the distance to each side of a box.
pub const N_BINS: usize = 8;
/// Height and width of the image that the detector was trained on.
pub const INPUT_SIZE: [usize; 2] = [800, 608];

const STRIDES: [usize; 4] = [8, 16, 32, 64];
/// Channels of the neck and the heads.
const WIDTH: usize = 128;

/// Output channels, kernel, stride and squeeze of each block of the backbone.
const BLOCKS: [(usize, usize, usize, bool); 13] = [
    (32, 3, 1, false),
    (64, 3, 2, false),
    (64, 3, 1, false),
    (128, 3, 2, false),
    (128, 3, 1, false),
    (256, 3, 2, false),
    (256, 5, 1, false),
    (256, 5, 1, false),
    (256, 5, 1, false),
    (256, 5, 1, false),
    (256, 5, 1, false),
    (512, 5, 2, true),
    (512, 5, 1, true),
];
/// Blocks whose output reaches the neck: strides 8, 16 and 32.
const TAPS: [usize; 3] = [4, 10, 12];

/// Finds the regions of a page. A clone shares the weights.
#[derive(Module, Debug)]
pub struct LayoutDetector {
    backbone: LayoutBackbone,
    neck: Neck,
    heads: Vec<Head>,
}

/// What is found at one scale. Places go row by row.
#[derive(Debug, Clone)]
pub struct LayoutLevel {
    /// `[places, 10]`: probabilities of the classes.
    pub scores: Tensor<2>,
    /// `[places, 32]`: logits over 8 bins of the distances to left, top, right and bottom, in
    /// units of the stride.
    pub boxes: Tensor<2>,
    /// Pixels from one place to the next.
    pub stride: usize,
}

impl LayoutDetector {
    /// Loads the detector from the weights inside the program.
    ///
    /// # Errors
    /// When the embedded weights are damaged.
    pub fn load(device: &Device) -> Result<Self, WeightsError> {
        let mut weights = Weights::open("layout detector", CDLA, device)?;
        let detector = Self {
            backbone: LayoutBackbone::load(&mut weights)?,
            neck: Neck::load(&mut weights)?,
            heads: (0..STRIDES.len())
                .map(|level| Head::load(&mut weights, level))
                .collect::<Result<_, _>>()?,
        };
        weights.finish()?;
        Ok(detector)
    }

    /// # Shapes
    /// - `image`: `[1, 3, 800, 608]`
    /// - output: levels of 100x76, 50x38, 25x19 and 13x10 places
    ///
    /// # Panics
    /// When the shape is another one.
    pub fn forward(&self, image: Tensor<4>) -> [LayoutLevel; 4] {
        self.levels(image.into())
    }

    /// As [`Self::forward`].
    pub(crate) fn levels(&self, image: Input) -> [LayoutLevel; 4] {
        let [height, width] = INPUT_SIZE;
        assert!(
            image.dims() == [1, 3, height, width],
            "the layout detector wants [1, 3, {height}, {width}], not {:?}",
            image.dims(),
        );
        let predictions = match image {
            Input::Host(image) => self.predict(&image),
            Input::Device(image) => self.predict(&image),
        };
        let mut levels = predictions.into_iter().zip(STRIDES);
        std::array::from_fn(|_| match levels.next() {
            Some((prediction, stride)) => LayoutLevel {
                scores: sigmoid(prediction.clone().slice(s![.., ..N_CLASSES])),
                boxes: prediction.slice(s![.., N_CLASSES..]),
                stride,
            },
            None => unreachable!("there are as many heads as strides"),
        })
    }

    /// What [`Self::forward`] multiplies and adds.
    pub fn multiply_adds(&self) -> u64 {
        let [height, width] = INPUT_SIZE;
        WorkMap::count([1, 3, height, width], |image| self.walk(image))
    }

    /// # Shapes
    /// - output: `[places, classes + 4 * bins]` of each level
    fn predict<M: FeatureMap>(&self, image: &M) -> Vec<Tensor<2>> {
        self.walk(image).into_iter().map(M::into_rows).collect()
    }

    fn walk<M: FeatureMap>(&self, image: &M) -> Vec<M> {
        let levels = self.neck.walk(self.backbone.walk(image));
        self.heads
            .iter()
            .zip(levels)
            .map(|(head, map)| head.walk(map))
            .collect()
    }
}

#[derive(Module, Debug)]
struct LayoutBackbone {
    stem: Convolution,
    blocks: Vec<Separable>,
}

impl LayoutBackbone {
    fn load(weights: &mut Weights<'_>) -> Result<Self, WeightsError> {
        let mut channels = 16;
        let stem = ConvolutionConfig::new(3, channels, 3)
            .stride([2, 2])
            .activation(Activation::HardSwish)
            .load(weights, "backbone.stem")?;
        let mut blocks = Vec::new();
        for (index, (channels_out, kernel, stride, has_squeeze)) in BLOCKS.into_iter().enumerate() {
            let config = SeparableConfig {
                channels_in: channels,
                channels_out,
                kernel,
                stride,
                has_squeeze,
            };
            blocks.push(config.load(weights, &format!("backbone.blocks.{index}"))?);
            channels = channels_out;
        }
        Ok(Self { stem, blocks })
    }

    fn walk<M: FeatureMap>(&self, image: &M) -> Vec<M> {
        let mut map = image.convolve(&self.stem);
        let mut taps = Vec::with_capacity(TAPS.len());
        for (index, block) in self.blocks.iter().enumerate() {
            map = block.walk(&map);
            if TAPS.contains(&index) {
                taps.push(map.clone());
            }
        }
        taps
    }
}

/// A path aggregation network: down from the coarsest level, then up again, and one level more.
#[derive(Module, Debug)]
struct Neck {
    reduce: Vec<Convolution>,
    top_down: Vec<CrossStage>,
    down: Vec<Separable>,
    bottom_up: Vec<CrossStage>,
    extra_input: Separable,
    extra_output: Separable,
}

impl Neck {
    fn load(weights: &mut Weights<'_>) -> Result<Self, WeightsError> {
        let mut reduce = Vec::new();
        for (level, tap) in TAPS.into_iter().enumerate() {
            let layer = ConvolutionConfig::new(BLOCKS[tap].0, WIDTH, 1)
                .activation(Activation::HardSwish)
                .rounded(Rounding::Fine)
                .load(weights, &format!("neck.reduce.{level}"))?;
            reduce.push(layer);
        }
        let mut cross_stages = |way: &str| {
            (0..2)
                .map(|step| CrossStage::load(weights, &format!("neck.{way}.{step}")))
                .collect::<Result<Vec<_>, _>>()
        };
        let top_down = cross_stages("top_down")?;
        let bottom_up = cross_stages("bottom_up")?;
        let mut down = |name: &str| separable(WIDTH, 2).load(weights, &format!("neck.{name}"));
        Ok(Self {
            reduce,
            top_down,
            down: vec![down("down.0")?, down("down.1")?],
            bottom_up,
            extra_input: down("extra_input")?,
            extra_output: down("extra_output")?,
        })
    }

    /// # Shapes
    /// - `taps`: strides 8, 16 and 32
    /// - output: `[1, 128, h, w]` at strides 8, 16, 32 and 64
    fn walk<M: FeatureMap>(&self, taps: Vec<M>) -> Vec<M> {
        let reduced: Vec<M> = taps
            .iter()
            .zip(&self.reduce)
            .map(|(tap, layer)| tap.convolve(layer))
            .collect();
        let middle = self.top_down[0].walk([reduced[2].clone(), reduced[1].clone()]);
        let fine = self.top_down[1].walk([middle.clone(), reduced[0].clone()]);
        let middle = self.bottom_up[0].walk([self.down[0].walk(&fine), middle]);
        let coarse = self.bottom_up[1].walk([self.down[1].walk(&middle), reduced[2].clone()]);
        let extra = self
            .extra_input
            .walk(&reduced[2])
            .add(&self.extra_output.walk(&coarse));
        vec![fine, middle, coarse, extra]
    }
}

/// A 5x5 separable convolution that keeps its channels.
fn separable(channels: usize, stride: usize) -> SeparableConfig {
    SeparableConfig {
        channels_in: channels,
        channels_out: channels,
        kernel: 5,
        stride,
        has_squeeze: false,
    }
}

/// Joins two maps: half of the channels go through a bottleneck, half go straight.
#[derive(Module, Debug)]
struct CrossStage {
    short: Convolution,
    main: Convolution,
    enter: Convolution,
    middle: Separable,
    leave: Convolution,
}

impl CrossStage {
    fn load(weights: &mut Weights<'_>, name: &str) -> Result<Self, WeightsError> {
        let half = WIDTH / 2;
        let mut layer = |part: &str, channels_in, channels_out| {
            ConvolutionConfig::new(channels_in, channels_out, 1)
                .activation(Activation::HardSwish)
                .rounded(Rounding::Fine)
                .load(weights, &format!("{name}.{part}"))
        };
        Ok(Self {
            short: layer("short", 2 * WIDTH, half)?,
            main: layer("main", 2 * WIDTH, half)?,
            enter: layer("enter", half, half)?,
            leave: layer("leave", WIDTH, WIDTH)?,
            middle: separable(half, 1).load(weights, &format!("{name}.middle"))?,
        })
    }

    /// The smaller of two inputs is repeated to the size of the other.
    fn walk<M: FeatureMap>(&self, inputs: [M; 2]) -> M {
        let joined = M::concat(&inputs);
        let main = self
            .middle
            .walk(&joined.convolve(&self.main).convolve(&self.enter));
        M::concat(&[main, joined.convolve(&self.short)]).convolve(&self.leave)
    }
}

/// Classes and boxes of one level.
#[derive(Module, Debug)]
struct Head {
    layers: Vec<Separable>,
    predict: Convolution,
}

impl Head {
    fn load(weights: &mut Weights<'_>, level: usize) -> Result<Self, WeightsError> {
        let mut layers = Vec::new();
        for layer in 0..4 {
            let name = format!("heads.{level}.layers.{layer}");
            layers.push(separable(WIDTH, 1).load(weights, &name)?);
        }
        let predict = ConvolutionConfig::new(WIDTH, N_CLASSES + 4 * N_BINS, 1)
            .load(weights, &format!("heads.{level}.predict"))?;
        Ok(Self { layers, predict })
    }

    fn walk<M: FeatureMap>(&self, mut map: M) -> M {
        for layer in &self.layers {
            map = layer.walk(&map);
        }
        map.convolve(&self.predict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::HostMap;
    use crate::nn::tests::{assert_close, images};

    #[test]
    fn both_walks_give_the_same_predictions() {
        let detector = LayoutDetector::load(&Device::flex()).unwrap();
        // Sizes that halve to odd ones, as those of a page do.
        let image = images([1, 3, 160, 96]);
        let host = HostMap::take(&image).unwrap();
        let host = detector.predict(&host);
        for (host, tensor) in host.into_iter().zip(detector.predict(&image)) {
            assert_close(host, tensor, 5e-2);
        }
    }
}
