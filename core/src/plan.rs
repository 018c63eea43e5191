//! One line of a shard's plan: a document, or a run of its pages, and what to do with it.

use serde::{Deserialize, Serialize};

use crate::ids::DocId;
use crate::trouble::Trouble;

/// What a shard does with a planned document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum PlannedWork {
    /// Read `count` pages from `first_idx` (from 0) on.
    Read { first_idx: u32, count: u32 },
    /// Planning could not open it: one failed row.
    Failed { trouble: Trouble },
    /// The same bytes as an earlier document: one skipped row.
    Duplicate { of: DocId },
    /// Left out by a rule of the settings: one skipped row.
    Filtered { reason: String },
}

/// A document, or a run of its pages, in a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedDocument {
    pub doc_id: DocId,
    /// Canonical URI of the object that holds the document; no credentials.
    pub source_uri: String,
    /// Path inside a container.
    pub source_member: Option<String>,
    /// Size and entity tag of the object when it was listed: a later change is noticed.
    pub object_bytes: u64,
    pub object_etag: Option<String>,
    /// Sniffed from the bytes; `application/octet-stream` if unknown.
    pub media_type: String,
    /// Size of the document itself.
    pub file_bytes: u64,
    /// SHA-256 of the document's bytes in hex; empty when they could not be fetched.
    pub content_sha256: String,
    /// Byte range inside the object, where a container stores members plainly.
    pub source_offset: Option<u64>,
    pub source_length: Option<u64>,
    /// Pages of the whole document, as far as known.
    pub page_count: Option<u32>,
    /// Licence the source's own manifest gave.
    pub license: Option<String>,
    /// The plan covers all pages of the document: earlier rows of it are replaced.
    pub whole_document: bool,
    /// Tries of this page or document before this job.
    pub earlier_attempts: u32,
    pub work: PlannedWork,
}

impl PlannedDocument {
    /// Rows that a part holds for this line of the plan, failed and skipped ones included.
    pub fn n_rows(&self) -> u32 {
        match self.work {
            PlannedWork::Read { count, .. } => count,
            PlannedWork::Failed { .. }
            | PlannedWork::Duplicate { .. }
            | PlannedWork::Filtered { .. } => 1,
        }
    }

    /// Whether this line carries the document's own row (it holds the first page, or no page).
    pub fn carries_document(&self) -> bool {
        match self.work {
            PlannedWork::Read { first_idx, .. } => first_idx == 0 && self.whole_document,
            PlannedWork::Failed { .. }
            | PlannedWork::Duplicate { .. }
            | PlannedWork::Filtered { .. } => true,
        }
    }
}
