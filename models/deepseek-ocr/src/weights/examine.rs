//! What a folder holds, and everything that is wrong with it as a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::expected::{ExpectedTensor, Group, expected_tensors, is_tolerated};
use super::files::{self, CONFIG_FILE, Found, INDEX_FILE, Shards};
use super::{Checkpoint, CheckpointError, StoredTensor, StoredType, Tensors};
use crate::config::ModelConfig;

/// A file with tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFound {
    pub name: String,
    pub bytes: u64,
    pub n_tensors: usize,
}

/// What was found of a part of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFound {
    pub group: Group,
    /// Tensors that must be there.
    pub n_expected: usize,
    /// Tensors that are there in their shape.
    pub n_found: usize,
    /// Numbers in these.
    pub n_values: u64,
    /// Bytes of these, as stored.
    pub bytes: u64,
    /// How these are stored, and how many of them.
    pub stored: BTreeMap<StoredType, usize>,
}

/// What a folder holds, and what is wrong with it.
#[derive(Debug)]
pub struct Examination {
    pub folder: PathBuf,
    /// The network, if `config.json` describes one.
    pub config: Option<ModelConfig>,
    /// Files that could be opened.
    pub files: Vec<FileFound>,
    /// Nothing where the network is not known.
    pub groups: Vec<GroupFound>,
    /// Tensors that nothing needs, known by name and left alone.
    pub ignored: Vec<String>,
    /// None: the checkpoint can be used.
    pub faults: Vec<CheckpointError>,
    pub(super) tensors: Tensors,
}

impl Examination {
    /// The checkpoint, if nothing is wrong with it.
    ///
    /// # Errors
    /// The first fault.
    pub fn into_checkpoint(mut self) -> Result<Checkpoint, CheckpointError> {
        if !self.faults.is_empty() {
            return Err(self.faults.remove(0));
        }
        // A network that is not known is a fault.
        let config = self.config.ok_or_else(|| CheckpointError::Config {
            path: self.folder.join(CONFIG_FILE),
            reason: "it describes no network".to_owned(),
        })?;
        Ok(Checkpoint {
            folder: self.folder,
            config,
            files: self.files,
            tensors: Arc::new(self.tensors),
        })
    }
}

/// Looks at headers of all files, not at the numbers in them.
pub fn examine(folder: &Path) -> Examination {
    let mut found = Examination {
        folder: folder.to_owned(),
        config: None,
        files: Vec::new(),
        groups: Vec::new(),
        ignored: Vec::new(),
        faults: Vec::new(),
        tensors: Tensors::new(),
    };
    match read_config(&folder.join(CONFIG_FILE)) {
        Ok(config) => found.config = Some(config),
        Err(fault) => found.faults.push(fault),
    }
    match files::find_shards(folder) {
        Ok(shards) => {
            let all = found.open(&shards);
            found.compare(all);
        }
        Err(fault) => found.faults.push(fault),
    }
    found
}

