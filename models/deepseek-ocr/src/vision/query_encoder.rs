//! The second model's encoder: a small language model whose tokens are what SAM saw, followed by
//! learned queries. What the queries end up as is what the decoder reads.
//!
//! SAM's tokens see each other and no query. A query sees all of SAM's tokens, itself and the
//! queries before it.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::attention::attend;
use super::layers::{Activation, Linear, Loader, RmsNorm};
use super::positions::PerSize;
use crate::config::QueryEncoderConfig;
use crate::stages::Stages;
use crate::weights::CheckpointError;

/// Tables of queries: name and number. Which one is taken depends on the number of SAM's tokens.
const QUERIES: [(&str, usize); 2] = [("query_768", 144), ("query_1024", 256)];

/// What is masked: far below any score, but finite, as not every device knows infinity.
const MASKED: f32 = -1e30;

/// The second model's second tower.
#[derive(Debug)]
pub(super) struct QueryEncoder {
    /// `[1, n, width]` each.
    queries: Vec<Tensor<3>>,
    layers: Vec<Layer>,
    last_norm: RmsNorm,
    rotations: Rotations,
    /// For each number of queries which of them see which: `[1, 1, n, 2 n]`.
    masks: PerSize<Tensor<4>>,
}

impl QueryEncoder {
    pub(super) fn load(
        mut loader: Loader<'_, '_>,
        config: &QueryEncoderConfig,
    ) -> Result<Self, CheckpointError> {
        let width = config.width;
        let queries = QUERIES
            .iter()
            .map(|(name, n)| {
                let table: Tensor<2> = loader.tensor(&format!("{name}.weight"), [*n, width])?;
                Ok(table.unsqueeze_dim(0))
            })
            .collect::<Result<_, CheckpointError>>()?;
        let mut loader = loader.at("model.model");
        let layers = (0..config.n_blocks)
            .map(|index| Layer::load(loader.at(&format!("layers.{index}")), config))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            queries,
            layers,
            last_norm: RmsNorm::load(&mut loader, "norm", width, config.epsilon)?,
            rotations: Rotations {
                head: width / config.n_heads,
                theta: config.rope_theta,
                made: PerSize::new(),
            },
            masks: PerSize::new(),
        })
    }

    /// Whether there are queries for so many tokens.
    pub(super) fn knows(&self, n_tokens: usize) -> bool {
        QUERIES.iter().any(|(_, n)| *n == n_tokens)
    }

    /// # Shapes
    /// - `tokens`: `[views, n, width]`
    /// - output: `[views, n, width]`
    ///
    /// # Panics
    /// If there are no queries for so many tokens.
    pub(super) fn forward(&self, tokens: Tensor<3>, stages: &mut Stages) -> Tensor<3> {
        let [views, n, width] = tokens.dims();
        let queries = QUERIES.iter().position(|(_, known)| *known == n);
        let queries = queries.expect("a view of a size that this model was trained for");
        let queries = self.queries[queries].clone().expand([views, n, width]);
        let mut tokens = Tensor::cat(vec![tokens, queries], 1);
        stages.keep("encoder_in", &tokens);
        let device = tokens.device();
        let rotation = self.rotations.at(2 * n, &device, tokens.dtype());
        let mask = self.masks.get(n, || mask(n, &device));
        for (index, layer) in self.layers.iter().enumerate() {
            tokens = layer.forward(tokens, &rotation, &mask);
            stages.keep(&format!("encoder_layer_{index}"), &tokens);
        }
        let queries = self.last_norm.forward(tokens.slice_dim(1, n..2 * n));
        stages.keep("encoder_out", &queries);
        queries
    }
}

