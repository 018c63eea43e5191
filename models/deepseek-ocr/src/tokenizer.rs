//! Text to token ids and back, with the checkpoint's own `tokenizer.json`.
//!
//! The published file is a byte-level BPE: a token is a run of bytes, and may end inside a
//! character. Markers such as `<|ref|>` or `<td>` are flagged special in it, so nothing here
//! leaves special tokens out: they are part of what the model writes. Only the ends of the text
//! and the image's slots leave no trace.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;
use thiserror::Error;
use tokenizers::Tokenizer;

use crate::config::{ModelConfig, TokenIds};
use crate::weights::CheckpointError;

/// Published tokenizers are 10 MB; more than this is no tokenizer.
const MAX_FILE_BYTES: u64 = 256 << 20;

const BOS: &str = "<｜begin▁of▁sentence｜>";
const EOS: &str = "<｜end▁of▁sentence｜>";
const IMAGE: &str = "<image>";
/// Markers that prompts and answers cannot do without.
const MARKERS: [&str; 5] = [
    "<|ref|>",
    "<|/ref|>",
    "<|det|>",
    "<|/det|>",
    "<|grounding|>",
];
/// Text that only comes back from a tokenizer that takes bytes as they are.
const PROBE: &str = "  Quire 2026:\n\t\\[ x^{2} \\] naïve 漢字 🙂";

/// Text that the tokenizer cannot take.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the tokenizer fails on a text of {n_bytes} bytes: {reason}")]
pub struct TokenizeError {
    pub n_bytes: usize,
    pub reason: String,
}

/// A checkpoint's tokenizer, checked against its configuration.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    tokens: TokenIds,
}

impl TextTokenizer {
    /// Opens a `tokenizer.json` and checks that it belongs to the network.
    ///
    /// # Errors
    /// When the file cannot be read, is no byte-level tokenizer, has other ids than the
    /// configuration, more tokens than the network has embeddings, or lacks a marker.
    pub fn open(path: &Path, config: &ModelConfig) -> Result<Self, CheckpointError> {
        let read = |source| CheckpointError::Read {
            path: path.to_owned(),
            source,
        };
        let refuse = |reason: String| CheckpointError::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let n_bytes = std::fs::metadata(path).map_err(read)?.len();
        if n_bytes > MAX_FILE_BYTES {
            return Err(refuse(format!("{n_bytes} bytes are too many")));
        }
        let bytes = std::fs::read(path).map_err(read)?;
        // The library panics on some damaged files.
        catch_unwind(|| Self::parsed(&bytes, config))
            .unwrap_or_else(|_| Err("cannot be understood: its parts contradict each other".into()))
            .map_err(refuse)
    }

    fn parsed(bytes: &[u8], config: &ModelConfig) -> Result<Self, String> {
        serde_json::from_slice::<IgnoredAny>(bytes)
            .map_err(|error| format!("cannot be understood: {error}"))?;
        let mut inner = Tokenizer::from_bytes(bytes)
            .map_err(|error| format!("cannot be understood: {error}"))?;
        // A limit or padding that a file brings along would change what is asked.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| error.to_string())?;
        let tokenizer = Self {
            inner,
            tokens: config.tokens,
        };
        tokenizer.check(config.decoder.vocabulary)?;
        Ok(tokenizer)
    }

