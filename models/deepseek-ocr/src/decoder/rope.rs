//! Rotary positions in the half-split form: value `k` of a head turns with value `k + half`.
//!
//! Burn's own rotary encoding turns neighbors, which is another arrangement of the same values;
//! the checkpoint's rows of queries and keys are arranged for this one.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::config::DecoderConfig;

/// Tables of angles for all positions.
#[derive(Debug)]
pub(super) struct Rope {
    /// `[positions, head / 2]`, f32.
    cos: Tensor<2>,
    sin: Tensor<2>,
}

impl Rope {
    pub(super) fn new(config: &DecoderConfig, device: &Device) -> Self {
        let half = config.head_size() / 2;
        let frequencies = frequencies(config.rope_theta, half);
        let mut cos = Vec::with_capacity(config.max_positions * half);
        let mut sin = Vec::with_capacity(config.max_positions * half);
        for position in 0..config.max_positions {
            for frequency in &frequencies {
                // The reference multiplies in f32, and so the model was trained.
                let angle = f64::from(position as f32 * frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        let table = |values| {
            let data = TensorData::new(values, [config.max_positions, half]);
            Tensor::from_data(data, (device, DType::F32))
        };
        Self {
            cos: table(cos),
            sin: table(sin),
        }
    }

    /// Looks up the angles of positions.
    ///
    /// # Shapes
    /// - `positions`: `[n]`
    pub(super) fn at(&self, positions: Tensor<1, Int>) -> Rotation {
        let select = |table: &Tensor<2>| table.clone().select(0, positions.clone()).unsqueeze();
        Rotation {
            cos: select(&self.cos),
            sin: select(&self.sin),
        }
    }
}

/// How fast each pair of values turns, in radians a position.
fn frequencies(theta: f64, half: usize) -> Vec<f32> {
    (0..half)
        .map(|pair| 1.0 / theta.powf(pair as f64 / half as f64) as f32)
        .collect()
}

/// Angles of the rows of one step.
#[derive(Debug)]
pub(super) struct Rotation {
    /// `[1, n, head / 2]`, f32.
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotation {
    /// # Shapes
    /// - input and output: `[heads, n, head]`, f32
    pub(super) fn turn(&self, input: Tensor<3>) -> Tensor<3> {
        let half = input.dims()[2] / 2;
        let left = input.clone().narrow(2, 0, half);
        let right = input.narrow(2, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let turned = vec![
            left.clone() * cos.clone() - right.clone() * sin.clone(),
            right * cos + left * sin,
        ];
        Tensor::cat(turned, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the definition, worked out by hand.
    #[test]
    fn value_turns_with_the_one_half_a_head_away() {
        let device = Device::flex();
        let config = DecoderConfig {
            hidden: 4,
            n_layers: 1,
            n_heads: 1,
            dense_mlp: 1,
            n_dense_layers: 1,
            n_experts: 1,
            experts_per_token: 1,
            expert_mlp: 1,
            n_shared_experts: 1,
            vocabulary: 1,
            max_positions: 8,
            rope_theta: 10_000.0,
            epsilon: 1e-6,
        };
        let positions = Tensor::from_data([3], &device);
        let rotation = Rope::new(&config, &device).at(positions);
        let turned = rotation.turn(Tensor::from_data([[[1.0, 2.0, 5.0, 7.0]]], &device));
        let (slow, fast) = (0.03f32, 3.0f32);
        let wanted = [
            fast.cos() - 5.0 * fast.sin(),
            2.0 * slow.cos() - 7.0 * slow.sin(),
            5.0 * fast.cos() + fast.sin(),
            7.0 * slow.cos() + 2.0 * slow.sin(),
        ];
        let found = turned.into_data_as::<f32>().try_into_vec::<f32>().unwrap();
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
        }
    }
}
