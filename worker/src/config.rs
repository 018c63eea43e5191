//! How a worker runs: nothing here changes what it writes.

use std::path::PathBuf;
use std::time::Duration;

use quire_corpus::Limits;

/// Settings of one worker process.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// For people; need not be unique.
    pub name: String,
    /// The machine; deaths on two nodes weigh more than two on one.
    pub node: String,
    /// Shards worked on at once.
    pub slots: usize,
    /// Folder for unfinished parts; emptied by the worker itself.
    pub scratch: PathBuf,
    /// What containers and documents may take.
    pub limits: Limits,
    /// How long one request for work waits.
    pub acquire_wait: Duration,
    /// Uploads that fail are tried again for this long before the shard is given back.
    pub upload_patience: Duration,
}
