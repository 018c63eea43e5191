//! Matrices of the checkpoint under each other, as one tensor on the device.
//!
//! The published file keeps queries, keys and values, gates and their partners, and the 64 experts
//! of a layer in tensors of their own. One product over a stack is faster than many over its
//! parts. Values go from the mapped file to the stack once; a copy in f32 is made of nothing that
//! is not asked for in f32.

use burn::tensor::{DType, Device, Element, Tensor, TensorData, bf16, f16};

use crate::weights::{StoredTensor, StoredType};

/// What a decoder computes in, as burn calls it.
pub(super) fn dtype(stored: StoredType) -> DType {
    match stored {
        StoredType::Bf16 => DType::BF16,
        StoredType::F16 => DType::F16,
        StoredType::F32 => DType::F32,
    }
}

/// Bytes of one value.
pub(super) fn value_bytes(stored: StoredType) -> usize {
    match stored {
        StoredType::Bf16 | StoredType::F16 => 2,
        StoredType::F32 => 4,
    }
}

/// Puts parts one after the other, row-major, into a tensor of the given shape.
///
/// # Panics
/// When the parts do not hold as many values as the shape says; `Weights::take` has checked each.
pub(super) fn stack<const D: usize>(
    parts: &[StoredTensor],
    shape: [usize; D],
    device: &Device,
    wanted: StoredType,
) -> Tensor<D> {
    let data = match wanted {
        StoredType::Bf16 => {
            let values = join(
                parts,
                bf16::from_f32,
                |value| bf16::from_f32(value.to_f32()),
                |value| value,
            );
            TensorData::new(values, shape)
        }
        StoredType::F16 => {
            let values = join(
                parts,
                f16::from_f32,
                |value| value,
                |value| f16::from_f32(value.to_f32()),
            );
            TensorData::new(values, shape)
        }
        StoredType::F32 => {
            let values = join(parts, |value| value, f16::to_f32, bf16::to_f32);
            TensorData::new(values, shape)
        }
    };
    Tensor::from_data(data, (device, dtype(wanted)))
}

/// All values of all parts, converted from whatever each part is stored as.
fn join<E: Element>(
    parts: &[StoredTensor],
    of_f32: impl Fn(f32) -> E,
    of_f16: impl Fn(f16) -> E,
    of_bf16: impl Fn(bf16) -> E,
) -> Vec<E> {
    let n_values = parts
        .iter()
        .map(|part| part.shape.iter().product::<usize>())
        .sum();
    let mut values = Vec::with_capacity(n_values);
    for part in parts {
        let pairs = part.bytes.as_chunks::<2>().0.iter();
        match part.stored {
            StoredType::Bf16 => {
                values.extend(pairs.map(|pair| of_bf16(bf16::from_le_bytes(*pair))));
            }
            StoredType::F16 => values.extend(pairs.map(|pair| of_f16(f16::from_le_bytes(*pair)))),
            StoredType::F32 => {
                let quads = part.bytes.as_chunks::<4>().0.iter();
                values.extend(quads.map(|quad| of_f32(f32::from_le_bytes(*quad))));
            }
        }
    }
    values
}
