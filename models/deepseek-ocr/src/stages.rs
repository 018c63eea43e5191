//! Values on the way through the network, kept for whoever compares them with a reference.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};

/// Keeps intermediate values by the names of the parity fixtures, such as `global.sam_block_0` or
/// `router_1.scores`, or lets them pass.
#[derive(Debug, Default)]
pub struct Stages {
    kept: Option<BTreeMap<String, TensorData>>,
    prefix: String,
}

impl Stages {
    /// Lets everything pass.
    pub fn ignored() -> Self {
        Self::default()
    }

    /// Keeps everything.
    pub fn kept() -> Self {
        Self {
            kept: Some(BTreeMap::new()),
            prefix: String::new(),
        }
    }

    /// Whether values are kept.
    pub fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Names that follow start with this, such as `global.`.
    pub fn set_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Keeps a value, if values are kept. The tensor is copied to the host only then.
    pub fn keep<const D: usize>(&mut self, name: &str, value: &Tensor<D>) {
        if let Some(kept) = &mut self.kept {
            kept.insert(format!("{}{name}", self.prefix), copied(&value.to_data()));
        }
    }

    /// Keeps a value that is on the host, if values are kept.
    pub fn keep_data(&mut self, name: &str, value: impl FnOnce() -> TensorData) {
        if let Some(kept) = &mut self.kept {
            kept.insert(format!("{}{name}", self.prefix), copied(&value()));
        }
    }

    /// What was kept.
    pub fn into_kept(self) -> BTreeMap<String, TensorData> {
        self.kept.unwrap_or_default()
    }
}

/// Burn's `wgpu` hands out memory of its own, and writes to it when the next values are read
/// (cubecl 0.11).
fn copied(read: &TensorData) -> TensorData {
    TensorData::from_bytes_vec(read.as_bytes().to_vec(), read.shape().clone(), read.dtype())
}
