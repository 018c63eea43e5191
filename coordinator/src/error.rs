//! What can go wrong in the coordinator, and what a caller does about it.

use std::path::PathBuf;

use quire_core::{Fault, Faulty, JobId, LeaseId, SessionId, ShardIdx, chain};
use quire_proto::{CallError, Reason};
use thiserror::Error;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in the coordinator.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    #[error("setting {key}: {message}")]
    Setting { key: &'static str, message: String },
    #[error("{path} is in use: another run works on this output; wait for it or stop it first")]
    Locked { path: PathBuf },
    #[error("{action} {path}")]
    Local {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the coordinator's database: {action}")]
    Database {
        action: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the coordinator's database {path} cannot be brought to this version")]
    Migration {
        path: PathBuf,
        #[source]
        source: Box<sqlx::migrate::MigrateError>,
    },
    #[error("the coordinator's database holds {what} that no version of it writes: {value}")]
    DatabaseValue { what: &'static str, value: String },
    #[error("{action}")]
    Corpus {
        action: String,
        #[source]
        source: quire_corpus::Error,
    },
    #[error("{action}")]
    Dataset {
        action: String,
        #[source]
        source: Box<quire_dataset::Error>,
    },
    #[error("{action}")]
    Objects {
        action: String,
        #[source]
        source: Box<object_store::Error>,
    },
    #[error("the job's specification cannot be understood")]
    Specification {
        #[source]
        source: serde_json::Error,
    },
    #[error("{what} of job {job_id} cannot be understood")]
    Stored {
        what: String,
        job_id: JobId,
        #[source]
        source: serde_json::Error,
    },
    #[error("job {job_id}: {message}")]
    Contradiction { job_id: JobId, message: String },
    #[error(
        "the coordinator's database was set back to manifest {applied} of job {job_id} while \
         manifest {number} was applied"
    )]
    StoreSetBack {
        job_id: JobId,
        applied: u64,
        number: u64,
    },
    #[error("the inputs hold no documents")]
    NothingToRead,
    #[error("there is no job {job_id}")]
    JobUnknown { job_id: JobId },
    #[error(
        "job {job_id} on this output is not finished and asks for something else ({differences}); \
         finish it with its own command, or cancel it"
    )]
    JobUnfinished { job_id: JobId, differences: String },
    #[error("job {job_id} is {state} and does not accept this")]
    JobNotRunning {
        job_id: JobId,
        state: crate::job::JobState,
    },
    #[error("session {session_id} is not known; register anew")]
    SessionUnknown { session_id: SessionId },
    #[error("lease {lease_id} is not live any more")]
    LeaseFenced { lease_id: LeaseId },
    #[error("shard {shard_idx} has {planned} rows planned, the commit says {said}")]
    RowCount {
        shard_idx: ShardIdx,
        planned: u64,
        said: u64,
    },
    #[error("the part of shard {shard_idx} belongs at {expected}, not at {said}")]
    PartKey {
        shard_idx: ShardIdx,
        expected: String,
        said: String,
    },
    #[error("the part {key} is not in the store as reported: {found}")]
    PartMissing { key: String, found: String },
    #[error("the caller's identity lacks the role {role}")]
    RoleMissing { role: crate::caller::Role },
    #[error("{what} belongs to another tenant")]
    TenantForeign { what: String },
    #[error("version {version} is too old for this coordinator: {oldest} or newer is needed")]
    VersionTooOld { version: String, oldest: String },
    #[error(
        "the coordinator's database was made anew since session {session_id} was opened; \
         register anew"
    )]
    IncarnationChanged { session_id: SessionId },
    #[error("{out} cannot hold a dataset: {wrong}")]
    StorageUnfit { out: String, wrong: String },
    #[error("whether {out} can hold a dataset is not known yet: {wrong}")]
    StorageUnclear { out: String, wrong: String },
    #[error("the request lacks {what}")]
    Malformed { what: &'static str },
    #[error("a task of the coordinator ended early")]
    TaskLost,
}

