//! Activations that follow a convolution.

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, hard_sigmoid, relu, sigmoid, silu};
pub(crate) use quire_kernels::Activation;

/// What `quire_kernels` does to values in host memory, by burn's operations.
pub(crate) fn activate<const D: usize>(activation: Activation, input: Tensor<D>) -> Tensor<D> {
    match activation {
        Activation::Identity => input,
        Activation::Relu => relu(input),
        Activation::Gelu => gelu(input),
        Activation::QuickGelu => input.clone() * sigmoid(input * 1.702),
        Activation::Swish => silu(input),
        Activation::HardSwish => {
            let gate = hard_sigmoid(input.clone(), 1.0 / 6.0, 0.5);
            input * gate
        }
        Activation::HardSigmoid { slope } => hard_sigmoid(input, f64::from(slope), 0.5),
        Activation::Sigmoid => sigmoid(input),
    }
}
