//! Continuous batching: questions join and leave the batch at every step of the decoder.
//!
//! What a page is answered does not depend on its company. Prompts are computed in pieces whose
//! bounds follow from the prompt alone; how many pages may compute a piece in one step is what a
//! budget decides, so that pages that are being written are not kept waiting by those that come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use super::metrics::Meters;
use super::question::{Answered, CannotFit, Question, Written};
use super::rules::{FinishReason, Writing};
use crate::decoder::{Chosen, Decoder, Input, Row, Slot};

/// How wide a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSettings {
    /// Pages that are written at once.
    pub places: usize,
    /// Positions of a prompt that are computed at once.
    pub prompt_piece: usize,
    /// Positions of prompts in one step at most; one piece is always computed.
    pub prompt_budget: usize,
}

/// Steps, and how many pages took part in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Occupancy {
    pub steps: u64,
    /// Pages that took part, summed over steps.
    pub rows: u64,
    /// Pages that could have taken part, summed over steps.
    pub places: u64,
}

impl Occupancy {
    /// Rows over places, 0 to 1; 0 before the first step.
    pub fn share(&self) -> f64 {
        if self.places == 0 {
            return 0.0;
        }
        self.rows as f64 / self.places as f64
    }
}

/// Questions that wait, questions that are being answered, and the decoder that answers them.
///
/// Places in the cache are given back when the batcher is dropped, whatever happened.
#[derive(Debug)]
pub struct Batcher<'a, T> {
    decoder: Opened<'a>,
    settings: BatchSettings,
    waiting: VecDeque<Question<T>>,
    running: Vec<Running<T>>,
    meters: Meters,
    occupancy: Occupancy,
}

/// A question that has a place.
#[derive(Debug)]
struct Running<T> {
    tag: T,
    slot: Slot,
    state: State,
    writing: Writing,
    spent: Duration,
}

#[derive(Debug)]
enum State {
    /// The prompt, computed up to a position.
    Prompt { prompt: Box<Tensor<2>>, done: usize },
    /// The token to go on from.
    Token(u32),
}

impl<'a, T> Batcher<'a, T> {
    /// An empty batch.
    pub fn new(decoder: &'a mut dyn Decoder, settings: BatchSettings, meters: Meters) -> Self {
        let settings = BatchSettings {
            places: settings.places.max(1),
            prompt_piece: settings.prompt_piece.max(1),
            prompt_budget: settings.prompt_budget,
        };
        Self {
            decoder: Opened {
                decoder,
                slots: Vec::new(),
            },
            settings,
            waiting: VecDeque::new(),
            running: Vec::new(),
            meters,
            occupancy: Occupancy::default(),
        }
    }

    /// A question that waits behind all others.
    pub fn push(&mut self, question: Question<T>) {
        self.waiting.push_back(question);
    }

    /// A question that waits before all others: the rest of something that has begun.
    pub fn push_first(&mut self, question: Question<T>) {
        self.waiting.push_front(question);
    }

    /// The decoder, to embed prompts with.
    pub fn decoder(&self) -> &dyn Decoder {
        &*self.decoder.decoder
    }

    /// Questions without a place.
    pub fn n_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Questions with a place.
    pub fn n_running(&self) -> usize {
        self.running.len()
    }

