//! The language model: what it is asked through, and its definition in burn for any device.
//!
//! [`Decoder`] is the seam. [`DeviceDecoder`] computes it with burn: layers of attention over a
//! cache of keys and values, and of experts; `host` has another, for the memory of the host.

mod attention;
mod block;
mod choose;
mod device;
mod kv_cache;
mod linear;
mod moe;
mod norm;
mod rope;
mod stack;

pub use device::{DeviceDecoder, DeviceOptions};

use burn::tensor::Tensor;
use thiserror::Error;

use crate::stages::Stages;

/// A place in the cache of keys and values; one page holds one while it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// There is no memory for another page now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the cache of keys and values has no place for {positions} positions now")]
pub struct CacheFull {
    pub positions: usize,
}

/// What a page adds in a step.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "a handle to a tensor; some dozens exist at a time"
)]
pub enum Input {
    /// The prompt, or the next piece of it, as embeddings `[n, hidden]`.
    Prompt(Tensor<2>),
    /// The token that was chosen last.
    Token(u32),
}

/// One page's part of a step.
#[derive(Debug, Clone)]
pub struct Row {
    pub slot: Slot,
    pub input: Input,
    /// Tokens that must not be chosen.
    pub banned: Vec<u32>,
}

/// The token chosen after a row's last position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen {
    pub token: u32,
    /// Natural logarithm of its probability among all tokens, bans aside.
    pub log_probability: f32,
}

/// A language model with a cache, asked for many pages at once.
///
/// The positions of a slot go on from where its last step ended. Rows of one step do not see each
/// other: each page's answer is the same alone and in company.
pub trait Decoder: Send {
    /// Embeddings of tokens, `[n, hidden]`, on the device where prompts are put together.
    fn embed(&self, tokens: &[u32]) -> Tensor<2>;

    /// Takes a place for a page, with room for so many positions.
    ///
    /// # Errors
    /// When the memory set aside for the cache has none left.
    fn open(&mut self, positions: usize) -> Result<Slot, CacheFull>;

    /// Makes the room of a place at least so many positions, those that it holds among them.
    ///
    /// # Errors
    /// When the memory set aside for the cache has none left; the place stays what it was.
    fn grow(&mut self, slot: Slot, positions: usize) -> Result<(), CacheFull>;

    /// Gives a place back; whatever it held is forgotten.
    fn close(&mut self, slot: Slot);

    /// Computes all rows and chooses a token for each; the host waits for the device once.
    fn step(&mut self, rows: &[Row]) -> Vec<Chosen>;

    /// Like [`Self::step`] for one row, but gives the logits at every position of its input,
    /// `[n, vocabulary]`, in f32, and keeps what is between. For comparisons.
    fn logits(&mut self, row: &Row, stages: &mut Stages) -> Tensor<2>;

    /// Positions that all places together can hold.
    fn capacity(&self) -> usize;
}
