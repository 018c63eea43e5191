//! Where the files of a version are written before they are in their place.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::area::{JobArea, Output};
use crate::error::{Error, Result};
use crate::paths::in_job;

const PREFIX: &str = "build-";
/// Held locked by whoever writes into the folder: the lock ends with its process, so a folder
/// whose lock is free was left behind by a crash.
const LOCK: &str = "lock";

/// A folder of its own for one attempt. It goes when it is dropped.
pub(crate) struct BuildFolder {
    folder: tempfile::TempDir,
    _lock: File,
    /// The folder itself becomes the version's: the dataset is on this machine.
    pub(crate) is_renamed: bool,
}

impl BuildFolder {
    /// Makes a folder beside the dataset, or in `scratch` if the dataset is in an object store,
    /// and removes what crashed attempts left there.
    pub(crate) fn make(output: &Output, owner: &JobArea, scratch: &Path) -> Result<Self> {
        let seals = owner.place.file(in_job::SEALS.trim_end_matches('/'));
        let is_renamed = output.folder().is_some() && seals.is_some();
        let above: PathBuf = match seals {
            Some(seals) if is_renamed => seals,
            _ => scratch.to_owned(),
        };
        std::fs::create_dir_all(&above).map_err(Error::file("create", &above))?;
        remove_abandoned(&above);
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&above)
            .map_err(Error::file("create", &above))?;
        let path = folder.path().join(LOCK);
        let lock = File::create(&path).map_err(Error::file("create", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(Self {
            folder,
            _lock: lock,
            is_renamed,
        })
    }

    /// Stands for the version's own folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

fn remove_abandoned(above: &Path) {
    let Ok(entries) = std::fs::read_dir(above) else {
        return;
    };
    for entry in entries.flatten() {
        let is_build = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Ok(lock) = File::open(entry.path().join(LOCK)) else {
            continue;
        };
        if is_build && lock.try_lock().is_ok() {
            let folder = entry.path();
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "left by a crash, and stays");
            }
        }
    }
}
