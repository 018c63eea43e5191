//! The files of a checkpoint: which they are, what their headers promise, and their bytes.
//!
//! Nothing that a file says of itself is believed: lengths are checked against the file before
//! anything is taken from it, and no name leads out of the folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::{CheckpointError, MappedBytes, StoredTensor, StoredType};

/// What the network is.
pub const CONFIG_FILE: &str = "config.json";
/// Which file holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// The usual name of the only file with tensors, where there is no index.
pub const SINGLE_FILE: &str = "model.safetensors";
/// Text to token ids and back.
pub const TOKENIZER_FILE: &str = "tokenizer.json";

/// Text files of checkpoints take some hundred KiB, a large tokenizer 10 MiB.
const MOST_TEXT_BYTES: u64 = 64 << 20;
/// The header of the published checkpoint takes 400 KiB.
const MOST_HEADER_BYTES: u64 = 32 << 20;
const MOST_SHARDS: usize = 4096;
/// The length of the header stands before it, in so many bytes.
const LENGTH_BYTES: u64 = 8;

/// `model.safetensors.index.json`.
#[derive(Debug, Deserialize)]
struct Index {
    /// Tensor to file.
    weight_map: BTreeMap<String, String>,
}

/// Which files hold tensors.
#[derive(Debug, Default)]
pub(super) struct Shards {
    /// Names inside the folder, sorted.
    pub(super) names: Vec<String>,
    /// Tensor to file, if an index says so.
    pub(super) index: Option<BTreeMap<String, String>>,
}

/// The names of the files that an index lists, sorted.
///
/// # Errors
/// Says why this is no index, or which name is none of a file beside it.
pub fn shard_names(index: &str) -> Result<Vec<String>, String> {
    let index: Index = serde_json::from_str(index).map_err(|error| error.to_string())?;
    names_of(&index)
}

fn names_of(index: &Index) -> Result<Vec<String>, String> {
    let mut names: Vec<&String> = index.weight_map.values().collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Err("it lists no tensors".to_owned());
    }
    if names.len() > MOST_SHARDS {
        return Err(format!("it lists {} files", names.len()));
    }
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        return Err(format!(
            "it names {name:?}, which is no safetensors file beside it"
        ));
    }
    Ok(names.into_iter().cloned().collect())
}

/// Whether a name is that of a safetensors file in the same folder.
fn is_plain(name: &str) -> bool {
    let stem = name.strip_suffix(".safetensors");
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    stem.is_some_and(|stem| !stem.is_empty() && !stem.starts_with('.') && stem.chars().all(is_safe))
}

/// Finds the files of a folder that hold tensors.
pub(super) fn find_shards(folder: &Path) -> Result<Shards, CheckpointError> {
    let path = folder.join(INDEX_FILE);
    if let Some(text) = read_text_if_there(&path)? {
        let damaged = |reason: String| CheckpointError::Damaged {
            path: path.clone(),
            reason,
        };
        let index: Index = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        return Ok(Shards {
            names: names_of(&index).map_err(damaged)?,
            index: Some(index.weight_map),
        });
    }
    let read = |source| CheckpointError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let name = entry.map_err(read)?.file_name();
        if let Some(name) = name.to_str().filter(|name| is_plain(name)) {
            names.push(name.to_owned());
        }
    }
    if names.iter().any(|name| name == SINGLE_FILE) {
        names = vec![SINGLE_FILE.to_owned()];
    }
    let reason = match names.len() {
        1 => return Ok(Shards { names, index: None }),
        0 => "it holds no safetensors file".to_owned(),
        n => format!("it holds {n} safetensors files, and no {INDEX_FILE} says what they are"),
    };
    Err(CheckpointError::Damaged {
        path: folder.to_owned(),
        reason,
    })
}

/// The text of a file that must be there.
pub(super) fn read_text(path: &Path) -> Result<String, CheckpointError> {
    read_text_if_there(path)?.ok_or_else(|| CheckpointError::Read {
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

fn read_text_if_there(path: &Path) -> Result<Option<String>, CheckpointError> {
    let read = |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    };
    let damaged = |reason: String| CheckpointError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let (file, bytes) = match open_regular(path) {
        Err(CheckpointError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(None);
        }
        opened => opened?,
    };
    if bytes > MOST_TEXT_BYTES {
        return Err(damaged(format!(
            "it has {bytes} bytes, more than any such file"
        )));
    }
    let mut text = Vec::new();
    // A file that grows meanwhile must not take more memory than was allowed.
    let mut bounded = file.take(MOST_TEXT_BYTES);
    bounded.read_to_end(&mut text).map_err(read)?;
    let text = String::from_utf8(text).map_err(|_| damaged("it is no UTF-8".to_owned()))?;
    Ok(Some(text))
}

/// Opens a file and says its length. What is no regular file is refused before it is opened: a
/// pipe would wait for ever.
pub(super) fn open_regular(path: &Path) -> Result<(File, u64), CheckpointError> {
    let read = |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    };
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(CheckpointError::Damaged {
            path: path.to_owned(),
            reason: "it is no regular file".to_owned(),
        });
    }
    let file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    Ok((file, length))
}

/// A tensor as its file stores it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: MappedBytes,
}

