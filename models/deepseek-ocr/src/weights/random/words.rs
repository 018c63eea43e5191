//! A tokenizer for checkpoints without meaning: byte-level, with the published markers, and made-up
//! words where the published one has words, so that what such a model writes is text.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::config::ModelConfig;

/// Markers in the published order; the first is the image's slot, and the others follow it.
const MARKERS: [&str; 12] = [
    "<image>",
    "<|ref|>",
    "<|/ref|>",
    "<|det|>",
    "<|/det|>",
    "<|grounding|>",
    "<td>",
    "</td>",
    "<tr>",
    "</tr>",
    "<|User|>",
    "<|Assistant|>",
];

/// A `tokenizer.json` with a token for every id; none where the vocabulary has too few ids for
/// bytes and markers.
pub(super) fn tokenizer_json(config: &ModelConfig) -> Option<Value> {
    let n_ids = u32::try_from(config.decoder.vocabulary).ok()?;
    let mut free: BTreeSet<u32> = (0..n_ids).collect();
    let ids = config.tokens;
    let mut special = vec![
        ("<｜begin▁of▁sentence｜>", ids.bos),
        ("<｜end▁of▁sentence｜>", ids.eos),
    ];
    for (_, id) in &special {
        free.remove(id);
    }
    for (marker, id) in MARKERS.into_iter().zip(ids.image..) {
        let id = if free.remove(&id) {
            id
        } else {
            free.pop_last()?
        };
        special.push((marker, id));
    }
    let mut vocabulary: Map<String, Value> = special
        .iter()
        .map(|(token, id)| ((*token).to_owned(), json!(id)))
        .collect();
    let ordinary = (0..=u8::MAX).map(|byte| character(byte).to_string());
    if free.len() < 256 {
        return None;
    }
    for (token, id) in ordinary.chain((0..).map(word)).zip(free) {
        vocabulary.insert(token, json!(id));
    }
    let added = special.iter().map(|(content, id)| {
        json!({
            "id": id,
            "content": content,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        })
    });
    Some(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true
        },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": [],
        },
    }))
}

/// The character of a byte in a byte-level vocabulary: printable ones are themselves, the others
/// follow each other from U+0100 on.
fn character(byte: u8) -> char {
    let number = u32::from(byte);
    let code = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => number,
        0x00..=0x20 => 0x100 + number,
        0x7f..=0xa0 => 0x121 + number - 0x7f,
        0xad => 0x143,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The n-th word: a space and at least two letters.
fn word(n: u32) -> String {
    let mut letters = Vec::new();
    let mut rest = n + 26;
    while rest > 0 {
        letters.push(char::from(b'a' + (rest % 26) as u8));
        rest /= 26;
    }
    let letters: String = letters.iter().rev().collect();
    format!("{}{letters}", character(b' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;

    #[test]
    fn every_id_has_one_token_and_markers_their_published_ids() {
        let config = ModelConfig::published(Architecture::One);
        let made = tokenizer_json(&config).unwrap();
        let vocabulary = made["model"]["vocab"].as_object().unwrap();
        let ids: BTreeSet<u64> = vocabulary.values().filter_map(Value::as_u64).collect();
        assert_eq!(vocabulary.len(), 129_280);
        assert!(ids.into_iter().eq(0..129_280));
        for (token, id) in [
            ("<image>", 128_815),
            ("<|grounding|>", 128_820),
            ("<td>", 128_821),
        ] {
            assert_eq!(vocabulary[token], id);
        }
    }

    #[test]
    fn vocabulary_without_room_for_bytes_gets_none() {
        let mut config = ModelConfig::published(Architecture::One);
        config.decoder.vocabulary = 256;
        config.tokens.image = 250;
        assert_eq!(tokenizer_json(&config), None);
    }
}
