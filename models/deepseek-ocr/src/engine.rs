//! DeepSeek-OCR behind the engine seam.

/// What an engine is loaded with.
#[derive(Debug)]
pub struct DeepSeekOptions {}

/// Reads pages with DeepSeek-OCR.
#[derive(Debug)]
pub struct DeepSeekOcr {}
