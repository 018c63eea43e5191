//! What Quire writes and what may be relied on when reading it: rows, Parquet parts, object
//! paths, commit log, sealed versions, reading and verifying.
//!
//! The crate needs no service of Quire: anybody can read and verify a dataset with it alone.

#![warn(missing_docs)]

mod cell;
mod element;
mod error;
mod properties;
pub mod row;
pub mod schema;
mod writer;

pub use cell::CellProblem;
pub use error::{Error, Result};
pub use properties::WRITER;
pub use row::{
    DocumentRow, DocumentStatus, EmbeddedImage, ErrorRow, PageRow, PartRow, PartStatus, Split,
    TextLayerKind,
};
pub use schema::{SCHEMA_VERSION, Table};
pub use writer::{PartSummary, PartWriter};
