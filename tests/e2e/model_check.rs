//! What `quire model check` says of a checkpoint before anything is read with it.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use super::command::{Scratch, finish, quire};

fn checkpoint() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/deepseek-ocr/tests/fixtures/tiny"
    ))
}

fn check(scratch: &Scratch, model: &Path, flags: &[&str], code: i32) -> Output {
    let mut command = quire();
    command
        .env("XDG_CACHE_HOME", scratch.path("cache"))
        .args(["model", "check"])
        .arg(model)
        .args(flags);
    finish(&mut command, code)
}

fn said(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn both_shrunken_models_can_be_used() {
    let scratch = Scratch::new();
    for (model, n_modes) in [(checkpoint(), 6), (checkpoint().join("ocr2"), 1)] {
        let found = said(&check(&scratch, &model, &["--values", "--json"], 0));
        assert_eq!(found["sound"], true);
        assert_eq!(found["memory"].as_array().unwrap().len(), n_modes);
        assert_eq!(found["values"]["revision"].as_str().unwrap().len(), 64);
    }
    let output = check(&scratch, &checkpoint(), &["--batch", "16"], 0);
    let text = String::from_utf8(output.stdout).unwrap();
    let last = "this checkpoint can be used, if its numbers are sound: --values reads them\n";
    assert!(text.ends_with(last), "{text}");
}

#[test]
fn spoiled_checkpoint_fails_with_everything_that_is_wrong() {
    let scratch = Scratch::new();
    let model = scratch.path("model");
    std::fs::create_dir(&model).unwrap();
    let copy = |name: &str| std::fs::copy(checkpoint().join(name), model.join(name)).unwrap();
    copy("model.safetensors.index.json");
    copy("model-00001-of-000001.safetensors");
    let config = std::fs::read_to_string(checkpoint().join("config.json")).unwrap();
    // Another vocabulary than the tensors have, wherever it stands.
    let config = config.replace("\"vocab_size\": 512", "\"vocab_size\": 640");
    std::fs::write(model.join("config.json"), config).unwrap();
    let found = said(&check(&scratch, &model, &["--json"], 1));
    assert_eq!(found["sound"], false);
    let faults: Vec<&str> = found["faults"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for part in [
        "tensor model.embed_tokens.weight has shape [512, 64], not [640, 64]",
        "tensor lm_head.weight has shape [512, 64], not [640, 64]",
        "tokenizer.json",
    ] {
        let is_said = faults.iter().any(|fault| fault.contains(part));
        assert!(is_said, "{part}: {faults:#?}");
    }
    assert_eq!(faults.len(), 3, "{faults:#?}");
}

#[test]
fn folder_that_is_not_there_is_wrong_usage() {
    let scratch = Scratch::new();
    let output = check(&scratch, &scratch.path("nowhere"), &[], 2);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("there is no checkpoint at"), "{text}");
}
