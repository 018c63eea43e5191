//! Weights of a network, taken by name from an embedded safetensors file.
//!
//! The files are written by `reference/convert.py`, whose tables give every tensor the path of the
//! field it fills, so the path is spelled once more only where a module loads itself. Loading is
//! exact: a tensor that is missing, has another shape or is left over is an error that names it.

use std::collections::BTreeSet;

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use quire_core::{Fault, Faulty};
use safetensors::{Dtype, SafeTensors};
use thiserror::Error;

/// A weights file that does not fit its network.
#[derive(Debug, Error)]
pub enum WeightsError {
    #[error("weights of the {network} cannot be read")]
    Unreadable {
        network: &'static str,
        #[source]
        source: safetensors::SafeTensorError,
    },
    #[error("weights of the {network} lack the tensor {tensor}")]
    Missing {
        network: &'static str,
        tensor: String,
    },
    #[error("tensor {tensor} of the {network} has shape {found:?}, wanted {wanted:?}")]
    Shape {
        network: &'static str,
        tensor: String,
        found: Vec<usize>,
        wanted: Vec<usize>,
    },
    #[error("tensor {tensor} of the {network} holds {found:?}, wanted {wanted:?}")]
    Dtype {
        network: &'static str,
        tensor: String,
        found: Dtype,
        wanted: Dtype,
    },
    #[error("weights of the {network} hold tensors that nothing uses: {}", tensors.join(", "))]
    LeftOver {
        network: &'static str,
        tensors: Vec<String>,
    },
}

impl Faulty for WeightsError {
    /// The weights are part of the program, so a bad file is a mistake of whoever built it.
    fn fault(&self) -> Fault {
        Fault::Bug
    }
}

/// A weights file being taken apart.
pub(crate) struct Weights<'a> {
    network: &'static str,
    tensors: SafeTensors<'a>,
    remaining: BTreeSet<String>,
    device: Device,
}

impl<'a> Weights<'a> {
    pub(crate) fn open(
        network: &'static str,
        bytes: &'a [u8],
        device: &Device,
    ) -> Result<Self, WeightsError> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|source| WeightsError::Unreadable { network, source })?;
        let remaining = tensors.names().into_iter().map(str::to_owned).collect();
        Ok(Self {
            network,
            tensors,
            remaining,
            device: device.clone(),
        })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Takes the f32 tensor `name`, which must have exactly the given shape.
    pub(crate) fn take(&mut self, name: &str, wanted: &[usize]) -> Result<Vec<f32>, WeightsError> {
        let bytes = self.bytes(name, wanted, Dtype::F32)?;
        let quads = bytes.as_chunks::<4>().0;
        Ok(quads.iter().map(|quad| f32::from_le_bytes(*quad)).collect())
    }

    /// Takes the kernel `{layer}.weight`, which is f32, or 16-bit integers with `{layer}.scale`
    /// for each slice of the first dimension.
    pub(crate) fn take_kernel(
        &mut self,
        layer: &str,
        wanted: [usize; 4],
    ) -> Result<Vec<f32>, WeightsError> {
        let name = format!("{layer}.weight");
        let scale = format!("{layer}.scale");
        if !self.remaining.contains(&scale) {
            return self.take(&name, &wanted);
        }
        let scales = self.take(&scale, &wanted[..1])?;
        let bytes = self.bytes(&name, &wanted, Dtype::I16)?;
        let slice_values: usize = wanted[1..].iter().product();
        let mut values = Vec::with_capacity(wanted[0] * slice_values);
        for (slice, scale) in bytes.chunks_exact(2 * slice_values).zip(scales) {
            let pairs = slice.as_chunks::<2>().0;
            values.extend(
                pairs
                    .iter()
                    .map(|pair| f32::from(i16::from_le_bytes(*pair)) * scale),
            );
        }
        Ok(values)
    }

    fn bytes(
        &mut self,
        name: &str,
        wanted: &[usize],
        dtype: Dtype,
    ) -> Result<&'a [u8], WeightsError> {
        let network = self.network;
        let tensor = name.to_owned();
        let Ok(view) = self.tensors.tensor(name) else {
            return Err(WeightsError::Missing { network, tensor });
        };
        if view.shape() != wanted {
            let found = view.shape().to_vec();
            let wanted = wanted.to_vec();
            return Err(WeightsError::Shape {
                network,
                tensor,
                found,
                wanted,
            });
        }
        if view.dtype() != dtype {
            let found = view.dtype();
            return Err(WeightsError::Dtype {
                network,
                tensor,
                found,
                wanted: dtype,
            });
        }
        self.remaining.remove(name);
        Ok(view.data())
    }

    /// Fails if the file holds more than the network took.
    pub(crate) fn finish(self) -> Result<(), WeightsError> {
        if self.remaining.is_empty() {
            return Ok(());
        }
        let tensors = self.remaining.into_iter().collect();
        Err(WeightsError::LeftOver {
            network: self.network,
            tensors,
        })
    }

    /// Makes a parameter of values taken from this file.
    pub(crate) fn parameter<const D: usize>(
        &self,
        values: &[f32],
        shape: [usize; D],
    ) -> Param<Tensor<D>> {
        let data = TensorData::new(values.to_vec(), shape);
        Param::from_tensor(Tensor::from_data(data, &self.device).set_require_grad(false))
    }
}

#[cfg(test)]
mod tests {
    use safetensors::serialize;
    use safetensors::tensor::TensorView;

    use super::*;

    fn file() -> Vec<u8> {
        let bytes: Vec<u8> = [1.0f32, 2.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F32, vec![2], &bytes).unwrap();
        serialize([("a.bias", &view), ("b.bias", &view)], None).unwrap()
    }

    #[test]
    fn missing_tensor_is_named() {
        let file = file();
        let mut weights = Weights::open("test", &file, &Device::flex()).unwrap();
        let error = weights.take("c.bias", &[2]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "weights of the test lack the tensor c.bias"
        );
    }

    #[test]
    fn tensor_of_another_shape_is_named() {
        let file = file();
        let mut weights = Weights::open("test", &file, &Device::flex()).unwrap();
        let error = weights.take("a.bias", &[3]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tensor a.bias of the test has shape [2], wanted [3]"
        );
    }

    #[test]
    fn tensor_left_over_is_named() {
        let file = file();
        let mut weights = Weights::open("test", &file, &Device::flex()).unwrap();
        assert_eq!(weights.take("a.bias", &[2]).unwrap(), [1.0, 2.0]);
        let error = weights.finish().unwrap_err();
        assert_eq!(
            error.to_string(),
            "weights of the test hold tensors that nothing uses: b.bias"
        );
    }

    #[test]
    fn torn_file_is_an_error() {
        let file = file();
        let torn = Weights::open("test", &file[..file.len() / 2], &Device::flex());
        assert!(matches!(torn, Err(WeightsError::Unreadable { .. })));
    }
}
