//! Many pages at once through one decoder, each ended by its own rules.
//!
//! A question (a prompt with a page's vectors in it) waits in the [`Batcher`] until there is a
//! place and memory for it, takes part in every step of the decoder from then on, and leaves at
//! the step that ends its answer. What ends an answer is in [`Rules`]; what the next token must
//! not be, in [`NgramBlock`].

mod batcher;
mod echoes;
pub mod metrics;
mod ngram;
mod question;
mod repetition;
mod rules;

pub use batcher::{BatchSettings, Batcher, Occupancy};
pub use ngram::{NgramBlock, Ngrams};
pub use question::{Answered, CannotFit, Question, Written};
pub use repetition::{RepetitionWatch, WatchedTokens};
pub use rules::{FinishReason, Rules, Writing};