impl Error {
    /// The word for programs.
    pub fn reason(&self) -> Reason {
        match self {
            Self::JobUnknown { .. } => Reason::JobUnknown,
            Self::JobUnfinished { .. } => Reason::JobUnfinished,
            Self::JobNotRunning { .. } => Reason::JobNotRunning,
            Self::SessionUnknown { .. } => Reason::SessionUnknown,
            Self::LeaseFenced { .. } => Reason::LeaseFenced,
            Self::RowCount { .. } => Reason::RowCountMismatch,
            Self::PartKey { .. } => Reason::PartKeyForeign,
            Self::PartMissing { .. } => Reason::PartMissing,
            Self::RoleMissing { .. } => Reason::RoleMissing,
            Self::TenantForeign { .. } => Reason::TenantForeign,
            Self::VersionTooOld { .. } => Reason::VersionTooOld,
            Self::IncarnationChanged { .. } => Reason::IncarnationChanged,
            Self::Malformed { .. } | Self::Specification { .. } => Reason::Malformed,
            Self::StorageUnfit { .. } => Reason::StoreRefused,
            Self::StorageUnclear { .. } => Reason::StoreAway,
            Self::Corpus { .. } | Self::Dataset { .. } | Self::Objects { .. } => {
                match self.fault() {
                    Fault::Unavailable => Reason::StoreAway,
                    Fault::Config => Reason::StoreRefused,
                    Fault::Corrupt => Reason::Corrupt,
                    Fault::Input | Fault::Fenced | Fault::Bug => Reason::Internal,
                }
            }
            _ => match self.fault() {
                Fault::Unavailable => Reason::Unavailable,
                Fault::Corrupt => Reason::Corrupt,
                Fault::Input | Fault::Config | Fault::Fenced | Fault::Bug => Reason::Internal,
            },
        }
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Setting { .. } | Self::Locked { .. } | Self::NothingToRead => Fault::Config,
            Self::Local { source, .. } => local_fault(source),
            Self::Database { source, .. } => database_fault(source),
            Self::Migration { .. } => Fault::Config,
            Self::DatabaseValue { .. } | Self::Stored { .. } | Self::Contradiction { .. } => {
                Fault::Corrupt
            }
            Self::Corpus { source, .. } => source.fault(),
            Self::Dataset { source, .. } => source.fault(),
            Self::Objects { source, .. } => objects_fault(source),
            Self::Specification { .. } | Self::Malformed { .. } => Fault::Input,
            Self::JobUnknown { .. }
            | Self::JobUnfinished { .. }
            | Self::JobNotRunning { .. }
            | Self::SessionUnknown { .. }
            | Self::LeaseFenced { .. }
            | Self::RowCount { .. }
            | Self::PartKey { .. }
            | Self::PartMissing { .. }
            | Self::RoleMissing { .. }
            | Self::TenantForeign { .. }
            | Self::VersionTooOld { .. }
            | Self::IncarnationChanged { .. } => self.reason().fault(),
            Self::StorageUnfit { .. } => Fault::Config,
            Self::StorageUnclear { .. } => Fault::Unavailable,
            Self::StoreSetBack { .. } => Fault::Unavailable,
            Self::TaskLost => Fault::Bug,
        }
    }
}

fn local_fault(source: &std::io::Error) -> Fault {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    match source.kind() {
        NotFound | PermissionDenied | NotADirectory | ReadOnlyFilesystem => Fault::Config,
        _ => Fault::Unavailable,
    }
}

fn database_fault(source: &sqlx::Error) -> Fault {
    #[cfg(feature = "postgres")]
    if let Some(fault) = crate::store::postgres::errors::fault_of(source) {
        return fault;
    }
    match source {
        sqlx::Error::Database(database) => match database.code().as_deref() {
            // SQLITE_CORRUPT and SQLITE_NOTADB, with their extended codes.
            Some("11" | "26" | "267" | "523" | "779") => Fault::Corrupt,
            // SQLITE_CONSTRAINT and SQLITE_MISMATCH: a statement of ours is wrong.
            Some("19" | "20" | "275" | "1299" | "1555" | "2067") => Fault::Bug,
            _ => Fault::Unavailable,
        },
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => {
            Fault::Unavailable
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Fault::Corrupt,
        _ => Fault::Bug,
    }
}

fn objects_fault(source: &object_store::Error) -> Fault {
    use object_store::Error as Objects;
    match source {
        Objects::NotFound { .. } => Fault::Corrupt,
        Objects::PermissionDenied { .. }
        | Objects::Unauthenticated { .. }
        | Objects::NotSupported { .. }
        | Objects::NotImplemented { .. }
        | Objects::InvalidPath { .. }
        | Objects::UnknownConfigurationKey { .. } => Fault::Config,
        _ => Fault::Unavailable,
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        Self {
            fault: error.fault(),
            reason: error.reason(),
            message: chain(&error),
            field: None,
            retry_after: None,
        }
    }
}
