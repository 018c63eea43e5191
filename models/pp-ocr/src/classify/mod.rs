//! Telling lines that are upside down.

mod network;

pub use network::AngleClassifier;
