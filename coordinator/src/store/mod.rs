//! Who works on what, durable. One trait, and one transaction a call: each change is conditional
//! on the state it was decided upon, so that it is safe to repeat and safe to race.
//!
//! What readers of the dataset see is not here but in the numbered manifests, which win over
//! every store ([`Store::apply_manifest`]).

#[macro_use]
mod calls;
mod memory;
mod metered;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub mod records;
mod sqlite;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod machine;

use async_trait::async_trait;
use quire_core::{JobId, LeaseId, SessionId, ShardIdx};

use crate::error::Result;
use crate::job::{JobState, ShardState};

pub use memory::MemoryStore;
pub(crate) use metered::MeteredStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresConfig, PostgresStore};
pub use records::{
    AppliedManifest, AttemptRecord, Beat, Commit, CommitResult, Counters, CreateJob, DeathRecord,
    Duty, EndLease, FailureCount, Grant, JobRecord, LeaseRecord, LeaseStage, NewJob, NewSession,
    NewShard, NodeRecord, NodeStanding, PartRecord, PlanTotals, Progress, QuarantineRecord,
    RowCounts, SessionRecord, ShardChange, ShardRecord, Span, Standing, TenantRecord, Verdict, Why,
};
pub use sqlite::SqliteStore;

/// Which jobs to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobQuery {
    /// Only jobs that are not in a final state.
    pub unfinished: bool,
    /// Only jobs with a smaller number.
    pub before: Option<i64>,
    pub limit: u32,
}

/// Which shards to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardQuery {
    /// Only shards after this one.
    pub after: Option<ShardIdx>,
    pub state: Option<ShardState>,
    pub limit: u32,
}

/// Which given-up rows to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuarantineQuery {
    /// Only those of shards after this one. A shard is given up only when one row is left of it:
    /// its number tells the row.
    pub after: Option<ShardIdx>,
    /// Only those that no manifest lists.
    pub unlisted: bool,
    pub limit: u32,
}

