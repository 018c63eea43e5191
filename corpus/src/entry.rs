//! An entry: one object that a source lists, before anybody opened it.

use quire_core::Trouble;

/// One object: a document or a container of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Canonical URI without credentials.
    pub uri: String,
    /// Size of the object when it was listed.
    pub bytes: u64,
    /// Entity tag when it was listed; `documents` refuses an object that has another one by then.
    pub etag: Option<String>,
    /// License that the list naming it gave, if any.
    pub license: Option<String>,
}

impl Entry {
    /// An entry as a plan remembers it.
    pub fn new(uri: impl Into<String>, bytes: u64, etag: Option<String>) -> Self {
        Self {
            uri: uri.into(),
            bytes,
            etag,
            license: None,
        }
    }
}

/// What listing found in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object to open.
    Entry(Entry),
    /// Something that is there, or was named, but cannot be read: one row of errors.
    Trouble { uri: String, trouble: Trouble },
}

impl Listed {
    /// Canonical URI of the object, or of the line of the list that named it.
    pub fn uri(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.uri,
            Self::Trouble { uri, .. } => uri,
        }
    }
}
