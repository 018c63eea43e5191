//! The index of a plan: which objects hold its lines and where shards begin. Written last, and
//! never changed: from then on the plan exists.

use quire_core::JobId;
use serde::{Deserialize, Serialize};

use crate::store::{NewShard, PlanTotals, Span};

/// Version of the index's form.
pub(super) const INDEX_FORM: u32 = 1;

/// The index of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanIndex {
    pub form: u32,
    pub job_id: JobId,
    /// Documents of the plan; a document cut into runs is one.
    pub documents: u64,
    pub rows: u64,
    /// Documents left out because an earlier version has them unchanged.
    pub documents_known: u64,
    /// In plan order.
    pub groups: Vec<PlanGroup>,
}

/// One object of plan lines, a `PlannedDocument` in JSON a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanGroup {
    /// Number in the object's name; may skip numbers that an abandoned plan left behind.
    pub number: u64,
    /// Of the object, in hex.
    pub sha256: String,
    /// Lines and rows of each shard, one after another.
    pub shards: Vec<(u32, u32)>,
}

impl PlanIndex {
    /// What the plan holds.
    pub fn totals(&self) -> PlanTotals {
        PlanTotals {
            documents: self.documents,
            rows: self.rows,
        }
    }

    /// Every shard, numbered from 0.
    pub fn shards(&self) -> impl Iterator<Item = NewShard> {
        let (mut shard_idx, mut first_row) = (0, 0);
        self.groups.iter().flat_map(move |group| {
            let number = u32::try_from(group.number).unwrap_or(u32::MAX);
            let mut line_start = 0;
            group
                .shards
                .iter()
                .map(|&(n_lines, n_rows)| {
                    let span = Span {
                        first_row,
                        n_rows,
                        group: number,
                        line_start,
                        line_end: line_start + n_lines,
                        skip_rows: 0,
                    };
                    let shard = NewShard {
                        shard_idx,
                        parent: None,
                        span,
                        isolate: Vec::new(),
                    };
                    line_start += n_lines;
                    first_row += u64::from(n_rows);
                    shard_idx += 1;
                    shard
                })
                .collect::<Vec<_>>()
        })
    }
}
