//! Jobs and their shards as planned.

use quire_core::{Fault, JobId};
use sqlx::Row;

use super::{PostgresStore, SLOTS, Statement, Tx, during, rows};
use crate::error::Result;
use crate::job::{JobState, ShardState};
use crate::store::records::{
    Counters, CreateJob, JobRecord, NewJob, NewShard, PlanTotals, Why, signed,
};
use crate::store::{JobQuery, forgets_why};

pub(super) async fn create(store: &PostgresStore, job: &NewJob) -> Result<CreateJob> {
    // Whatever two that come at once see of each other: the keys and the index of unfinished jobs
    // let one of them in.
    let statement = sqlx::query(
        "WITH clock AS (SELECT coalesce($9::bigint, quire_now_ms()) AS now), \
         added AS (INSERT INTO jobs (job_id, out, sequence, spec_json, spec_sha256, tenant, \
             priority, state, created_at_ms) \
             SELECT $1, $2, $3, $4, $5, $6, $7, 'planning', now FROM clock \
             WHERE NOT EXISTS (SELECT FROM jobs WHERE out = $2 \
                 AND (state NOT IN ('done', 'canceled', 'failed') OR sequence >= $3)) \
             ON CONFLICT DO NOTHING RETURNING job_id, tenant), \
         counted AS (INSERT INTO job_counters (job_id, slot) \
             SELECT job_id, slot FROM added, generate_series(0, $8) AS slot), \
         paid AS (INSERT INTO tenants (tenant, weight, used_rows, accounted_at_ms) \
             SELECT tenant, 1, 0, now FROM added, clock ON CONFLICT DO NOTHING) \
         SELECT job_id FROM added",
    )
    .bind(job.job_id.as_str())
    .bind(&job.out)
    .bind(rows::int(job.sequence)?)
    .bind(&job.spec_json)
    .bind(&job.spec_sha256)
    .bind(rows::text(&job.tenant))
    .bind(job.priority)
    .bind(rows::small(SLOTS - 1)?)
    .bind(store.moment());
    if store.one("add a job", statement).await?.is_some() {
        return Ok(CreateJob::Created);
    }
    let known = sqlx::query("SELECT 1 FROM jobs WHERE job_id = $1").bind(job.job_id.as_str());
    match store.one("look for a job", known).await? {
        Some(_) => Ok(CreateJob::Known),
        None => Ok(CreateJob::Refused),
    }
}

/// Jobs with their sums over all slots.
macro_rules! select_jobs {
    ($rest:literal) => {
        concat!(
            "SELECT jobs.*, c.* FROM jobs CROSS JOIN LATERAL (SELECT \
             coalesce(sum(pending), 0)::bigint AS pending, \
             coalesce(sum(leased), 0)::bigint AS leased, \
             coalesce(sum(committed), 0)::bigint AS committed, \
             coalesce(sum(published), 0)::bigint AS published, \
             coalesce(sum(halved), 0)::bigint AS halved, \
             coalesce(sum(quarantined), 0)::bigint AS quarantined, \
             coalesce(sum(rows_ok), 0)::bigint AS rows_ok, \
             coalesce(sum(rows_failed), 0)::bigint AS rows_failed, \
             coalesce(sum(rows_skipped), 0)::bigint AS rows_skipped, \
             coalesce(sum(rows_published), 0)::bigint AS rows_published, \
             coalesce(sum(rows_quarantined), 0)::bigint AS rows_quarantined \
             FROM job_counters WHERE job_counters.job_id = jobs.job_id) AS c ",
            $rest
        )
    };
}

async fn one(store: &PostgresStore, statement: Statement<'_>) -> Result<Option<JobRecord>> {
    let row = store.one("read a job", statement).await?;
    row.as_ref().map(rows::job).transpose()
}

pub(super) async fn get(store: &PostgresStore, job_id: &JobId) -> Result<Option<JobRecord>> {
    let statement = sqlx::query(select_jobs!("WHERE job_id = $1")).bind(job_id.as_str());
    one(store, statement).await
}

pub(super) async fn newest(store: &PostgresStore, out: &str) -> Result<Option<JobRecord>> {
    let statement = sqlx::query(select_jobs!("WHERE out = $1 ORDER BY number DESC LIMIT 1"));
    one(store, statement.bind(out)).await
}

