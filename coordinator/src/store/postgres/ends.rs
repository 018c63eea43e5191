//! Leases that end without a part, and what happens to their shards.

use quire_core::{DocId, JobId, ShardIdx};

use super::{PostgresStore, Tx, jobs, rows};
use crate::error::Result;
use crate::job::{JobState, LeaseEnd, ShardState};
use crate::store::records::{
    AttemptRecord, Counters, EndLease, LeaseRecord, NewShard, ShardRecord, Span, Verdict,
};

/// Rows are counted in fewer bits than this, setbacks in fewer than are left.
const POSITION_BITS: u32 = 40;

/// Place in the queue: setbacks first, then the position in the plan.
fn queue_key(setbacks: u32, span: &Span) -> Result<i64> {
    rows::int((u64::from(setbacks) << POSITION_BITS) | span.first_row)
}

pub(super) async fn end(store: &PostgresStore, end: &EndLease) -> Result<bool> {
    let mut tx = store.begin().await?;
    let Some((lease, shard)) = take(&mut tx, end).await? else {
        tx.roll_back().await?;
        return Ok(false);
    };
    add_attempt(&mut tx, store, &lease, end).await?;
    let counted = judge(&mut tx, &shard, end).await?;
    tx.count(&lease.job_id, shard.shard_idx, &counted).await?;
    tx.commit().await?;
    Ok(true)
}

/// The shard's row, then the lease if it is still live and the verdict was made on this state.
async fn take(tx: &mut Tx, end: &EndLease) -> Result<Option<(LeaseRecord, ShardRecord)>> {
    let find = sqlx::query("SELECT * FROM leases WHERE lease_id = $1").bind(end.lease_id.as_str());
    let found = tx.one("read a lease", find).await?;
    let Some(lease) = found.as_ref().map(rows::lease).transpose()? else {
        return Ok(None);
    };
    if matches!(end.verdict, Verdict::Halve { .. }) {
        // Halves are numbered: one change of the job at a time does that.
        jobs::held_job(tx, &lease.job_id).await?;
    }
    let hold = sqlx::query("SELECT * FROM shards WHERE job_id = $1 AND shard_idx = $2 FOR UPDATE")
        .bind(lease.job_id.as_str())
        .bind(rows::int(lease.shard_idx)?);
    let found = tx.one("hold a shard", hold).await?;
    let Some(shard) = found.as_ref().map(rows::shard).transpose()? else {
        return Ok(None);
    };
    if shard.deaths != end.deaths_seen || shard.state != ShardState::Leased {
        return Ok(None);
    }
    let remove = sqlx::query("DELETE FROM leases WHERE lease_id = $1").bind(end.lease_id.as_str());
    let is_live = tx.run("end a lease", remove).await? > 0;
    Ok(is_live.then_some((lease, shard)))
}

/// Applies a verdict to a shard whose lease is gone already.
async fn judge(tx: &mut Tx, shard: &ShardRecord, end: &EndLease) -> Result<Counters> {
    let mut counted = Counters::default();
    match &end.verdict {
        Verdict::Retry {
            not_before_ms,
            isolate,
        } => {
            let others = is_leased(tx, shard).await?;
            let state = if others {
                ShardState::Leased
            } else {
                counted.moved(ShardState::Leased, ShardState::Pending);
                ShardState::Pending
            };
            set(tx, shard, end, state, Some((*not_before_ms, isolate))).await?;
        }
        Verdict::Halve { spans, isolate } => {
            set(tx, shard, end, ShardState::Halved, None).await?;
            counted.moved(ShardState::Leased, ShardState::Halved);
            let setbacks = shard.setbacks + u32::from(end.charged);
            insert_halves(tx, shard, spans, isolate, setbacks).await?;
            counted.shard(ShardState::Pending, 2);
        }
        Verdict::Quarantine { line, message } => {
            set(tx, shard, end, ShardState::Quarantined, None).await?;
            insert_quarantine(tx, shard, end, &rows::json(line)?, message).await?;
            counted.moved(ShardState::Leased, ShardState::Quarantined);
            counted.rows_quarantined += i64::from(shard.span.n_rows);
        }
    }
    Ok(counted)
}

