//! A layer of experts: every token goes through a few of them, by weight, and through the shared
//! one.
//!
//! Which expert a token takes is known on the device only, and asking for it would stop the device
//! once a layer. So the host never asks: it fixes how many rows each product has, and the device
//! fills them (`arrange`).

mod arrange;

use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor};

use self::arrange::{Arrangement, Way};
use super::linear::{GatedMlp, Linear, Place, gate};
use super::stack::{dtype, stack};
use crate::config::DecoderConfig;
use crate::stages::Stages;
use crate::weights::{CheckpointError, StoredTensor, StoredType, Weights};

/// Tokens arranged at a time. What is held between grows with it, and the table that counts
/// tokens of the same expert with its square; more than this does not make products faster.
const TOKENS: usize = 1024;

/// Experts whose matrices are copied out at a time: 220 MB of the published model in 16 bits.
const COPIES: usize = 32;

/// The routed experts of a layer, their router, and the expert that all tokens take.
#[derive(Debug)]
pub(super) struct Experts {
    router: Linear,
    /// `[experts, 2 * middle, hidden]`, gate then up.
    gate_up: Tensor<3>,
    /// `[experts, hidden, middle]`.
    down: Tensor<3>,
    shared: GatedMlp,
    per_token: usize,
    dtype: DType,
    /// Plants a mistake that others made, to show that parity notices.
    #[cfg(test)]
    pub(super) renormalizes: bool,
}

impl Experts {
    /// Loads `{prefix}.gate`, `.experts.N` and `.shared_experts`.
    pub(super) fn load(
        weights: &mut Weights,
        prefix: &str,
        config: &DecoderConfig,
        place: &Place,
    ) -> Result<Self, CheckpointError> {
        let (hidden, middle) = (config.hidden, config.expert_mlp);
        // The router's scores decide between experts that are close, so it computes in f32.
        let in_f32 = Place {
            dtype: StoredType::F32,
            ..place.clone()
        };
        let router = [format!("{prefix}.gate.weight")];
        let router = Linear::load(weights, &router, [config.n_experts, hidden], &in_f32)?;
        let mut take = |parts: &[&str], shape: [usize; 2]| {
            let mut taken: Vec<StoredTensor> = Vec::with_capacity(parts.len() * config.n_experts);
            for expert in 0..config.n_experts {
                for part in parts {
                    let name = format!("{prefix}.experts.{expert}.{part}_proj.weight");
                    taken.push(weights.take(&name, &shape)?);
                }
            }
            Ok::<_, CheckpointError>(taken)
        };
        let gate_up = take(&["gate", "up"], [middle, hidden])?;
        let down = take(&["down"], [hidden, middle])?;
        let shared = format!("{prefix}.shared_experts");
        let shared = GatedMlp::load(weights, &shared, hidden, config.shared_mlp(), place)?;
        let stacked = |parts: &[StoredTensor], [rows, columns]: [usize; 2]| {
            let shape = [config.n_experts, rows, columns];
            stack(parts, shape, &place.device, place.dtype)
        };
        Ok(Self {
            router,
            gate_up: stacked(&gate_up, [2 * middle, hidden]),
            down: stacked(&down, [hidden, middle]),
            shared,
            per_token: config.experts_per_token,
            dtype: dtype(place.dtype),
            #[cfg(test)]
            renormalizes: false,
        })
    }

    /// # Shapes
    /// - input and output: `[n, hidden]`, f32
    pub(super) fn forward(&self, input: Tensor<2>, layer: usize, stages: &mut Stages) -> Tensor<2> {
        let routed = self.route(&input);
        stages.keep(&format!("router_{layer}.scores"), &routed.scores);
        stages.keep_data(&format!("router_{layer}.topk_idx"), || {
            routed.experts.to_data()
        });
        stages.keep(&format!("router_{layer}.topk_weight"), &routed.weights);
        let input = input.cast(self.dtype);
        let shared = self.shared.forward(input.clone()).cast(DType::F32);
        let [n, _] = input.dims();
        let way = Way::of(n, self.per_token, self.gate_up.dims()[0]);
        shared + self.mix(input, &routed, way)
    }

    /// Chooses experts for each token.
    fn route(&self, input: &Tensor<2>) -> Routed {
        let scores = softmax(self.router.forward(input.clone()), 1);
        let (_, experts) = scores.clone().topk_with_indices(self.per_token, 1);
        // As they are: the chosen scores are not made to add up to one.
        let weights = scores.clone().gather(1, experts.clone());
        #[cfg(test)]
        let weights = match self.renormalizes {
            true => weights.clone() / weights.sum_dim(1),
            false => weights,
        };
        Routed {
            scores,
            experts,
            weights,
        }
    }

    /// The routed experts' outputs, weighted and added, `[n, hidden]` in f32.
    fn mix(&self, input: Tensor<2>, routed: &Routed, way: Way) -> Tensor<2> {
        let [n, hidden] = input.dims();
        let mut mixed = Vec::with_capacity(n.div_ceil(TOKENS));
        for first in (0..n).step_by(TOKENS) {
            let n = TOKENS.min(n - first);
            let experts = routed.experts.clone().narrow(0, first, n);
            let weights = routed.weights.clone().narrow(0, first, n);
            let input = input.clone().narrow(0, first, n);
            let arranged = Arrangement::new(way, &experts, self.gate_up.dims()[0]);
            let outputs = self.compute(&arranged, input);
            // What a token did not choose is computed in places, but never looked at.
            let chosen = outputs.select(0, arranged.places).cast(DType::F32);
            let chosen = chosen.reshape([n, self.per_token, hidden]);
            let sum = (chosen * weights.unsqueeze_dim(2)).sum_dim(1);
            mixed.push(sum.reshape([n, hidden]));
        }
        Tensor::cat(mixed, 0)
    }

