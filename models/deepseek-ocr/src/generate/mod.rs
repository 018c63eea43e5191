//! Many pages at once through one decoder, each ended by its own rules.

pub mod ngram;