/// What is added to the products of queries with all keys: `[1, 1, n, 2 n]`.
fn mask(n: usize, device: &Device) -> Tensor<4> {
    let mut values = vec![0.0; n * 2 * n];
    for (query, values) in values.chunks_exact_mut(2 * n).enumerate() {
        values[n + query + 1..].fill(MASKED);
    }
    Tensor::from_data(
        TensorData::new(values, [1, 1, n, 2 * n]),
        (device, DType::F32),
    )
}

/// Rotary positions; value k of a head turns with value k + half.
#[derive(Debug)]
struct Rotations {
    head: usize,
    theta: f64,
    made: PerSize<Rotation>,
}

/// Cosines and sines, `[1, 1, positions, head]` each, the second half like the first.
#[derive(Debug, Clone)]
struct Rotation {
    cosines: Tensor<4>,
    sines: Tensor<4>,
}

impl Rotations {
    fn at(&self, n_positions: usize, device: &Device, dtype: DType) -> Rotation {
        self.made.get(n_positions, || {
            let half = self.head / 2;
            let frequency = |k: usize| {
                let power = self.theta.powf((2 * k) as f64 / self.head as f64);
                1.0 / power as f32
            };
            let frequencies: Vec<f32> = (0..half).map(frequency).collect();
            let table = |of_angle: fn(f32) -> f32| {
                let mut values = Vec::with_capacity(n_positions * self.head);
                for position in 0..n_positions {
                    for _ in 0..2 {
                        let angles = frequencies.iter().map(|f| f * position as f32);
                        values.extend(angles.map(of_angle));
                    }
                }
                let shape = [1, 1, n_positions, 2 * half];
                Tensor::from_data(TensorData::new(values, shape), (device, dtype))
            };
            Rotation {
                cosines: table(f32::cos),
                sines: table(f32::sin),
            }
        })
    }
}

impl Rotation {
    /// # Shapes
    /// - `heads` and output: `[views, heads, positions, head]`
    fn turn(&self, heads: Tensor<4>) -> Tensor<4> {
        let [_, _, _, head] = heads.dims();
        let first = heads.clone().slice_dim(3, 0..head / 2);
        let second = heads.clone().slice_dim(3, head / 2..head);
        let crossed = Tensor::cat(vec![second.neg(), first], 3);
        heads * self.cosines.clone() + crossed * self.sines.clone()
    }
}

/// Attention and a gated MLP, each behind a norm and added to its input.
#[derive(Debug)]
struct Layer {
    attention_norm: RmsNorm,
    queries: Linear,
    keys: Linear,
    values: Linear,
    project: Linear,
    mlp_norm: RmsNorm,
    gate: Linear,
    expand: Linear,
    reduce: Linear,
    n_heads: usize,
    /// Each is shared by as many heads of queries.
    n_kv_heads: usize,
}

impl Layer {
    fn load(
        mut loader: Loader<'_, '_>,
        config: &QueryEncoderConfig,
    ) -> Result<Self, CheckpointError> {
        let QueryEncoderConfig {
            width,
            n_heads,
            n_kv_heads,
            mlp,
            epsilon,
            ..
        } = *config;
        let kv_width = width / n_heads * n_kv_heads;
        let loader = &mut loader;
        Ok(Self {
            attention_norm: RmsNorm::load(loader, "input_layernorm", width, epsilon)?,
            queries: Linear::load(loader, "self_attn.q_proj", [width, width])?,
            keys: Linear::load(loader, "self_attn.k_proj", [width, kv_width])?,
            values: Linear::load(loader, "self_attn.v_proj", [width, kv_width])?,
            project: Linear::load_without_bias(loader, "self_attn.o_proj", [width, width])?,
            mlp_norm: RmsNorm::load(loader, "post_attention_layernorm", width, epsilon)?,
            gate: Linear::load_without_bias(loader, "mlp.gate_proj", [width, mlp])?,
            expand: Linear::load_without_bias(loader, "mlp.up_proj", [width, mlp])?,
            reduce: Linear::load_without_bias(loader, "mlp.down_proj", [mlp, width])?,
            n_heads,
            n_kv_heads,
        })
    }