    /// The outputs of all rows of an arrangement, `[blocks * rows, hidden]`.
    fn compute(&self, arranged: &Arrangement, input: Tensor<2>) -> Tensor<2> {
        let [_, hidden] = input.dims();
        let rows = arranged.rows(input);
        let [n_blocks, n_rows, _] = rows.dims();
        let outputs = match &arranged.experts {
            None => feed(rows, self.gate_up.clone(), self.down.clone()),
            Some(experts) => {
                let parts = (0..n_blocks).step_by(COPIES).map(|first| {
                    let n = COPIES.min(n_blocks - first);
                    let experts = experts.clone().narrow(0, first, n);
                    let gate_up = self.gate_up.clone().select(0, experts.clone());
                    let down = self.down.clone().select(0, experts);
                    feed(rows.clone().narrow(0, first, n), gate_up, down)
                });
                Tensor::cat(parts.collect(), 0)
            }
        };
        outputs.reshape([n_blocks * n_rows, hidden])
    }
}

/// What the router chose.
struct Routed {
    /// `[n, experts]`, f32, adding up to one.
    scores: Tensor<2>,
    /// `[n, per token]`, by falling score.
    experts: Tensor<2, Int>,
    /// Their scores.
    weights: Tensor<2>,
}

/// Each block of rows goes through its own expert.
///
/// # Shapes
/// - `rows` and output: `[blocks, rows, hidden]`
fn feed(rows: Tensor<3>, gate_up: Tensor<3>, down: Tensor<3>) -> Tensor<3> {
    let middle = gate(rows.matmul(gate_up.swap_dims(1, 2)));
    middle.matmul(down.swap_dims(1, 2))
}

/// `0, 1, 2, ...` as f32, for counting where the device multiplies.
fn count(n: usize, device: &Device) -> Tensor<1> {
    Tensor::<1, Int>::arange(0..n as i64, device)
        .float()
        .cast(DType::F32)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Distribution;

    use super::*;
    use crate::weights::Checkpoint;

    /// The second layer of the committed checkpoint: 8 experts, two for each token.
    fn experts() -> (Experts, usize) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny");
        let checkpoint = Checkpoint::open(Path::new(folder)).unwrap();
        let config = &checkpoint.config().decoder;
        let place = Place {
            device: Device::flex(),
            dtype: StoredType::F32,
        };
        let mut weights = checkpoint.weights();
        let experts = Experts::load(&mut weights, "model.layers.1.mlp", config, &place);
        (experts.unwrap(), config.hidden)
    }

    /// One token after the other, one expert after the other.
    fn one_by_one(experts: &Experts, input: &Tensor<2>, routed: &Routed) -> Tensor<2> {
        let [n, hidden] = input.dims();
        let chosen = routed.experts.to_data_as::<i64>().try_into_vec::<i64>();
        let chosen = chosen.unwrap();
        let mut mixed = Vec::new();
        for token in 0..n {
            let row = input.clone().narrow(0, token, 1);
            let mut sum = Tensor::<2>::zeros([1, hidden], &input.device());
            for rank in 0..experts.per_token {
                let expert = chosen[token * experts.per_token + rank] as usize;
                let matrix = |stack: &Tensor<3>| stack.clone().narrow(0, expert, 1);
                let output = feed(
                    row.clone().unsqueeze(),
                    matrix(&experts.gate_up),
                    matrix(&experts.down),
                );
                let weight = routed
                    .weights
                    .clone()
                    .narrow(0, token, 1)
                    .narrow(1, rank, 1);
                sum = sum + output.reshape([1, hidden]) * weight;
            }
            mixed.push(sum);
        }
        Tensor::cat(mixed, 0)
    }

    #[test]
    fn every_way_to_arrange_tokens_gives_what_one_by_one_gives() {
        let (experts, hidden) = experts();
        for n in [1, 2, 7, 33, 150] {
            let input =
                Tensor::random([n, hidden], Distribution::Normal(0.0, 1.0), &Device::flex());
            let routed = experts.route(&input);
            let wanted = one_by_one(&experts, &input, &routed);
            for way in [
                Way::Copied,
                Way::Whole,
                Way::Grouped { rows: 4 },
                Way::of(n, 2, 8),
            ] {
                let mixed = experts.mix(input.clone(), &routed, way);
                let difference = (mixed - wanted.clone()).abs().max().into_scalar::<f32>();
                assert!(difference < 1e-5, "{n} tokens, {way:?}: {difference}");
            }
        }
    }

    #[test]
    fn tokens_that_all_choose_the_same_experts_find_room() {
        let (experts, hidden) = experts();
        let row = Tensor::<2>::random([1, hidden], Distribution::Normal(0.0, 1.0), &Device::flex());
        let input = row.clone().repeat_dim(0, TOKENS + 100);
        let routed = experts.route(&input);
        let mixed = experts.mix(input, &routed, Way::of(TOKENS + 100, 2, 8));
        let alone = one_by_one(&experts, &row, &experts.route(&row));
        let difference = (mixed - alone).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-5, "{difference}");
    }
}