async fn is_leased(tx: &mut Tx, shard: &ShardRecord) -> Result<bool> {
    let others = sqlx::query("SELECT 1 FROM leases WHERE job_id = $1 AND shard_idx = $2 LIMIT 1")
        .bind(shard.job_id.as_str())
        .bind(rows::int(shard.shard_idx)?);
    Ok(tx.one("look for other leases", others).await?.is_some())
}

/// Sets the state of a shard after an attempt, with its deaths and its place in the queue; a shard
/// that takes no further part ends all its leases.
async fn set(
    tx: &mut Tx,
    shard: &ShardRecord,
    end: &EndLease,
    state: ShardState,
    retry: Option<(i64, &Vec<DocId>)>,
) -> Result<()> {
    if retry.is_none() {
        tx.fence_shards(&shard.job_id, &[rows::int(shard.shard_idx)?])
            .await?;
    }
    let setbacks = shard.setbacks + u32::from(end.charged);
    let isolate = retry.map(|(_, isolate)| rows::json(isolate)).transpose()?;
    let statement = sqlx::query(
        "UPDATE shards SET state = $3, deaths = deaths + $4, setbacks = $5, qkey = $6, \
         not_before_ms = coalesce($7, not_before_ms), isolate_json = coalesce($8, isolate_json) \
         WHERE job_id = $1 AND shard_idx = $2",
    )
    .bind(shard.job_id.as_str())
    .bind(rows::int(shard.shard_idx)?)
    .bind(state.as_str())
    .bind(i32::from(end.charged))
    .bind(rows::small(setbacks)?)
    .bind(queue_key(setbacks, &shard.span)?)
    .bind(retry.map(|(not_before_ms, _)| not_before_ms))
    .bind(isolate);
    tx.run("judge a shard", statement).await?;
    Ok(())
}

async fn insert_halves(
    tx: &mut Tx,
    parent: &ShardRecord,
    spans: &[Span; 2],
    isolate: &[DocId],
    setbacks: u32,
) -> Result<()> {
    let last = sqlx::query("SELECT max(shard_idx) FROM shards WHERE job_id = $1");
    let last = tx
        .one("number a shard", last.bind(parent.job_id.as_str()))
        .await?;
    let next = jobs::next_number(last.as_ref())?;
    for (span, shard_idx) in spans.iter().zip(next..) {
        let half = NewShard {
            shard_idx,
            parent: Some(parent.shard_idx),
            span: *span,
            isolate: isolate.to_vec(),
        };
        jobs::insert_shards(tx, &parent.job_id, &[&half]).await?;
        let queue = sqlx::query(
            "UPDATE shards SET setbacks = $3, qkey = $4 WHERE job_id = $1 AND shard_idx = $2",
        )
        .bind(parent.job_id.as_str())
        .bind(rows::int(shard_idx)?)
        .bind(rows::small(setbacks)?)
        .bind(queue_key(setbacks, span)?);
        tx.run("queue a shard", queue).await?;
    }
    Ok(())
}

