//! Grants, commits and the ends of leases.

use quire_core::{JobId, LeaseId, SessionId, ShardIdx};

use super::{
    SqliteStore, Tx, commit, count, during, fence_shard, fleet, insert_shard, rows, set_state,
    shard,
};
use crate::error::{Error, Result};
use crate::job::{JobState, LeaseEnd, SessionState, ShardState};
use crate::store::pace_of;
use crate::store::records::{
    AttemptRecord, Commit, CommitResult, Counters, EndLease, Grant, LeaseRecord, NewShard,
    ShardRecord, Span, Verdict, signed,
};

/// The first waiting shard of a job, by the partial index alone.
const FIRST_WAITING: &str = "SELECT shard_idx FROM shards WHERE job_id = ?1 AND state = 'pending' \
     AND not_before_ms <= ?2 ORDER BY qkey, shard_idx LIMIT 1";

/// Rows are counted in fewer bits than this, setbacks in fewer than are left.
const POSITION_BITS: u32 = 40;

/// Place in the queue: setbacks first, then the position in the plan.
fn queue_key(setbacks: u32, span: &Span) -> Result<i64> {
    rows::int((u64::from(setbacks) << POSITION_BITS) | span.first_row)
}

pub(super) async fn grant(
    store: &SqliteStore,
    session_id: &SessionId,
    job_id: &JobId,
    lease_id: &LeaseId,
) -> Result<Grant> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let node = match may_take(&mut tx, session_id, job_id, now).await? {
        Ok(node) => node,
        Err(refusal) => return Ok(refusal),
    };
    let waiting: Option<i64> = sqlx::query_scalar(FIRST_WAITING)
        .bind(job_id.as_str())
        .bind(now)
        .fetch_optional(&mut *tx)
        .await
        .map_err(during("look for a waiting shard"))?;
    let Some(shard_idx) = waiting else {
        return Ok(Grant::Nothing);
    };
    let granted = lease_shard(&mut tx, job_id, shard_idx, ShardState::Pending).await?;
    let Some(granted) = granted else {
        return Ok(Grant::Nothing);
    };
    insert_lease(&mut tx, session_id, &node, &granted, lease_id, now).await?;
    let mut moved = Counters::default();
    moved.moved(ShardState::Pending, ShardState::Leased);
    count(&mut tx, job_id, &moved).await?;
    commit(tx).await?;
    Ok(Grant::Granted(Box::new(granted)))
}

pub(super) async fn grant_copy(
    store: &SqliteStore,
    session_id: &SessionId,
    job_id: &JobId,
    shard_idx: ShardIdx,
    lease_id: &LeaseId,
) -> Result<Grant> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let node = match may_take(&mut tx, session_id, job_id, now).await? {
        Ok(node) => node,
        Err(refusal) => return Ok(refusal),
    };
    let holders: Vec<String> =
        sqlx::query_scalar("SELECT node FROM leases WHERE job_id = ? AND shard_idx = ?")
            .bind(job_id.as_str())
            .bind(rows::int(shard_idx)?)
            .fetch_all(&mut *tx)
            .await
            .map_err(during("read leases"))?;
    if holders.len() != 1 || holders.contains(&node) {
        return Ok(Grant::Nothing);
    }
    let shard_idx = rows::int(shard_idx)?;
    let granted = lease_shard(&mut tx, job_id, shard_idx, ShardState::Leased).await?;
    let Some(granted) = granted else {
        return Ok(Grant::Nothing);
    };
    insert_lease(&mut tx, session_id, &node, &granted, lease_id, now).await?;
    commit(tx).await?;
    Ok(Grant::Granted(Box::new(granted)))
}

