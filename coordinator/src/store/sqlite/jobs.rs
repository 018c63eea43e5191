//! Jobs and their shards as planned.

use quire_core::{Fault, JobId};

use super::{SqliteStore, commit, count, during, fleet, insert_shard, rows};
use crate::error::Result;
use crate::job::{JobState, ShardState};
use crate::store::records::{
    Counters, CreateJob, JobRecord, NewJob, NewShard, PlanTotals, Why, signed,
};
use crate::store::{JobQuery, forgets_why};

pub(super) async fn create(store: &SqliteStore, job: &NewJob) -> Result<CreateJob> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let known: Option<i64> = sqlx::query_scalar("SELECT number FROM jobs WHERE job_id = ?")
        .bind(job.job_id.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(during("look for a job"))?;
    if known.is_some() {
        return Ok(CreateJob::Known);
    }
    let in_the_way: Option<i64> = sqlx::query_scalar(
        "SELECT number FROM jobs WHERE out = ? \
         AND (state NOT IN ('done', 'canceled', 'failed') OR sequence >= ?) LIMIT 1",
    )
    .bind(&job.out)
    .bind(rows::int(job.sequence)?)
    .fetch_optional(&mut *tx)
    .await
    .map_err(during("look for other jobs"))?;
    if in_the_way.is_some() {
        return Ok(CreateJob::Refused);
    }
    sqlx::query(
        "INSERT INTO jobs (job_id, out, sequence, spec_json, spec_sha256, tenant, priority, \
         state, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, 'planning', ?)",
    )
    .bind(job.job_id.as_str())
    .bind(&job.out)
    .bind(rows::int(job.sequence)?)
    .bind(&job.spec_json)
    .bind(&job.spec_sha256)
    .bind(&job.tenant)
    .bind(job.priority)
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(during("add a job"))?;
    sqlx::query("INSERT INTO job_counters (job_id) VALUES (?)")
        .bind(job.job_id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(during("add a job"))?;
    fleet::add_tenant(&mut tx, &job.tenant, now).await?;
    commit(tx).await?;
    Ok(CreateJob::Created)
}

pub(super) async fn set_priority(
    store: &SqliteStore,
    job_id: &JobId,
    priority: i32,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = sqlx::query(
        "UPDATE jobs SET priority = ? WHERE job_id = ? \
         AND state NOT IN ('done', 'canceled', 'failed')",
    )
    .bind(priority)
    .bind(job_id.as_str())
    .execute(&mut *tx)
    .await
    .map_err(during("set a priority"))?;
    commit(tx).await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn get(store: &SqliteStore, job_id: &JobId) -> Result<Option<JobRecord>> {
    let row = sqlx::query("SELECT * FROM jobs JOIN job_counters USING (job_id) WHERE job_id = ?")
        .bind(job_id.as_str())
        .fetch_optional(&store.readers)
        .await
        .map_err(during("read a job"))?;
    row.as_ref().map(rows::job).transpose()
}

pub(super) async fn newest(store: &SqliteStore, out: &str) -> Result<Option<JobRecord>> {
    let row = sqlx::query(
        "SELECT * FROM jobs JOIN job_counters USING (job_id) WHERE out = ? \
         ORDER BY number DESC LIMIT 1",
    )
    .bind(out)
    .fetch_optional(&store.readers)
    .await
    .map_err(during("read a job"))?;
    row.as_ref().map(rows::job).transpose()
}

pub(super) async fn list(store: &SqliteStore, query: &JobQuery) -> Result<Vec<JobRecord>> {
    let found = sqlx::query(
        "SELECT * FROM jobs JOIN job_counters USING (job_id) WHERE number < ?1 \
         AND (NOT ?2 OR state NOT IN ('done', 'canceled', 'failed')) \
         ORDER BY number DESC LIMIT ?3",
    )
    .bind(query.before.unwrap_or(i64::MAX))
    .bind(query.unfinished)
    .bind(query.limit)
    .fetch_all(&store.readers)
    .await
    .map_err(during("read jobs"))?;
    found.iter().map(rows::job).collect()
}

pub(super) async fn change_state(
    store: &SqliteStore,
    job_id: &JobId,
    from: JobState,
    to: JobState,
    why: Option<&Why>,
) -> Result<bool> {
    if !from.may_become(to) {
        return Ok(false);
    }
    let finished_at = to.is_final().then(|| store.now());
    let fault = why.and_then(|why| why.fault).map(Fault::as_str);
    let mut tx = store.begin().await?;
    let done = sqlx::query(
        "UPDATE jobs SET state = ?1, finished_at_ms = ?2, \
         reason = CASE WHEN ?3 THEN NULL ELSE coalesce(?4, reason) END, \
         fault = CASE WHEN ?3 THEN NULL WHEN ?4 IS NOT NULL THEN ?5 ELSE fault END \
         WHERE job_id = ?6 AND state = ?7",
    )
    .bind(to.as_str())
    .bind(finished_at)
    .bind(forgets_why(to))
    .bind(why.map(|why| why.reason.as_str()))
    .bind(fault)
    .bind(job_id.as_str())
    .bind(from.as_str())
    .execute(&mut *tx)
    .await
    .map_err(during("move a job"))?;
    commit(tx).await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn add_shards(
    store: &SqliteStore,
    job_id: &JobId,
    shards: &[NewShard],
) -> Result<()> {
    let mut tx = store.begin().await?;
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM jobs WHERE job_id = ?")
        .bind(job_id.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(during("read a job"))?;
    if state.as_deref() != Some(JobState::Planning.as_str()) {
        return Ok(());
    }
    let mut added = Counters::default();
    for shard in shards {
        if insert_shard(&mut tx, job_id, shard).await? {
            added.shard(ShardState::Pending, 1);
        }
    }
    count(&mut tx, job_id, &added).await?;
    commit(tx).await
}

pub(super) async fn start(store: &SqliteStore, job_id: &JobId, plan: &PlanTotals) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = sqlx::query(
        "UPDATE jobs SET state = 'running', documents = ?, rows = ?, planned_at_ms = ? \
         WHERE job_id = ? AND state = 'planning'",
    )
    .bind(signed(plan.documents))
    .bind(signed(plan.rows))
    .bind(store.now())
    .bind(job_id.as_str())
    .execute(&mut *tx)
    .await
    .map_err(during("start a job"))?;
    commit(tx).await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn finish(
    store: &SqliteStore,
    job_id: &JobId,
    version: Option<u64>,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = sqlx::query(
        "UPDATE jobs SET state = 'done', sealed_version = ?, already_complete = ?, \
         finished_at_ms = ? WHERE job_id = ? AND (state = 'planning' OR (state = 'finishing' AND ?))",
    )
    .bind(version.map(rows::int).transpose()?)
    .bind(version.is_none())
    .bind(store.now())
    .bind(job_id.as_str())
    .bind(version.is_some())
    .execute(&mut *tx)
    .await
    .map_err(during("finish a job"))?;
    commit(tx).await?;
    Ok(done.rows_affected() > 0)
}