/// Jobs, shards, leases and sessions.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// A name that was drawn when the store was made.
    async fn incarnation(&self) -> Result<String>;
    /// Milliseconds since the Unix epoch by the clock that decides expiry.
    async fn now_ms(&self) -> Result<i64>;

    /// Takes a job unless another of the same dataset is unfinished or stands later in the
    /// sequence.
    async fn create_job(&self, job: &NewJob) -> Result<CreateJob>;
    /// One job.
    async fn job(&self, job_id: &JobId) -> Result<Option<JobRecord>>;
    /// The newest job of a dataset.
    async fn newest_job(&self, out: &str) -> Result<Option<JobRecord>>;
    /// Jobs, newest first.
    async fn jobs(&self, query: &JobQuery) -> Result<Vec<JobRecord>>;
    /// Moves a job if it is in `from`; leaving a running state ends nothing by itself.
    async fn move_job(
        &self,
        job_id: &JobId,
        from: JobState,
        to: JobState,
        why: Option<&Why>,
    ) -> Result<bool>;
    /// Adds shards to a job that is planned; those that are known already stay as they are.
    async fn add_shards(&self, job_id: &JobId, shards: &[NewShard]) -> Result<()>;
    /// Planning is over: the job runs.
    async fn start_job(&self, job_id: &JobId, plan: &PlanTotals) -> Result<bool>;
    /// The job is done: with the version that has its rows, or from planning with nothing to do.
    async fn finish_job(&self, job_id: &JobId, version: Option<u64>) -> Result<bool>;

    /// Changes the priority of a job that is not in a final state.
    async fn set_priority(&self, job_id: &JobId, priority: i32) -> Result<bool>;

    /// Makes a worker known.
    async fn open_session(&self, session: &NewSession) -> Result<()>;
    /// A session that is not gone.
    async fn session(&self, session_id: &SessionId) -> Result<Option<SessionRecord>>;
    /// Keeps a session alive and notes progress. Answers for each lease named; `None` if the
    /// session is unknown.
    async fn heartbeat(&self, beat: &Beat) -> Result<Option<Vec<Standing>>>;
    /// Forgets a session that holds no lease; whether it is gone now.
    async fn close_session(&self, session_id: &SessionId) -> Result<bool>;
    /// Lets every session expire now: their processes are known to be dead.
    async fn expire_sessions(&self) -> Result<()>;
    /// Sessions that are not gone, by node and name.
    async fn sessions(&self) -> Result<Vec<SessionRecord>>;
    /// Sessions that expired.
    async fn expired_sessions(&self) -> Result<Vec<SessionRecord>>;

    /// Gives the first waiting shard of a running job to a live session.
    async fn grant(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        lease_id: &LeaseId,
    ) -> Result<Grant>;
    /// Gives a second copy of a leased shard to a live session on another node. Nothing is
    /// granted if the shard is not leased any more or has two live leases already.
    async fn grant_copy(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        shard_idx: ShardIdx,
        lease_id: &LeaseId,
    ) -> Result<Grant>;
    /// A live lease with its shard.
    async fn lease(&self, lease_id: &LeaseId) -> Result<Option<(LeaseRecord, ShardRecord)>>;
    /// The shard whose accepted part this lease brought.
    async fn won_by(&self, lease_id: &LeaseId) -> Result<Option<ShardRecord>>;
    /// Live leases of a session.
    async fn leases_of_session(&self, session_id: &SessionId) -> Result<Vec<LeaseRecord>>;
    /// Live leases of a job.
    async fn leases_of_job(&self, job_id: &JobId) -> Result<Vec<LeaseRecord>>;
    /// Live leases that made no progress since `before_ms`.
    async fn stalled_leases(&self, before_ms: i64) -> Result<Vec<LeaseRecord>>;
    /// Accepts a part if its lease is live and the job takes commits, in one statement; every
    /// other lease of the shard ends.
    async fn commit(&self, commit: &Commit) -> Result<CommitResult>;
    /// Ends a live lease without a part. `false` if it was not live any more, or the verdict was
    /// made on a state that has changed.
    async fn end_lease(&self, end: &EndLease) -> Result<bool>;
    /// Ends every lease of a job that takes no more commits.
    async fn fence_job(&self, job_id: &JobId) -> Result<u64>;
    /// Attempts on a shard that ended without a part, oldest first.
    async fn attempts(&self, job_id: &JobId, shard_idx: ShardIdx) -> Result<Vec<AttemptRecord>>;

    /// Makes given-up shards of an unfinished job wait again, those of `shard_idxs` or all if it
    /// is empty, as long as no manifest lists them; their deaths are forgotten. How many rows wait
    /// again and how many were listed already.
    async fn requeue_quarantined(
        &self,
        job_id: &JobId,
        shard_idxs: &[ShardIdx],
    ) -> Result<(u64, u64)>;
    /// Charged deaths since then, oldest first. Whether a shard was finished elsewhere is known
    /// only of parts that this store accepted itself.
    async fn deaths(&self, since_ms: i64) -> Result<Vec<DeathRecord>>;
    /// Milliseconds a row of accepted parts of this job took, of the newest `limit` shards, in no
    /// order.
    async fn paces(&self, job_id: &JobId, limit: u32) -> Result<Vec<f64>>;

    /// Nodes that are not open, and those that were not and are again, by name.
    async fn nodes(&self) -> Result<Vec<NodeRecord>>;
    /// Opens a node or closes it, as of now. One that a person closed is not changed by the
    /// coordinator itself (`is_automatic`).
    async fn set_node(&self, node: &NodeRecord) -> Result<()>;

    /// Tenants by name: those that were set, and those that ever had a job, which weigh 1.
    async fn tenants(&self) -> Result<Vec<TenantRecord>>;
    /// Sets the weight of a tenant.
    async fn set_tenant(&self, tenant: &str, weight: f64) -> Result<()>;
    /// Brings what tenants used up to date: rows of accepted parts since the last time are added
    /// to what is left after `half_life_ms`.
    async fn account(&self, half_life_ms: i64) -> Result<()>;

    /// Takes or keeps a duty for `ttl_ms`; `false` while another holder has it.
    async fn take_duty(&self, duty: &Duty, holder: &str, ttl_ms: i64) -> Result<bool>;
    /// Lets a duty go.
    async fn drop_duty(&self, duty: &Duty, holder: &str) -> Result<()>;
    /// Completes when another coordinator on this store said that there is work
    /// ([`Self::announce_work`]); never, on stores that one process has for itself. Only a
    /// wake-up: it may be lost.
    async fn work_announced(&self);
    /// Tells other coordinators on this store that shards wait: a job started or was resumed, a
    /// shard was halved. Not called for grants and commits.
    async fn announce_work(&self) -> Result<()>;

    /// Shards in order.
    async fn shards(&self, job_id: &JobId, query: &ShardQuery) -> Result<Vec<ShardRecord>>;
    /// Shards with a row among these, halved ones left out, in plan order.
    async fn overlapping(
        &self,
        job_id: &JobId,
        first_row: u64,
        end_row: u64,
    ) -> Result<Vec<ShardRecord>>;
    /// The first number that no shard of the job has.
    async fn next_shard_idx(&self, job_id: &JobId) -> Result<ShardIdx>;
    /// Rows that were given up, by shard.
    async fn quarantine(
        &self,
        job_id: &JobId,
        query: &QuarantineQuery,
    ) -> Result<Vec<QuarantineRecord>>;
    /// Failed rows by code, most frequent first.
    async fn failures(&self, job_id: &JobId) -> Result<Vec<FailureCount>>;
    /// Applies a manifest if the one before it was the last, and if every row that it lists as
    /// given up is given up still; leases on what it lists end.
    async fn apply_manifest(&self, job_id: &JobId, manifest: &AppliedManifest) -> Result<bool>;
}

/// Whether a report shows that a lease moved on. One that waits behind others on its worker, or
/// for an object store that is away, does not stand still through its own fault.
fn moved_on(lease: &LeaseRecord, report: &Progress, store_away: bool) -> bool {
    report.rows_done > lease.rows_done
        || report.stage != lease.stage
        || report.stage == LeaseStage::Queued
        || report.engine_moved
        || (report.stage == LeaseStage::Uploading && store_away)
}

/// Paces are kept in a ring of this many places a job, by shard.
pub(crate) const PACE_RING: u64 = 128;

/// Milliseconds that a row of this part took; `None` if its worker does not say.
fn pace_of(commit: &Commit) -> Option<f64> {
    let rows = commit.rows.total();
    (commit.work_ms > 0 && rows > 0).then(|| commit.work_ms as f64 / rows as f64)
}

/// What is left of a use after some time.
fn decayed(used: f64, elapsed_ms: i64, half_life_ms: i64) -> f64 {
    used * 0.5_f64.powf(elapsed_ms.max(0) as f64 / half_life_ms.max(1) as f64)
}

/// A job that goes on forgets why it did not.
fn forgets_why(state: JobState) -> bool {
    matches!(state, JobState::Planning | JobState::Running)
}
