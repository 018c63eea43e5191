//! Harness of the end-to-end tests: the product's own binary with a scripted engine beside the
//! real ones, documents made on the spot, what a reader finds in a dataset, and real servers and
//! processes for a fleet.

pub mod documents;
pub mod fleet;
pub mod postgres;
pub mod scripted_engine;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_cli::{EngineChoice, EngineMaker, LoadedEngines};
use quire_core::{Engine, EngineError, EngineInfo};
use quire_dataset::{Dataset, DocumentRow, Output, PageRow};
use scripted_engine::ScriptedEngine;

/// The shared corpus of real documents, if this machine has it; says so if not.
#[allow(clippy::print_stdout, reason = "a skipped test must say so")]
pub fn corpus(part: &str) -> Option<PathBuf> {
    let path =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus")).join(part);
    if path.is_dir() {
        return path.canonicalize().ok();
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// The documents that the project itself carries.
pub fn own_documents() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/documents"))
}

/// Engines for the command under test: scripted ones if `QUIRE_TEST_ENGINE_MS` says how long a
/// page takes, the product's own otherwise. `QUIRE_TEST_ENGINE_GATE` names a file that holds the
/// scripted ones up.
pub const ENGINES: EngineMaker = EngineMaker {
    load: engines,
    info: engine_info,
};

fn engines(choice: &EngineChoice) -> Result<LoadedEngines, EngineError> {
    let Some(per_page) = per_page() else {
        return (EngineMaker::OWN.load)(choice);
    };
    let gate = gate();
    let scripted = |_| {
        let engine = ScriptedEngine::new(per_page);
        let engine: Box<dyn Engine> = Box::new(match &gate {
            Some(gate) => engine.behind(gate.clone()),
            None => engine,
        });
        ("cpu".to_owned(), engine)
    };
    Ok((0..choice.n_pages()).map(scripted).collect())
}

fn engine_info(choice: &EngineChoice) -> Result<EngineInfo, EngineError> {
    match per_page() {
        Some(per_page) => Ok(ScriptedEngine::new(per_page).info().clone()),
        None => (EngineMaker::OWN.info)(choice),
    }
}

/// How long a scripted engine takes for a page, if one is asked for.
#[allow(
    clippy::disallowed_methods,
    reason = "the switch of the binary under test"
)]
fn per_page() -> Option<Duration> {
    let millis = std::env::var("QUIRE_TEST_ENGINE_MS").ok()?;
    millis.parse().ok().map(Duration::from_millis)
}

/// What holds scripted engines up, if something does.
#[allow(
    clippy::disallowed_methods,
    reason = "the switch of the binary under test"
)]
fn gate() -> Option<PathBuf> {
    std::env::var_os("QUIRE_TEST_ENGINE_GATE").map(PathBuf::from)
}

/// File names of all sources that the `documents` table of a dataset accounts for.
///
/// # Errors
/// When the dataset cannot be read.
pub fn sources(out: &Path) -> anyhow::Result<HashSet<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let documents = runtime.block_on(async {
        let output = Output::open_local(out)?;
        Dataset::open(&output)
            .await?
            .rows::<DocumentRow>()
            .collect()
            .await
    })?;
    let name = |document: DocumentRow| {
        let name = document
            .source_uri
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        percent_decoded(&name)
    };
    Ok(documents.into_iter().map(name).collect())
}

/// All pages of the newest version of a dataset.
///
/// # Errors
/// When the dataset cannot be read.
pub fn pages(out: &Path) -> anyhow::Result<Vec<PageRow>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let pages = runtime.block_on(async {
        let output = Output::open_local(out)?;
        Dataset::open(&output).await?.rows().collect().await
    })?;
    Ok(pages)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
