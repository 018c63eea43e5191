//! Reads pages on any machine: PP-OCRv6 small in burn, with its weights inside.

pub mod classify;
pub mod detect;
pub mod layout;
mod nn;
pub mod recognize;
mod weights;

pub use weights::WeightsError;
