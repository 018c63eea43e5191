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
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Checkpoint, CheckpointError, Examination, FileFound, Tensors, files};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// A file that had just been changed when it was read may have been changed once more within the
/// same tick of its file system's clock, and looks the same: what is remembered of it is believed
/// only if it was written down later than this.
const SETTLED: Duration = Duration::from_secs(2);

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
        let known = revision_of(&self.folder, &self.files, remembered_in)?;
        if !known.is_finite {
            if let Some(fault) = non_finite(&self.tensors).into_iter().next() {
                return Err(fault);
            }
            known.remember_finite(remembered_in);
        }
        Ok(known.revision)
    }

    /// Reads every number, and gives a fault for each tensor with numbers that are not finite.
    pub fn check_values(&self) -> Vec<CheckpointError> {
        non_finite(&self.tensors)
    }
}

impl Examination {
    /// As [`Checkpoint::check_values`], for the tensors that could be found.
    pub fn check_values(&self) -> Vec<CheckpointError> {
        non_finite(&self.tensors)
    }

    /// As [`Checkpoint::revision`], for files whose numbers were found to be finite.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn revision(&self, remembered_in: Option<&Path>) -> Result<String, CheckpointError> {
        let known = revision_of(&self.folder, &self.files, remembered_in)?;
        known.remember_finite(remembered_in);
        Ok(known.revision)
    }
}

/// A revision, and whether its numbers are known to be finite.
struct Known {
    revision: String,
    is_finite: bool,
}

impl Known {
    fn mark(&self, folder: &Path) -> PathBuf {
        folder.join("finite").join(&self.revision)
    }

    fn remember_finite(&self, remembered_in: Option<&Path>) {
        if let Some(folder) = remembered_in
            && !self.is_finite
        {
            remember(&self.mark(folder), b"");
        }
    }
}

fn revision_of(
    folder: &Path,
    files: &[FileFound],
    remembered_in: Option<&Path>,
) -> Result<Known, CheckpointError> {
    let shards = files.iter().map(|file| file.name.as_str());
    let paths = files::files_of_revision(folder, shards);
    let digests = paths
        .par_iter()
        .map(|path| file_digest(path, remembered_in));
    let digests = digests.collect::<Result<Vec<String>, CheckpointError>>()?;
    let mut hash = Sha256::new();
    for (path, digest) in paths.iter().zip(digests) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        hash.update(format!("{digest}  {name}\n"));
    }
    let mut known = Known {
        revision: hex::encode(hash.finalize()),
        is_finite: false,
    };
    known.is_finite = remembered_in.is_some_and(|folder| known.mark(folder).is_file());
    Ok(known)
}

/// A fault for each tensor with numbers that are not finite.
fn non_finite(tensors: &Tensors) -> Vec<CheckpointError> {
    let tensors: Vec<_> = tensors.values().collect();
    let faults = tensors.par_iter().filter_map(|tensor| {
        let (nan, infinite) = tensor.non_finite();
        let kinds = [
            (nan, "that are not a number"),
            (infinite, "that are infinite"),
        ];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0);
        let kinds: Vec<_> = kinds
            .map(|(count, kind)| format!("{count} {kind}"))
            .collect();
        (!kinds.is_empty()).then(|| CheckpointError::Values {
            name: tensor.name.clone(),
            what: format!("{} of {} values", kinds.join(", "), tensor.n_values()),
        })
    });
    faults.collect()
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
    let changed_at = before.modified().unwrap_or(UNIX_EPOCH);
    if let Some((found, written_at)) = entry.as_deref().and_then(recall)
        && (&found.path, found.bytes, &found.modified)
            == (&wanted.path, wanted.bytes, &wanted.modified)
        && changed_at
            .checked_add(SETTLED)
            .is_some_and(|settled| written_at >= settled)
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

/// What is remembered, and when it was written down.
fn recall(entry: &Path) -> Option<(Remembered, SystemTime)> {
    let written_at = std::fs::metadata(entry).ok()?.modified().ok()?;
    let found = serde_json::from_slice(&std::fs::read(entry).ok()?).ok()?;
    Some((found, written_at))
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
