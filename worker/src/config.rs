//! How a worker runs: nothing here changes what it writes.

use std::path::PathBuf;
use std::time::Duration;

use quire_corpus::Limits;

use crate::error::{Error, Result};

/// Shards a node may hold beyond the ones it works on, whatever coordinator and settings say:
/// what waits on a node that dies has to be given to another.
pub const MOST_PREFETCHED: usize = 2;

/// Longest wait of one request for work: the call's own deadline is 30 s.
const LONGEST_ACQUIRE_WAIT: Duration = Duration::from_secs(20);

/// Settings of one worker process.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// For people; need not be unique.
    pub name: String,
    /// The machine; deaths on two nodes weigh more than two on one.
    pub node: String,
    /// Shards worked on at once. One more than engine threads keeps them busy while a finished
    /// shard is written and uploaded.
    pub slots: usize,
    /// Shards taken beyond `slots`, whose plan and input objects are fetched while the others are
    /// read; 0 to [`MOST_PREFETCHED`]. The coordinator may allow less.
    pub prefetch: usize,
    /// Scratch disk that the input objects of one such shard may take, bytes. What does not fit
    /// is fetched when it is read.
    pub prefetch_bytes: u64,
    /// Folder of this machine for unfinished parts and fetched objects. Several workers may
    /// share it: each makes a folder of its own in it, and removes those of dead ones.
    pub scratch: PathBuf,
    /// What containers and documents may take.
    pub limits: Limits,
    /// How long one request for work waits at the coordinator, at most 20 s.
    pub acquire_wait: Duration,
    /// A worker that is told to leave finishes what ends within this time and gives the rest
    /// back.
    pub drain_deadline: Duration,
    /// How long coordinator or object storage may be away, and whether anything that goes wrong
    /// ends the worker. `None`: for ever, and it goes on with the next shard, as a fleet needs
    /// it. `Some`: it gives up after that, as somebody who waits for one job needs it.
    pub patience: Option<Duration>,
}

impl WorkerConfig {
    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// Names the setting that does not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |key, message: &str| {
            Err(Error::Setting {
                key,
                message: message.to_owned(),
            })
        };
        if self.slots == 0 {
            return refuse("worker.slots", "must not be zero");
        }
        if self.prefetch > MOST_PREFETCHED {
            return refuse("worker.prefetch", "must be at most 2");
        }
        if self.node.is_empty() {
            return refuse(
                "worker.node",
                "must name the machine: deaths on two nodes weigh more than two on one",
            );
        }
        if self.acquire_wait > LONGEST_ACQUIRE_WAIT {
            return refuse("worker.acquire_wait", "must be at most 20s");
        }
        Ok(())
    }

    /// Whether the worker is one of a fleet: it outlasts everything outside.
    pub(crate) fn is_of_fleet(&self) -> bool {
        self.patience.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_their_setting() {
        let config = WorkerConfig {
            name: "w".into(),
            node: "n".into(),
            slots: 1,
            prefetch: 0,
            prefetch_bytes: 0,
            scratch: PathBuf::new(),
            limits: Limits::default(),
            acquire_wait: Duration::from_secs(20),
            drain_deadline: Duration::ZERO,
            patience: None,
        };
        assert!(config.validate().is_ok());
        let check = |config: WorkerConfig, key: &str| {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        };
        let of = || config.clone();
        check(WorkerConfig { slots: 0, ..of() }, "worker.slots");
        check(
            WorkerConfig {
                prefetch: 3,
                ..of()
            },
            "worker.prefetch",
        );
        let node = String::new();
        check(WorkerConfig { node, ..of() }, "worker.node");
        let acquire_wait = Duration::from_secs(21);
        check(
            WorkerConfig {
                acquire_wait,
                ..of()
            },
            "worker.acquire_wait",
        );
    }
}