fn read_config(path: &Path) -> Result<ModelConfig, CheckpointError> {
    let text = files::read_text(path)?;
    ModelConfig::parse(&text).map_err(|error| CheckpointError::Config {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// All tensors of the files that could be opened.
struct All {
    /// By name, each with its file.
    tensors: BTreeMap<String, (Found, String)>,
    index: Option<BTreeMap<String, String>>,
    unreadable: BTreeSet<String>,
}

impl All {
    /// Whether a tensor that was not found may lie in a file that could not be opened: the fault
    /// of the file says enough then.
    fn may_be_unreadable(&self, name: &str) -> bool {
        match &self.index {
            _ if self.unreadable.is_empty() => false,
            Some(index) => index
                .get(name)
                .is_some_and(|file| self.unreadable.contains(file)),
            None => true,
        }
    }
}

impl Examination {
    fn open(&mut self, shards: &Shards) -> All {
        let mut all = All {
            tensors: BTreeMap::new(),
            index: shards.index.clone(),
            unreadable: BTreeSet::new(),
        };
        for name in &shards.names {
            let path = self.folder.join(name);
            let (tensors, bytes) = match files::open_shard(&path) {
                Ok(opened) => opened,
                Err(fault) => {
                    all.unreadable.insert(name.clone());
                    self.faults.push(fault);
                    continue;
                }
            };
            self.files.push(FileFound {
                name: name.clone(),
                bytes,
                n_tensors: tensors.len(),
            });
            for tensor in tensors {
                let twice = all
                    .tensors
                    .insert(tensor.name.clone(), (tensor, name.clone()));
                if let Some((tensor, other)) = twice {
                    self.faults.push(CheckpointError::Damaged {
                        path: path.clone(),
                        reason: format!("it holds {}, as does {other}", tensor.name),
                    });
                }
            }
        }
        all
    }

    /// Compares what is there with what the network needs.
    fn compare(&mut self, mut all: All) {
        let Some(config) = &self.config else {
            return;
        };
        let expected = expected_tensors(config);
        self.check_index(&all, &expected);
        let mut missing = Vec::new();
        let mut groups = Group::ALL.map(GroupFound::nothing);
        for wanted in expected {
            let group = &mut groups[wanted.group as usize];
            group.n_expected += 1;
            let Some((found, _)) = all.tensors.remove(&wanted.name) else {
                if !all.may_be_unreadable(&wanted.name) {
                    missing.push(wanted.name);
                }
                continue;
            };
            match fitting(found, wanted) {
                Ok(tensor) => {
                    group.add(&tensor);
                    self.tensors.insert(tensor.name.clone(), tensor);
                }
                Err(fault) => self.faults.push(fault),
            }
        }
        self.groups = groups.into();
        let left = all.tensors.into_keys();
        let (ignored, unknown): (Vec<_>, Vec<_>) = left.partition(|name| is_tolerated(name));
        self.ignored = ignored;
        if !missing.is_empty() {
            self.faults
                .push(CheckpointError::Missing { names: missing });
        }
        if !unknown.is_empty() {
            self.faults
                .push(CheckpointError::Unknown { names: unknown });
        }
    }

    /// An index that leads to the wrong file, or to a tensor that is nowhere. A tensor that the
    /// network needs and that is nowhere is missing, which is said elsewhere.
    fn check_index(&mut self, all: &All, expected: &[ExpectedTensor]) {
        let Some(index) = &all.index else {
            return;
        };
        let needed: BTreeSet<&str> = expected.iter().map(|wanted| wanted.name.as_str()).collect();
        let is_wrong = |name: &str, file: &str| match all.tensors.get(name) {
            Some((_, found)) => found != file,
            None => !all.unreadable.contains(file) && !needed.contains(name),
        };
        let mut wrong = index.iter().filter(|(name, file)| is_wrong(name, file));
        if let Some((name, file)) = wrong.next() {
            let more = match wrong.count() {
                0 => String::new(),
                more => format!(", and of {more} tensors more that lie elsewhere"),
            };
            self.faults.push(CheckpointError::Damaged {
                path: self.folder.join(INDEX_FILE),
                reason: format!("it tells of {name} in {file}, which lacks it{more}"),
            });
        }
    }
}

fn fitting(found: Found, wanted: ExpectedTensor) -> Result<StoredTensor, CheckpointError> {
    if found.shape != wanted.shape {
        return Err(CheckpointError::Shape {
            name: wanted.name,
            found: found.shape,
            wanted: wanted.shape,
        });
    }
    found.into_stored()
}

impl GroupFound {
    fn nothing(group: Group) -> Self {
        Self {
            group,
            n_expected: 0,
            n_found: 0,
            n_values: 0,
            bytes: 0,
            stored: BTreeMap::new(),
        }
    }

    fn add(&mut self, tensor: &StoredTensor) {
        self.n_found += 1;
        self.n_values += tensor.n_values() as u64;
        self.bytes += tensor.bytes.len() as u64;
        *self.stored.entry(tensor.stored).or_default() += 1;
    }
}
