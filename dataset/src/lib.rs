//! What Quire writes and what may be relied on when reading it: rows, Parquet parts, object
//! paths, commit log, sealed versions, reading and verifying.
//!
//! The crate needs no service of Quire: anybody can read and verify a dataset with it alone.

#![warn(missing_docs)]

mod area;
mod card;
mod cell;
mod create;
pub mod digest;
mod element;
mod error;
pub mod manifest;
mod object;
pub mod paths;
mod place;
mod properties;
pub mod reader;
pub mod retention;
pub mod row;
mod runs;
pub mod schema;
pub mod seal;
pub mod split;
mod strand;
pub mod verify;
pub mod version;
mod writer;

pub use area::{JobArea, Output};
pub use cell::CellProblem;
pub use create::Created;
pub use error::{Error, Result};
pub use manifest::{Closing, CommitLog, Manifest, PartEntry, Published, manifests};
pub use place::{Listed, Place};
pub use properties::WRITER;
pub use reader::Dataset;
pub use retention::{Amount, Pruned, Retention, prune};
pub use row::{
    DocumentRow, DocumentStatus, EmbeddedImage, ErrorRow, PageRow, PartRow, PartStatus, Split,
    TextLayerKind,
};
pub use schema::{SCHEMA_VERSION, Table};
pub use seal::{SealRequest, SealedVersion, refresh, seal};
pub use split::split_of;
pub use verify::{VerifyReport, Violation, verify};
pub use version::{FileEntry, VersionFile};
pub use writer::{PartSummary, PartWriter};
