//! Grants and commits: one call of a function each (`migrations/0002_leases.sql`).

use quire_core::{JobId, LeaseId, SessionId, ShardIdx};
use sqlx::postgres::PgRow;

use super::{PostgresStore, Statement, rows};
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::store::records::{
    Commit, CommitResult, FailureCount, Grant, LeaseRecord, ShardRecord, signed,
};
use crate::store::{PACE_RING, pace_of};

pub(super) async fn grant(
    store: &PostgresStore,
    session_id: &SessionId,
    job_id: &JobId,
    lease_id: &LeaseId,
) -> Result<Grant> {
    let statement = sqlx::query("SELECT refusal, (taken).* FROM quire_grant($1, $2, $3, $4)")
        .bind(session_id.as_str())
        .bind(job_id.as_str())
        .bind(lease_id.as_str())
        .bind(store.moment());
    granted(store.one("grant a shard", statement).await?)
}

pub(super) async fn grant_copy(
    store: &PostgresStore,
    session_id: &SessionId,
    job_id: &JobId,
    shard_idx: ShardIdx,
    lease_id: &LeaseId,
) -> Result<Grant> {
    let statement =
        sqlx::query("SELECT refusal, (taken).* FROM quire_grant_copy($1, $2, $3, $4, $5)")
            .bind(session_id.as_str())
            .bind(job_id.as_str())
            .bind(rows::int(shard_idx)?)
            .bind(lease_id.as_str())
            .bind(store.moment());
    granted(store.one("grant a second copy", statement).await?)
}

fn granted(row: Option<PgRow>) -> Result<Grant> {
    let Some(row) = row else {
        return Ok(Grant::Nothing);
    };
    match rows::get::<Option<&str>>(&row, "refusal")? {
        None => Ok(Grant::Granted(Box::new(rows::shard(&row)?))),
        Some("no session") => Ok(Grant::NoSession),
        Some(_) => Ok(Grant::Nothing),
    }
}

pub(super) async fn commit_part(store: &PostgresStore, part: &Commit) -> Result<CommitResult> {
    let failures = distinct(&part.failures);
    let codes: Vec<&str> = failures
        .iter()
        .map(|failure| failure.code.as_str())
        .collect();
    let counts: Vec<i64> = failures
        .iter()
        .map(|failure| signed(failure.count))
        .collect();
    let examples: Vec<&str> = failures
        .iter()
        .map(|failure| failure.example.as_str())
        .collect();
    let statement = sqlx::query(
        "SELECT quire_commit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
         AS answer",
    )
    .bind(part.lease_id.as_str())
    .bind(&part.part.key)
    .bind(rows::int(part.part.bytes)?)
    .bind(&part.part.sha256)
    .bind(part.part.etag.as_deref())
    .bind(rows::small(part.rows.ok)?)
    .bind(rows::small(part.rows.failed)?)
    .bind(rows::small(part.rows.skipped)?)
    .bind(pace_of(part))
    .bind(rows::int(PACE_RING)?)
    .bind(codes)
    .bind(counts)
    .bind(examples)
    .bind(store.moment());
    let row = store.one("accept a part", statement).await?;
    let answer: Option<&str> = match &row {
        Some(row) => rows::get(row, "answer")?,
        None => None,
    };
    match answer.unwrap_or_default() {
        "committed" => Ok(CommitResult::Committed),
        "already" => Ok(CommitResult::Already),
        "fenced" => Ok(CommitResult::Fenced),
        state => match JobState::parse(state) {
            Some(state) => Ok(CommitResult::JobNotRunning(state)),
            None => Err(Error::DatabaseValue {
                what: "state",
                value: state.to_owned(),
            }),
        },
    }
}

/// Failures with each code once, as the server takes them.
fn distinct(failures: &[FailureCount]) -> Vec<FailureCount> {
    let mut kept: Vec<FailureCount> = Vec::with_capacity(failures.len());
    for failure in failures {
        let code = rows::text(&failure.code);
        match kept.iter_mut().find(|kept| kept.code == code) {
            Some(kept) => kept.count = kept.count.saturating_add(failure.count),
            None => kept.push(FailureCount {
                code: code.into_owned(),
                count: failure.count,
                example: rows::text(&failure.example).into_owned(),
            }),
        }
    }
    kept
}

pub(super) async fn get(
    store: &PostgresStore,
    lease_id: &LeaseId,
) -> Result<Option<(LeaseRecord, ShardRecord)>> {
    let mut tx = store.begin().await?;
    let find = sqlx::query("SELECT * FROM leases WHERE lease_id = $1").bind(lease_id.as_str());
    let lease = tx.one("read a lease", find).await?;
    let Some(lease) = lease.as_ref().map(rows::lease).transpose()? else {
        tx.roll_back().await?;
        return Ok(None);
    };
    let find = sqlx::query("SELECT * FROM shards WHERE job_id = $1 AND shard_idx = $2")
        .bind(lease.job_id.as_str())
        .bind(rows::int(lease.shard_idx)?);
    let shard = tx.one("read a shard", find).await?;
    tx.roll_back().await?;
    let shard = shard.as_ref().map(rows::shard).transpose()?;
    Ok(shard.map(|shard| (lease, shard)))
}

pub(super) async fn won_by(
    store: &PostgresStore,
    lease_id: &LeaseId,
) -> Result<Option<ShardRecord>> {
    let statement = sqlx::query("SELECT * FROM shards WHERE winner = $1").bind(lease_id.as_str());
    let row = store.one("read a shard", statement).await?;
    row.as_ref().map(rows::shard).transpose()
}

async fn list(store: &PostgresStore, statement: Statement<'_>) -> Result<Vec<LeaseRecord>> {
    let found = store.all("read leases", statement).await?;
    found.iter().map(rows::lease).collect()
}

pub(super) async fn of_session(
    store: &PostgresStore,
    session_id: &SessionId,
) -> Result<Vec<LeaseRecord>> {
    let statement = sqlx::query("SELECT * FROM leases WHERE session_id = $1 ORDER BY lease_id");
    list(store, statement.bind(session_id.as_str())).await
}

pub(super) async fn of_job(store: &PostgresStore, job_id: &JobId) -> Result<Vec<LeaseRecord>> {
    let statement = sqlx::query("SELECT * FROM leases WHERE job_id = $1 ORDER BY lease_id");
    list(store, statement.bind(job_id.as_str())).await
}

pub(super) async fn stalled(store: &PostgresStore, before_ms: i64) -> Result<Vec<LeaseRecord>> {
    let statement =
        sqlx::query("SELECT * FROM leases WHERE progressed_at_ms < $1 ORDER BY lease_id");
    list(store, statement.bind(before_ms)).await
}
