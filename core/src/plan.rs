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

/// The lines of one shard: the rows of `lines` one after another, less the first `skip_rows`,
/// and `n_rows` of them. A run of pages that is only partly inside is cut, so that the result
/// has exactly `n_rows` rows if `lines` has enough.
pub fn shard_lines(lines: &[PlannedDocument], skip_rows: u32, n_rows: u32) -> Vec<PlannedDocument> {
    let (mut skip, mut take) = (skip_rows, n_rows);
    let mut cut = Vec::with_capacity(lines.len());
    for line in lines {
        let rows = line.n_rows();
        let skipped = skip.min(rows);
        let taken = take.min(rows - skipped);
        skip -= skipped;
        take -= taken;
        if taken == 0 {
            continue;
        }
        let mut line = line.clone();
        if let PlannedWork::Read { first_idx, count } = &mut line.work {
            *first_idx += skipped;
            *count = taken;
        }
        cut.push(line);
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(work: PlannedWork) -> PlannedDocument {
        PlannedDocument {
            doc_id: DocId::of("file:///a", None),
            source_uri: "file:///a".into(),
            source_member: None,
            object_bytes: 1,
            object_etag: None,
            media_type: "application/pdf".into(),
            file_bytes: 1,
            content_sha256: String::new(),
            source_offset: None,
            source_length: None,
            page_count: Some(10),
            license: None,
            whole_document: true,
            earlier_attempts: 0,
            work,
        }
    }

    #[test]
    fn shard_takes_its_rows_and_cuts_the_runs_at_its_ends() {
        let lines = [
            line(PlannedWork::Read {
                first_idx: 0,
                count: 4,
            }),
            line(PlannedWork::Filtered { reason: "r".into() }),
            line(PlannedWork::Read {
                first_idx: 2,
                count: 3,
            }),
        ];
        let works = |skip, take| -> Vec<PlannedWork> {
            shard_lines(&lines, skip, take)
                .into_iter()
                .map(|line| line.work)
                .collect()
        };
        assert_eq!(works(0, 8).len(), 3);
        assert_eq!(
            works(3, 1),
            [PlannedWork::Read {
                first_idx: 3,
                count: 1
            }]
        );
        assert_eq!(
            works(4, 3),
            [
                PlannedWork::Filtered { reason: "r".into() },
                PlannedWork::Read {
                    first_idx: 2,
                    count: 2
                }
            ]
        );
        assert_eq!(works(8, 1), []);
    }
}
