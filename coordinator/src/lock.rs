//! One run at a time on an output: a lock of the operating system on a file, which ends with its
//! process however that ends.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// Held as long as it lives.
#[derive(Debug)]
pub struct ExclusiveLock {
    _file: File,
}

impl ExclusiveLock {
    /// Takes the lock on `file`, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Locked`] at once if another process has it.
    pub fn take(file: &Path) -> Result<Self> {
        let failed = |action| {
            move |source| Error::Local {
                action,
                path: file.to_owned(),
                source,
            }
        };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
        }
        let opened = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(file)
            .map_err(failed("open"))?;
        match opened.try_lock() {
            Ok(()) => Ok(Self { _file: opened }),
            Err(TryLockError::WouldBlock) => Err(Error::Locked {
                path: file.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_refused_until_the_first_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("OUT.quire/lock");
        let first = ExclusiveLock::take(&file).unwrap();
        let refused = ExclusiveLock::take(&file).unwrap_err();
        assert!(matches!(&refused, Error::Locked { path } if *path == file));
        assert!(refused.to_string().contains("another run"));
        drop(first);
        ExclusiveLock::take(&file).unwrap();
    }
}
