//! Convolutions with their bias and activation: dense, depthwise, transposed.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use quire_kernels::{DepthwiseKernel, DepthwiseShape, PackedMatrix, Rounding, Vectors};

use super::Activation;
use super::host::is_host;
use crate::weights::{Weights, WeightsError};

/// Configuration of a [`Convolution`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvolutionConfig {
    pub(crate) channels_in: usize,
    pub(crate) channels_out: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Zeros before and after, of height and of width.
    pub(crate) padding: [(usize, usize); 2],
    pub(crate) has_bias: bool,
    pub(crate) rounding: Rounding,
    pub(crate) activation: Activation,
}

impl ConvolutionConfig {
    /// A square kernel at stride 1 that keeps the size; an even kernel pads right and bottom.
    pub(crate) fn new(channels_in: usize, channels_out: usize, kernel: usize) -> Self {
        let padding = ((kernel - 1) / 2, kernel / 2);
        Self {
            channels_in,
            channels_out,
            kernel: [kernel; 2],
            stride: [1, 1],
            padding: [padding; 2],
            has_bias: true,
            rounding: Rounding::None,
            activation: Activation::Identity,
        }
    }

    pub(crate) fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    pub(crate) fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Allows rounding.
    pub(crate) fn rounded(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    pub(crate) fn without_bias(self) -> Self {
        Self {
            has_bias: false,
            ..self
        }
    }

    pub(crate) fn load(
        self,
        weights: &mut Weights<'_>,
        name: &str,
    ) -> Result<Convolution, WeightsError> {
        let shape = [
            self.channels_out,
            self.channels_in,
            self.kernel[0],
            self.kernel[1],
        ];
        let kernel = weights.take_kernel(name, shape)?;
        let bias = match self.has_bias {
            true => Some(weights.take(&format!("{name}.bias"), &[self.channels_out])?),
            false => None,
        };
        let bias_at = |output: usize| bias.as_ref().map_or(0.0, |bias| bias[output]);
        let packed = is_host(weights.device()).then(|| Arc::new(self.pack(&kernel, bias_at)));
        Ok(Convolution {
            weight: weights.parameter(&kernel, shape),
            bias: bias
                .as_ref()
                .map(|bias| weights.parameter(bias, [self.channels_out])),
            config: self,
            packed,
        })
    }
}

impl ConvolutionConfig {
    /// The kernel as a matrix whose inputs are rows, columns and channels of a patch, in this order.
    fn pack(&self, kernel: &[f32], bias: impl Fn(usize) -> f32) -> PackedMatrix {
        let taps = self.kernel[0] * self.kernel[1];
        let weight = |input: usize, output: usize| {
            let (tap, channel) = (input / self.channels_in, input % self.channels_in);
            kernel[(output * self.channels_in + channel) * taps + tap]
        };
        PackedMatrix::in_pieces(
            Vectors::chosen(),
            [taps * self.channels_in, self.channels_out],
            self.kernel[0],
            weight,
            bias,
            self.rounding,
        )
    }
}

/// A dense convolution. A 1x1 kernel is also what a linear layer is here.
#[derive(Module, Debug)]
pub(crate) struct Convolution {
    /// `[channels_out, channels_in, height, width]`
    pub(crate) weight: Param<Tensor<4>>,
    /// `[channels_out]`
    pub(crate) bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    pub(crate) config: ConvolutionConfig,
    /// For the walk in host memory.
    #[module(skip)]
    pub(crate) packed: Option<Arc<PackedMatrix>>,
}

/// Configuration of a [`Depthwise`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct DepthwiseConfig {
    pub(crate) channels: usize,
    /// Odd sizes; the padding keeps the size at stride 1.
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) activation: Activation,
}

impl DepthwiseConfig {
    /// A square kernel at stride 1.
    pub(crate) fn new(channels: usize, kernel: usize) -> Self {
        let activation = Activation::Identity;
        Self {
            channels,
            kernel: [kernel; 2],
            stride: [1, 1],
            activation,
        }
    }