async fn insert_quarantine(
    tx: &mut Tx,
    shard: &ShardRecord,
    end: &EndLease,
    line: &str,
    message: &str,
) -> Result<()> {
    let statement = sqlx::query(
        "INSERT INTO quarantine (job_id, shard_idx, first_row, n_rows, plan_group, line_start, \
         line_end, skip_rows, line_json, deaths, message) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(shard.job_id.as_str())
    .bind(rows::int(shard.shard_idx)?)
    .bind(rows::int(shard.span.first_row)?)
    .bind(rows::small(shard.span.n_rows)?)
    .bind(rows::small(shard.span.group)?)
    .bind(rows::small(shard.span.line_start)?)
    .bind(rows::small(shard.span.line_end)?)
    .bind(rows::small(shard.span.skip_rows)?)
    .bind(line)
    .bind(rows::small(shard.deaths + u32::from(end.charged))?)
    .bind(rows::text(message));
    tx.run("quarantine a row", statement).await?;
    Ok(())
}

async fn add_attempt(
    tx: &mut Tx,
    store: &PostgresStore,
    lease: &LeaseRecord,
    end: &EndLease,
) -> Result<()> {
    let statement = sqlx::query(
        "INSERT INTO attempts (job_id, shard_idx, epoch, lease_id, node, ended, charged, \
         message, suspects_json, ended_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10::bigint, quire_now_ms()))",
    )
    .bind(lease.job_id.as_str())
    .bind(rows::int(lease.shard_idx)?)
    .bind(rows::small(lease.epoch)?)
    .bind(lease.lease_id.as_str())
    .bind(&lease.node)
    .bind(end.end.as_str())
    .bind(end.charged)
    .bind(rows::text(&end.message))
    .bind(rows::json(&end.suspects)?)
    .bind(store.moment());
    tx.run("note an attempt", statement).await?;
    Ok(())
}

pub(super) async fn fence_job(store: &PostgresStore, job_id: &JobId) -> Result<u64> {
    let mut tx = store.begin().await?;
    let state = tx.hold_job(job_id).await?;
    if state.is_none_or(JobState::accepts_commits) {
        tx.roll_back().await?;
        return Ok(0);
    }
    // Whoever ends one of these leases holds its shard; after this, only we do.
    let hold = sqlx::query(
        "SELECT 1 FROM shards WHERE job_id = $1 AND shard_idx IN \
         (SELECT shard_idx FROM leases WHERE job_id = $1) ORDER BY shard_idx FOR UPDATE",
    );
    tx.run("hold shards", hold.bind(job_id.as_str())).await?;
    let end = sqlx::query(
        "WITH ended AS (DELETE FROM leases WHERE job_id = $1 RETURNING *) \
         INSERT INTO attempts (job_id, shard_idx, epoch, lease_id, node, ended, charged, \
         message, suspects_json, ended_at_ms) \
         SELECT job_id, shard_idx, epoch, lease_id, node, $2, false, $3, '[]', \
         coalesce($4::bigint, quire_now_ms()) FROM ended ORDER BY lease_id RETURNING shard_idx",
    )
    .bind(job_id.as_str())
    .bind(LeaseEnd::Fenced.as_str())
    .bind("the job takes no more commits")
    .bind(store.moment());
    let ended = tx.all("end leases", end).await?;
    let shard_idxs: Vec<i64> = ended
        .iter()
        .map(|row| rows::get(row, "shard_idx"))
        .collect::<Result<_>>()?;
    let give_back = sqlx::query(
        "UPDATE shards SET state = 'pending' \
         WHERE job_id = $1 AND shard_idx = ANY($2) AND state = 'leased'",
    )
    .bind(job_id.as_str())
    .bind(&shard_idxs);
    let n_back = tx.run("give shards back", give_back).await?;
    let n_back = i64::try_from(n_back).unwrap_or(i64::MAX);
    let mut counted = Counters::default();
    counted.shard(ShardState::Leased, -n_back);
    counted.shard(ShardState::Pending, n_back);
    tx.count(job_id, 0, &counted).await?;
    tx.commit().await?;
    Ok(ended.len() as u64)
}

pub(super) async fn attempts(
    store: &PostgresStore,
    job_id: &JobId,
    shard_idx: ShardIdx,
) -> Result<Vec<AttemptRecord>> {
    let statement =
        sqlx::query("SELECT * FROM attempts WHERE job_id = $1 AND shard_idx = $2 ORDER BY number")
            .bind(job_id.as_str())
            .bind(rows::int(shard_idx)?);
    let found = store.all("read attempts", statement).await?;
    found.iter().map(rows::attempt).collect()
}
