//! Stored numbers as f32, or as tensors of a device. Only the one tensor is ever copied.

use burn::tensor::{DType, Device, Tensor, TensorData, bf16, f16};

use super::{StoredTensor, StoredType};

impl StoredType {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Its word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }
}

impl StoredTensor {
    /// How many numbers it holds.
    pub fn n_values(&self) -> usize {
        self.bytes.len() / self.stored.size()
    }

    /// Its numbers in f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.stored {
            StoredType::Bf16 => self.pairs(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            StoredType::F16 => self.pairs(|bytes| f16::from_le_bytes(bytes).to_f32()),
            StoredType::F32 => self.quads(f32::from_le_bytes),
        }
    }

    /// Its numbers in bf16, row-major; rounded to the nearest where they are not stored so.
    pub fn to_bf16(&self) -> Vec<bf16> {
        match self.stored {
            StoredType::Bf16 => self.pairs(bf16::from_le_bytes),
            StoredType::F16 => {
                self.pairs(|bytes| bf16::from_f32(f16::from_le_bytes(bytes).to_f32()))
            }
            StoredType::F32 => self.quads(|bytes| bf16::from_f32(f32::from_le_bytes(bytes))),
        }
    }

    /// Its numbers in f16, row-major; rounded to the nearest where they are not stored so.
    pub fn to_f16(&self) -> Vec<f16> {
        match self.stored {
            StoredType::Bf16 => {
                self.pairs(|bytes| f16::from_f32(bf16::from_le_bytes(bytes).to_f32()))
            }
            StoredType::F16 => self.pairs(f16::from_le_bytes),
            StoredType::F32 => self.quads(|bytes| f16::from_f32(f32::from_le_bytes(bytes))),
        }
    }

    /// A tensor of a device. The numbers are converted on the host, so that no more than their own
    /// bytes go to the device.
    ///
    /// # Panics
    /// If the tensor has not `D` dimensions, or `dtype` is no floating-point type.
    pub fn to_tensor<const D: usize>(&self, device: &Device, dtype: DType) -> Tensor<D> {
        let shape = self.shape.clone();
        let values = match dtype {
            DType::BF16 => TensorData::new(self.to_bf16(), shape),
            DType::F16 => TensorData::new(self.to_f16(), shape),
            _ => TensorData::new(self.to_f32(), shape),
        };
        Tensor::from_data(values, (device, dtype))
    }

    /// How many of its numbers are not a number, and how many are infinite.
    pub fn non_finite(&self) -> (u64, u64) {
        // All bits of the exponent are set in both, and the fraction is 0 in the infinite.
        let halves = |exponent: u16, fraction: u16| {
            let pairs = self.bytes.as_chunks::<2>().0.iter();
            count(pairs.map(|pair| {
                let bits = u16::from_le_bytes(*pair);
                let special = bits & exponent == exponent;
                (special, bits & fraction == 0)
            }))
        };
        match self.stored {
            StoredType::Bf16 => halves(0x7f80, 0x007f),
            StoredType::F16 => halves(0x7c00, 0x03ff),
            StoredType::F32 => {
                let quads = self.bytes.as_chunks::<4>().0.iter();
                count(quads.map(|quad| {
                    let bits = u32::from_le_bytes(*quad);
                    (bits & 0x7f80_0000 == 0x7f80_0000, bits & 0x007f_ffff == 0)
                }))
            }
        }
    }

    fn pairs<T>(&self, convert: impl Fn([u8; 2]) -> T) -> Vec<T> {
        let pairs = self.bytes.as_chunks::<2>().0.iter();
        pairs.map(|pair| convert(*pair)).collect()
    }

    fn quads<T>(&self, convert: impl Fn([u8; 4]) -> T) -> Vec<T> {
        let quads = self.bytes.as_chunks::<4>().0.iter();
        quads.map(|quad| convert(*quad)).collect()
    }
}

/// Counts without branches, so that it runs at the speed of memory.
fn count(values: impl Iterator<Item = (bool, bool)>) -> (u64, u64) {
    values.fold((0, 0), |(nan, infinite), (special, is_infinite)| {
        let infinite_now = u64::from(special & is_infinite);
        (
            nan + u64::from(special) - infinite_now,
            infinite + infinite_now,
        )
    })
}