    /// Places that nobody holds. The cache may have no memory for all of them.
    pub fn n_free(&self) -> usize {
        self.settings.places - self.running.len()
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Since the beginning.
    pub fn occupancy(&self) -> Occupancy {
        self.occupancy
    }

    /// Gives places to those who wait, computes one step for everybody and tells whose answer
    /// ended.
    pub fn step(&mut self) -> Vec<Answered<T>> {
        let mut answered = self.admit();
        let (rows, members) = self.rows();
        if rows.is_empty() {
            return answered;
        }
        let start = Instant::now();
        let chosen = self.decoder.decoder.step(&rows);
        let spent = start.elapsed();
        let weights: Vec<usize> = rows.iter().map(|row| weight(&row.input)).collect();
        self.count(&rows, &weights, spent);

        let all: usize = weights.iter().sum();
        let mut ended = Vec::new();
        for ((&member, chosen), weight) in members.iter().zip(chosen).zip(weights) {
            let running = &mut self.running[member];
            running.spent += spent.mul_f64(weight as f64 / all as f64);
            if let Some(reason) = running.advance(chosen, weight) {
                ended.push((member, reason));
            }
        }
        // From the back, so that the places of those before stay what they are.
        let mut left: Vec<_> = ended
            .into_iter()
            .rev()
            .map(|(member, reason)| (self.running.remove(member), reason))
            .collect();
        left.reverse();
        answered.extend(
            left.into_iter()
                .map(|(running, reason)| self.leave(running, reason)),
        );
        answered
    }

    /// Gives places in the order of waiting. Nobody overtakes: a large page would wait for ever.
    fn admit(&mut self) -> Vec<Answered<T>> {
        let mut refused = Vec::new();
        while self.n_free() > 0
            && let Some(question) = self.waiting.pop_front()
        {
            let prompt = question.tokens.len();
            let limit = self.decoder.decoder.capacity();
            let limit = question.rules.max_positions.min(limit);
            // The last token of an answer is never computed on, but is an answer's position.
            let room = limit.saturating_sub(prompt);
            let room = room.min(question.rules.max_new_tokens);
            let opened = if room == 0 || prompt == 0 {
                None
            } else {
                self.decoder.open(prompt + room)
            };
            match opened {
                Some(slot) => self.running.push(Running::new(question, slot, room)),
                None if room > 0 && prompt > 0 && !self.running.is_empty() => {
                    self.waiting.push_front(question);
                    break;
                }
                // Even an empty cache has no place for it.
                None => {
                    self.meters.answer(None, 0);
                    refused.push(Answered {
                        tag: question.tag,
                        result: Err(CannotFit { prompt, limit }),
                    });
                }
            }
        }
        refused
    }

    /// The next step's rows, and whose each is.
    fn rows(&self) -> (Vec<Row>, Vec<usize>) {
        let mut left = self.settings.prompt_budget;
        let mut any = false;
        let mut rows = Vec::with_capacity(self.running.len());
        let mut members = Vec::with_capacity(self.running.len());
        for (member, running) in self.running.iter().enumerate() {
            let row = match &running.state {
                State::Token(token) => running.next_token(*token),
                State::Prompt { prompt, done } => {
                    let [n, _] = prompt.dims();
                    let piece = self.settings.prompt_piece.min(n - done);
                    // Somebody's piece is always computed, however small the budget is.
                    if any && piece > left {
                        left = 0;
                        continue;
                    }
                    any = true;
                    left = left.saturating_sub(piece);
                    running.next_piece(prompt, *done, piece)
                }
            };
            rows.push(row);
            members.push(member);
        }
        (rows, members)
    }

    fn count(&mut self, rows: &[Row], weights: &[usize], spent: Duration) {
        let prompt_tokens = rows
            .iter()
            .zip(weights)
            .filter(|(row, _)| matches!(row.input, Input::Prompt(_)))
            .map(|(_, weight)| weight)
            .sum();
        let places = self.settings.places;
        self.occupancy.steps += 1;
        self.occupancy.rows += rows.len() as u64;
        self.occupancy.places += places as u64;
        self.meters.step(rows.len(), places, prompt_tokens, spent);
    }

    fn leave(&mut self, running: Running<T>, reason: FinishReason) -> Answered<T> {
        self.decoder.close(running.slot);
        let (tokens, log_probabilities, n_kept) = running.writing.into_parts();
        self.meters.answer(Some(reason), tokens.len());
        Answered {
            tag: running.tag,
            result: Ok(Written {
                tokens,
                log_probabilities,
                n_kept,
                reason,
                spent: running.spent,
            }),
        }
    }
}

impl<T> Running<T> {
    fn new(question: Question<T>, slot: Slot, room: usize) -> Self {
        Self {
            tag: question.tag,
            slot,
            writing: Writing::new(question.rules, &question.tokens, room),
            state: State::Prompt {
                prompt: Box::new(question.prompt),
                done: 0,
            },
            spent: Duration::ZERO,
        }
    }

    fn next_token(&self, token: u32) -> Row {
        Row {
            slot: self.slot,
            input: Input::Token(token),
            banned: self.writing.banned(),
        }
    }

    fn next_piece(&self, prompt: &Tensor<2>, done: usize, piece: usize) -> Row {
        let [n, _] = prompt.dims();
        let is_last = done + piece == n;
        Row {
            slot: self.slot,
            input: Input::Prompt(prompt.clone().narrow(0, done, piece)),
            // What is chosen within a prompt is nobody's token.
            banned: if is_last {
                self.writing.banned()
            } else {
                Vec::new()
            },
        }
    }

    /// Takes in what a step gave after `n` further positions.
    fn advance(&mut self, chosen: Chosen, n: usize) -> Option<FinishReason> {
        if let State::Prompt { prompt, done } = &mut self.state {
            *done += n;
            let [all, _] = prompt.dims();
            if *done < all {
                return None;
            }
        }
        self.state = State::Token(chosen.token);
        self.writing.push(chosen)
    }
}

/// Positions that a row computes.
fn weight(input: &Input) -> usize {
    match input {
        Input::Prompt(piece) => piece.dims()[0],
        Input::Token(_) => 1,
    }
}

/// The decoder and the places taken from it, all of which are given back.
struct Opened<'a> {
    decoder: &'a mut dyn Decoder,
    slots: Vec<Slot>,
}

impl Opened<'_> {
    fn open(&mut self, positions: usize) -> Option<Slot> {
        let slot = self.decoder.open(positions).ok()?;
        self.slots.push(slot);
        Some(slot)
    }

    fn close(&mut self, slot: Slot) {
        self.slots.retain(|&held| held != slot);
        self.decoder.close(slot);
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        for slot in std::mem::take(&mut self.slots) {
            self.decoder.close(slot);
        }
    }
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}
