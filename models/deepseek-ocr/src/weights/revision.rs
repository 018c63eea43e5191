//! Which checkpoint it is: SHA-256 of its files; and whether all its numbers are finite. Both need
//! every byte once, so what was found is remembered in a folder of the caller's.
//!
//! ```text
//! FOLDER/digests/{SHA-256 of the path}.json    size, time of change and SHA-256 of a file
//! FOLDER/finite/{revision}                     numbers of this revision are finite
//! ```

use std::fs::Metadata;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Checkpoint, CheckpointError, files};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// What is remembered of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    path: String,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: String,
    sha256: String,
}

impl Checkpoint {
    /// SHA-256 over names and digests of `config.json`, `tokenizer.json` and the files with
    /// tensors, in hexadecimal. All bytes are read the first time; with a folder to remember it
    /// in, files that have not changed are not read again.
    ///
    /// # Errors
    /// When a file cannot be read, or on the first time when a number is not finite.
    pub fn revision(&self, remembered_in: Option<&Path>) -> Result<String, CheckpointError> {
        let shards: Vec<String> = self.files.iter().map(|file| file.name.clone()).collect();
        let paths = files::files_of_revision(&self.folder, &shards);
        let digests = paths.par_iter().map(|path| file_digest(path, remembered_in));
        let digests = digests.collect::<Result<Vec<String>, CheckpointError>>()?;
        let mut hash = Sha256::new();
        for (path, digest) in paths.iter().zip(digests) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            hash.update(format!("{digest}  {name}\n"));
        }
        let revision = hex::encode(hash.finalize());
        let mark = remembered_in.map(|folder| folder.join("finite").join(&revision));
        if mark.as_ref().is_some_and(|mark| mark.is_file()) {
            return Ok(revision);
        }
        if let Some(fault) = self.check_values().into_iter().next() {
            return Err(fault);
        }
        if let Some(mark) = mark {
            remember(&mark, b"");
        }
        Ok(revision)
    }

    /// Reads every number, and gives a fault for each tensor with numbers that are not finite.
    pub fn check_values(&self) -> Vec<CheckpointError> {
        let tensors: Vec<_> = self.tensors.values().collect();
        let faults = tensors.par_iter().filter_map(|tensor| {
            let (nan, infinite) = tensor.non_finite();
            let kinds = [(nan, "that are not a number"), (infinite, "that are infinite")];
            let kinds = kinds.iter().filter(|(count, _)| *count > 0);
            let kinds: Vec<_> = kinds.map(|(count, kind)| format!("{count} {kind}")).collect();
            (!kinds.is_empty()).then(|| CheckpointError::Values {
                name: tensor.name.clone(),
                what: format!("{} of {} values", kinds.join(", "), tensor.n_values()),
            })
        });
        faults.collect()
    }
}

/// SHA-256 of a file, in hexadecimal; remembered by path, size and time of change.
///
/// # Errors
/// When the file cannot be read, or changes while it is.
pub fn file_digest(path: &Path, remembered_in: Option<&Path>) -> Result<String, CheckpointError> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let read = |source| CheckpointError::Read {
        path: path.clone(),
        source,
    };
    let before = std::fs::metadata(&path).map_err(read)?;
    let mut wanted = Remembered {
        path: path.display().to_string(),
        bytes: before.len(),
        modified: modified(&before),
        sha256: String::new(),
    };
    let entry = remembered_in.map(|folder| entry_of(folder, &path));
    if let Some(found) = entry.as_deref().and_then(recall)
        && (&found.path, found.bytes, &found.modified)
            == (&wanted.path, wanted.bytes, &wanted.modified)
    {
        return Ok(found.sha256);
    }
    wanted.sha256 = digest(&path)?;
    let after = std::fs::metadata(&path).map_err(read)?;
    if after.len() != wanted.bytes || modified(&after) != wanted.modified {
        return Err(CheckpointError::Damaged {
            path,
            reason: "it changes while it is read".to_owned(),
        });
    }
    if let Some(entry) = entry
        && let Ok(text) = serde_json::to_vec(&wanted)
    {
        remember(&entry, &text);
    }
    Ok(wanted.sha256)
}

fn digest(path: &Path) -> Result<String, CheckpointError> {
    let read = |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    };
    let (mut file, _) = files::open_regular(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).map_err(read)? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(&piece[..n]),
        }
    }
}

fn modified(metadata: &Metadata) -> String {
    let since = metadata.modified().ok();
    let since = since.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since = since.unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

fn entry_of(folder: &Path, path: &Path) -> PathBuf {
    let name = hex::encode(Sha256::digest(path.as_os_str().as_bytes()));
    folder.join("digests").join(format!("{name}.json"))
}

fn recall(entry: &Path) -> Option<Remembered> {
    serde_json::from_slice(&std::fs::read(entry).ok()?).ok()
}

/// Writes a file whole or not at all. What cannot be remembered costs time and nothing else.
fn remember(path: &Path, bytes: &[u8]) {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let unfinished = path.with_extension(format!("{}.unfinished", std::process::id()));
        std::fs::File::create(&unfinished)?.write_all(bytes)?;
        std::fs::rename(&unfinished, path)
    };
    if let Err(error) = write() {
        tracing::warn!(path = %path.display(), %error, "cannot remember what was found of a file");
    }
}