pub(super) async fn list(store: &PostgresStore, query: &JobQuery) -> Result<Vec<JobRecord>> {
    let statement = sqlx::query(select_jobs!(
        "WHERE number < $1 AND (NOT $2 OR state NOT IN ('done', 'canceled', 'failed')) \
         ORDER BY number DESC LIMIT $3"
    ))
    .bind(query.before.unwrap_or(i64::MAX))
    .bind(query.unfinished)
    .bind(i64::from(query.limit));
    let found = store.all("read jobs", statement).await?;
    found.iter().map(rows::job).collect()
}

/// Takes the row of a job, which numbers its shards and whose state then stays; its state.
pub(super) async fn held_job(tx: &mut Tx, job_id: &JobId) -> Result<Option<JobState>> {
    let row = sqlx::query("SELECT state FROM jobs WHERE job_id = $1 FOR NO KEY UPDATE");
    let row = tx.one("hold a job", row.bind(job_id.as_str())).await?;
    row.as_ref().map(rows::job_state).transpose()
}

/// Waits until nobody counts on the state of a job any more; `false` if there is no such job. The
/// row comes first: whoever holds it for long (a manifest is applied) must not stop grants and
/// commits, which only wait for the second lock.
async fn hold_alone(tx: &mut Tx, job_id: &JobId) -> Result<bool> {
    let state = held_job(tx, job_id).await?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock(quire_job_lock($1))");
    tx.run("hold a job", lock.bind(job_id.as_str())).await?;
    Ok(state.is_some())
}

/// Moves a job while nobody counts on its state; whether it was moved.
async fn move_alone(
    store: &PostgresStore,
    job_id: &JobId,
    action: &'static str,
    statement: Statement<'_>,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    if !hold_alone(&mut tx, job_id).await? {
        tx.roll_back().await?;
        return Ok(false);
    }
    let moved = tx.run(action, statement).await? > 0;
    tx.commit().await?;
    Ok(moved)
}

pub(super) async fn change_state(
    store: &PostgresStore,
    job_id: &JobId,
    from: JobState,
    to: JobState,
    why: Option<&Why>,
) -> Result<bool> {
    if !from.may_become(to) {
        return Ok(false);
    }
    let statement = sqlx::query(
        "UPDATE jobs SET state = $1, \
         finished_at_ms = CASE WHEN $2 THEN coalesce($8::bigint, quire_now_ms()) END, \
         reason = CASE WHEN $3 THEN NULL ELSE coalesce($4, reason) END, \
         fault = CASE WHEN $3 THEN NULL WHEN $4 IS NOT NULL THEN $5 ELSE fault END \
         WHERE job_id = $6 AND state = $7",
    )
    .bind(to.as_str())
    .bind(to.is_final())
    .bind(forgets_why(to))
    .bind(why.map(|why| rows::text(&why.reason)))
    .bind(why.and_then(|why| why.fault).map(Fault::as_str))
    .bind(job_id.as_str())
    .bind(from.as_str())
    .bind(store.moment());
    move_alone(store, job_id, "move a job", statement).await
}

pub(super) async fn start(
    store: &PostgresStore,
    job_id: &JobId,
    plan: &PlanTotals,
) -> Result<bool> {
    let statement = sqlx::query(
        "UPDATE jobs SET state = 'running', documents = $2, rows = $3, \
         planned_at_ms = coalesce($4::bigint, quire_now_ms()) \
         WHERE job_id = $1 AND state = 'planning'",
    )
    .bind(job_id.as_str())
    .bind(signed(plan.documents))
    .bind(signed(plan.rows))
    .bind(store.moment());
    move_alone(store, job_id, "start a job", statement).await
}

pub(super) async fn finish(
    store: &PostgresStore,
    job_id: &JobId,
    version: Option<u64>,
) -> Result<bool> {
    let statement = sqlx::query(
        "UPDATE jobs SET state = 'done', sealed_version = $2, already_complete = $3, \
         finished_at_ms = coalesce($4::bigint, quire_now_ms()) \
         WHERE job_id = $1 AND (state = 'planning' OR (state = 'finishing' AND NOT $3))",
    )
    .bind(job_id.as_str())
    .bind(version.map(rows::int).transpose()?)
    .bind(version.is_none())
    .bind(store.moment());
    move_alone(store, job_id, "finish a job", statement).await
}