    pub(crate) fn stride(self, stride: [usize; 2]) -> Self {
        Self { stride, ..self }
    }

    pub(crate) fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    pub(crate) fn shape(&self) -> DepthwiseShape {
        DepthwiseShape {
            channels: self.channels,
            kernel: self.kernel,
            stride: self.stride,
        }
    }

    /// Zeros on each side of height and of width.
    pub(crate) fn padding(&self) -> [usize; 2] {
        self.shape().padding()
    }

    pub(crate) fn load(
        self,
        weights: &mut Weights<'_>,
        name: &str,
    ) -> Result<Depthwise, WeightsError> {
        let shape = [self.channels, 1, self.kernel[0], self.kernel[1]];
        let kernel = weights.take_kernel(name, shape)?;
        let bias = weights.take(&format!("{name}.bias"), &[self.channels])?;
        let pack = || DepthwiseKernel::new(Vectors::chosen(), self.shape(), &kernel, &bias);
        let packed = is_host(weights.device()).then(|| Arc::new(pack()));
        Ok(Depthwise {
            weight: weights.parameter(&kernel, shape),
            bias: weights.parameter(&bias, [self.channels]),
            config: self,
            packed,
        })
    }
}

/// A convolution of each channel with a kernel of its own.
#[derive(Module, Debug)]
pub(crate) struct Depthwise {
    /// `[channels, 1, height, width]`
    pub(crate) weight: Param<Tensor<4>>,
    /// `[channels]`
    pub(crate) bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) config: DepthwiseConfig,
    /// For the walk in host memory.
    #[module(skip)]
    pub(crate) packed: Option<Arc<DepthwiseKernel>>,
}

/// Configuration of a [`Transposed`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransposedConfig {
    pub(crate) channels_in: usize,
    pub(crate) channels_out: usize,
    pub(crate) activation: Activation,
}

impl TransposedConfig {
    pub(crate) fn load(
        self,
        weights: &mut Weights<'_>,
        name: &str,
    ) -> Result<Transposed, WeightsError> {
        let shape = [self.channels_in, self.channels_out, 2, 2];
        let kernel = weights.take_kernel(name, shape)?;
        let bias = weights.take(&format!("{name}.bias"), &[self.channels_out])?;
        let pack = || Arc::new([0, 1].map(|line| self.pack(&kernel, &bias, line)));
        let packed = is_host(weights.device()).then(pack);
        Ok(Transposed {
            weight: weights.parameter(&kernel, shape),
            bias: weights.parameter(&bias, [self.channels_out]),
            config: self,
            packed,
        })
    }
}

impl TransposedConfig {
    /// A line of the kernel as a matrix whose outputs are columns and channels of its two pixels.
    fn pack(&self, kernel: &[f32], bias: &[f32], line: usize) -> PackedMatrix {
        let weight = |input: usize, output: usize| {
            let (tap, channel) = (output / self.channels_out, output % self.channels_out);
            kernel[(input * self.channels_out + channel) * 4 + 2 * line + tap]
        };
        let bias = |output: usize| bias[output % self.channels_out];
        let shape = [self.channels_in, 2 * self.channels_out];
        PackedMatrix::new(Vectors::chosen(), shape, weight, bias, Rounding::Coarse)
    }
}

/// A transposed convolution with a 2x2 kernel and stride 2: every pixel becomes four.
#[derive(Module, Debug)]
pub(crate) struct Transposed {
    /// `[channels_in, channels_out, 2, 2]`
    pub(crate) weight: Param<Tensor<4>>,
    /// `[channels_out]`
    pub(crate) bias: Param<Tensor<1>>,
    #[module(skip)]
    pub(crate) config: TransposedConfig,
    /// For the walk in host memory, the upper line and the lower one.
    #[module(skip)]
    pub(crate) packed: Option<Arc<[PackedMatrix; 2]>>,
}
