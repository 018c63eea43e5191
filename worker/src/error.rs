//! What can go wrong with a shard or with the worker itself. A page that cannot be read is not
//! here: it is a row.

use quire_core::{Fault, Faulty};
use quire_proto::CallError;
use thiserror::Error;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Trouble with a shard or with the worker.
#[derive(Debug, Error)]
pub enum Error {
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
    /// The scratch folder cannot be written.
    #[error("scratch file {path}")]
    Scratch {
        path: String,
        #[source]
        source: std::io::Error,
    },
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
    /// The worker was told to leave at once.
    #[error("stopped")]
    Stopped,
    /// A bug of ours.
    #[error("{0}")]
    Bug(String),
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Engine { fault, .. } => *fault,
            Self::Renderer(_) | Self::Scratch { .. } => Fault::Config,
            Self::Call(error) => error.fault,
            Self::Plan { .. } => Fault::Corrupt,
            Self::Part { source, .. } => source.fault(),
            Self::Output { source, .. } => source.fault(),
            Self::Fenced { .. } => Fault::Fenced,
            Self::Stopped => Fault::Unavailable,
            Self::Bug(_) => Fault::Bug,
        }
    }
}
