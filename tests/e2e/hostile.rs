//! Everything hostile at once: it ends, and nothing is lost or said twice.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::{Scratch, finish, scripted, verify};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found)
        } else {
            found.push(path)
        }
    }
}

#[test]
fn the_hostile_corpus_ends_with_every_input_accounted_for() {
    let folders: Option<Vec<PathBuf>> = ["hostile", "edge", "containers", "scans"]
        .iter()
        .map(|part| quire_tests::corpus(part))
        .collect();
    let Some(folders) = folders else { return };
    let scratch = Scratch::new();
    let mut command = scripted(Duration::ZERO);
    command
        .arg("run")
        .args(&folders)
        .arg("--out")
        .arg(scratch.out())
        .arg("--json");
    command
        .env("QUIRE__RENDER__PAGE_TIMEOUT", "10s")
        .env("QUIRE__RENDER__OPEN_TIMEOUT", "10s");
    command.env("QUIRE__RUN__FAILED_ALLOWANCE", "1.0");
    finish(&mut command, 0);
    verify(&scratch.out());

    let sources: HashSet<String> = quire_tests::sources(&scratch.out()).unwrap();
    let mut inputs = Vec::new();
    folders.iter().for_each(|folder| files(folder, &mut inputs));
    let missing: Vec<&PathBuf> = inputs
        .iter()
        .filter(|path| !sources.contains(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    assert!(missing.is_empty(), "no row in documents: {missing:#?}");
}
