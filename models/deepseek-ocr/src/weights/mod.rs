//! The checkpoint: its files, mapped into memory, and its tensors by their published names.
//!
//! - `files`: which files hold tensors, their headers, and the memory map;
//! - `expected`: every tensor of a network with its shape;
//! - `examine`: what a folder holds and all that is wrong with it;
//! - `tensor`: stored numbers as f32 or as tensors of a device;
//! - `revision`: SHA-256 of the files, and whether their numbers are finite, found once;
//! - `memory`: what a network takes, by mode and batch;
//! - `random`: checkpoints without meaning, for measurements.
//!
//! [`Checkpoint::open`] refuses what is damaged, missing, left over or of another shape; a network
//! then takes its tensors from [`Weights`], which refuses in turn what nobody took.

mod examine;
mod expected;
mod files;
mod memory;
pub mod random;
mod revision;
mod tensor;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quire_core::{Fault, Faulty};
use thiserror::Error;

use crate::config::ModelConfig;

pub use examine::{Examination, FileFound, GroupFound, examine};
pub use expected::{ExpectedTensor, Group, expected_tensors};
pub use files::{CONFIG_FILE, INDEX_FILE, SINGLE_FILE, TOKENIZER_FILE, shard_names};
pub use memory::{Computed, MemoryNeed, memory_need, most_vision_slots};
pub use revision::file_digest;

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoredType {
    Bf16,
    F16,
    F32,
}

/// Bytes of a mapped file. A clone shares the map.
#[derive(Debug, Clone)]
pub struct MappedBytes {
    pub(crate) map: Arc<memmap2::Mmap>,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

impl Deref for MappedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.start..][..self.len]
    }
}

/// One tensor of a checkpoint; nothing is read before it is asked for.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    pub name: String,
    pub stored: StoredType,
    /// As in the file: linear weights are `[out, in]`, convolutions `[out, in, kh, kw]`.
    pub shape: Vec<usize>,
    /// Little-endian, row-major.
    pub bytes: MappedBytes,
}

/// A checkpoint that cannot be used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is no whole checkpoint file: {reason}", .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{}: {reason}", .path.display())]
    Config { path: PathBuf, reason: String },
    #[error("the checkpoint lacks {}", list(.names))]
    Missing { names: Vec<String> },
    #[error("the checkpoint holds tensors that this network does not know: {}", list(.names))]
    Unknown { names: Vec<String> },
    #[error("tensor {name} has shape {found:?}, not {wanted:?}")]
    Shape {
        name: String,
        found: Vec<usize>,
        wanted: Vec<usize>,
    },
    #[error("tensor {name} holds {what}")]
    Values { name: String, what: String },
    #[error("tokenizer {}: {reason}", .path.display())]
    Tokenizer { path: PathBuf, reason: String },
}

impl Faulty for CheckpointError {
    fn fault(&self) -> Fault {
        match self {
            // A file that is not there will not come by waiting for it.
            Self::Read { source, .. } if is_lasting(source.kind()) => Fault::Config,
            Self::Read { .. } => Fault::Unavailable,
            _ => Fault::Config,
        }
    }
}

fn is_lasting(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{
        InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied,
    };
    matches!(
        kind,
        NotFound | PermissionDenied | NotADirectory | IsADirectory | InvalidInput
    )
}

/// The first names and how many follow.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The tensors of a checkpoint by name.
type Tensors = BTreeMap<String, StoredTensor>;

/// A folder whose files hold exactly the tensors of a network. A clone shares the maps.
///
/// Its files are mapped, not read: memory is taken when a tensor is used, and may be given back by
/// the system. They must not change while the process runs (see `files`).
#[derive(Debug, Clone)]
pub struct Checkpoint {
    folder: PathBuf,
    config: ModelConfig,
    files: Vec<FileFound>,
    tensors: Arc<Tensors>,
}

impl Checkpoint {
    /// Opens a folder with `config.json` and safetensors files (those of
    /// `model.safetensors.index.json`, or the only one), and checks that every tensor of the
    /// network is there in its shape and no other.
    ///
    /// # Errors
    /// The first fault of [`examine`].
    pub fn open(folder: &Path) -> Result<Self, CheckpointError> {
        examine(folder).into_checkpoint()
    }

    /// The network.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its tokenizer lies, if it has one.
    pub fn tokenizer_file(&self) -> PathBuf {
        self.folder.join(TOKENIZER_FILE)
    }

    /// Files that hold its tensors.
    pub fn files(&self) -> &[FileFound] {
        &self.files
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<StoredTensor> {
        self.tensors.get(name).cloned()
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &StoredTensor> {
        self.tensors.values()
    }

    /// Bytes of all tensors as they are stored.
    pub fn stored_bytes(&self) -> u64 {
        let bytes = self
            .tensors
            .values()
            .map(|tensor| tensor.bytes.len() as u64);
        bytes.sum()
    }

    /// Tensors for networks to take.
    pub fn weights(&self) -> Weights {
        Weights {
            tensors: self.tensors.clone(),
            taken: BTreeSet::new(),
        }
    }
}

/// The tensors of a checkpoint, being taken by networks.
#[derive(Debug)]
pub struct Weights {
    tensors: Arc<Tensors>,
    taken: BTreeSet<String>,
}

impl Weights {
    /// Takes a tensor, which must have exactly this shape.
    ///
    /// # Errors
    /// When there is none of this name, or it has another shape.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<StoredTensor, CheckpointError> {
        let Some(tensor) = self.tensors.get(name) else {
            let names = vec![name.to_owned()];
            return Err(CheckpointError::Missing { names });
        };
        if tensor.shape != shape {
            return Err(CheckpointError::Shape {
                name: name.to_owned(),
                found: tensor.shape.clone(),
                wanted: shape.to_vec(),
            });
        }
        self.taken.insert(name.to_owned());
        Ok(tensor.clone())
    }

    /// Ends the loading of a whole network.
    ///
    /// # Errors
    /// When tensors are left that no part of the network took.
    pub fn finish(self) -> Result<(), CheckpointError> {
        let left = self
            .tensors
            .keys()
            .filter(|name| !self.taken.contains(*name));
        let names: Vec<String> = left
            .filter(|name| !expected::is_unused(name))
            .cloned()
            .collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(CheckpointError::Unknown { names })
        }
    }
}
