//! Answers of many pages through one decoder: what may not be written, what ends an answer, and
//! who is written when.

#![allow(clippy::unwrap_used, reason = "test code")]

mod batcher;
mod ngram;
mod repetition;
mod scripted;
