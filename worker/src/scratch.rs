//! The worker's own folder on this machine's disk. Several workers may share the parent: each
//! holds a lock on a file in its own folder, and whoever starts removes the folders of dead ones.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Names of workers' folders start so...
const PREFIX: &str = "quire-worker-";
/// ...except while they are not locked yet, when they look like those of dead workers.
const STARTING: &str = ".quire-worker-starting-";
/// Locked by the worker that the folder belongs to.
const LOCK: &str = ".lock";

/// A folder that nobody else uses; removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    /// Held until the folder is gone.
    _lock: File,
}

impl Scratch {
    /// Makes a folder in `parent`, which is made if it is missing, and removes what workers that
    /// are dead left there.
    ///
    /// # Errors
    /// When the parent cannot be written.
    pub(crate) fn open(parent: &Path) -> Result<Self> {
        let wrong = |source| Error::Scratch {
            path: parent.display().to_string(),
            source,
        };
        std::fs::create_dir_all(parent).map_err(wrong)?;
        remove_dead(parent);
        let id = uuid::Uuid::new_v4();
        let unlocked = parent.join(format!("{STARTING}{id}"));
        std::fs::create_dir(&unlocked).map_err(wrong)?;
        let lock = File::create(unlocked.join(LOCK)).map_err(wrong)?;
        lock.lock().map_err(wrong)?;
        let folder = parent.join(format!("{PREFIX}{}-{id}", std::process::id()));
        std::fs::rename(&unlocked, &folder).map_err(wrong)?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::debug!(%error, "the scratch folder stays behind; the next worker removes it");
        }
    }
}

/// What cannot be looked at or removed stays: it is in nobody's way but the disk's.
fn remove_dead(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let folder = entry.path();
        let is_dead = match File::open(folder.join(LOCK)).map(|lock| lock.try_lock()) {
            Ok(Ok(())) => true,
            Ok(Err(TryLockError::WouldBlock | TryLockError::Error(_))) => false,
            // Its worker died before it could lock, or removed half of it.
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if !is_dead {
            continue;
        }
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => tracing::info!(folder = %folder.display(), "removed what a dead worker left"),
            Err(error) => {
                tracing::debug!(%error, folder = %folder.display(), "cannot remove what a dead worker left");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_workers_go_and_those_of_living_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("quire-worker-1-dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), "").unwrap();
        std::fs::write(dead.join("part"), "bytes").unwrap();
        let torn = parent.path().join("quire-worker-2-torn");
        std::fs::create_dir(&torn).unwrap();
        let of_others = parent.path().join("mine");
        std::fs::create_dir(&of_others).unwrap();
        let living = Scratch::open(parent.path()).unwrap();
        let second = Scratch::open(parent.path()).unwrap();
        assert!(!dead.exists() && !torn.exists());
        assert!(of_others.exists() && living.path().exists() && second.path().exists());
        let folder = living.path().to_owned();
        drop(living);
        assert!(!folder.exists() && second.path().exists());
    }
}
