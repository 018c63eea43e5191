//! DeepSeek-OCR in burn: a page becomes a few hundred vision tokens, and a decoder of experts
//! writes it out as Markdown with boxes.
//!
//! A page's way through this crate:
//!
//! 1. `preprocess`: the page as a global view and tiles, pixel for pixel as the model was trained;
//! 2. `vision`: views to vectors, in the order of the prompt's image slots;
//! 3. `tokenizer`, `prompt`: the question around them;
//! 4. `decoder`, `host`: the language model, on any burn device or in host memory;
//! 5. `generate`: many pages at once, each ended by its own rules;
//! 6. `output`: what was written becomes blocks and Markdown.
//!
//! [`DeepSeekOcr`] is all of it as an engine. Names and numbers are those of the published
//! checkpoints (`deepseek-ai/DeepSeek-OCR`, arXiv 2510.18234; `deepseek-ai/DeepSeek-OCR-2`,
//! arXiv 2601.20552).

pub mod config;
pub mod decoder;
mod engine;
pub mod generate;
pub mod host;
pub mod output;
pub mod parity;
pub mod preprocess;
pub mod prompt;
pub mod stages;
pub mod tokenizer;
pub mod vision;
pub mod weights;

pub use engine::{DeepSeekOcr, DeepSeekOptions, LoadReport, NgramSetting, named_with};
