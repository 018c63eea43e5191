//! The tokenizer of a checkpoint: what is accepted, what comes out, what goes into a prompt.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

use std::path::{Path, PathBuf};

use deepseek_ocr::config::{
    Architecture, ClipConfig, DecoderConfig, EncoderConfig, ModelConfig, SamConfig, TokenIds,
};
use deepseek_ocr::prompt::{Prompt, Task};
use deepseek_ocr::tokenizer::{TextTokenizer, tokenizer_path};
use deepseek_ocr::weights::CheckpointError;
use proptest::prelude::*;
use quire_core::{Fault, Faulty};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tiny")
        .join(name)
}

/// A network with these ids and so many embeddings; nothing else of it matters here.
fn network(image: u32, vocabulary: usize) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::One,
        sam: SamConfig {
            width: 48,
            n_blocks: 3,
            n_heads: 4,
            global_blocks: vec![1],
            window: 7,
            patch: 16,
            mlp_ratio: 4,
            table_side: 16,
            neck: 24,
            compressor: [32, 40],
            epsilon: 1e-6,
        },
        encoder: EncoderConfig::Clip(ClipConfig {
            width: 40,
            n_blocks: 2,
            n_heads: 4,
            mlp: 160,
            table_side: 4,
            unused_patch: 14,
            epsilon: 1e-5,
        }),
        projector_input: 80,
        decoder: DecoderConfig {
            hidden: 64,
            n_layers: 3,
            n_heads: 4,
            dense_mlp: 160,
            n_dense_layers: 1,
            n_experts: 8,
            experts_per_token: 2,
            expert_mlp: 32,
            n_shared_experts: 2,
            vocabulary,
            max_positions: 8192,
            rope_theta: 10_000.0,
            epsilon: 1e-6,
        },
        tokens: TokenIds {
            bos: 0,
            eos: 1,
            image,
        },
    }
}

fn first() -> TextTokenizer {
    TextTokenizer::open(&tokenizer_path(&fixture("")), &network(500, 512)).unwrap()
}

fn second() -> TextTokenizer {
    TextTokenizer::open(&tokenizer_path(&fixture("ocr2")), &network(250, 256)).unwrap()
}

#[test]
fn any_text_comes_back_from_both_small_vocabularies() {
    let texts = [
        "",
        "plain words, 12345 and year 2026",
        "<|ref|>title<|/ref|><|det|>[[12, 3, 999, 45]]<|/det|>\n# A\n",
        "<table><tr><td>1</td></tr></table>",
        "  naïve café\r\n\t日本語のテキスト 🙂\u{0}\u{7f}",
    ];
    for tokenizer in [first(), second()] {
        for text in texts {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids), text);
        }
    }
}

#[test]
fn markers_are_one_id_and_the_ends_of_text_leave_no_trace() {
    let tokenizer = first();
    for marker in ["<|ref|>", "<|/det|>", "<|grounding|>", "<td>", "</tr>"] {
        let id = tokenizer.id_of(marker).unwrap();
        assert_eq!(tokenizer.encode(marker).unwrap(), [id], "{marker}");
        assert_eq!(tokenizer.decode(&[0, id, 500, 1, 60_000]), marker);
    }
}

#[test]
fn characters_wait_for_their_last_byte() {
    let tokenizer = second();
    let ids = tokenizer.encode("aé🙂b").unwrap();
    let mut stream = tokenizer.stream();
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(pieces, ["a", "", "é", "", "", "", "🙂", "b"]);
    assert_eq!(stream.finish(), "");
    let mut cut = tokenizer.stream();
    let text: String = ids[..6].iter().map(|&id| cut.push(id)).collect();
    assert_eq!(text, "aé");
    assert_eq!(cut.finish(), "\u{FFFD}");
}

proptest! {
    #[test]
    fn streamed_text_is_the_text_of_all_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let tokenizer = first();
        // Ids of single bytes, in any order, are mostly no UTF-8.
        let alphabet: Vec<Option<u32>> = (0..=255u8).map(|byte| id_of_byte(&tokenizer, byte)).collect();
        let known: Vec<u8> = bytes.into_iter().filter(|&byte| alphabet[usize::from(byte)].is_some()).collect();
        let ids: Vec<u32> = known.iter().filter_map(|&byte| alphabet[usize::from(byte)]).collect();
        prop_assert_eq!(tokenizer.decode(&ids), String::from_utf8_lossy(&known));
    }

    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        let tokenizer = first();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids), text);
    }
}

/// The id of the token that is this byte alone.
fn id_of_byte(tokenizer: &TextTokenizer, byte: u8) -> Option<u32> {
    let plain = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = match byte {
        _ if plain => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x121 + u32::from(byte) - 0x7F,
        _ => 0x143,
    };
    tokenizer.id_of(&char::from_u32(code).unwrap().to_string())
}

