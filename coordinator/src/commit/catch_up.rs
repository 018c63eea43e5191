//! Manifests that the store has not seen: of another publisher, of this one before it died, or
//! from before the store lost its tail. The manifest wins: what it lists is published, whatever
//! the store thought of those rows.

use quire_core::{JobId, ShardIdx};
use quire_dataset::{CommitLog, JobArea, PartEntry};

use crate::error::{Error, Result};
use crate::job::ShardState;
use crate::plan::{self, PlanIndex, read};
use crate::schedule::halve;
use crate::shared::Shared;
use crate::store::{
    AppliedManifest, NewShard, PartRecord, RowCounts, ShardChange, ShardQuery, ShardRecord, Span,
};

pub(super) fn unread(area: &JobArea, source: quire_dataset::Error) -> Error {
    Error::Dataset {
        action: format!("the commit log of job {}", area.job_id()),
        source: Box::new(source),
    }
}

/// Reads the log to its head and applies what the store has not seen.
pub(crate) async fn catch_up(shared: &Shared, area: &JobArea, log: &mut CommitLog) -> Result<()> {
    let mut applied = shared.job(area.job_id()).await?.last_manifest;
    if applied < log.head() {
        // The store is behind what this process has read: it was set back. Read from the start.
        *log = CommitLog::empty(area.job_id().clone());
    }
    let unread = |source| unread(area, source);
    let newest = log.newest(area).await.map_err(unread)?;
    // Some at a time: a log may be longer than there is memory for.
    loop {
        let some = log.read_some(area, newest).await.map_err(unread)?;
        if some.is_empty() {
            break;
        }
        for manifest in some.iter().filter(|some| some.number > applied) {
            apply(shared, area, manifest.number, &manifest.parts).await?;
        }
        applied = applied.max(log.head());
    }
    if applied > log.head() {
        return Err(Error::Contradiction {
            job_id: area.job_id().clone(),
            message: format!(
                "manifest {applied} was published and is gone; the newest is {}",
                log.head()
            ),
        });
    }
    Ok(())
}

/// Applies one manifest to the store. That it was applied already is no error.
pub(super) async fn apply(
    shared: &Shared,
    area: &JobArea,
    number: u64,
    parts: &[PartEntry],
) -> Result<()> {
    let mut changes = Vec::with_capacity(parts.len());
    let mut next_idx = None;
    for part in parts {
        let found = find(shared, area.job_id(), part.shard_idx).await?;
        match found.filter(|shard| holds(shard, part)) {
            Some(shard) => changes.push(publish_known(&shard, part)),
            None => changes.extend(place(shared, area, part, &mut next_idx).await?),
        }
    }
    let manifest = AppliedManifest { number, changes };
    if shared
        .store
        .apply_manifest(area.job_id(), &manifest)
        .await?
    {
        return Ok(());
    }
    let job = shared.job(area.job_id()).await?;
    if job.last_manifest >= number {
        return Ok(());
    }
    // Manifests are applied one after another, so the store was set back meanwhile, as when a
    // standby took over: reading the log anew finds what it lost.
    Err(Error::StoreSetBack {
        job_id: job.job_id,
        applied: job.last_manifest,
        number,
    })
}

async fn find(shared: &Shared, job_id: &JobId, shard_idx: ShardIdx) -> Result<Option<ShardRecord>> {
    let query = ShardQuery {
        after: shard_idx.checked_sub(1),
        state: None,
        limit: 1,
    };
    let found = shared.store.shards(job_id, &query).await?.pop();
    Ok(found.filter(|shard| shard.shard_idx == shard_idx))
}

/// Whether the store's shard of this number is the one that the manifest means, and can take it.
fn holds(shard: &ShardRecord, part: &PartEntry) -> bool {
    part.first_row
        .is_none_or(|first_row| first_row == shard.span.first_row)
        && u64::from(shard.span.n_rows) == part.rows
        && shard.state != ShardState::Halved
}

fn publish_known(shard: &ShardRecord, part: &PartEntry) -> ShardChange {
    let (shard_idx, lease_id) = (part.shard_idx, part.lease_id.clone());
    match shard.state {
        ShardState::Quarantined => ShardChange::List {
            shard_idx,
            part: record_of(part),
            lease_id,
        },
        _ => ShardChange::Publish {
            shard_idx,
            part: record_of(part),
            rows: counts_of(part),
            lease_id,
        },
    }
}

