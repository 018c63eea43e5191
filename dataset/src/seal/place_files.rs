//! Brings the finished files of a version to where readers will look for them.

use std::path::Path;

use crate::area::{Output, sync_folder};
use crate::error::{Error, Result};
use crate::paths;
use crate::place::hash_file;
use crate::seal::build::BuiltFile;
use crate::version::FileEntry;

/// Writes a finished file to an object store, and looks at what the store has then.
pub(crate) async fn upload(output: &Output, built: &BuiltFile) -> Result<()> {
    let path = &built.entry.path;
    output.place.upload(path, &built.file).await?;
    match output.place.size(path).await? {
        Some(bytes) if bytes == built.entry.bytes => Ok(()),
        Some(bytes) => Err(Error::corrupt(
            path,
            format!("has {bytes} bytes after its upload"),
        )),
        None => Err(Error::corrupt(path, "is missing after its upload")),
    }
}

/// Renames the built folder to the version's own, so that its files appear all at once. Where
/// the two are on different disks, each file is copied and then appears by itself.
pub(crate) async fn rename(
    output: &Output,
    version: u64,
    built: &Path,
    files: &[BuiltFile],
) -> Result<()> {
    let key = paths::version_data(version);
    let Some(target) = output.place.file(key.trim_end_matches('/')) else {
        return Err(Error::Bug(
            "a folder cannot be renamed into an object store".to_owned(),
        ));
    };
    if files.is_empty() {
        return Ok(());
    }
    if let Some(folder) = target.parent() {
        std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    }
    if target.is_dir() {
        if holds_all(&target, &key, files)? {
            return Ok(());
        }
        // What lies there was never committed: a crash cut its copying short.
        let aside = built.with_extension("aside");
        if std::fs::rename(&target, &aside).is_err() {
            std::fs::remove_dir_all(&target).map_err(Error::file("remove", &target))?;
        }
    }
    match std::fs::rename(built, &target) {
        Ok(()) => sync_folder(target.parent()).await,
        Err(error) if is_other_disk(&error) => {
            for file in files {
                upload(output, file).await?;
            }
            Ok(())
        }
        Err(error) => Err(Error::file("rename", built)(error)),
    }
}

fn is_other_disk(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::CrossesDevices
}

/// Whether a folder has exactly these files.
fn holds_all(folder: &Path, key: &str, files: &[BuiltFile]) -> Result<bool> {
    for BuiltFile { entry, .. } in files {
        let file = folder.join(entry.path.strip_prefix(key).unwrap_or(&entry.path));
        if !file.is_file() || !is_as_listed(&file, entry)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_as_listed(file: &Path, entry: &FileEntry) -> Result<bool> {
    let (bytes, sha256) = hash_file(file)?;
    Ok(bytes == entry.bytes && sha256 == entry.sha256)
}
