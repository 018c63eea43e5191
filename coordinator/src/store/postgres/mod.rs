//! The store of a fleet: PostgreSQL 15 or newer, for any number of coordinators at once.
//!
//! Each change is one transaction; the two that happen for every shard are one round trip each
//! (`migrations/0002_leases.sql`, which also tells the order of locks). Only the server's clock
//! decides expiry. What the memory and SQLite stores get from having one writer, this one gets
//! from row locks: every change of a shard, or of its leases, takes the shard's row first.

mod connect;
mod connections;
mod ends;
pub(crate) mod errors;
mod fleet;
mod jobs;
mod leases;
mod publish;
mod requeue;
mod rows;
#[cfg(test)]
#[path = "../../../../tests/src/postgres.rs"]
mod server;
mod sessions;
#[cfg(test)]
mod tests;
mod tx;
mod wake;

use std::sync::Arc;

use async_trait::async_trait;
use quire_core::{Clock, JobId, LeaseId, SessionId, ShardIdx};
use sqlx::postgres::PgConnection;

use super::records::*;
use super::{JobQuery, QuarantineQuery, ShardQuery, Store};
use crate::error::{Error, Result};
use crate::job::JobState;

pub use connect::PostgresConfig;
use connections::Connections;
use errors::call;
use tx::{SLOTS, Statement, Tx};
use wake::Wake;

#[cfg(test)]
pub(super) use tests::fresh_store;

/// The store of a fleet.
pub struct PostgresStore {
    connections: Connections,
    /// Where the database is, for messages.
    name: String,
    /// Tests move time by hand; their instants go into the same statements in place of the
    /// server's clock.
    clock: Option<Arc<dyn Clock>>,
    incarnation: String,
    is_new: bool,
    wake: Wake,
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore")
            .field("database", &self.name)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

/// Names what was tried when a statement fails.
fn during(action: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Database { action, source }
}

impl PostgresStore {
    /// Connects to a database and brings its tables to this version, which several processes may
    /// do at once.
    ///
    /// # Errors
    /// When the URL makes no sense, the server cannot be reached or is older than 15, or the
    /// tables were made by a newer version.
    pub async fn connect(config: &PostgresConfig) -> Result<Self> {
        Self::connect_with(config, None).await
    }

    /// As [`Self::connect`], with time that a test moves.
    ///
    /// # Errors
    /// As [`Self::connect`].
    #[doc(hidden)]
    pub async fn connect_for_test(config: &PostgresConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::connect_with(config, Some(clock)).await
    }

    async fn connect_with(config: &PostgresConfig, clock: Option<Arc<dyn Clock>>) -> Result<Self> {
        let options = connect::options(config)?;
        connect::prepare(&options, config.patience).await?;
        let connections = Connections::new(options.clone(), config.max_connections);
        let mut conn = connections.take().await?;
        let (incarnation, is_new) = incarnation(&mut conn).await?;
        conn.keep();
        Ok(Self {
            connections,
            name: connect::name(&options),
            clock,
            incarnation,
            is_new,
            wake: Wake::listen(options),
        })
    }

    /// Whether this call made the database: jobs may lie in object storage that it does not know.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Ends the connections; calls fail from now on.
    pub async fn close(&self) {
        self.wake.stop();
        self.connections.close().await;
    }

    /// The time that a test says; `None`: the server's.
    fn moment(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.unix_ms())
    }
}

async fn incarnation(connection: &mut PgConnection) -> Result<(String, bool)> {
    let drawn = uuid::Uuid::new_v4().to_string();
    sqlx::query("INSERT INTO meta (key, value) VALUES ('incarnation', $1) ON CONFLICT DO NOTHING")
        .bind(&drawn)
        .execute(&mut *connection)
        .await
        .map_err(during("name it"))?;
    let kept: String = sqlx::query_scalar("SELECT value FROM meta WHERE key = 'incarnation'")
        .fetch_one(connection)
        .await
        .map_err(during("read its name"))?;
    let is_new = kept == drawn;
    Ok((kept, is_new))
}

#[async_trait]
impl Store for PostgresStore {
    async fn incarnation(&self) -> Result<String> {
        Ok(self.incarnation.clone())
    }

    async fn now_ms(&self) -> Result<i64> {
        call!(fleet::now(self))
    }

    async fn create_job(&self, job: &NewJob) -> Result<CreateJob> {
        call!(jobs::create(self, job))
    }

    async fn job(&self, job_id: &JobId) -> Result<Option<JobRecord>> {
        call!(jobs::get(self, job_id))
    }