fn record_of(part: &PartEntry) -> PartRecord {
    PartRecord {
        key: part.key.clone(),
        bytes: part.bytes,
        sha256: part.sha256.clone(),
        etag: None,
    }
}

fn counts_of(part: &PartEntry) -> RowCounts {
    RowCounts {
        ok: part.ok,
        failed: part.failed,
        skipped: part.skipped,
    }
}

/// Makes room for a part whose shard the store does not have, because it forgot a halving, or
/// halved what had been published whole: shards that overlap it give way, and what they hold
/// beyond it becomes shards of their own.
async fn place(
    shared: &Shared,
    area: &JobArea,
    part: &PartEntry,
    next_idx: &mut Option<ShardIdx>,
) -> Result<Vec<ShardChange>> {
    let job_id = area.job_id();
    let contradiction = |message: String| Error::Contradiction {
        job_id: job_id.clone(),
        message,
    };
    let Some(first_row) = part.first_row else {
        let message = format!("part {} is of a shard that no plan has", part.key);
        return Err(contradiction(message));
    };
    let end_row = first_row + part.rows;
    let overlapping = shared.store.overlapping(job_id, first_row, end_row).await?;
    if let Some(taken) = overlapping.iter().find(|shard| !shard.state.is_open()) {
        let message = format!(
            "part {} holds rows of shard {}, which is {} already",
            part.key, taken.shard_idx, taken.state
        );
        return Err(contradiction(message));
    }
    let index = plan::existing(area).await?;
    let index = index.ok_or_else(|| contradiction("it has manifests and no plan".into()))?;
    let mut fresh = match *next_idx {
        Some(next) => next,
        None => shared.store.next_shard_idx(job_id).await?,
    };
    fresh = fresh.max(part.shard_idx + 1);
    let mut changes = Vec::new();
    for shard in &overlapping {
        changes.push(ShardChange::Supersede {
            shard_idx: shard.shard_idx,
        });
        let before = (shard.span.first_row, first_row.min(shard.span.end_row()));
        let after = (end_row.max(shard.span.first_row), shard.span.end_row());
        for (from, to) in [before, after] {
            if from < to {
                let parent = Some(shard.shard_idx);
                let span = span_of(area, &index, from, to).await?;
                let rest = NewShard {
                    shard_idx: fresh,
                    parent,
                    span,
                    isolate: Vec::new(),
                };
                changes.push(ShardChange::Insert(rest));
                fresh += 1;
            }
        }
    }
    *next_idx = Some(fresh);
    if find(shared, job_id, part.shard_idx).await?.is_none() {
        let span = span_of(area, &index, first_row, end_row).await?;
        let parent = overlapping.first().map(|shard| shard.shard_idx);
        let own = NewShard {
            shard_idx: part.shard_idx,
            parent,
            span,
            isolate: Vec::new(),
        };
        changes.push(ShardChange::Insert(own));
    }
    changes.push(ShardChange::Publish {
        shard_idx: part.shard_idx,
        part: record_of(part),
        rows: counts_of(part),
        lease_id: part.lease_id.clone(),
    });
    Ok(changes)
}

/// Where the plan has these rows; they lie inside one of its shards.
async fn span_of(area: &JobArea, index: &PlanIndex, first_row: u64, end_row: u64) -> Result<Span> {
    let planned = index
        .shards()
        .find(|shard| shard.span.first_row <= first_row && end_row <= shard.span.end_row());
    let Some(planned) = planned else {
        return Err(Error::Contradiction {
            job_id: area.job_id().clone(),
            message: format!("rows {first_row} to {end_row} are not in one shard of the plan"),
        });
    };
    let mut span = planned.span;
    let line_rows = read::lines_of(area, &span).await?.line_rows;
    let narrow = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
    if first_row > span.first_row {
        let after = narrow(first_row - span.first_row);
        span = halve::split(&span, &line_rows, after)[1];
    }
    if end_row < span.end_row() {
        let skipped = (span.line_start - planned.span.line_start) as usize;
        let after = narrow(end_row - span.first_row);
        span = halve::split(&span, line_rows.get(skipped..).unwrap_or_default(), after)[0];
    }
    Ok(span)
}
