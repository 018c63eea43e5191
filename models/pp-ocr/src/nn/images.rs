//! What a network is shown.

use burn::tensor::{Device, Tensor, TensorData};
use quire_kernels::Buffer;

use super::host::is_host;
use super::{FeatureMap, HostMap};

/// Images of one size, one after the other, pixel by pixel: `[n, height, width, 3]`.
#[derive(Debug)]
pub struct Images {
    n: usize,
    height: usize,
    width: usize,
    values: Buffer,
}

impl Images {
    /// Images whose values are yet to be written.
    pub fn new(n: usize, [height, width]: [usize; 2]) -> Self {
        Self {
            n,
            height,
            width,
            values: Buffer::take(n * height * width * 3),
        }
    }

    /// In the order of tensors: `[n, 3, height, width]`.
    pub fn dims(&self) -> [usize; 4] {
        [self.n, 3, self.height, self.width]
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Brings the images to a device.
    pub(crate) fn on(self, device: &Device) -> Input {
        if is_host(device) {
            return Input::Host(HostMap::of(self.dims(), self.values));
        }
        let data = TensorData::new(self.values.to_vec(), [self.n, self.height, self.width, 3]);
        let images = Tensor::<4>::from_data(data, device);
        Input::Device(images.permute([0, 3, 1, 2]))
    }
}

/// Images where a network can be walked over them.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one of it for each walk of a network"
)]
pub(crate) enum Input {
    Host(HostMap),
    Device(Tensor<4>),
}

impl From<Tensor<4>> for Input {
    fn from(images: Tensor<4>) -> Self {
        match HostMap::take(&images) {
            Some(images) => Self::Host(images),
            None => Self::Device(images),
        }
    }
}

impl Input {
    /// `[n, channels, height, width]`
    pub(crate) fn dims(&self) -> [usize; 4] {
        match self {
            Self::Host(images) => images.dims(),
            Self::Device(images) => images.dims(),
        }
    }
}
