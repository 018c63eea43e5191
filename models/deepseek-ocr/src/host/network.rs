//! The decoder's tensors by their published names.

use quire_kernels::Matrix;

use super::stored;
use crate::config::DecoderConfig;
use crate::weights::{CheckpointError, Weights};

/// All of the decoder.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) config: DecoderConfig,
    /// `[vocabulary, hidden]`
    embeddings: Matrix,
    pub(super) layers: Vec<Layer>,
    /// `[hidden]`
    pub(super) norm: Vec<f32>,
    /// `[vocabulary, hidden]`
    head: Matrix,
}

#[derive(Debug)]
pub(super) struct Layer {
    /// `[hidden]`
    pub(super) input_norm: Vec<f32>,
    /// Queries, keys and values, each `[hidden, hidden]`.
    pub(super) qkv: [Matrix; 3],
    /// `[hidden, hidden]`
    pub(super) output: Matrix,
    /// `[hidden]`
    pub(super) mlp_norm: Vec<f32>,
    pub(super) mlp: Mlp,
}

#[derive(Debug)]
pub(super) enum Mlp {
    Dense(Gated),
    Experts(Experts),
}

#[derive(Debug)]
pub(super) struct Experts {
    /// `[n_experts, hidden]`
    pub(super) router: Matrix,
    pub(super) routed: Vec<Gated>,
    /// Those that every token takes, as one.
    pub(super) shared: Option<Gated>,
}

/// A multi-layer perceptron with a gate.
#[derive(Debug)]
pub(super) struct Gated {
    /// `[middle, hidden]`
    pub(super) gate: Matrix,
    /// `[middle, hidden]`
    pub(super) up: Matrix,
    /// `[hidden, middle]`
    pub(super) down: Matrix,
}

impl Gated {
    pub(super) fn bytes(&self) -> u64 {
        let matrices = [&self.gate, &self.up, &self.down];
        matrices
            .map(|matrix| matrix.bytes().len() as u64)
            .iter()
            .sum()
    }
}

impl Network {
    pub(super) fn load(
        weights: &mut Weights,
        config: &DecoderConfig,
    ) -> Result<Self, CheckpointError> {
        let mut taker = Taker { weights };
        let (hidden, vocabulary) = (config.hidden, config.vocabulary);
        Ok(Self {
            embeddings: taker.matrix("model.embed_tokens.weight", [vocabulary, hidden])?,
            layers: (0..config.n_layers)
                .map(|layer| taker.layer(layer, config))
                .collect::<Result<_, _>>()?,
            norm: taker.vector("model.norm.weight", hidden)?,
            head: taker.matrix("lm_head.weight", [vocabulary, hidden])?,
            config: config.clone(),
        })
    }

    pub(super) fn hidden(&self) -> usize {
        self.config.hidden
    }

    /// What gives logits.
    pub(super) fn head(&self) -> &Matrix {
        &self.head
    }

    /// Embeddings of tokens, one after the other.
    ///
    /// # Panics
    /// When a token is not in the vocabulary.
    pub(super) fn embed(&self, tokens: &[u32]) -> Vec<f32> {
        let hidden = self.hidden();
        let mut values = vec![0.0; tokens.len() * hidden];
        for (token, values) in tokens.iter().zip(values.chunks_exact_mut(hidden)) {
            self.embeddings.row(*token as usize, values);
        }
        values
    }

    pub(super) fn matrices(&self) -> Vec<&Matrix> {
        let mut matrices = vec![&self.embeddings, &self.head];
        for layer in &self.layers {
            matrices.extend(&layer.qkv);
            matrices.push(&layer.output);
            let gated: Vec<&Gated> = match &layer.mlp {
                Mlp::Dense(gated) => vec![gated],
                Mlp::Experts(experts) => {
                    matrices.push(&experts.router);
                    experts.routed.iter().chain(&experts.shared).collect()
                }
            };
            matrices.extend(gated.iter().flat_map(|of| [&of.gate, &of.up, &of.down]));
        }
        matrices
    }

    /// Bytes of weights that could not be used where they are.
    pub(super) fn copied_bytes(&self) -> usize {
        let matrices = self.matrices();
        matrices.iter().map(|matrix| matrix.copied_bytes()).sum()
    }
}

/// Takes tensors out of a checkpoint.
struct Taker<'a> {
    weights: &'a mut Weights,
}

impl Taker<'_> {
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix, CheckpointError> {
        let tensor = self.weights.take(name, &shape)?;
        let [n_rows, n_columns] = shape;
        Ok(Matrix::new(
            tensor.bytes,
            stored(tensor.stored),
            n_rows,
            n_columns,
        ))
    }

    /// A few values, widened.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, CheckpointError> {
        let tensor = self.weights.take(name, &[len])?;
        let mut values = vec![0.0; len];
        Matrix::new(tensor.bytes, stored(tensor.stored), 1, len).row(0, &mut values);
        Ok(values)
    }

    fn layer(&mut self, layer: usize, config: &DecoderConfig) -> Result<Layer, CheckpointError> {
        let hidden = config.hidden;
        let square = [hidden, hidden];
        let at = format!("model.layers.{layer}");
        Ok(Layer {
            input_norm: self.vector(&format!("{at}.input_layernorm.weight"), hidden)?,
            qkv: [
                self.matrix(&format!("{at}.self_attn.q_proj.weight"), square)?,
                self.matrix(&format!("{at}.self_attn.k_proj.weight"), square)?,
                self.matrix(&format!("{at}.self_attn.v_proj.weight"), square)?,
            ],
            output: self.matrix(&format!("{at}.self_attn.o_proj.weight"), square)?,
            mlp_norm: self.vector(&format!("{at}.post_attention_layernorm.weight"), hidden)?,
            mlp: match config.has_experts(layer) {
                false => Mlp::Dense(self.gated(&format!("{at}.mlp"), hidden, config.dense_mlp)?),
                true => Mlp::Experts(self.experts(&format!("{at}.mlp"), config)?),
            },
        })
    }

    fn experts(&mut self, at: &str, config: &DecoderConfig) -> Result<Experts, CheckpointError> {
        let hidden = config.hidden;
        let shared = match config.shared_mlp() {
            0 => None,
            middle => Some(self.gated(&format!("{at}.shared_experts"), hidden, middle)?),
        };
        Ok(Experts {
            router: self.matrix(&format!("{at}.gate.weight"), [config.n_experts, hidden])?,
            routed: (0..config.n_experts)
                .map(|expert| {
                    self.gated(&format!("{at}.experts.{expert}"), hidden, config.expert_mlp)
                })
                .collect::<Result<_, _>>()?,
            shared,
        })
    }

    fn gated(&mut self, at: &str, hidden: usize, middle: usize) -> Result<Gated, CheckpointError> {
        Ok(Gated {
            gate: self.matrix(&format!("{at}.gate_proj.weight"), [middle, hidden])?,
            up: self.matrix(&format!("{at}.up_proj.weight"), [middle, hidden])?,
            down: self.matrix(&format!("{at}.down_proj.weight"), [hidden, middle])?,
        })
    }
}
