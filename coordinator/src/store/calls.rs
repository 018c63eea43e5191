//! The list of a store's calls, for stores that stand around another one.

/// Hands every call of [`Store`](crate::store::Store) but `work_announced`, which answers
/// nothing, to the macro `$with`, which writes the call of a store that wraps another: one that
/// measures it, or fails now and then. The names of [`crate::store`] and the identifiers of
/// `quire_core` must be in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! for_every_call {
    ($with:ident) => {
        $with! {
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
            fn quarantine(job_id: &JobId, query: &QuarantineQuery) -> Vec<QuarantineRecord>;
            fn failures(job_id: &JobId) -> Vec<FailureCount>;
            fn apply_manifest(job_id: &JobId, manifest: &AppliedManifest) -> bool;
        }
    };
}
