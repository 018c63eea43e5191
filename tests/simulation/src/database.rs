//! The database as one host reaches it: whichever takes its place at present, away at times, and
//! in rough weather done with what nobody heard of.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use quire_coordinator::store::*;
use quire_coordinator::{Error, JobState, Result};
use quire_core::{JobId, LeaseId, SessionId, ShardIdx};

use crate::world::World;

/// The database as one host reaches it.
#[derive(Debug)]
pub(crate) struct Database {
    world: Arc<World>,
    host: String,
}

impl Database {
    pub(crate) fn new(world: Arc<World>, host: &str) -> Self {
        let host = host.to_owned();
        Self { world, host }
    }

    async fn call<T>(
        &self,
        name: &'static str,
        call: impl AsyncFnOnce(&MemoryStore) -> Result<T>,
    ) -> Result<T> {
        let weather = &self.world.weather;
        let nth = weather.count(&format!("{} {name}", self.host));
        let named = format!("{} {name} {nth}", self.host);
        let pause = self.world.chance.within(&format!("pause {named}"), 1..8);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if weather.is_cut_off(&self.host, "database") {
            // As a pool does that waits for a connection in vain.
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Err(away(name));
        }
        let answer = call(&self.world.database()).await;
        if weather.is_rough() && self.world.chance.share(&named) < 0.005 {
            let note = format!("{name}: done, and the connection is lost");
            self.world.trace.note(&self.host, note);
            return Err(away(name));
        }
        answer
    }
}

fn away(action: &'static str) -> Error {
    Error::Database {
        action,
        source: sqlx::Error::PoolTimedOut,
    }
}

macro_rules! reached {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Database {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                    self.call(stringify!($name), async |store: &MemoryStore| {
                        store.$name($($argument),*).await
                    })
                    .await
                }
            )*

            async fn work_announced(&self) {
                std::future::pending().await
            }
        }
    };
}

reached! {
    fn incarnation() -> String;
    fn now_ms() -> i64;
    fn create_job(job: &NewJob) -> CreateJob;
    fn job(job_id: &JobId) -> Option<JobRecord>;
    fn newest_job(out: &str) -> Option<JobRecord>;
    fn jobs(query: &JobQuery) -> Vec<JobRecord>;
    fn move_job(job_id: &JobId, from: JobState, to: JobState, why: Option<&Why>) -> bool;
    fn add_shards(job_id: &JobId, shards: &[NewShard]) -> ();
    fn start_job(job_id: &JobId, plan: &PlanTotals) -> bool;
    fn finish_job(job_id: &JobId, version: Option<u64>) -> bool;
    fn set_priority(job_id: &JobId, priority: i32) -> bool;
    fn open_session(session: &NewSession) -> ();
    fn session(session_id: &SessionId) -> Option<SessionRecord>;
    fn heartbeat(beat: &Beat) -> Option<Vec<Standing>>;
    fn close_session(session_id: &SessionId) -> bool;
    fn expire_sessions() -> ();
    fn sessions() -> Vec<SessionRecord>;
    fn expired_sessions() -> Vec<SessionRecord>;
    fn grant(session_id: &SessionId, job_id: &JobId, lease_id: &LeaseId) -> Grant;
    fn grant_copy(session_id: &SessionId, job_id: &JobId, shard_idx: ShardIdx, lease_id: &LeaseId) -> Grant;
    fn lease(lease_id: &LeaseId) -> Option<(LeaseRecord, ShardRecord)>;
    fn won_by(lease_id: &LeaseId) -> Option<ShardRecord>;
    fn leases_of_session(session_id: &SessionId) -> Vec<LeaseRecord>;
    fn leases_of_job(job_id: &JobId) -> Vec<LeaseRecord>;
    fn stalled_leases(before_ms: i64) -> Vec<LeaseRecord>;
    fn commit(commit: &Commit) -> CommitResult;
    fn end_lease(end: &EndLease) -> bool;
    fn fence_job(job_id: &JobId) -> u64;
    fn attempts(job_id: &JobId, shard_idx: ShardIdx) -> Vec<AttemptRecord>;
    fn requeue_quarantined(job_id: &JobId, shard_idxs: &[ShardIdx]) -> (u64, u64);
    fn deaths(since_ms: i64) -> Vec<DeathRecord>;
    fn paces(job_id: &JobId, limit: u32) -> Vec<f64>;
    fn nodes() -> Vec<NodeRecord>;
    fn set_node(node: &NodeRecord) -> ();
    fn tenants() -> Vec<TenantRecord>;
    fn set_tenant(tenant: &str, weight: f64) -> ();
    fn account(half_life_ms: i64) -> ();
    fn take_duty(duty: &Duty, holder: &str, ttl_ms: i64) -> bool;
    fn drop_duty(duty: &Duty, holder: &str) -> ();
    fn announce_work() -> ();
    fn shards(job_id: &JobId, query: &ShardQuery) -> Vec<ShardRecord>;
    fn overlapping(job_id: &JobId, first_row: u64, end_row: u64) -> Vec<ShardRecord>;
    fn next_shard_idx(job_id: &JobId) -> ShardIdx;
    fn quarantine(job_id: &JobId) -> Vec<QuarantineRecord>;
    fn failures(job_id: &JobId) -> Vec<FailureCount>;
    fn apply_manifest(job_id: &JobId, manifest: &AppliedManifest) -> bool;
}
