//! Counts over a version of a dataset that its version file does not hold.

use std::collections::BTreeMap;

use quire_dataset::reader::Dataset;
use quire_dataset::{DocumentRow, DocumentStatus, ErrorRow};

use crate::failure::{Failure, Outcome};
use crate::summary::{DocumentCounts, FailureExample, FailureKind};

impl DocumentCounts {
    /// Counts one document.
    pub(crate) fn add(&mut self, status: DocumentStatus) {
        self.total += 1;
        match status {
            DocumentStatus::Complete => self.complete += 1,
            DocumentStatus::Partial => self.partial += 1,
            DocumentStatus::Failed => self.failed += 1,
            DocumentStatus::Duplicate => self.duplicate += 1,
            DocumentStatus::Filtered => self.filtered += 1,
        }
    }
}

/// Documents by what became of them.
pub(crate) async fn documents(dataset: &Dataset) -> Outcome<DocumentCounts> {
    let mut counts = DocumentCounts::default();
    let mut rows = dataset.rows::<DocumentRow>();
    while let Some(row) = rows.next().await.map_err(Failure::of)? {
        counts.add(row.status);
    }
    Ok(counts)
}

/// Errors by code, most frequent first, with the first of each as its example.
pub(crate) async fn failures(dataset: &Dataset) -> Outcome<Vec<FailureKind>> {
    let mut kinds: BTreeMap<&'static str, FailureKind> = BTreeMap::new();
    let mut rows = dataset.rows::<ErrorRow>();
    while let Some(row) = rows.next().await.map_err(Failure::of)? {
        let code = row.code.as_str();
        match kinds.get_mut(code) {
            Some(kind) => kind.count += 1,
            None => {
                kinds.insert(code, first_of(row));
            }
        }
    }
    let mut kinds: Vec<FailureKind> = kinds.into_values().collect();
    kinds.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.code.cmp(&b.code)));
    Ok(kinds)
}

fn first_of(row: ErrorRow) -> FailureKind {
    FailureKind {
        code: row.code.to_string(),
        count: 1,
        example: FailureExample {
            source_uri: row.source_uri,
            source_member: row.source_member,
            page_number: row.page_number.map(i32::unsigned_abs),
            message: row.message,
        },
    }
}