    async fn newest_job(&self, out: &str) -> Result<Option<JobRecord>> {
        call!(jobs::newest(self, out))
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Vec<JobRecord>> {
        call!(jobs::list(self, query))
    }

    async fn move_job(
        &self,
        job_id: &JobId,
        from: JobState,
        to: JobState,
        why: Option<&Why>,
    ) -> Result<bool> {
        call!(jobs::change_state(self, job_id, from, to, why))
    }

    async fn add_shards(&self, job_id: &JobId, shards: &[NewShard]) -> Result<()> {
        call!(jobs::add_shards(self, job_id, shards))
    }

    async fn start_job(&self, job_id: &JobId, plan: &PlanTotals) -> Result<bool> {
        call!(jobs::start(self, job_id, plan))
    }

    async fn finish_job(&self, job_id: &JobId, version: Option<u64>) -> Result<bool> {
        call!(jobs::finish(self, job_id, version))
    }

    async fn set_priority(&self, job_id: &JobId, priority: i32) -> Result<bool> {
        call!(jobs::set_priority(self, job_id, priority))
    }

    async fn open_session(&self, session: &NewSession) -> Result<()> {
        call!(sessions::open(self, session))
    }

    async fn session(&self, session_id: &SessionId) -> Result<Option<SessionRecord>> {
        call!(sessions::get(self, session_id))
    }

    async fn heartbeat(&self, beat: &Beat) -> Result<Option<Vec<Standing>>> {
        call!(sessions::heartbeat(self, beat))
    }

    async fn close_session(&self, session_id: &SessionId) -> Result<bool> {
        call!(sessions::close(self, session_id))
    }

    async fn expire_sessions(&self) -> Result<()> {
        call!(sessions::expire_all(self))
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>> {
        call!(sessions::all(self))
    }

    async fn expired_sessions(&self) -> Result<Vec<SessionRecord>> {
        call!(sessions::expired(self))
    }

    async fn grant(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        lease_id: &LeaseId,
    ) -> Result<Grant> {
        call!(leases::grant(self, session_id, job_id, lease_id))
    }

    async fn grant_copy(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        shard_idx: ShardIdx,
        lease_id: &LeaseId,
    ) -> Result<Grant> {
        call!(leases::grant_copy(
            self, session_id, job_id, shard_idx, lease_id
        ))
    }

    async fn lease(&self, lease_id: &LeaseId) -> Result<Option<(LeaseRecord, ShardRecord)>> {
        call!(leases::get(self, lease_id))
    }

    async fn won_by(&self, lease_id: &LeaseId) -> Result<Option<ShardRecord>> {
        call!(leases::won_by(self, lease_id))
    }

    async fn leases_of_session(&self, session_id: &SessionId) -> Result<Vec<LeaseRecord>> {
        call!(leases::of_session(self, session_id))
    }

    async fn leases_of_job(&self, job_id: &JobId) -> Result<Vec<LeaseRecord>> {
        call!(leases::of_job(self, job_id))
    }

    async fn stalled_leases(&self, before_ms: i64) -> Result<Vec<LeaseRecord>> {
        call!(leases::stalled(self, before_ms))
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitResult> {
        call!(leases::commit_part(self, commit))
    }

    async fn end_lease(&self, end: &EndLease) -> Result<bool> {
        call!(ends::end(self, end))
    }

    async fn fence_job(&self, job_id: &JobId) -> Result<u64> {
        call!(ends::fence_job(self, job_id))
    }

    async fn attempts(&self, job_id: &JobId, shard_idx: ShardIdx) -> Result<Vec<AttemptRecord>> {
        call!(ends::attempts(self, job_id, shard_idx))
    }

    async fn requeue_quarantined(
        &self,
        job_id: &JobId,
        shard_idxs: &[ShardIdx],
    ) -> Result<(u64, u64)> {
        call!(requeue::requeue(self, job_id, shard_idxs))
    }

    async fn deaths(&self, since_ms: i64) -> Result<Vec<DeathRecord>> {
        call!(fleet::deaths(self, since_ms))
    }

    async fn paces(&self, job_id: &JobId, limit: u32) -> Result<Vec<f64>> {
        call!(fleet::paces(self, job_id, limit))
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        call!(fleet::nodes(self))
    }

    async fn set_node(&self, node: &NodeRecord) -> Result<()> {
        call!(fleet::set_node(self, node))
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>> {
        call!(fleet::tenants(self))
    }

    async fn set_tenant(&self, tenant: &str, weight: f64) -> Result<()> {
        call!(fleet::set_tenant(self, tenant, weight))
    }

    async fn account(&self, half_life_ms: i64) -> Result<()> {
        call!(fleet::account(self, half_life_ms))
    }

    async fn take_duty(&self, duty: &Duty, holder: &str, ttl_ms: i64) -> Result<bool> {
        call!(fleet::take_duty(self, duty, holder, ttl_ms))
    }

    async fn drop_duty(&self, duty: &Duty, holder: &str) -> Result<()> {
        call!(fleet::drop_duty(self, duty, holder))
    }

    async fn work_announced(&self) {
        self.wake.announced().await;
    }

    async fn announce_work(&self) -> Result<()> {
        call!(self.wake.announce(self))
    }

    async fn shards(&self, job_id: &JobId, query: &ShardQuery) -> Result<Vec<ShardRecord>> {
        call!(publish::shards(self, job_id, query))
    }

    async fn overlapping(
        &self,
        job_id: &JobId,
        first_row: u64,
        end_row: u64,
    ) -> Result<Vec<ShardRecord>> {
        call!(publish::overlapping(self, job_id, first_row, end_row))
    }

    async fn next_shard_idx(&self, job_id: &JobId) -> Result<ShardIdx> {
        call!(publish::next_shard_idx(self, job_id))
    }

    async fn quarantine(
        &self,
        job_id: &JobId,
        query: &QuarantineQuery,
    ) -> Result<Vec<QuarantineRecord>> {
        call!(publish::quarantine(self, job_id, query))
    }

    async fn failures(&self, job_id: &JobId) -> Result<Vec<FailureCount>> {
        call!(publish::failures(self, job_id))
    }

    async fn apply_manifest(&self, job_id: &JobId, manifest: &AppliedManifest) -> Result<bool> {
        call!(publish::apply(self, job_id, manifest))
    }
}
