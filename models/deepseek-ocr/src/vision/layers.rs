//! What the towers are made of, and where it comes from.

use burn::tensor::activation::{gelu, sigmoid, silu};
use burn::tensor::module::{layer_norm, linear};
use burn::tensor::{DType, Device, Tensor, TensorData};
pub(super) use quire_kernels::Activation;

use super::host::PackedMatrix;
use crate::weights::{CheckpointError, Weights};

/// Where values of tensors come from.
pub(super) enum Source<'w> {
    Checkpoint(&'w mut Weights),
    /// Noise in sensible ranges, to time a network that nobody has.
    Noise(Noise),
}

/// Takes tensors by name and puts them on a device.
pub(super) struct Loader<'a, 'w> {
    source: &'a mut Source<'w>,
    pub(super) device: &'a Device,
    pub(super) dtype: DType,
    /// Whether the host's loops compute.
    pub(super) on_host: bool,
    /// Stands before the names asked for.
    prefix: String,
}

impl<'a, 'w> Loader<'a, 'w> {
    pub(super) fn new(
        source: &'a mut Source<'w>,
        device: &'a Device,
        dtype: DType,
        on_host: bool,
    ) -> Self {
        Self {
            source,
            device,
            dtype,
            on_host,
            prefix: String::new(),
        }
    }

    /// A loader of what is named `part` and a dot and more.
    pub(super) fn at(&mut self, part: &str) -> Loader<'_, 'w> {
        Loader {
            source: &mut *self.source,
            device: self.device,
            dtype: self.dtype,
            on_host: self.on_host,
            prefix: format!("{}{part}.", self.prefix),
        }
    }

    pub(super) fn tensor<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, CheckpointError> {
        self.tensor_of(name, shape, self.dtype)
    }

    /// Values that are needed in another type than the weights.
    pub(super) fn tensor_of<const D: usize>(
        &mut self,
        name: &str,
        shape: [usize; D],
        dtype: DType,
    ) -> Result<Tensor<D>, CheckpointError> {
        let name = format!("{}{name}", self.prefix);
        match self.source {
            Source::Checkpoint(weights) => {
                Ok(weights.take(&name, &shape)?.to_tensor(self.device, dtype))
            }
            Source::Noise(noise) => {
                let data = TensorData::new(noise.values(&name, &shape), shape);
                Ok(Tensor::from_data(data, (self.device, dtype)))
            }
        }
    }

    /// Values that stay in host memory.
    pub(super) fn values(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Vec<f32>, CheckpointError> {
        let name = format!("{}{name}", self.prefix);
        match self.source {
            Source::Checkpoint(weights) => Ok(weights.take(&name, shape)?.to_f32()),
            Source::Noise(noise) => Ok(noise.values(&name, shape)),
        }
    }

    /// Takes a tensor that nothing needs, so that it is not left over.
    pub(super) fn discard(&mut self, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        let name = format!("{}{name}", self.prefix);
        match self.source {
            Source::Checkpoint(weights) => weights.take(&name, shape).map(drop),
            Source::Noise(_) => Ok(()),
        }
    }
}

/// Numbers without meaning, the same at each run.
pub(super) struct Noise(pub(super) u32);

impl Noise {
    fn values(&mut self, name: &str, shape: &[usize]) -> Vec<f32> {
        let len = shape.iter().product();
        let fan_in: usize = shape.iter().skip(1).product();
        // Scales of norms are about one; sums keep the variance of what goes in.
        let (middle, spread) = match shape.len() {
            1 if name.ends_with(".weight") => (1.0, 0.1),
            1 => (0.0, 0.02),
            _ => (0.0, (3.0 / fan_in as f32).sqrt()),
        };
        let next = || {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next)
            .take(len)
            .map(|value| middle + spread * value)
            .collect()
    }
}

/// A product with a matrix, and a bias.
#[derive(Debug)]
pub(super) enum Linear {
    Tensors(Box<LinearTensors>),
    Packed(PackedMatrix),
}

#[derive(Debug)]
pub(super) struct LinearTensors {
    /// `[in, out]`
    weight: Tensor<2>,
    /// `[out]`
    bias: Option<Tensor<1>>,
}

impl Linear {
    pub(super) fn load(
        loader: &mut Loader<'_, '_>,
        name: &str,
        sizes: [usize; 2],
    ) -> Result<Self, CheckpointError> {
        let [channels_in, channels_out] = sizes;
        Self::of_shape(loader, name, sizes, [channels_out, channels_in], true)
    }

    pub(super) fn load_without_bias(
        loader: &mut Loader<'_, '_>,
        name: &str,
        sizes: [usize; 2],
    ) -> Result<Self, CheckpointError> {
        let [channels_in, channels_out] = sizes;
        Self::of_shape(loader, name, sizes, [channels_out, channels_in], false)
    }

