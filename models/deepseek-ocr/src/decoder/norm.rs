//! The decoder's norm.

use burn::tensor::{DType, Tensor};

use super::linear::Place;
use super::stack::stack;
use crate::weights::{CheckpointError, StoredType, Weights};

/// Divides by the root of the mean square, in f32 whatever the decoder computes in: the squares of
/// a few large values would drown the others in 8 bits.
#[derive(Debug)]
pub(super) struct RmsNorm {
    /// `[1, hidden]`, f32.
    weight: Tensor<2>,
    epsilon: f64,
}

impl RmsNorm {
    pub(super) fn load(
        weights: &mut Weights,
        name: &str,
        width: usize,
        epsilon: f64,
        place: &Place,
    ) -> Result<Self, CheckpointError> {
        let stored = weights.take(name, &[width])?;
        let weight = stack(&[stored], [1, width], &place.device, StoredType::F32);
        Ok(Self { weight, epsilon })
    }

    /// # Shapes
    /// - input and output: `[n, width]`, f32
    pub(super) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let input = input.cast(DType::F32);
        let mean_square = input.clone().square().mean_dim(1);
        let scale = (mean_square + self.epsilon).sqrt().recip();
        input * scale * self.weight.clone()
    }
}
