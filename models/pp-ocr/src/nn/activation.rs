//! Activations that follow a convolution.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, hard_sigmoid, relu, sigmoid, silu};

/// What is done to each value after a layer's bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activation {
    Identity,
    Relu,
    /// Exact, by the error function.
    Gelu,
    /// `x * sigmoid(x)`.
    Swish,
    /// `x * clamp(x + 3, 0, 6) / 6`.
    HardSwish,
    /// `clamp(slope * x + 0.5, 0, 1)`.
    HardSigmoid {
        slope: f32,
    },
    Sigmoid,
}

impl Activation {
    pub(crate) fn of_tensor<const D: usize>(self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => input,
            Self::Relu => relu(input),
            Self::Gelu => gelu(input),
            Self::Swish => silu(input),
            Self::HardSwish => {
                let gate = hard_sigmoid(input.clone(), 1.0 / 6.0, 0.5);
                input * gate
            }
            Self::HardSigmoid { slope } => hard_sigmoid(input, f64::from(slope), 0.5),
            Self::Sigmoid => sigmoid(input),
        }
    }
}
