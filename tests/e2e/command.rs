//! Starting `quire` and looking at what it left.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A folder of its own for one test.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file below the folder `documents`.
    pub(crate) fn document(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path("documents").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn documents(&self) -> PathBuf {
        self.path("documents")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("dataset")
    }
}

/// `quire` with a scripted engine that takes so long for each page.
pub(crate) fn scripted(per_page: Duration) -> Command {
    let mut command = quire();
    command.env("QUIRE_TEST_ENGINE_MS", per_page.as_millis().to_string());
    command
}

/// `quire` as users have it.
pub(crate) fn quire() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quire-under-test"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Adds `run DOCUMENTS --out OUT --json`.
pub(crate) fn run_of(command: &mut Command, documents: &Path, out: &Path) {
    command
        .arg("run")
        .arg(documents)
        .arg("--out")
        .arg(out)
        .arg("--json");
}

/// Runs to the end and expects an exit code.
pub(crate) fn finish(command: &mut Command, code: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}\nstdout:\n{}\nstderr:\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The events that `--json` printed, by name.
pub(crate) fn events(output: &Output, name: &str) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["event"] == name)
        .collect()
}

/// Expects `quire verify` to find nothing.
pub(crate) fn verify(out: &Path) {
    finish(quire().arg("verify").arg(out), 0);
}

/// The newest version file.
pub(crate) fn version(out: &Path) -> Value {
    let mut files: Vec<PathBuf> = std::fs::read_dir(out.join("versions"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    serde_json::from_slice(&std::fs::read(files.last().unwrap()).unwrap()).unwrap()
}

/// Digests of the rows of each table, in a form that can be compared between runs.
pub(crate) fn digests(out: &Path) -> Vec<String> {
    let version = version(out);
    let mut digests: Vec<String> = version["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            format!(
                "{} {} {}",
                file["table"], file["split"], file["rows_digest"]
            )
        })
        .collect();
    digests.sort();
    digests
}

/// Waits until `condition` holds or the child has ended; says which.
pub(crate) fn wait_until(child: &mut Child, mut condition: impl FnMut() -> bool) -> bool {
    loop {
        if condition() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