    /// # Shapes
    /// - `tokens` and output: `[views, 2 n, width]`
    fn forward(&self, tokens: Tensor<3>, rotation: &Rotation, mask: &Tensor<4>) -> Tensor<3> {
        let attended = self.attend(
            self.attention_norm.forward(tokens.clone()),
            rotation,
            mask.clone(),
        );
        let tokens = self.project.forward_onto(tokens, attended);
        let seen = self.mlp_norm.forward(tokens.clone());
        let gate = self.gate.forward_to(seen.clone(), Activation::Swish);
        self.reduce
            .forward_onto(tokens, gate * self.expand.forward(seen))
    }

    /// # Shapes
    /// - `tokens` and output: `[views, 2 n, width]`
    fn attend(&self, tokens: Tensor<3>, rotation: &Rotation, mask: Tensor<4>) -> Tensor<3> {
        let [views, both, width] = tokens.dims();
        let (n, head) = (both / 2, width / self.n_heads);
        let shared_by = self.n_heads / self.n_kv_heads;
        let heads = |layer: &Linear, n_heads: usize| {
            let values = layer.forward(tokens.clone());
            values.reshape([views, both, n_heads, head]).swap_dims(1, 2)
        };
        let scale = 1.0 / (head as f64).sqrt();
        let queries = rotation.turn(heads(&self.queries, self.n_heads)) * scale;
        let keys = rotation.turn(heads(&self.keys, self.n_kv_heads));
        let values = heads(&self.values, self.n_kv_heads);
        // All heads of queries that share keys, one after the other.
        let shared =
            |part: Tensor<4>| part.reshape([views * self.n_kv_heads, shared_by, both, head]);
        let once = |part: Tensor<4>| {
            part.reshape([views * self.n_kv_heads, 1, both, head])
                .expand([views * self.n_kv_heads, shared_by, both, head])
        };
        let (queries, keys, values) = (shared(queries), once(keys), once(values));
        let first = |part: &Tensor<4>| part.clone().slice_dim(2, 0..n);
        let of_sam = attend(first(&queries), first(&keys), first(&values), None);
        let of_queries = attend(queries.slice_dim(2, n..both), keys, values, Some(mask));
        Tensor::cat(vec![of_sam, of_queries], 2)
            .reshape([views, self.n_heads, both, head])
            .swap_dims(1, 2)
            .reshape([views, both, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_see_all_tokens_and_the_queries_before() {
        let mask = mask(3, &Device::flex()).into_data();
        let seen: Vec<bool> = mask
            .as_slice::<f32>()
            .unwrap()
            .iter()
            .map(|value| *value == 0.0)
            .collect();
        let (yes, no) = (true, false);
        assert_eq!(seen[..6], [yes, yes, yes, yes, no, no]);
        assert_eq!(seen[6..12], [yes, yes, yes, yes, yes, no]);
        assert_eq!(seen[12..], [yes; 6]);
    }

    #[test]
    fn rotation_pairs_a_value_with_the_one_half_a_head_away() {
        let rotations = Rotations {
            head: 4,
            theta: 10_000.0,
            made: PerSize::new(),
        };
        let device = Device::flex();
        let rotation = rotations.at(2, &device, DType::F32);
        let heads = TensorData::new([1.0f32, 2.0, 3.0, 4.0].repeat(2), [1, 1, 2, 4]);
        let turned = rotation.turn(Tensor::from_data(heads, &device)).into_data();
        let turned = turned.as_slice::<f32>().unwrap();
        assert_eq!(turned[..4], [1.0, 2.0, 3.0, 4.0]);
        let (sine, cosine) = 1.0f32.sin_cos();
        assert!((turned[4] - (cosine - 3.0 * sine)).abs() < 1e-6);
        assert!((turned[6] - (3.0 * cosine + sine)).abs() < 1e-6);
    }
}
