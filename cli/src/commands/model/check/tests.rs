//! What is said of a checkpoint that can be used, and of one that is spoiled in many ways.

use std::fs;

use super::*;
use crate::commands::model::report::{as_json, as_text};

fn tiny() -> PathBuf {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/deepseek-ocr/tests");
    PathBuf::from(tests).join("fixtures/tiny")
}

fn args(mode: Option<&str>, values: bool) -> ModelCheckArgs {
    ModelCheckArgs {
        model: String::new(),
        mode: mode.map(str::to_owned),
        batch: 4,
        values,
    }
}

fn checked(folder: &Path, args: &ModelCheckArgs) -> Checked {
    let cache = tempfile::tempdir().unwrap();
    check(folder, args, cache.path()).unwrap()
}

#[test]
fn sound_checkpoint_is_told_part_by_part() {
    let checked = checked(&tiny(), &args(None, true));
    assert!(checked.is_sound());
    let text = as_text(&checked);
    for part in [
        "network     DeepseekOCRForCausalLM, as deepseek-ai/DeepSeek-OCR",
        "file        model-00001-of-000001.safetensors",
        "166 tensors",
        "tokenizer   fits the network",
        "embedding   32,768 values in 1 tensor, bf16",
        "revision    ",
        "Memory for 4 pages",
        "gundam-m ",
        "this checkpoint can be used",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = as_json(&checked);
    assert_eq!(json["sound"], true);
    assert_eq!(json["memory"].as_array().unwrap().len(), 6);
    assert_eq!(json["groups"][4]["stored"]["bf16"], 1);
    assert_eq!(json["values"]["revision"].as_str().unwrap().len(), 64);
}

#[test]
fn every_fault_of_a_spoiled_checkpoint_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors.index.json"] {
        fs::copy(tiny().join(name), folder.path().join(name)).unwrap();
    }
    let shard = "model-00001-of-000001.safetensors";
    let whole = fs::read(tiny().join(shard)).unwrap();
    fs::write(folder.path().join(shard), &whole[..whole.len() - 2]).unwrap();
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let checked = checked(folder.path(), &args(Some("tiny"), true));
    assert!(!checked.is_sound());
    let text = as_text(&checked);
    for part in [
        "it ends 2 bytes early",
        "BROKEN      tokenizer",
        "2 faults: this checkpoint",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json = as_json(&checked);
    assert_eq!(json["sound"], false);
    assert_eq!(json["faults"].as_array().unwrap().len(), 2);
    assert_eq!(json["memory"].as_array().unwrap().len(), 1);
}

#[test]
fn folder_without_a_network_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let checked = checked(folder.path(), &args(None, false));
    assert!(!checked.is_sound());
    assert!(as_text(&checked).contains("config.json"));
}

#[test]
fn mode_that_the_model_does_not_have_is_wrong_usage() {
    let cache = tempfile::tempdir().unwrap();
    let failure = check(&tiny(), &args(Some("huge"), false), cache.path()).unwrap_err();
    assert_eq!(failure.exit_code, 2);
    assert!(
        failure
            .report()
            .contains("tiny, small, base, large, gundam, gundam-m")
    );
}
