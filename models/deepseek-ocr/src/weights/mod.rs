//! The checkpoint: its files, mapped into memory, and its tensors by their published names.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use quire_core::{Fault, Faulty};
use thiserror::Error;

/// How a tensor is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is no checkpoint file: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("{path}: {reason}")]
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
    #[error("tokenizer {path}: {reason}")]
    Tokenizer { path: PathBuf, reason: String },
}

impl Faulty for CheckpointError {
    fn fault(&self) -> Fault {
        match self {
            Self::Read { .. } => Fault::Unavailable,
            _ => Fault::Config,
        }
    }
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

// Checkpoint::open(dir) -> Result<Checkpoint, CheckpointError>
// Checkpoint::{config() -> &ModelConfig, weights(&self) -> Weights, tensor(name), revision()}
// Weights::take(&mut self, name, shape: &[usize]) -> Result<StoredTensor, CheckpointError>
// Weights::finish(self) -> Result<(), CheckpointError>      refuses what nobody took
// StoredTensor::{to_f32() -> Vec<f32>, to_tensor<const D>(&Device, DType) -> Tensor<D>}