    /// A convolution whose windows do not overlap, or which sees one pixel: `[out, in, k, k]`. Its
    /// inputs are all values of a window, in that order.
    pub(super) fn load_patches(
        loader: &mut Loader<'_, '_>,
        name: &str,
        [channels_in, channels_out]: [usize; 2],
        side: usize,
        has_bias: bool,
    ) -> Result<Self, CheckpointError> {
        let sizes = [channels_in * side * side, channels_out];
        let shape = [channels_out, channels_in, side, side];
        Self::of_shape(loader, name, sizes, shape, has_bias)
    }

    fn of_shape<const D: usize>(
        loader: &mut Loader<'_, '_>,
        name: &str,
        [n_inputs, n_outputs]: [usize; 2],
        shape: [usize; D],
        has_bias: bool,
    ) -> Result<Self, CheckpointError> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        if loader.on_host {
            let weight = loader.values(&weight, &shape)?;
            let bias = match has_bias {
                true => Some(loader.values(&bias, &[n_outputs])?),
                false => None,
            };
            return Ok(Self::Packed(PackedMatrix::new(
                &weight,
                [n_inputs, n_outputs],
                bias.as_deref(),
            )));
        }
        let weight: Tensor<D> = loader.tensor(&weight, shape)?;
        let bias = match has_bias {
            true => Some(loader.tensor(&bias, [n_outputs])?),
            false => None,
        };
        Ok(Self::Tensors(Box::new(LinearTensors {
            weight: weight.reshape([n_outputs, n_inputs]).transpose(),
            bias,
        })))
    }

    /// # Shapes
    /// - `input`: `[.., in]`
    /// - output: `[.., out]`
    pub(super) fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Packed(matrix) => matrix.forward(input, None),
            Self::Tensors(tensors) => tensors.forward(input),
        }
    }

    /// Like [`Self::forward`], then an activation.
    pub(super) fn forward_to<const D: usize>(
        &self,
        input: Tensor<D>,
        activation: Activation,
    ) -> Tensor<D> {
        match self {
            Self::Packed(matrix) => matrix.forward(input, Some(activation)),
            Self::Tensors(_) => activate(activation, self.forward(input)),
        }
    }

    /// Like [`Self::forward`], added to something of the output's shape.
    pub(super) fn forward_onto<const D: usize>(
        &self,
        sum: Tensor<D>,
        input: Tensor<D>,
    ) -> Tensor<D> {
        match self {
            Self::Packed(matrix) => matrix.forward_onto(sum, input),
            Self::Tensors(_) => sum + self.forward(input),
        }
    }
}

impl LinearTensors {
    fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let mut dims = input.dims();
        let [n_inputs, n_outputs] = self.weight.dims();
        let rows: usize = dims[..D - 1].iter().product();
        // One tall product: every backend does better at it than at a batch of products with a
        // shared matrix.
        let input = input.reshape([rows, n_inputs]);
        let output = linear(input, self.weight.clone(), self.bias.clone());
        dims[D - 1] = n_outputs;
        output.reshape(dims)
    }
}

/// Layer norm over the last dimension, in f32 whatever the type of what it sees.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
}

impl LayerNorm {
    pub(super) fn load(
        loader: &mut Loader<'_, '_>,
        name: &str,
        channels: usize,
        epsilon: f64,
    ) -> Result<Self, CheckpointError> {
        Ok(Self {
            weight: loader.tensor_of(&format!("{name}.weight"), [channels], DType::F32)?,
            bias: loader.tensor_of(&format!("{name}.bias"), [channels], DType::F32)?,
            epsilon,
        })
    }

    pub(super) fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let dtype = input.dtype();
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        layer_norm(input.cast(DType::F32), weight, Some(bias), self.epsilon).cast(dtype)
    }
}

/// Norm by the root of the mean square over the last dimension, in f32.
#[derive(Debug)]
pub(super) struct RmsNorm {
    weight: Tensor<1>,
    epsilon: f64,
}

impl RmsNorm {
    pub(super) fn load(
        loader: &mut Loader<'_, '_>,
        name: &str,
        channels: usize,
        epsilon: f64,
    ) -> Result<Self, CheckpointError> {
        Ok(Self {
            weight: loader.tensor_of(&format!("{name}.weight"), [channels], DType::F32)?,
            epsilon,
        })
    }

    pub(super) fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let dtype = input.dtype();
        let input = input.cast(DType::F32);
        let mean_square = input.clone().square().mean_dim(2);
        let root = mean_square.add_scalar(self.epsilon).sqrt();
        (input / root * self.weight.clone().unsqueeze::<3>()).cast(dtype)
    }
}

/// What stands between two products, by burn's operations.
///
/// # Panics
/// For activations that no tower has.
pub(super) fn activate<const D: usize>(activation: Activation, input: Tensor<D>) -> Tensor<D> {
    match activation {
        Activation::Gelu => gelu(input),
        // The exact one in its place would go unnoticed for long.
        Activation::QuickGelu => input.clone() * sigmoid(input * 1.702),
        Activation::Swish => silu(input),
        _ => unreachable!("no tower has {activation:?}"),
    }
}