impl Found {
    /// As a tensor of floating-point numbers, if it is one.
    pub(super) fn into_stored(self) -> Result<StoredTensor, CheckpointError> {
        let stored = match self.dtype {
            Dtype::BF16 => StoredType::Bf16,
            Dtype::F16 => StoredType::F16,
            Dtype::F32 => StoredType::F32,
            other => {
                return Err(CheckpointError::Values {
                    name: self.name,
                    what: format!("numbers of type {other}, not BF16, F16 or F32"),
                });
            }
        };
        Ok(StoredTensor {
            name: self.name,
            stored,
            shape: self.shape,
            bytes: self.bytes,
        })
    }
}

/// Maps a safetensors file and finds its tensors.
pub(super) fn open_shard(path: &Path) -> Result<(Vec<Found>, u64), CheckpointError> {
    let damaged = |reason: String| CheckpointError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let (mut file, length) = open_regular(path)?;
    let (metadata, start) = read_header(path, &mut file, length)?;
    let end = start.checked_add(metadata.data_len() as u64);
    let end = end.ok_or_else(|| damaged("its header tells of impossible lengths".to_owned()))?;
    if end > length {
        let lost = end - length;
        return Err(damaged(format!(
            "it ends {lost} bytes early: its header tells of {end} bytes, and there are {length}"
        )));
    }
    if end < length {
        let more = length - end;
        return Err(damaged(format!("{more} bytes follow the last tensor")));
    }
    let map = map(path, &file, length)?;
    let start = usize::try_from(start).map_err(|e| damaged(e.to_string()))?;
    let mut found = Vec::new();
    for name in metadata.offset_keys() {
        let Some(tensor) = metadata.info(&name) else {
            continue;
        };
        let (from, to) = tensor.data_offsets;
        found.push(Found {
            name,
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            bytes: MappedBytes {
                map: map.clone(),
                start: start + from,
                len: to - from,
            },
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((found, length))
}

/// The header, and where the data behind it starts. `safetensors` checks that tensors follow each
/// other without gaps and that each has the bytes of its shape and type.
fn read_header(
    path: &Path,
    file: &mut File,
    length: u64,
) -> Result<(Metadata, u64), CheckpointError> {
    let read = |source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    };
    let damaged = |reason: String| CheckpointError::Damaged {
        path: path.to_owned(),
        reason,
    };
    if length < LENGTH_BYTES {
        return Err(damaged(format!(
            "it ends after {length} bytes, before its header"
        )));
    }
    let mut number = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut number).map_err(read)?;
    let header = u64::from_le_bytes(number);
    if header > MOST_HEADER_BYTES {
        return Err(damaged(format!("its header would take {header} bytes")));
    }
    let start = LENGTH_BYTES + header;
    if start > length {
        return Err(damaged(format!(
            "it ends inside its header of {header} bytes, after {length} bytes"
        )));
    }
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text).map_err(read)?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("its header: {error}")))?;
    Ok((metadata, start))
}

/// Maps a whole file, which must still have the length that its header was checked against.
#[allow(unsafe_code, reason = "a memory map is unsafe, whoever makes it")]
fn map(path: &Path, file: &File, length: u64) -> Result<Arc<Mmap>, CheckpointError> {
    // SAFETY: The map is read-only and nothing in this process writes to a checkpoint: folders of
    // users are only read, and files of our own cache are written under another name and renamed
    // when they are whole, which leaves maps of older ones as they are. What no program can rule
    // out is that another process changes a file in place. Its bytes are only ever taken as
    // numbers, for which every pattern is valid, so changed bytes give other weights; and a file
    // that is cut short under the map ends this process by SIGBUS at the first access behind its
    // end, instead of giving it wrong memory. Documentation tells users to replace files of a
    // checkpoint, never to change them, while something runs with it.
    let map = unsafe { Mmap::map(file) }.map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })?;
    if map.len() as u64 != length {
        return Err(CheckpointError::Damaged {
            path: path.to_owned(),
            reason: "its length changes while it is read".to_owned(),
        });
    }
    Ok(Arc::new(map))
}

/// Paths of the files that together are the checkpoint: what it computes with, not how its
/// tensors are spread over files.
pub(super) fn files_of_revision<'a>(
    folder: &Path,
    shards: impl Iterator<Item = &'a str>,
) -> Vec<PathBuf> {
    let texts = [CONFIG_FILE, TOKENIZER_FILE]
        .into_iter()
        .map(|name| folder.join(name));
    let texts = texts.filter(|path| path.is_file());
    let shards = shards.map(|name| folder.join(name));
    texts.chain(shards).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_names_files_beside_it_only() {
        let names = |file: &str| {
            let index = serde_json::json!({ "weight_map": { "a": file, "b": file } });
            shard_names(&index.to_string())
        };
        let good = "model-00001-of-000001.safetensors";
        assert_eq!(names(good), Ok(vec![good.to_owned()]));
        for bad in [
            "../model.safetensors",
            "/etc/passwd",
            "a/b.safetensors",
            "..safetensors",
            ".safetensors",
            "model.bin",
            "",
            "a\0.safetensors",
        ] {
            assert!(names(bad).is_err(), "{bad:?}");
        }
        assert!(shard_names("{\"weight_map\": {}}").is_err());
        assert!(shard_names("{}").is_err());
        assert!(shard_names("{\"weight_map\": {\"a\": 3}}").is_err());
    }
}
