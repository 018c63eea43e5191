//! Text to token ids and back, with the checkpoint's own `tokenizer.json`.
