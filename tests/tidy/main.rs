//! House rules that a compiler does not check: every file says what it is for, and the arrows
//! between crates point only where ARCHITECTURE.md draws them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CRATES: &[&str] = &[
    "core",
    "proto",
    "corpus",
    "dataset",
    "layout",
    "models/pp-ocr",
    "models/deepseek-ocr",
    "kernels",
    "coordinator",
    "worker",
    "cli",
    "tests",
];

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with("generated") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in CRATES {
        sources(&root().join(name), &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let silent: Vec<PathBuf> = all_sources()
        .into_iter()
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            // A crate's README may be its documentation.
            let openings = ["//!", "#![doc = include_str!("];
            !openings.iter().any(|opening| text.starts_with(opening))
        })
        .collect();
    assert!(silent.is_empty(), "no module comment: {silent:#?}");
}

#[test]
fn no_stub_stays_behind() {
    let stubs: Vec<PathBuf> = all_sources()
        .into_iter()
        .filter(|path| !path.ends_with("tidy/main.rs"))
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            ["todo!(", "unimplemented!(", "#[ignore]", "//! placeholder"]
                .iter()
                .any(|stub| text.contains(stub))
        })
        .collect();
    assert!(stubs.is_empty(), "stubs: {stubs:#?}");
}

/// Crates of ours that a crate's code (not its tests) depends on.
fn arrows(name: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).unwrap();
    let dependencies = manifest
        .split("\n[dependencies]")
        .nth(1)
        .unwrap_or_default();
    let own = ["quire-", "pp-ocr", "deepseek-ocr"];
    dependencies
        .split("\n[")
        .next()
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|dependency| own.iter().any(|prefix| dependency.starts_with(prefix)))
        .map(|dependency| dependency.trim_start_matches("quire-").to_owned())
        .collect()
}

#[test]
fn arrows_between_crates_are_the_ones_drawn() {
    let check = |name: &str, allowed: &[&str]| {
        let allowed: BTreeSet<String> = allowed.iter().map(|&name| name.to_owned()).collect();
        let found = arrows(name);
        assert!(
            found.is_subset(&allowed),
            "{name} points at {found:?}, may at {allowed:?}"
        );
    };
    check("core", &[]);
    check("proto", &["core"]);
    check("corpus", &["core"]);
    check("dataset", &["core"]);
    check("layout", &["core"]);
    check("models/pp-ocr", &["core", "layout", "kernels"]);
    check("kernels", &[]);
    check("models/deepseek-ocr", &["core", "layout", "kernels"]);
    check("coordinator", &["core", "proto", "corpus", "dataset"]);
    check(
        "worker",
        &["core", "proto", "corpus", "dataset", "layout", "pp-ocr"],
    );
}

#[test]
fn the_stages_of_the_pipeline_stand_in_the_order_pages_take() {
    let pipeline = fs::read_to_string(root().join("worker/src/pipeline/mod.rs")).unwrap();
    let stages = [
        "mod unpack;",
        "mod render;",
        "mod recognize;",
        "mod write;",
        "mod upload;",
    ];
    let places: Vec<usize> = stages
        .iter()
        .map(|stage| {
            pipeline
                .find(stage)
                .unwrap_or_else(|| panic!("{stage} is missing"))
        })
        .collect();
    assert!(places.is_sorted(), "{stages:?} stand at {places:?}");
}

/// Names of metrics in a text, each standing after `before`.
fn metrics(text: &str, before: char) -> BTreeSet<String> {
    let lead = format!("{before}quire_");
    text.match_indices(&lead)
        .map(|(at, _)| {
            let name = &text[at + before.len_utf8()..];
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            name[..name.find(|c| !is_name(c)).unwrap_or(name.len())].to_owned()
        })
        .collect()
}

#[test]
fn operations_name_every_metric_and_no_other() {
    let mut declared = BTreeSet::new();
    for path in all_sources() {
        if path.ends_with("metrics.rs") {
            declared.extend(metrics(&fs::read_to_string(path).unwrap(), '"'));
        }
    }
    assert!(declared.len() > 20, "the declarations were not found");
    let operations = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    assert_eq!(metrics(&operations, '`'), declared);
}
