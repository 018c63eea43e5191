//! What can go wrong with a dataset, and what the caller should do about it.

use quire_core::{Fault, Faulty};
use thiserror::Error;

/// Shorthand of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Trouble with a dataset or its job area.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of this machine.
    #[error("{action} {path}")]
    File {
        /// What was tried: `open`, `rename`.
        action: &'static str,
        /// Which file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An object of a store.
    #[error("{action} object {path}")]
    Store {
        /// What was tried: `get`, `put`.
        action: &'static str,
        /// Which object.
        path: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
    /// A Parquet file that cannot be written or read.
    #[error("{action} {path}")]
    Parquet {
        /// What was tried.
        action: &'static str,
        /// Which file or object.
        path: String,
        /// What the format's library said.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// Stored state that cannot be what Quire wrote.
    #[error("{path} {what}")]
    Corrupt {
        /// Which object.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A setting or request that cannot be followed.
    #[error("{0}")]
    Config(String),
    /// Somebody else finished, or owns, what was asked for.
    #[error("{0}")]
    Fenced(String),
    /// A store that gives no answer to rely on.
    #[error("{path} could neither be created nor read back")]
    Undecided {
        /// Which object.
        path: String,
    },
    /// An invariant of this crate that does not hold.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    pub(crate) fn corrupt(path: impl ToString, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.to_string(),
            what: what.into(),
        }
    }

    pub(crate) fn file(
        action: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    pub(crate) fn store(
        action: &'static str,
        path: &object_store::path::Path,
    ) -> impl FnOnce(object_store::Error) -> Self {
        let path = path.to_string();
        move |source| Self::Store {
            action,
            path,
            source,
        }
    }

    pub(crate) fn parquet(
        action: &'static str,
        path: impl ToString,
    ) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        let path = path.to_string();
        move |source| Self::Parquet {
            action,
            path,
            source,
        }
    }

    /// Whether the object that was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Store { source, .. } => matches!(source, object_store::Error::NotFound { .. }),
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// What the caller should do.
    pub fn fault(&self) -> Fault {
        match self {
            Self::File { .. } | Self::Undecided { .. } => Fault::Unavailable,
            Self::Store { source, .. } => store_fault(source),
            Self::Parquet { .. } | Self::Corrupt { .. } => Fault::Corrupt,
            Self::Config(_) => Fault::Config,
            Self::Fenced(_) => Fault::Fenced,
            Self::Bug(_) => Fault::Bug,
        }
    }
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        Self::fault(self)
    }
}

fn store_fault(error: &object_store::Error) -> Fault {
    match error {
        object_store::Error::NotFound { .. } => Fault::Corrupt,
        object_store::Error::NotSupported { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => Fault::Config,
        _ => Fault::Unavailable,
    }
}
