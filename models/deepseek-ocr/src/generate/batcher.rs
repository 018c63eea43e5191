//! Continuous batching: questions join and leave the batch at every step of the decoder.
//!
//! What a page is answered does not depend on its company. Prompts are computed in pieces whose
//! bounds follow from the prompt alone; how many pages may compute a piece in one step is what a
//! budget decides, so that pages that are being written are not kept waiting by those that come.
//!
//! Most answers end long before the longest that is allowed, so a place has room for the prompt and
//! the beginning of an answer, and grows. Where the cache is full, the page that came last gives
//! its place back and starts over once all the room that it may need is free: from the prompt,
//! since going on from what it had written would compute it in other pieces. The first page is
//! never sent back, so all end.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Positions by which the room of an answer grows.
const GROWTH: usize = 512;

/// Questions that wait, questions that are being answered, and the decoder that answers them.
///
/// Places in the cache are given back when the batcher is dropped, whatever happened.
#[derive(Debug)]
pub struct Batcher<'a, T> {
    decoder: Opened<'a>,
    settings: BatchSettings,
    waiting: VecDeque<Waiting<T>>,
    /// In the order of their coming.
    running: Vec<Running<T>>,
    /// Whether pages were sent back and none has ended since: who came now would be sent back, too.
    is_tight: bool,
    meters: Meters,
    occupancy: Occupancy,
}

/// A question without a place.
#[derive(Debug)]
struct Waiting<T> {
    question: Question<T>,
    /// Time of the decoder that was lost when it was sent back.
    spent: Duration,
    /// Whether it was sent back: it then waits for all the room that it may need.
    was_sent_back: bool,
}

/// A question that has a place.
#[derive(Debug)]
struct Running<T> {
    question: Question<T>,
    slot: Slot,
    /// Positions that the place has room for, those that are filled, and those that prompt and
    /// answer may have.
    room: usize,
    filled: usize,
    limit: usize,
    state: State,
    writing: Writing,
    spent: Duration,
}

#[derive(Debug)]
enum State {
    /// The prompt, computed as far as positions are filled.
    Prompt,
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
            is_tight: false,
            meters,
            occupancy: Occupancy::default(),
        }
    }

    /// A question that waits behind all others.
    pub fn push(&mut self, question: Question<T>) {
        self.waiting.push_back(Waiting::new(question));
    }

    /// A question that waits before all others: the rest of something that has begun.
    pub fn push_first(&mut self, question: Question<T>) {
        self.waiting.push_front(Waiting::new(question));
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
        self.make_room();
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
            && !self.is_tight
            && let Some(waiting) = self.waiting.pop_front()
        {
            let question = &waiting.question;
            let prompt = question.tokens.len();
            let limit = self.decoder.decoder.capacity();
            let limit = question.rules.max_positions.min(limit);
            // The last token of an answer is never computed on, but is an answer's position.
            let answer = limit.saturating_sub(prompt);
            let answer = answer.min(question.rules.max_new_tokens);
            let room = match waiting.was_sent_back {
                true => prompt + answer,
                false => prompt + answer.min(GROWTH),
            };
            let opened = if answer == 0 || prompt == 0 {
                None
            } else {
                self.decoder.open(room)
            };
            match opened {
                Some(slot) => {
                    let running = Running::new(waiting, slot, room, answer);
                    self.running.push(running);
                }
                None if answer > 0 && prompt > 0 && !self.running.is_empty() => {
                    self.waiting.push_front(waiting);
                    break;
                }
                // Even an empty cache has no place for it.
                None => {
                    self.meters.answer(None, 0);
                    refused.push(Answered {
                        tag: waiting.question.tag,
                        result: Err(CannotFit { prompt, limit }),
                    });
                }
            }
        }
        refused
    }

    /// Lets places grow that the next token has no room in. Where the cache is full, those that
    /// came last are sent back.
    fn make_room(&mut self) {
        let mut member = 0;
        while member < self.running.len() {
            let running = &self.running[member];
            if !running.is_full() {
                member += 1;
                continue;
            }
            let wanted = running.limit.min(running.room + GROWTH);
            if self.decoder.grow(running.slot, wanted) {
                self.running[member].room = wanted;
                member += 1;
                continue;
            }
            assert!(
                self.running.len() > 1,
                "an empty cache has room for a page: its limit is the capacity"
            );
            self.send_last_back();
        }
    }

    fn send_last_back(&mut self) {
        if let Some(running) = self.running.pop() {
            self.decoder.close(running.slot);
            self.is_tight = true;
            self.meters.sent_back();
            self.waiting.push_front(Waiting {
                question: running.question,
                spent: running.spent,
                was_sent_back: true,
            });
        }
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
                State::Prompt => {
                    let piece = running.left_of_prompt().min(self.settings.prompt_piece);
                    // Somebody's piece is always computed, however small the budget is.
                    if any && piece > left {
                        left = 0;
                        continue;
                    }
                    any = true;
                    left = left.saturating_sub(piece);
                    running.next_piece(piece)
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
        self.is_tight = false;
        let (tokens, log_probabilities, n_kept) = running.writing.into_parts();
        self.meters.answer(Some(reason), tokens.len());
        Answered {
            tag: running.question.tag,
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

impl<T> Waiting<T> {
    fn new(question: Question<T>) -> Self {
        Self {
            question,
            spent: Duration::ZERO,
            was_sent_back: false,
        }
    }
}

impl<T> Running<T> {
    /// Before the first piece of the prompt; the answer may become `answer` tokens long.
    fn new(waiting: Waiting<T>, slot: Slot, room: usize, answer: usize) -> Self {
        let Waiting {
            question, spent, ..
        } = waiting;
        let writing = Writing::new(Arc::clone(&question.rules), &question.tokens, answer);
        Self {
            slot,
            room,
            filled: 0,
            limit: question.tokens.len() + answer,
            state: State::Prompt,
            writing,
            question,
            spent,
        }
    }

    /// Whether the next token has no room.
    fn is_full(&self) -> bool {
        matches!(self.state, State::Token(_)) && self.filled == self.room
    }

    fn left_of_prompt(&self) -> usize {
        self.question.tokens.len() - self.filled
    }

    fn next_token(&self, token: u32) -> Row {
        Row {
            slot: self.slot,
            input: Input::Token(token),
            banned: self.writing.banned(),
        }
    }

    fn next_piece(&self, piece: usize) -> Row {
        let is_last = piece == self.left_of_prompt();
        let prompt = self.question.prompt.clone();
        Row {
            slot: self.slot,
            input: Input::Prompt(prompt.narrow(0, self.filled, piece)),
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
        self.filled += n;
        if self.filled < self.question.tokens.len() {
            return None;
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

    fn grow(&mut self, slot: Slot, positions: usize) -> bool {
        self.decoder.grow(slot, positions).is_ok()
    }

    fn close(&mut self, slot: Slot) {
        self.slots.retain(|&held| held != slot);
        self.decoder.close(slot);
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        for slot in std::mem::take(&mut self.slots) {
            // After a panic of the device this may be another, which would end the process.
            let closed = catch_unwind(AssertUnwindSafe(|| self.decoder.close(slot)));
            if closed.is_err() {
                tracing::error!(slot = slot.0, "a place could not be given back");
            }
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
