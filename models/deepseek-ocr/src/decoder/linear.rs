//! Products with matrices of the checkpoint, and the gated network made of them.

use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor};

use super::stack::stack;
use crate::weights::{CheckpointError, StoredType, Weights};

/// Where parameters go, and as what.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) device: Device,
    pub(super) dtype: StoredType,
}

/// A product without bias.
#[derive(Debug)]
pub(super) struct Linear {
    /// `[in, out]`, a view of what the file holds as `[out, in]`: the values of one output lie
    /// side by side, which is how both a single row and many rows read them best.
    weight: Tensor<2>,
}

impl Linear {
    /// Loads matrices `[out, in]` and puts them under each other, so that their outputs come side
    /// by side.
    pub(super) fn load(
        weights: &mut Weights,
        names: &[String],
        [outputs, inputs]: [usize; 2],
        place: &Place,
    ) -> Result<Self, CheckpointError> {
        let mut parts = Vec::with_capacity(names.len());
        for name in names {
            parts.push(weights.take(name, &[outputs, inputs])?);
        }
        let shape = [names.len() * outputs, inputs];
        let weight = stack(&parts, shape, &place.device, place.dtype).transpose();
        Ok(Self { weight })
    }

    /// # Shapes
    /// - `input`: `[n, in]`, of the type that was loaded
    /// - output: `[n, out]`
    pub(super) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        input.matmul(self.weight.clone())
    }
}

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug)]
pub(super) struct GatedMlp {
    /// Gate, then up.
    gate_up: Linear,
    down: Linear,
}

impl GatedMlp {
    /// Loads `{prefix}.gate_proj`, `.up_proj` and `.down_proj`.
    pub(super) fn load(
        weights: &mut Weights,
        prefix: &str,
        hidden: usize,
        middle: usize,
        place: &Place,
    ) -> Result<Self, CheckpointError> {
        let name = |part: &str| format!("{prefix}.{part}_proj.weight");
        let gate_up = [name("gate"), name("up")];
        Ok(Self {
            gate_up: Linear::load(weights, &gate_up, [middle, hidden], place)?,
            down: Linear::load(weights, &[name("down")], [hidden, middle], place)?,
        })
    }

    /// # Shapes
    /// - input and output: `[n, hidden]`
    pub(super) fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.down.forward(gate(self.gate_up.forward(input)))
    }
}

/// Gates the second half of the last dimension by the first.
pub(super) fn gate<const D: usize>(gate_up: Tensor<D>) -> Tensor<D> {
    let middle = gate_up.dims()[D - 1] / 2;
    let gate = gate_up.clone().narrow(D - 1, 0, middle);
    silu(gate) * gate_up.narrow(D - 1, middle, middle)
}
