#![doc = include_str!("../README.md")]

mod address;
mod container;
mod documents;
mod entry;
mod error;
mod limits;
mod listing;
mod media;
mod object;
mod reach;
mod secrets;
mod stores;
mod unreadable;
mod web;

pub use address::{Address, Scheme};
pub use documents::{FoundDocument, Wanted, documents, documents_of_copy};
pub use entry::{Entry, Listed};
pub use error::{Error, Result};
pub use limits::Limits;
pub use listing::{check_input, list, list_except};
pub use media::{HEAD_BYTES, is_page_document, media_type};
pub use reach::{reach_input, reach_output};
pub use stores::{Location, OutputLocation, Place, StoreKind, StoreSettings, Stores, sibling};
pub use web::{HttpSettings, NameResolver};
