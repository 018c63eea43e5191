//! The embedded store: one SQLite file, WAL, `synchronous=FULL`.
//!
//! SQLite has one writer. Changes go through a pool of one connection and start with
//! `BEGIN IMMEDIATE`, so that a transaction never has to upgrade from reading to writing, which
//! fails at once whatever the busy timeout. Reads go through connections of their own and never
//! wait for the writer.

mod fleet;
mod jobs;
mod leases;
mod publish;
mod requeue;
mod rows;
mod sessions;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quire_core::{Clock, JobId, LeaseId, SessionId, ShardIdx};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use super::records::*;
use super::{JobQuery, QuarantineQuery, ShardQuery, Store};
use crate::error::{Error, Result};
use crate::job::{JobState, ShardState};

/// Another process may hold the file for a moment: a backup, a person with a shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
const READERS: u32 = 3;

type Tx = Transaction<'static, Sqlite>;

/// The embedded store.
#[derive(Debug)]
pub struct SqliteStore {
    clock: Arc<dyn Clock>,
    writer: SqlitePool,
    readers: SqlitePool,
    incarnation: String,
    is_new: bool,
}

/// Names what was tried when a statement fails.
fn during(action: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Database { action, source }
}

impl SqliteStore {
    /// Opens the database in this file, or makes it, and brings it to this version.
    ///
    /// # Errors
    /// When the file cannot be opened, is not ours, or was made by a newer version.
    pub async fn open(file: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(during("open"))?;
        sqlx::migrate!("src/store/sqlite/migrations")
            .run(&writer)
            .await
            .map_err(|source| Error::Migration {
                path: file.to_owned(),
                source: Box::new(source),
            })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(during("open for reading"))?;
        let (incarnation, is_new) = incarnation(&writer).await?;
        Ok(Self {
            clock,
            writer,
            readers,
            incarnation,
            is_new,
        })
    }

    /// Whether this call made the database: jobs may lie in the store that it does not know.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Closes the file, with its log folded into it.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    fn now(&self) -> i64 {
        self.clock.unix_ms()
    }

    async fn begin(&self) -> Result<Tx> {
        self.writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(during("begin a change"))
    }
}

async fn commit(tx: Tx) -> Result<()> {
    tx.commit().await.map_err(during("commit a change"))
}

async fn incarnation(writer: &SqlitePool) -> Result<(String, bool)> {
    let drawn = uuid::Uuid::new_v4().to_string();
    sqlx::query("INSERT INTO meta (key, value) VALUES ('incarnation', ?) ON CONFLICT DO NOTHING")
        .bind(&drawn)
        .execute(writer)
        .await
        .map_err(during("name it"))?;
    let kept: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'incarnation'")
        .fetch_one(writer)
        .await
        .map_err(during("read its name"))?;
    let is_new = kept == drawn;
    Ok((kept, is_new))
}

#[async_trait]
impl Store for SqliteStore {
    async fn incarnation(&self) -> Result<String> {
        Ok(self.incarnation.clone())
    }

    async fn now_ms(&self) -> Result<i64> {
        Ok(self.now())
    }

    async fn create_job(&self, job: &NewJob) -> Result<CreateJob> {
        jobs::create(self, job).await
    }

    async fn job(&self, job_id: &JobId) -> Result<Option<JobRecord>> {
        jobs::get(self, job_id).await
    }

