//! One shard on its way: the plan lines a lease covers, and what everything on the way shares.

use std::sync::Arc;

use quire_core::{JobId, JobSpec, LeaseId, PlannedDocument, PlannedWork, ShardIdx};
use quire_dataset::JobArea;
use quire_proto::v1::Lease;

use crate::error::{Error, Result};
use crate::lease::ShardProgress;
use crate::metrics;

/// A leased shard with its plan.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) lease_id: LeaseId,
    pub(crate) job_id: JobId,
    pub(crate) shard_idx: ShardIdx,
    pub(crate) spec: JobSpec,
    pub(crate) part_key: String,
    pub(crate) n_rows: u32,
    /// The lines of the plan, cut to the rows of this shard.
    pub(crate) plan: Vec<PlannedDocument>,
    /// Documents that are read with nothing else in flight.
    pub(crate) isolated: Vec<String>,
    pub(crate) progress: Arc<ShardProgress>,
    pub(crate) area: JobArea,
}

impl Shard {
    /// Reads the plan of a lease.
    ///
    /// # Errors
    /// When the plan cannot be read, or does not hold the rows that the lease says.
    pub(crate) async fn open(
        lease: Lease,
        area: JobArea,
        progress: Arc<ShardProgress>,
    ) -> Result<Self> {
        let wrong = |message: String| Error::Plan {
            job_id: lease.job_id.clone(),
            shard_idx: lease.shard_idx,
            message,
        };
        let spec = serde_json::from_str(&lease.job_spec_json)
            .map_err(|error| wrong(format!("its job specification is not readable: {error}")))?;
        let group = area
            .get(&lease.plan_key)
            .await
            .map_err(|source| Error::Part {
                key: lease.plan_key.clone(),
                source: Box::new(source),
            })?;
        metrics::bytes("down", group.len() as u64);
        let lines = parse_lines(&group, lease.line_start as usize..lease.line_end as usize)
            .map_err(|error| wrong(format!("{} is not readable: {error}", lease.plan_key)))?;
        let plan = cut_to_rows(lines, lease.skip_rows, lease.n_rows)
            .ok_or_else(|| wrong(format!("its lines do not hold {} rows", lease.n_rows)))?;
        Ok(Self {
            lease_id: LeaseId::new(lease.lease_id),
            job_id: JobId::new(lease.job_id),
            shard_idx: lease.shard_idx,
            spec,
            part_key: lease.part_key,
            n_rows: lease.n_rows,
            plan,
            isolated: lease.isolate_documents,
            progress,
            area,
        })
    }
}

/// The lines of a plan object that a lease names, each one document as JSON.
fn parse_lines(
    group: &[u8],
    lines: std::ops::Range<usize>,
) -> std::result::Result<Vec<PlannedDocument>, serde_json::Error> {
    group
        .split(|&byte| byte == b'\n')
        .skip(lines.start)
        .take(lines.len())
        .map(serde_json::from_slice)
        .collect()
}

/// `n_rows` rows of `lines` after the first `skip_rows`; `None` if there are not so many.
fn cut_to_rows(
    lines: Vec<PlannedDocument>,
    mut skip_rows: u32,
    n_rows: u32,
) -> Option<Vec<PlannedDocument>> {
    let mut left = n_rows;
    let mut cut = Vec::with_capacity(lines.len());
    for mut line in lines {
        let rows = line.n_rows();
        if skip_rows >= rows {
            skip_rows -= rows;
            continue;
        }
        let take = (rows - skip_rows).min(left);
        if take == 0 {
            break;
        }
        if let PlannedWork::Read { first_idx, count } = &mut line.work {
            *first_idx += skip_rows;
            *count = take;
        }
        skip_rows = 0;
        left -= take;
        cut.push(line);
    }
    (left == 0).then_some(cut)
}

#[cfg(test)]
mod tests {
    use quire_core::{DocId, Stage, Trouble, TroubleCode};

    use super::*;

    fn line(work: PlannedWork) -> PlannedDocument {
        PlannedDocument {
            doc_id: DocId::new("d"),
            source_uri: "file:///d".into(),
            source_member: None,
            object_bytes: 1,
            object_etag: None,
            media_type: "application/pdf".into(),
            file_bytes: 1,
            content_sha256: "00".into(),
            source_offset: None,
            source_length: None,
            page_count: Some(10),
            license: None,
            whole_document: true,
            earlier_attempts: 0,
            work,
        }
    }

    fn read(first_idx: u32, count: u32) -> PlannedWork {
        PlannedWork::Read { first_idx, count }
    }

    #[test]
    fn rows_are_cut_at_both_ends() {
        let trouble = Trouble::new(Stage::Open, TroubleCode::Damaged, "");
        let lines = || {
            vec![
                line(read(5, 10)),
                line(PlannedWork::Failed {
                    trouble: trouble.clone(),
                }),
                line(read(0, 4)),
            ]
        };
        let check = |skip, rows, expected: Option<Vec<PlannedWork>>| {
            let works = cut_to_rows(lines(), skip, rows)
                .map(|cut| cut.into_iter().map(|line| line.work).collect::<Vec<_>>());
            assert_eq!(works, expected, "skip {skip}, rows {rows}");
        };
        let failed = || PlannedWork::Failed {
            trouble: trouble.clone(),
        };
        check(0, 15, Some(vec![read(5, 10), failed(), read(0, 4)]));
        check(3, 7, Some(vec![read(8, 7)]));
        check(9, 3, Some(vec![read(14, 1), failed(), read(0, 1)]));
        check(10, 1, Some(vec![failed()]));
        check(12, 3, Some(vec![read(1, 3)]));
        check(12, 4, None);
    }
}