#[test]
fn prompts_stand_around_the_slots() {
    let tokenizer = first();
    let id = |token: &str| tokenizer.id_of(token).unwrap();
    let prompt = Prompt::new(&tokenizer, &Task::Document, 5).unwrap();
    assert_eq!(prompt.image_range, 1..6);
    assert_eq!(prompt.ids[..6], [0, 500, 500, 500, 500, 500]);
    assert_eq!(prompt.ids[6..8], [id("Ċ"), id("<|grounding|>")]);
    assert_eq!(
        tokenizer.decode(&prompt.ids),
        "\n<|grounding|>Convert the document to markdown."
    );
    let prompt = Prompt::around(&tokenizer, "see <image>", 2, "<image>!").unwrap();
    let n_slots = prompt.ids.iter().filter(|&&id| id == 500).count();
    assert_eq!(n_slots, 2);
    assert_eq!(
        tokenizer.decode(&prompt.ids[..prompt.image_range.start]),
        "see "
    );
    assert_eq!(tokenizer.decode(&prompt.ids[prompt.image_range.end..]), "!");
}

/// The first small tokenizer after a change.
fn changed(change: impl FnOnce(&mut Value)) -> String {
    let text = std::fs::read(fixture("tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&text).unwrap();
    change(&mut json);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    let error = TextTokenizer::open(&path, &network(500, 512)).unwrap_err();
    assert_eq!(error.fault(), Fault::Config);
    error.to_string()
}

fn rename(json: &mut Value, from: &str, to: &str) {
    for token in json["added_tokens"].as_array_mut().unwrap() {
        if token["content"] == from {
            token["content"] = json!(to);
        }
    }
    let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
    let id = vocabulary.remove(from).unwrap();
    vocabulary.insert(to.to_owned(), id);
}

#[test]
fn a_wrong_tokenizer_is_refused_with_the_reason() {
    let error = changed(|json| rename(json, "<|det|>", "<|dot|>"));
    assert!(error.ends_with("lacks <|det|>"), "{error}");

    let error = changed(|json| rename(json, "<image>", "<picture>"));
    assert!(error.ends_with("lacks <image>"), "{error}");

    let error = changed(|json| {
        rename(json, "<image>", "<spare>");
        rename(json, "<|User|>", "<image>");
    });
    assert!(error.ends_with("<image> has id 510, not 500"), "{error}");

    let error = changed(|json| {
        let added = json["added_tokens"].as_array_mut().unwrap();
        added.retain(|token| token["content"] != "<|ref|>");
    });
    assert!(error.ends_with("takes <|ref|> apart"), "{error}");

    let error = changed(|json| json["pre_tokenizer"] = Value::Null);
    assert!(error.contains("not byte-level"), "{error}");

    let error = changed(|json| json["model"]["type"] = json!("Something"));
    assert!(error.contains("cannot be understood"), "{error}");

    let error = changed(|json| *json = json!([1, 2]));
    assert!(error.contains("cannot be understood"), "{error}");

    let small = network(500, 511);
    let error = TextTokenizer::open(&fixture("tokenizer.json"), &small).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("goes up to id 511, but the network has 511 embeddings"),
        "{error}"
    );

    let missing = TextTokenizer::open(&fixture("no.json"), &network(500, 512)).unwrap_err();
    assert!(matches!(missing, CheckpointError::Read { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_damaged_file_is_refused_or_still_whole(
        at in 0.0..1.0f64,
        byte in any::<u8>(),
        len in 0usize..40,
        is_cut in any::<bool>(),
    ) {
        let mut bytes = std::fs::read(fixture("tokenizer.json")).unwrap();
        let at = (at * bytes.len() as f64) as usize;
        if is_cut {
            bytes.truncate(at);
        } else {
            let end = bytes.len().min(at + len);
            bytes.splice(at..end, [byte]);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = tokenizer_path(folder.path());
        std::fs::write(&path, bytes).unwrap();
        match TextTokenizer::open(&path, &network(500, 512)) {
            Ok(tokenizer) => prop_assert!(tokenizer.encode("<|ref|>").unwrap().len() == 1),
            Err(error) => prop_assert_eq!(error.fault(), Fault::Config),
        }
    }
}

/// Ids in the published vocabulary, whose file is not part of this repository. Give its path by
/// `QUIRE_TEST_DEEPSEEK_TOKENIZER` to compare.
#[test]
fn published_vocabulary_gives_the_published_ids() {
    let Some(path) = std::env::var_os("QUIRE_TEST_DEEPSEEK_TOKENIZER") else {
        println!("skipped: QUIRE_TEST_DEEPSEEK_TOKENIZER names no tokenizer.json");
        return;
    };
    let config = network(128_815, 129_280);
    let tokenizer = TextTokenizer::open(Path::new(&path), &config).unwrap();
    let text = std::fs::read(fixture("tokenizer_cases.json")).unwrap();
    let cases: Value = serde_json::from_slice(&text).unwrap();
    for row in cases["rows"].as_array().unwrap() {
        let text = row["text"].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["ids"].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
        let without_image: Vec<u32> = ids.into_iter().filter(|&id| id != 128_815).collect();
        assert_eq!(
            tokenizer.decode(&without_image),
            text.replace("<image>", "")
        );
    }
}
