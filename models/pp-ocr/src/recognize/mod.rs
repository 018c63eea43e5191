//! Reading lines of text.

mod network;

pub use network::{Step, TextRecognizer, TextRecognizerConfig};
