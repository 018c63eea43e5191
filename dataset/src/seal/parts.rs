//! The parts that a seal adds, in plan order: of each only where it stands in the commit log is
//! kept, and its entry is read when its turn comes. Shards are published nearly in plan order, so
//! a few manifests at a time serve many parts.

use std::collections::VecDeque;
use std::pin::pin;

use futures::TryStreamExt;
use quire_core::ShardIdx;

use crate::area::JobArea;
use crate::error::{Error, Result};
use crate::manifest::{CommitLog, Manifest, PartEntry, manifests};
use crate::paths::in_job;

/// Manifests are kept while they list no more parts than this together: some 300 bytes each.
const KEPT_PARTS: usize = 1 << 16;

/// Where a part stands in the commit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    shard_idx: ShardIdx,
    manifest: u32,
    at: u32,
}

/// The parts of some manifests, in plan order.
#[derive(Debug, Default)]
pub(crate) struct NewParts(Vec<Standing>);

impl NewParts {
    /// The parts of manifests after `after`, up to `last`, which is known to exist.
    pub(crate) async fn find(area: &JobArea, after: u64, last: u64) -> Result<Self> {
        // What an earlier version holds is read for what it rules out.
        let mut log = CommitLog::read_to(area, after).await?;
        let mut found = Vec::new();
        loop {
            let some = log.read_some(area, last).await?;
            if some.is_empty() {
                break;
            }
            for manifest in some {
                let wide = || Error::corrupt(in_job::manifest(manifest.number), "is out of range");
                let number = u32::try_from(manifest.number).map_err(|_| wide())?;
                for (at, part) in manifest.parts.iter().enumerate() {
                    found.push(Standing {
                        shard_idx: part.shard_idx,
                        manifest: number,
                        at: u32::try_from(at).map_err(|_| wide())?,
                    });
                }
            }
        }
        found.sort_unstable();
        Ok(Self(found))
    }

    /// Their entries, one after the other.
    pub(crate) fn entries<'a>(&'a self, area: &'a JobArea) -> Entries<'a> {
        Entries {
            area,
            rest: self.0.iter(),
            kept: VecDeque::new(),
        }
    }
}

/// Entries of parts, in plan order.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    area: &'a JobArea,
    rest: std::slice::Iter<'a, Standing>,
    /// The manifests used last, the latest one last.
    kept: VecDeque<Manifest>,
}

impl Entries<'_> {
    /// The next one; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<PartEntry>> {
        let Some(standing) = self.rest.next() else {
            return Ok(None);
        };
        let number = u64::from(standing.manifest);
        let manifest = match self.kept.iter().position(|kept| kept.number == number) {
            Some(at) => self.kept.remove(at),
            None => {
                pin!(manifests(self.area, number..=number))
                    .try_next()
                    .await?
            }
        };
        let gone = || Error::corrupt(in_job::manifest(number), "is not what it was");
        let manifest = manifest.ok_or_else(gone)?;
        let entry = manifest.parts.get(standing.at as usize).cloned();
        self.kept.push_back(manifest);
        self.let_go();
        let is_it = |entry: &PartEntry| entry.shard_idx == standing.shard_idx;
        entry.filter(is_it).map(Some).ok_or_else(gone)
    }

    fn let_go(&mut self) {
        let mut n_parts: usize = self.kept.iter().map(|kept| kept.parts.len()).sum();
        while n_parts > KEPT_PARTS && self.kept.len() > 1 {
            let first = self.kept.pop_front();
            n_parts -= first.map_or(0, |first| first.parts.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::path::Path;
    use quire_core::{JobId, LeaseId};

    use super::*;
    use crate::area::Output;
    use crate::writer::PartSummary;

    async fn shards(area: &JobArea, after: u64, last: u64) -> Vec<ShardIdx> {
        let parts = NewParts::find(area, after, last).await.unwrap();
        let mut entries = parts.entries(area);
        let mut found = Vec::new();
        while let Some(entry) = entries.next().await.unwrap() {
            assert_eq!(entry.lease_id.as_str(), format!("l-{}", entry.shard_idx));
            found.push(entry.shard_idx);
        }
        found
    }

    #[tokio::test]
    async fn parts_come_in_plan_order_whatever_manifest_lists_them() {
        let output = Output::remote(Arc::new(InMemory::new()), Path::from("out"));
        let area = output.job_area(&JobId::new("job")).unwrap();
        let mut log = CommitLog::empty(JobId::new("job"));
        for (at, listed) in [[5, 1], [0, 4], [3, 2]].into_iter().enumerate() {
            let entry = |shard_idx: ShardIdx| {
                let summary = PartSummary {
                    rows: 1,
                    ok: 1,
                    failed: 0,
                    skipped: 0,
                    bytes: 1,
                    sha256: String::new(),
                };
                PartEntry::new(shard_idx, LeaseId::new(format!("l-{shard_idx}")), &summary)
            };
            let parts = listed.into_iter().map(entry).collect();
            log.publish(&area, at.to_string(), parts, None)
                .await
                .unwrap();
        }
        assert_eq!(shards(&area, 0, 3).await, [0, 1, 2, 3, 4, 5]);
        assert_eq!(shards(&area, 1, 3).await, [0, 2, 3, 4]);
        assert_eq!(shards(&area, 1, 2).await, [0, 4]);
        assert_eq!(shards(&area, 3, 3).await, [] as [ShardIdx; 0]);
    }
}