pub(super) async fn set_priority(
    store: &PostgresStore,
    job_id: &JobId,
    priority: i32,
) -> Result<bool> {
    let statement = sqlx::query(
        "UPDATE jobs SET priority = $2 WHERE job_id = $1 \
         AND state NOT IN ('done', 'canceled', 'failed')",
    )
    .bind(job_id.as_str())
    .bind(priority);
    Ok(store.run("set a priority", statement).await? > 0)
}

pub(super) async fn add_shards(
    store: &PostgresStore,
    job_id: &JobId,
    shards: &[NewShard],
) -> Result<()> {
    let Some(first) = shards.first() else {
        return Ok(());
    };
    let mut tx = store.begin().await?;
    if held_job(&mut tx, job_id).await? != Some(JobState::Planning) {
        return tx.roll_back().await;
    }
    let mut added = Counters::default();
    let shards: Vec<&NewShard> = shards.iter().collect();
    added.shard(
        ShardState::Pending,
        insert_shards(&mut tx, job_id, &shards).await?,
    );
    tx.count(job_id, first.shard_idx, &added).await?;
    tx.commit().await
}

/// Adds pending shards, those that are known left out; how many were added. The caller counts
/// them.
pub(super) async fn insert_shards(
    tx: &mut Tx,
    job_id: &JobId,
    shards: &[&NewShard],
) -> Result<i64> {
    let widest = shards.iter().map(|shard| shard.span.n_rows).max();
    let widen = sqlx::query("UPDATE jobs SET widest = $2 WHERE job_id = $1 AND widest < $2")
        .bind(job_id.as_str())
        .bind(i64::from(widest.unwrap_or(0)));
    tx.run("note the widest shard", widen).await?;
    let mut columns = Columns::default();
    for shard in shards {
        columns.add(shard)?;
    }
    let statement = sqlx::query(
        "INSERT INTO shards (job_id, shard_idx, parent, first_row, qkey, n_rows, plan_group, \
         line_start, line_end, skip_rows, isolate_json, state) \
         SELECT $1, shard_idx, parent, first_row, first_row, n_rows, plan_group, line_start, \
         line_end, skip_rows, isolate_json, 'pending' \
         FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::integer[], $6::integer[], \
         $7::integer[], $8::integer[], $9::integer[], $10::text[]) AS new (shard_idx, parent, \
         first_row, n_rows, plan_group, line_start, line_end, skip_rows, isolate_json) \
         ORDER BY shard_idx ON CONFLICT DO NOTHING",
    )
    .bind(job_id.as_str())
    .bind(columns.shard_idx)
    .bind(columns.parent)
    .bind(columns.first_row)
    .bind(columns.n_rows)
    .bind(columns.plan_group)
    .bind(columns.line_start)
    .bind(columns.line_end)
    .bind(columns.skip_rows)
    .bind(columns.isolate_json);
    Ok(signed(tx.run("add shards", statement).await?))
}

/// New shards, a list for each column.
#[derive(Default)]
struct Columns {
    shard_idx: Vec<i64>,
    parent: Vec<Option<i64>>,
    first_row: Vec<i64>,
    n_rows: Vec<i32>,
    plan_group: Vec<i32>,
    line_start: Vec<i32>,
    line_end: Vec<i32>,
    skip_rows: Vec<i32>,
    isolate_json: Vec<String>,
}

impl Columns {
    fn add(&mut self, shard: &NewShard) -> Result<()> {
        self.shard_idx.push(rows::int(shard.shard_idx)?);
        self.parent.push(shard.parent.map(rows::int).transpose()?);
        self.first_row.push(rows::int(shard.span.first_row)?);
        self.n_rows.push(rows::small(shard.span.n_rows)?);
        self.plan_group.push(rows::small(shard.span.group)?);
        self.line_start.push(rows::small(shard.span.line_start)?);
        self.line_end.push(rows::small(shard.span.line_end)?);
        self.skip_rows.push(rows::small(shard.span.skip_rows)?);
        self.isolate_json.push(rows::json(&shard.isolate)?);
        Ok(())
    }
}

/// The number after the largest that a shard of the job has.
pub(super) fn next_number(row: Option<&sqlx::postgres::PgRow>) -> Result<u64> {
    let last: Option<i64> = match row {
        Some(row) => row.try_get(0).map_err(during("number a shard"))?,
        None => None,
    };
    Ok(last
        .and_then(|last| u64::try_from(last + 1).ok())
        .unwrap_or(0))
}