    async fn newest_job(&self, out: &str) -> Result<Option<JobRecord>> {
        jobs::newest(self, out).await
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Vec<JobRecord>> {
        jobs::list(self, query).await
    }

    async fn move_job(
        &self,
        job_id: &JobId,
        from: JobState,
        to: JobState,
        why: Option<&Why>,
    ) -> Result<bool> {
        jobs::change_state(self, job_id, from, to, why).await
    }

    async fn add_shards(&self, job_id: &JobId, shards: &[NewShard]) -> Result<()> {
        jobs::add_shards(self, job_id, shards).await
    }

    async fn start_job(&self, job_id: &JobId, plan: &PlanTotals) -> Result<bool> {
        jobs::start(self, job_id, plan).await
    }

    async fn finish_job(&self, job_id: &JobId, version: Option<u64>) -> Result<bool> {
        jobs::finish(self, job_id, version).await
    }

    async fn set_priority(&self, job_id: &JobId, priority: i32) -> Result<bool> {
        jobs::set_priority(self, job_id, priority).await
    }

    async fn open_session(&self, session: &NewSession) -> Result<()> {
        sessions::open(self, session).await
    }

    async fn session(&self, session_id: &SessionId) -> Result<Option<SessionRecord>> {
        sessions::get(self, session_id).await
    }

    async fn heartbeat(&self, beat: &Beat) -> Result<Option<Vec<Standing>>> {
        sessions::heartbeat(self, beat).await
    }

    async fn close_session(&self, session_id: &SessionId) -> Result<bool> {
        sessions::close(self, session_id).await
    }

    async fn expire_sessions(&self) -> Result<()> {
        sessions::expire_all(self).await
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>> {
        sessions::all(self).await
    }

    async fn expired_sessions(&self) -> Result<Vec<SessionRecord>> {
        sessions::expired(self).await
    }

    async fn grant(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        lease_id: &LeaseId,
    ) -> Result<Grant> {
        leases::grant(self, session_id, job_id, lease_id).await
    }

    async fn grant_copy(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        shard_idx: ShardIdx,
        lease_id: &LeaseId,
    ) -> Result<Grant> {
        leases::grant_copy(self, session_id, job_id, shard_idx, lease_id).await
    }

    async fn lease(&self, lease_id: &LeaseId) -> Result<Option<(LeaseRecord, ShardRecord)>> {
        leases::get(self, lease_id).await
    }

    async fn won_by(&self, lease_id: &LeaseId) -> Result<Option<ShardRecord>> {
        leases::won_by(self, lease_id).await
    }

    async fn leases_of_session(&self, session_id: &SessionId) -> Result<Vec<LeaseRecord>> {
        leases::of_session(self, session_id).await
    }

    async fn leases_of_job(&self, job_id: &JobId) -> Result<Vec<LeaseRecord>> {
        leases::of_job(self, job_id).await
    }

    async fn stalled_leases(&self, before_ms: i64) -> Result<Vec<LeaseRecord>> {
        leases::stalled(self, before_ms).await
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitResult> {
        leases::commit_part(self, commit).await
    }

    async fn end_lease(&self, end: &EndLease) -> Result<bool> {
        leases::end(self, end).await
    }

    async fn fence_job(&self, job_id: &JobId) -> Result<u64> {
        leases::fence_job(self, job_id).await
    }

    async fn attempts(&self, job_id: &JobId, shard_idx: ShardIdx) -> Result<Vec<AttemptRecord>> {
        leases::attempts(self, job_id, shard_idx).await
    }

    async fn requeue_quarantined(
        &self,
        job_id: &JobId,
        shard_idxs: &[ShardIdx],
    ) -> Result<(u64, u64)> {
        requeue::requeue(self, job_id, shard_idxs).await
    }

    async fn deaths(&self, since_ms: i64) -> Result<Vec<DeathRecord>> {
        fleet::deaths(self, since_ms).await
    }

    async fn paces(&self, job_id: &JobId, limit: u32) -> Result<Vec<f64>> {
        fleet::paces(self, job_id, limit).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        fleet::nodes(self).await
    }

    async fn set_node(&self, node: &NodeRecord) -> Result<()> {
        fleet::set_node(self, node).await
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>> {
        fleet::tenants(self).await
    }

    async fn set_tenant(&self, tenant: &str, weight: f64) -> Result<()> {
        fleet::set_tenant(self, tenant, weight).await
    }

    async fn account(&self, half_life_ms: i64) -> Result<()> {
        fleet::account(self, half_life_ms).await
    }

    async fn take_duty(&self, duty: &Duty, holder: &str, ttl_ms: i64) -> Result<bool> {
        fleet::take_duty(self, duty, holder, ttl_ms).await
    }

    async fn drop_duty(&self, duty: &Duty, holder: &str) -> Result<()> {
        fleet::drop_duty(self, duty, holder).await
    }

    async fn work_announced(&self) {
        std::future::pending::<()>().await;
    }

    async fn announce_work(&self) -> Result<()> {
        Ok(())
    }

    async fn shards(&self, job_id: &JobId, query: &ShardQuery) -> Result<Vec<ShardRecord>> {
        publish::shards(self, job_id, query).await
    }

    async fn overlapping(
        &self,
        job_id: &JobId,
        first_row: u64,
        end_row: u64,
    ) -> Result<Vec<ShardRecord>> {
        publish::overlapping(self, job_id, first_row, end_row).await
    }

    async fn next_shard_idx(&self, job_id: &JobId) -> Result<ShardIdx> {
        publish::next_shard_idx(self, job_id).await
    }

    async fn quarantine(
        &self,
        job_id: &JobId,
        query: &QuarantineQuery,
    ) -> Result<Vec<QuarantineRecord>> {
        publish::quarantine(self, job_id, query).await
    }

    async fn failures(&self, job_id: &JobId) -> Result<Vec<FailureCount>> {
        publish::failures(self, job_id).await
    }

    async fn apply_manifest(&self, job_id: &JobId, manifest: &AppliedManifest) -> Result<bool> {
        publish::apply(self, job_id, manifest).await
    }
}

/// Adds to the sums of a job.
async fn count(tx: &mut Tx, job_id: &JobId, by: &Counters) -> Result<()> {
    sqlx::query(
        "UPDATE job_counters SET pending = pending + ?2, leased = leased + ?3, \
         committed = committed + ?4, published = published + ?5, halved = halved + ?6, \
         quarantined = quarantined + ?7, rows_ok = rows_ok + ?8, rows_failed = rows_failed + ?9, \
         rows_skipped = rows_skipped + ?10, rows_published = rows_published + ?11, \
         rows_quarantined = rows_quarantined + ?12 WHERE job_id = ?1",
    )
    .bind(job_id.as_str())
    .bind(by.pending)
    .bind(by.leased)
    .bind(by.committed)
    .bind(by.published)
    .bind(by.halved)
    .bind(by.quarantined)
    .bind(by.rows_ok)
    .bind(by.rows_failed)
    .bind(by.rows_skipped)
    .bind(by.rows_published)
    .bind(by.rows_quarantined)
    .execute(&mut **tx)
    .await
    .map_err(during("count"))?;
    Ok(())
}

/// One shard, inside a change.
async fn shard(tx: &mut Tx, job_id: &JobId, shard_idx: ShardIdx) -> Result<Option<ShardRecord>> {
    let row = sqlx::query("SELECT * FROM shards WHERE job_id = ? AND shard_idx = ?")
        .bind(job_id.as_str())
        .bind(rows::int(shard_idx)?)
        .fetch_optional(&mut **tx)
        .await
        .map_err(during("read a shard"))?;
    row.as_ref().map(rows::shard).transpose()
}

/// Sets a shard's state; the caller counts the move.
async fn set_state(
    tx: &mut Tx,
    job_id: &JobId,
    shard_idx: ShardIdx,
    state: ShardState,
) -> Result<()> {
    sqlx::query("UPDATE shards SET state = ? WHERE job_id = ? AND shard_idx = ?")
        .bind(state.as_str())
        .bind(job_id.as_str())
        .bind(rows::int(shard_idx)?)
        .execute(&mut **tx)
        .await
        .map_err(during("move a shard"))?;
    Ok(())
}

/// Ends every lease of a shard.
async fn fence_shard(tx: &mut Tx, job_id: &JobId, shard_idx: ShardIdx) -> Result<()> {
    sqlx::query("DELETE FROM leases WHERE job_id = ? AND shard_idx = ?")
        .bind(job_id.as_str())
        .bind(rows::int(shard_idx)?)
        .execute(&mut **tx)
        .await
        .map_err(during("end leases"))?;
    Ok(())
}

/// Adds a pending shard unless it is known; whether it was added. The caller counts it.
async fn insert_shard(tx: &mut Tx, job_id: &JobId, new: &NewShard) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO shards (job_id, shard_idx, parent, first_row, n_rows, plan_group, \
         line_start, line_end, skip_rows, state, isolate_json, qkey) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'pending', ?10, ?4) ON CONFLICT DO NOTHING",
    )
    .bind(job_id.as_str())
    .bind(rows::int(new.shard_idx)?)
    .bind(new.parent.map(rows::int).transpose()?)
    .bind(rows::int(new.span.first_row)?)
    .bind(new.span.n_rows)
    .bind(new.span.group)
    .bind(new.span.line_start)
    .bind(new.span.line_end)
    .bind(new.span.skip_rows)
    .bind(rows::documents_json(&new.isolate)?)
    .execute(&mut **tx)
    .await
    .map_err(during("add a shard"))?;
    Ok(done.rows_affected() > 0)
}