/// The node of a session that may take a shard of the job now, or why it may not.
async fn may_take(
    tx: &mut Tx,
    session_id: &SessionId,
    job_id: &JobId,
    now: i64,
) -> Result<std::result::Result<String, Grant>> {
    let session = sqlx::query("SELECT * FROM sessions WHERE session_id = ?")
        .bind(session_id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(during("read a session"))?;
    let session = session.as_ref().map(rows::session).transpose()?;
    let Some(session) = session.filter(|session| {
        session.state == SessionState::Live && session.expires_at_ms > now && !session.is_unhealthy
    }) else {
        return Ok(Err(Grant::NoSession));
    };
    let runs = job_state(tx, job_id).await? == Some(JobState::Running);
    if runs && fleet::is_open(tx, &session.node).await? {
        Ok(Ok(session.node))
    } else {
        Ok(Err(Grant::Nothing))
    }
}

/// Starts the next attempt on a shard that is in this state.
async fn lease_shard(
    tx: &mut Tx,
    job_id: &JobId,
    shard_idx: i64,
    from: ShardState,
) -> Result<Option<ShardRecord>> {
    let row = sqlx::query(
        "UPDATE shards SET state = 'leased', epoch = epoch + 1 \
         WHERE job_id = ? AND shard_idx = ? AND state = ? RETURNING *",
    )
    .bind(job_id.as_str())
    .bind(shard_idx)
    .bind(from.as_str())
    .fetch_optional(&mut **tx)
    .await
    .map_err(during("grant a shard"))?;
    row.as_ref().map(rows::shard).transpose()
}

async fn insert_lease(
    tx: &mut Tx,
    session_id: &SessionId,
    node: &str,
    shard: &ShardRecord,
    lease_id: &LeaseId,
    now: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO leases (lease_id, session_id, node, job_id, shard_idx, epoch, \
         granted_at_ms, stage, progressed_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', ?7)",
    )
    .bind(lease_id.as_str())
    .bind(session_id.as_str())
    .bind(node)
    .bind(shard.job_id.as_str())
    .bind(rows::int(shard.shard_idx)?)
    .bind(shard.epoch)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(during("add a lease"))?;
    Ok(())
}

pub(super) async fn job_state(tx: &mut Tx, job_id: &JobId) -> Result<Option<JobState>> {
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM jobs WHERE job_id = ?")
        .bind(job_id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(during("read a job"))?;
    let Some(state) = state else { return Ok(None) };
    match JobState::parse(&state) {
        Some(state) => Ok(Some(state)),
        None => Err(Error::DatabaseValue {
            what: "state",
            value: state,
        }),
    }
}

async fn lease(tx: &mut Tx, lease_id: &LeaseId) -> Result<Option<LeaseRecord>> {
    let row = sqlx::query("SELECT * FROM leases WHERE lease_id = ?")
        .bind(lease_id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(during("read a lease"))?;
    row.as_ref().map(rows::lease).transpose()
}

pub(super) async fn get(
    store: &SqliteStore,
    lease_id: &LeaseId,
) -> Result<Option<(LeaseRecord, ShardRecord)>> {
    let row = sqlx::query("SELECT * FROM leases WHERE lease_id = ?")
        .bind(lease_id.as_str())
        .fetch_optional(&store.readers)
        .await
        .map_err(during("read a lease"))?;
    let Some(lease) = row.as_ref().map(rows::lease).transpose()? else {
        return Ok(None);
    };
    let row = sqlx::query("SELECT * FROM shards WHERE job_id = ? AND shard_idx = ?")
        .bind(lease.job_id.as_str())
        .bind(rows::int(lease.shard_idx)?)
        .fetch_optional(&store.readers)
        .await
        .map_err(during("read a shard"))?;
    let shard = row.as_ref().map(rows::shard).transpose()?;
    Ok(shard.map(|shard| (lease, shard)))
}

pub(super) async fn won_by(store: &SqliteStore, lease_id: &LeaseId) -> Result<Option<ShardRecord>> {
    let row = sqlx::query("SELECT * FROM shards WHERE winner = ?")
        .bind(lease_id.as_str())
        .fetch_optional(&store.readers)
        .await
        .map_err(during("read a shard"))?;
    row.as_ref().map(rows::shard).transpose()
}

pub(super) async fn of_session(
    store: &SqliteStore,
    session_id: &SessionId,
) -> Result<Vec<LeaseRecord>> {
    let found = sqlx::query("SELECT * FROM leases WHERE session_id = ? ORDER BY lease_id")
        .bind(session_id.as_str())
        .fetch_all(&store.readers)
        .await
        .map_err(during("read leases"))?;
    found.iter().map(rows::lease).collect()
}

pub(super) async fn of_job(store: &SqliteStore, job_id: &JobId) -> Result<Vec<LeaseRecord>> {
    let found = sqlx::query("SELECT * FROM leases WHERE job_id = ? ORDER BY lease_id")
        .bind(job_id.as_str())
        .fetch_all(&store.readers)
        .await
        .map_err(during("read leases"))?;
    found.iter().map(rows::lease).collect()
}

pub(super) async fn stalled(store: &SqliteStore, before_ms: i64) -> Result<Vec<LeaseRecord>> {
    let found = sqlx::query("SELECT * FROM leases WHERE progressed_at_ms < ? ORDER BY lease_id")
        .bind(before_ms)
        .fetch_all(&store.readers)
        .await
        .map_err(during("read leases"))?;
    found.iter().map(rows::lease).collect()
}

pub(super) async fn commit_part(store: &SqliteStore, part: &Commit) -> Result<CommitResult> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let won: Option<i64> = sqlx::query_scalar("SELECT shard_idx FROM shards WHERE winner = ?")
        .bind(part.lease_id.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(during("look for a commit"))?;
    if won.is_some() {
        return Ok(CommitResult::Already);
    }
    let Some(lease) = lease(&mut tx, &part.lease_id).await? else {
        return Ok(CommitResult::Fenced);
    };
    match job_state(&mut tx, &lease.job_id).await? {
        Some(state) if state.accepts_commits() => {}
        Some(state) => return Ok(CommitResult::JobNotRunning(state)),
        None => return Ok(CommitResult::Fenced),
    }
    // The live check stands in the statement itself, so that it holds on any store however
    // loosely it isolates transactions.
    let done = sqlx::query(
        "UPDATE shards SET state = 'committed', part_key = ?3, part_bytes = ?4, \
         part_sha256 = ?5, part_etag = ?6, rows_ok = ?7, rows_failed = ?8, rows_skipped = ?9, \
         winner = ?10, winner_node = ?11 WHERE job_id = ?1 AND shard_idx = ?2 AND state = 'leased' \
         AND EXISTS (SELECT 1 FROM leases WHERE lease_id = ?10)",
    )
    .bind(lease.job_id.as_str())
    .bind(rows::int(lease.shard_idx)?)
    .bind(&part.part.key)
    .bind(rows::int(part.part.bytes)?)
    .bind(&part.part.sha256)
    .bind(part.part.etag.as_deref())
    .bind(rows::int(part.rows.ok)?)
    .bind(rows::int(part.rows.failed)?)
    .bind(rows::int(part.rows.skipped)?)
    .bind(part.lease_id.as_str())
    .bind(&lease.node)
    .execute(&mut *tx)
    .await
    .map_err(during("accept a part"))?;
    if done.rows_affected() == 0 {
        return Ok(CommitResult::Fenced);
    }
    fence_shard(&mut tx, &lease.job_id, lease.shard_idx).await?;
    let mut counted = Counters::default();
    counted.moved(ShardState::Leased, ShardState::Committed);
    counted.rows(part.rows, 1);
    count(&mut tx, &lease.job_id, &counted).await?;
    add_failures(&mut tx, &lease.job_id, part).await?;
    if let Some(pace) = pace_of(part) {
        fleet::note_pace(&mut tx, &lease.job_id, lease.shard_idx, pace, now).await?;
    }
    commit(tx).await?;
    Ok(CommitResult::Committed)
}

async fn add_failures(tx: &mut Tx, job_id: &JobId, part: &Commit) -> Result<()> {
    for failure in &part.failures {
        sqlx::query(
            "INSERT INTO failures (job_id, code, count, example) VALUES (?, ?, ?, ?) \
             ON CONFLICT (job_id, code) DO UPDATE SET count = count + excluded.count",
        )
        .bind(job_id.as_str())
        .bind(&failure.code)
        .bind(signed(failure.count))
        .bind(&failure.example)
        .execute(&mut **tx)
        .await
        .map_err(during("count failures"))?;
    }
    Ok(())
}

pub(super) async fn end(store: &SqliteStore, end: &EndLease) -> Result<bool> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let Some(lease) = lease(&mut tx, &end.lease_id).await? else {
        return Ok(false);
    };
    let Some(shard) = shard(&mut tx, &lease.job_id, lease.shard_idx).await? else {
        return Ok(false);
    };
    if shard.deaths != end.deaths_seen || shard.state != ShardState::Leased {
        return Ok(false);
    }
    let setbacks = shard.setbacks + u32::from(end.charged);
    sqlx::query(
        "UPDATE shards SET deaths = deaths + ?, setbacks = ?, qkey = ? \
         WHERE job_id = ? AND shard_idx = ?",
    )
    .bind(end.charged)
    .bind(setbacks)
    .bind(queue_key(setbacks, &shard.span)?)
    .bind(lease.job_id.as_str())
    .bind(rows::int(lease.shard_idx)?)
    .execute(&mut *tx)
    .await
    .map_err(during("count deaths"))?;
    sqlx::query("DELETE FROM leases WHERE lease_id = ?")
        .bind(end.lease_id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(during("end a lease"))?;
    add_attempt(
        &mut tx,
        &lease,
        end.end,
        end.charged,
        &end.message,
        &end.suspects,
        now,
    )
    .await?;
    let counted = judge(&mut tx, &shard, end).await?;
    count(&mut tx, &lease.job_id, &counted).await?;
    commit(tx).await?;
    Ok(true)
}

/// Applies a verdict to a shard whose lease is gone already.
async fn judge(tx: &mut Tx, shard: &ShardRecord, end: &EndLease) -> Result<Counters> {
    let (job_id, shard_idx) = (&shard.job_id, shard.shard_idx);
    let mut counted = Counters::default();
    match &end.verdict {
        Verdict::Retry {
            not_before_ms,
            isolate,
        } => {
            let done = sqlx::query(
                "UPDATE shards SET not_before_ms = ?3, isolate_json = ?4, state = \
                 CASE WHEN EXISTS (SELECT 1 FROM leases WHERE job_id = ?1 AND shard_idx = ?2) \
                 THEN 'leased' ELSE 'pending' END \
                 WHERE job_id = ?1 AND shard_idx = ?2 RETURNING state",
            )
            .bind(job_id.as_str())
            .bind(rows::int(shard_idx)?)
            .bind(not_before_ms)
            .bind(rows::documents_json(isolate)?)
            .fetch_one(&mut **tx)
            .await
            .map_err(during("give a shard back"))?;
            let state: String = sqlx::Row::try_get(&done, 0).map_err(during("read a state"))?;
            if state == ShardState::Pending.as_str() {
                counted.moved(ShardState::Leased, ShardState::Pending);
            }
        }
        Verdict::Halve { spans, isolate } => {
            fence_shard(tx, job_id, shard_idx).await?;
            set_state(tx, job_id, shard_idx, ShardState::Halved).await?;
            counted.moved(ShardState::Leased, ShardState::Halved);
            for &span in spans {
                let setbacks = shard.setbacks + u32::from(end.charged);
                insert_half(tx, shard, span, isolate, setbacks).await?;
                counted.shard(ShardState::Pending, 1);
            }
        }
        Verdict::Quarantine { line, message } => {
            fence_shard(tx, job_id, shard_idx).await?;
            set_state(tx, job_id, shard_idx, ShardState::Quarantined).await?;
            let deaths = shard.deaths + u32::from(end.charged);
            let line = serde_json::to_string(line).map_err(|source| Error::Database {
                action: "write a plan line",
                source: sqlx::Error::Encode(Box::new(source)),
            })?;
            insert_quarantine(tx, shard, &line, deaths, message).await?;
            counted.moved(ShardState::Leased, ShardState::Quarantined);
            counted.rows_quarantined += i64::from(shard.span.n_rows);
        }
    }
    Ok(counted)
}

async fn insert_half(
    tx: &mut Tx,
    parent: &ShardRecord,
    span: Span,
    isolate: &[quire_core::DocId],
    setbacks: u32,
) -> Result<()> {
    let next: i64 = sqlx::query_scalar("SELECT max(shard_idx) + 1 FROM shards WHERE job_id = ?")
        .bind(parent.job_id.as_str())
        .fetch_one(&mut **tx)
        .await
        .map_err(during("number a shard"))?;
    let half = NewShard {
        shard_idx: u64::try_from(next).unwrap_or(0),
        parent: Some(parent.shard_idx),
        span,
        isolate: isolate.to_vec(),
    };
    insert_shard(tx, &parent.job_id, &half).await?;
    sqlx::query("UPDATE shards SET setbacks = ?, qkey = ? WHERE job_id = ? AND shard_idx = ?")
        .bind(setbacks)
        .bind(queue_key(setbacks, &span)?)
        .bind(parent.job_id.as_str())
        .bind(next)
        .execute(&mut **tx)
        .await
        .map_err(during("queue a shard"))?;
    Ok(())
}

async fn insert_quarantine(
    tx: &mut Tx,
    shard: &ShardRecord,
    line: &str,
    deaths: u32,
    message: &str,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO quarantine (job_id, shard_idx, first_row, n_rows, plan_group, line_start, \
         line_end, skip_rows, line_json, deaths, message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(shard.job_id.as_str())
    .bind(rows::int(shard.shard_idx)?)
    .bind(rows::int(shard.span.first_row)?)
    .bind(shard.span.n_rows)
    .bind(shard.span.group)
    .bind(shard.span.line_start)
    .bind(shard.span.line_end)
    .bind(shard.span.skip_rows)
    .bind(line)
    .bind(deaths)
    .bind(message)
    .execute(&mut **tx)
    .await
    .map_err(during("quarantine a row"))?;
    Ok(())
}

async fn add_attempt(
    tx: &mut Tx,
    lease: &LeaseRecord,
    end: LeaseEnd,
    charged: bool,
    message: &str,
    suspects: &[quire_core::DocId],
    now: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO attempts (job_id, shard_idx, epoch, lease_id, node, ended, charged, \
         message, suspects_json, ended_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(lease.job_id.as_str())
    .bind(rows::int(lease.shard_idx)?)
    .bind(lease.epoch)
    .bind(lease.lease_id.as_str())
    .bind(&lease.node)
    .bind(end.as_str())
    .bind(charged)
    .bind(message)
    .bind(rows::documents_json(suspects)?)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(during("note an attempt"))?;
    Ok(())
}

pub(super) async fn fence_job(store: &SqliteStore, job_id: &JobId) -> Result<u64> {
    let now = store.now();
    let mut tx = store.begin().await?;
    if job_state(&mut tx, job_id)
        .await?
        .is_none_or(JobState::accepts_commits)
    {
        return Ok(0);
    }
    let found = sqlx::query("SELECT * FROM leases WHERE job_id = ? ORDER BY lease_id")
        .bind(job_id.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(during("read leases"))?;
    let leases = found.iter().map(rows::lease).collect::<Result<Vec<_>>>()?;
    let mut counted = Counters::default();
    for lease in &leases {
        let done = sqlx::query(
            "UPDATE shards SET state = 'pending' \
             WHERE job_id = ? AND shard_idx = ? AND state = 'leased'",
        )
        .bind(job_id.as_str())
        .bind(rows::int(lease.shard_idx)?)
        .execute(&mut *tx)
        .await
        .map_err(during("give a shard back"))?;
        if done.rows_affected() > 0 {
            counted.moved(ShardState::Leased, ShardState::Pending);
        }
        let message = "the job takes no more commits";
        add_attempt(&mut tx, lease, LeaseEnd::Fenced, false, message, &[], now).await?;
    }
    sqlx::query("DELETE FROM leases WHERE job_id = ?")
        .bind(job_id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(during("end leases"))?;
    count(&mut tx, job_id, &counted).await?;
    commit(tx).await?;
    Ok(leases.len() as u64)
}

pub(super) async fn attempts(
    store: &SqliteStore,
    job_id: &JobId,
    shard_idx: ShardIdx,
) -> Result<Vec<AttemptRecord>> {
    let found =
        sqlx::query("SELECT * FROM attempts WHERE job_id = ? AND shard_idx = ? ORDER BY number")
            .bind(job_id.as_str())
            .bind(rows::int(shard_idx)?)
            .fetch_all(&store.readers)
            .await
            .map_err(during("read attempts"))?;
    found.iter().map(rows::attempt).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quire_core::ManualClock;
    use sqlx::Row;

    use super::*;

    #[tokio::test]
    async fn waiting_shards_are_found_by_the_partial_index() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::default());
        let store = SqliteStore::open(&folder.path().join("state.db"), clock)
            .await
            .unwrap();
        let mut tx = store.begin().await.unwrap();
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4999) \
             INSERT INTO shards (job_id, shard_idx, first_row, n_rows, plan_group, line_start, \
             line_end, skip_rows, state, qkey) SELECT 'j', i, i, 1, 0, i, i + 1, 0, \
             CASE WHEN i < 2500 THEN 'published' ELSE 'pending' END, i FROM n",
        )
        .execute(&mut *tx)
        .await
        .unwrap();
        sqlx::query("ANALYZE").execute(&mut *tx).await.unwrap();
        commit(tx).await.unwrap();
        let explain = format!("EXPLAIN QUERY PLAN {FIRST_WAITING}");
        let steps = sqlx::query(sqlx::AssertSqlSafe(explain))
            .bind("j")
            .bind(0)
            .fetch_all(&store.readers)
            .await
            .unwrap();
        let text: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
        assert!(text[0].contains("shards_pending"), "{text:?}");
    }
}
