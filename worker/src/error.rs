//! What can go wrong with a shard or with the worker itself. A page that cannot be read is not
//! here: it is a row.

use std::error::Error as StdError;

use quire_core::{DocId, Fault, Faulty};
use quire_proto::CallError;
use thiserror::Error;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Trouble with a shard or with the worker.
#[derive(Debug, Error)]
pub enum Error {
    /// A setting makes no sense.
    #[error("setting {key}: {message}")]
    Setting { key: &'static str, message: String },
    /// The engine cannot load or cannot go on.
    #[error("engine: {message}")]
    Engine { message: String, fault: Fault },
    /// The renderer cannot start.
    #[error("renderer cannot start")]
    Renderer(#[from] crate::pipeline::render::RenderError),
    /// A call to the coordinator failed for good.
    #[error("call to the coordinator failed")]
    Call(#[source] CallError),
    /// The plan of a shard cannot be read or does not fit its lease.
    #[error("plan of shard {shard_idx} of job {job_id}: {message}")]
    Plan {
        job_id: String,
        shard_idx: u64,
        message: String,
    },
    /// The output's store is not configured or cannot be opened.
    #[error("output {out}")]
    Output {
        out: String,
        #[source]
        source: quire_corpus::Error,
    },
    /// The scratch folder cannot be used.
    #[error("scratch folder {path}")]
    Scratch {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// The scratch folder's disk is full.
    #[error("the disk of the scratch folder {path} is full")]
    DiskFull {
        path: String,
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The store that holds input objects gives no answer.
    #[error("input {uri} cannot be fetched: {message}")]
    Inputs { uri: String, message: String },
    /// Rows could not be written or stored.
    #[error("part {key}")]
    Part {
        key: String,
        #[source]
        source: Box<quire_dataset::Error>,
    },
    /// The shard was taken away.
    #[error("lease {lease_id} is no longer ours")]
    Fenced { lease_id: String },
    /// The job ended meanwhile, or is not known any more.
    #[error("the job does not take part {key} any more")]
    JobEnded {
        key: String,
        #[source]
        source: CallError,
    },
    /// A bug of ours that one document brought to light.
    #[error("document {doc_id}: {message}")]
    Document { doc_id: DocId, message: String },
    /// A bug of ours.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    /// Whether the worker, and not the shard, is at fault: other shards would fare no better.
    pub(crate) fn is_of_worker(&self) -> bool {
        matches!(
            self,
            Self::Setting { .. }
                | Self::Engine { .. }
                | Self::Renderer(_)
                | Self::Scratch { .. }
                | Self::DiskFull { .. }
        )
    }

    /// What the coordinator is told: a shard is not to blame for the worker it came to.
    pub(crate) fn fault_of_shard(&self) -> Fault {
        if self.is_of_worker() {
            Fault::Unavailable
        } else {
            self.fault()
        }
    }

    /// The document that brought it to light, if one did.
    pub(crate) fn suspect(&self) -> Option<&DocId> {
        match self {
            Self::Document { doc_id, .. } => Some(doc_id),
            _ => None,
        }
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Engine { fault, .. } => *fault,
            Self::Setting { .. } | Self::Renderer(_) | Self::Scratch { .. } => Fault::Config,
            Self::Call(error) => error.fault,
            Self::Plan { .. } => Fault::Corrupt,
            Self::Part { source, .. } => source.fault(),
            Self::Output { source, .. } => source.fault(),
            Self::Fenced { .. } | Self::JobEnded { .. } => Fault::Fenced,
            Self::DiskFull { .. } | Self::Inputs { .. } => Fault::Unavailable,
            Self::Document { .. } | Self::Bug(_) => Fault::Bug,
        }
    }
}

/// Whether a full disk is at the bottom of an error. It comes through libraries, some of which
/// keep no more than its words.
pub(crate) fn is_disk_full(error: &(dyn StdError + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(cause) = at {
        let kind = cause.downcast_ref::<std::io::Error>().map(|io| io.kind());
        if kind == Some(std::io::ErrorKind::StorageFull)
            || kind == Some(std::io::ErrorKind::QuotaExceeded)
            || cause.to_string().contains("No space left on device")
        {
            return true;
        }
        at = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_seen_through_other_errors() {
        let io = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::Scratch {
            path: "/s".into(),
            source: io,
        };
        assert!(is_disk_full(&error));
        assert!(is_disk_full(&Error::Bug(
            "No space left on device (os error 28)".into()
        )));
        assert!(!is_disk_full(&Error::Bug("torn".into())));
    }

    #[test]
    fn shards_are_not_blamed_for_their_worker() {
        let engine = Error::Engine {
            message: "lost".into(),
            fault: Fault::Bug,
        };
        assert_eq!(engine.fault_of_shard(), Fault::Unavailable);
        assert_eq!(Error::Bug("ours".into()).fault_of_shard(), Fault::Bug);
    }
}
