//! What ends an answer.

use std::sync::Arc;

use super::ngram::{NgramBlock, Ngrams};
use super::repetition::{RepetitionWatch, WatchedTokens};
use crate::decoder::Chosen;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model said so.
    Stop,
    /// As long as it may become.
    Length,
    /// It repeated itself and was cut.
    Repetition,
}

impl FinishReason {
    /// As written in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Repetition => "repetition",
        }
    }
}

/// How answers are written and ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The token that ends an answer.
    pub eos: u32,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    /// Prompt and answer together at most: 8,192.
    pub max_positions: usize,
    /// What must not be repeated.
    pub ngrams: NgramBlock,
    /// Never chosen, such as the slot of an image, which means nothing in an answer.
    pub never: Vec<u32>,
    /// Whether an answer that repeats itself is cut.
    pub cut_repetition: bool,
    /// Tokens that repetition means something else for.
    pub watched: WatchedTokens,
}

/// An answer that is being written.
#[derive(Debug, Clone)]
pub struct Writing {
    rules: Arc<Rules>,
    room: usize,
    ngrams: Ngrams,
    watch: Option<RepetitionWatch>,
    tokens: Vec<u32>,
    log_probabilities: Vec<f32>,
    kept: Option<usize>,
}

impl Writing {
    /// Before the first token of an answer to `prompt`, which may become `room` tokens long.
    pub fn new(rules: Arc<Rules>, prompt: &[u32], room: usize) -> Self {
        let watch = rules
            .cut_repetition
            .then(|| RepetitionWatch::new(rules.watched.clone()));
        Self {
            room,
            ngrams: Ngrams::new(&rules.ngrams, prompt),
            watch,
            tokens: Vec::new(),
            log_probabilities: Vec::new(),
            kept: None,
            rules,
        }
    }

    /// Tokens that must not come next.
    pub fn banned(&self) -> Vec<u32> {
        let mut banned = self.rules.never.clone();
        self.ngrams.banned(&mut banned);
        banned
    }

    /// A token was chosen. The token that ends the answer does not become part of it.
    pub fn push(&mut self, chosen: Chosen) -> Option<FinishReason> {
        if chosen.token == self.rules.eos {
            return Some(FinishReason::Stop);
        }
        self.tokens.push(chosen.token);
        self.log_probabilities.push(chosen.log_probability);
        self.ngrams.push(chosen.token);
        if let Some(watch) = &mut self.watch {
            self.kept = watch.push(chosen.token);
            if self.kept.is_some() {
                return Some(FinishReason::Repetition);
            }
        }
        (self.tokens.len() >= self.room).then_some(FinishReason::Length)
    }

    /// What was written so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens, the logarithms of their probabilities, and how many stand before a repetition.
    pub(super) fn into_parts(self) -> (Vec<u32>, Vec<f32>, usize) {
        let kept = self.kept.unwrap_or(self.tokens.len());
        (self.tokens, self.log_probabilities, kept)
    }
}