    /// What speaks against using it with a network of so many embeddings.
    fn check(&self, n_embeddings: usize) -> Result<(), String> {
        for (token, wanted) in [
            (BOS, self.tokens.bos),
            (EOS, self.tokens.eos),
            (IMAGE, self.tokens.image),
        ] {
            match self.inner.token_to_id(token) {
                Some(id) if id == wanted => {}
                Some(id) => return Err(format!("{token} has id {id}, not {wanted}")),
                None => return Err(format!("lacks {token}")),
            }
        }
        let lacking: Vec<&str> = MARKERS
            .into_iter()
            .filter(|marker| self.inner.token_to_id(marker).is_none())
            .collect();
        if !lacking.is_empty() {
            return Err(format!("lacks {}", lacking.join(", ")));
        }
        let highest = self.inner.get_vocab(true).into_values().max().unwrap_or(0);
        if highest as usize >= n_embeddings {
            return Err(format!(
                "goes up to id {highest}, but the network has {n_embeddings} embeddings"
            ));
        }
        let encode = |text: &str| self.encode(text).map_err(|error| error.to_string());
        for marker in MARKERS.into_iter().chain([IMAGE]) {
            if encode(marker)?.len() != 1 {
                return Err(format!("takes {marker} apart"));
            }
        }
        let back = self.decode(&encode(PROBE)?);
        if back != PROBE {
            return Err(format!(
                "is not byte-level: {PROBE:?} comes back as {back:?}"
            ));
        }
        Ok(())
    }

    /// The ids that the network knows by number.
    pub fn token_ids(&self) -> TokenIds {
        self.tokens
    }

    /// The id of a marker such as `<td>`, if the vocabulary has it.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Ids of a text; nothing is added in front of it or behind it, markers become one id each.
    ///
    /// # Errors
    /// When an expression of the tokenizer's gives up on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(TokenizeError {
                n_bytes: text.len(),
                reason: error.to_string(),
            }),
        }
    }

    /// Text of ids, markers included. What is no UTF-8 becomes U+FFFD; ids that stand for nothing
    /// are left out, and so are the ends of the text and the image's slots.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = self.stream();
        let mut text = String::new();
        for &id in ids {
            text.push_str(&stream.push(id));
        }
        text.push_str(&stream.finish());
        text
    }

    /// Text of ids as they come.
    pub fn stream(&self) -> TextStream<'_> {
        TextStream {
            tokenizer: self,
            waiting: Vec::new(),
        }
    }

    /// Appends the bytes that an id stands for.
    fn bytes_of(&self, id: u32, bytes: &mut Vec<u8>) {
        if [self.tokens.bos, self.tokens.eos, self.tokens.image].contains(&id) {
            return;
        }
        let Some(token) = self.inner.id_to_token(id) else {
            return;
        };
        let start = bytes.len();
        for c in token.chars() {
            match byte_of(c) {
                Some(byte) => bytes.push(byte),
                None => {
                    // A token of its own, written as it is.
                    bytes.truncate(start);
                    bytes.extend_from_slice(token.as_bytes());
                    return;
                }
            }
        }
    }
}

/// The byte that a character of a byte-level vocabulary stands for: printable ones for
/// themselves, the others, in order, for characters from U+0100 on.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        // 0x00 to 0x20.
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        // 0x7F to 0xA0.
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Turns ids into text one by one. Bytes that do not complete a character wait for those that do,
/// so the pieces together are what [`TextTokenizer::decode`] gives.
#[derive(Debug, Clone)]
pub struct TextStream<'a> {
    tokenizer: &'a TextTokenizer,
    /// The beginning of a character.
    waiting: Vec<u8>,
}

impl TextStream<'_> {
    /// The text that an id completes; may be empty.
    pub fn push(&mut self, id: u32) -> String {
        self.tokenizer.bytes_of(id, &mut self.waiting);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.waiting) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.waiting.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, rest) = self.waiting.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(n_wrong) = error.error_len() else {
                        self.waiting = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.waiting = rest[n_wrong..].to_vec();
                }
            }
        }
    }

    /// What still waits, at the end of the ids.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.waiting).into_owned()
    }
}

/// Where a checkpoint's folder keeps its tokenizer.
pub fn tokenizer_path(checkpoint: &Path) -> PathBuf {
    checkpoint.join("tokenizer.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> = ('\0'..'\u{400}').filter_map(byte_of).collect();
        assert_eq!(bytes.len(), 256);
        bytes.sort_unstable();
        assert!((0..=255).eq(bytes));
        assert_eq!(byte_of('Ġ'), Some(b' '));
        assert_eq!(byte_of('Ċ'), Some(b'\n'));
        assert_eq!(byte_of('▁'), None);
    }
}
