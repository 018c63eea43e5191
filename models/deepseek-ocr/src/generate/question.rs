//! What goes into a batch and what comes out.

use std::sync::Arc;
use std::time::Duration;

use burn::tensor::Tensor;
use thiserror::Error;

use super::rules::{FinishReason, Rules};

/// A prompt to answer.
#[derive(Debug, Clone)]
pub struct Question<T> {
    /// Comes back with the answer.
    pub tag: T,
    /// Embeddings `[n, hidden]`, slots of the image filled.
    pub prompt: Tensor<2>,
    /// The tokens of the prompt, `n` of them; of slots, the slot's.
    pub tokens: Vec<u32>,
    pub rules: Arc<Rules>,
}

/// An answer as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Without the token that ended it.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each token's probability.
    pub log_probabilities: Vec<f32>,
    /// Tokens worth keeping: what repeated itself stands behind them.
    pub n_kept: usize,
    pub reason: FinishReason,
    /// The answer's share of the decoder's time: each step is shared by positions computed.
    pub spent: Duration,
}

/// A question that no place is large enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a prompt of {prompt} positions does not fit: a page has {limit} for prompt and answer")]
pub struct CannotFit {
    pub prompt: usize,
    /// Positions that a page can have.
    pub limit: usize,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered<T> {
    pub tag: T,
    pub result: Result<Written, CannotFit>,
}
