//! Documents to shards. Pure: the same documents in the same order give the same shards.
//!
//! - Rows keep their order; every row is in exactly one shard.
//! - A shard has at most `shard_pages` rows.
//! - A document that fits stays whole. One that does not is cut into full runs of its own, and
//!   its last run may share a shard with what follows.

use quire_core::{PlannedDocument, PlannedWork};

/// Cuts a stream of documents into shards.
#[derive(Debug)]
pub struct Cutter {
    shard_pages: u32,
    open: Vec<PlannedDocument>,
    open_rows: u32,
}

impl Cutter {
    /// Starts a cut into shards of about `shard_pages` rows (at least 1).
    pub fn new(shard_pages: u32) -> Self {
        Self {
            shard_pages: shard_pages.max(1),
            open: Vec::new(),
            open_rows: 0,
        }
    }

    /// Adds a document; returns the shards that are full now.
    pub fn push(&mut self, document: PlannedDocument) -> Vec<Vec<PlannedDocument>> {
        let mut full = Vec::new();
        if self.open_rows.saturating_add(document.n_rows()) > self.shard_pages {
            full.extend(self.close());
        }
        let mut rest = document;
        while rest.n_rows() > self.shard_pages {
            let (run, after) = cut_run(rest, self.shard_pages);
            full.push(vec![run]);
            rest = after;
        }
        self.open_rows += rest.n_rows();
        self.open.push(rest);
        if self.open_rows == self.shard_pages {
            full.extend(self.close());
        }
        full
    }

    /// Ends the cut; returns the last shard, if it has a row.
    pub fn finish(mut self) -> Option<Vec<PlannedDocument>> {
        self.close()
    }

    fn close(&mut self) -> Option<Vec<PlannedDocument>> {
        self.open_rows = 0;
        let shard = std::mem::take(&mut self.open);
        (!shard.is_empty()).then_some(shard)
    }
}

/// The first `n` pages of a run that has more, and the rest. Only runs of pages have more than
/// one row.
fn cut_run(document: PlannedDocument, n: u32) -> (PlannedDocument, PlannedDocument) {
    let (mut run, mut rest) = (document.clone(), document);
    if let PlannedWork::Read { first_idx, count } = rest.work {
        run.work = PlannedWork::Read {
            first_idx,
            count: n,
        };
        rest.work = PlannedWork::Read {
            first_idx: first_idx + n,
            count: count - n,
        };
    }
    (run, rest)
}

/// Cuts documents into shards.
pub fn cut(
    documents: impl IntoIterator<Item = PlannedDocument>,
    shard_pages: u32,
) -> Vec<Vec<PlannedDocument>> {
    let mut cutter = Cutter::new(shard_pages);
    let mut shards: Vec<_> = documents
        .into_iter()
        .flat_map(|document| cutter.push(document))
        .collect();
    shards.extend(cutter.finish());
    shards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::for_test::{document, skipped};

    fn rows(document: &PlannedDocument) -> Vec<(String, Option<u32>)> {
        let id = document.doc_id.to_string();
        match document.work {
            PlannedWork::Read { first_idx, count } => (first_idx..first_idx + count)
                .map(|page| (id.clone(), Some(page)))
                .collect(),
            _ => vec![(id, None)],
        }
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_shard_in_order(
            pages in prop::collection::vec(0_u32..300, 0..60),
            shard_pages in 1_u32..120,
        ) {
            let documents: Vec<_> = pages
                .iter()
                .enumerate()
                .map(|(at, &n)| if n == 0 { skipped(at) } else { document(at, n) })
                .collect();
            let shards = cut(documents.clone(), shard_pages);
            let before: Vec<_> = documents.iter().flat_map(rows).collect();
            let after: Vec<_> = shards.iter().flatten().flat_map(rows).collect();
            prop_assert_eq!(before, after);
            for shard in &shards {
                let n_rows: u32 = shard.iter().map(PlannedDocument::n_rows).sum();
                prop_assert!(n_rows >= 1 && n_rows <= shard_pages);
            }
            // A document that fits is not torn apart.
            for shard in &shards {
                for line in shard {
                    let whole = documents.iter().find(|d| d.doc_id == line.doc_id).unwrap();
                    if whole.n_rows() <= shard_pages {
                        prop_assert_eq!(line, whole);
                    }
                }
            }
        }
    }

    #[test]
    fn last_run_of_a_long_document_shares_its_shard() {
        let shards = cut([document(0, 25), document(1, 3)], 10);
        let sizes: Vec<Vec<u32>> = shards
            .iter()
            .map(|shard| shard.iter().map(PlannedDocument::n_rows).collect())
            .collect();
        assert_eq!(sizes, [vec![10], vec![10], vec![5, 3]]);
    }
}
