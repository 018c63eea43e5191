//! Accepted parts to numbered manifests. A publisher reads the log to its head, applies what the
//! store has not seen, composes what is left and creates the next number; who loses the number
//! starts over. Any number of publishers may try at once.

use quire_core::JobId;
use quire_dataset::{Closing, CommitLog, JobArea, PartEntry, Published};

use super::{catch_up, lost};
use crate::error::{Error, Result};
use crate::job::ShardState;
use crate::metrics;
use crate::shared::Shared;
use crate::store::{
    JobRecord, PartRecord, QuarantineQuery, QuarantineRecord, ShardQuery, ShardRecord, Span,
};

/// Parts of one manifest: some hundred bytes each, so a manifest stays near a megabyte.
const PARTS_A_MANIFEST: u32 = 4096;
/// Of them, those of given-up rows: each is written here.
const MOST_LOST: u32 = 1024;

/// Publishes what is committed; returns how many parts that were. With `closing` a last manifest
/// is written even if it lists nothing.
pub(crate) async fn publish(
    shared: &Shared,
    job_id: &JobId,
    closing: Option<Closing>,
) -> Result<u64> {
    let area = shared.area_of(job_id).await?;
    let mut log = shared.take_log(job_id).await;
    let done = publish_with(shared, &area, &mut log, closing).await;
    // After an error the log is read anew: what it holds may not be what the store has.
    if done.is_ok() {
        shared.keep_log(job_id, log).await;
    }
    done
}

async fn publish_with(
    shared: &Shared,
    area: &JobArea,
    log: &mut CommitLog,
    closing: Option<Closing>,
) -> Result<u64> {
    let mut n_parts = 0;
    loop {
        catch_up::catch_up(shared, area, log).await?;
        if log.closing().is_some() {
            return Ok(n_parts);
        }
        let job = shared.job(area.job_id()).await?;
        // After a cancel nothing more is published: what counts is what was listed before.
        let gives_up = closing == Some(Closing::Canceled);
        let batch = if gives_up {
            Batch::default()
        } else {
            compose(shared, area, &job, log).await?
        };
        if batch.is_empty() && closing.is_none() {
            return Ok(n_parts);
        }
        let ends = if batch.is_full { None } else { closing };
        let entries: Vec<PartEntry> = batch.entries();
        let n_entries = entries.len() as u64;
        let nonce = uuid::Uuid::new_v4().to_string();
        let published = log.publish(area, nonce, entries.clone(), ends).await;
        match published.map_err(|source| catch_up::unread(area, source))? {
            Published::Overtaken => {}
            Published::Done(number) => {
                catch_up::apply(shared, area, number, &entries).await?;
                n_parts += n_entries;
                metrics::published(n_entries);
                tracing::debug!(job_id = %area.job_id(), number, n_entries, "published");
                if !batch.is_full && closing.is_none() {
                    return Ok(n_parts);
                }
            }
        }
    }
}

/// What the next manifest lists.
#[derive(Debug, Default)]
struct Batch {
    committed: Vec<PartEntry>,
    lost: Vec<PartEntry>,
    /// More waits than one manifest takes.
    is_full: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.lost.is_empty()
    }

    fn entries(&self) -> Vec<PartEntry> {
        self.committed.iter().chain(&self.lost).cloned().collect()
    }
}

async fn compose(
    shared: &Shared,
    area: &JobArea,
    job: &JobRecord,
    log: &CommitLog,
) -> Result<Batch> {
    let state = Some(ShardState::Committed);
    let query = ShardQuery {
        after: None,
        state,
        limit: PARTS_A_MANIFEST,
    };
    let shards = shared.store.shards(&job.job_id, &query).await?;
    let mut is_full = shards.len() >= PARTS_A_MANIFEST as usize;
    // A store that was set back since the log was read shows as committed what a manifest lists,
    // and what was halved since may overlap it. The next turn applies the log anew.
    let is_listed = |span: &Span| log.holds_rows(span.first_row, u64::from(span.n_rows));
    let unlisted = shards.iter().filter(|shard| !is_listed(&shard.span));
    let committed = unlisted.map(entry_of).collect::<Result<Vec<_>>>()?;
    let mut lost = Vec::new();
    if job.counters.quarantined > 0 && !is_full {
        let query = QuarantineQuery {
            after: None,
            unlisted: true,
            limit: MOST_LOST,
        };
        let records = shared.store.quarantine(&job.job_id, &query).await?;
        let unlisted = |record: &&QuarantineRecord| !is_listed(&record.span);
        for record in records.iter().filter(unlisted) {
            lost.push(lost::write_part(area, job, record).await?);
        }
        is_full = !lost.is_empty() && records.len() >= MOST_LOST as usize;
    }
    Ok(Batch {
        committed,
        lost,
        is_full,
    })
}

fn entry_of(shard: &ShardRecord) -> Result<PartEntry> {
    let (Some(part), Some(lease_id)) = (&shard.part, &shard.winner) else {
        return Err(Error::Contradiction {
            job_id: shard.job_id.clone(),
            message: format!("shard {} is committed without a part", shard.shard_idx),
        });
    };
    let PartRecord {
        key, bytes, sha256, ..
    } = part.clone();
    Ok(PartEntry {
        shard_idx: shard.shard_idx,
        lease_id: lease_id.clone(),
        key,
        bytes,
        sha256,
        rows: shard.rows.total(),
        ok: shard.rows.ok,
        failed: shard.rows.failed,
        skipped: shard.rows.skipped,
        first_row: Some(shard.span.first_row),
    })
}
