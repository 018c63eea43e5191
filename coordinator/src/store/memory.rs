//! A store in memory: for tests, and the plainest statement of what every store must do.

mod fleet;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use quire_core::{Clock, JobId, LeaseId, SessionId, ShardIdx};
use quire_proto::v1;

use super::records::*;
use super::{JobQuery, QuarantineQuery, ShardQuery, Store};
use crate::error::Result;
use crate::job::{JobState, LeaseEnd, SessionState, ShardState};

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    incarnation: String,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default, Clone)]
struct Tables {
    jobs: BTreeMap<JobId, JobRecord>,
    shards: BTreeMap<(JobId, ShardIdx), ShardRecord>,
    sessions: BTreeMap<SessionId, SessionRecord>,
    leases: BTreeMap<LeaseId, LeaseRecord>,
    attempts: Vec<(JobId, AttemptRecord)>,
    quarantine: BTreeMap<(JobId, ShardIdx), QuarantineRecord>,
    failures: BTreeMap<(JobId, String), FailureCount>,
    /// The node that brought a shard's accepted part.
    winner_nodes: BTreeMap<(JobId, ShardIdx), String>,
    /// When a part was accepted and the milliseconds of one of its rows, in a ring by shard.
    paces: BTreeMap<(JobId, u64), (i64, f64)>,
    nodes: BTreeMap<String, NodeRecord>,
    tenants: BTreeMap<String, TenantRecord>,
    /// Rows of a job that its tenant was charged for.
    accounted: BTreeMap<JobId, i64>,
    /// Holder of a duty and when it lapses.
    duties: BTreeMap<String, (String, i64)>,
}

impl MemoryStore {
    /// An empty store whose time is that of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            incarnation: uuid::Uuid::new_v4().to_string(),
            tables: Mutex::new(Tables::default()),
        }
    }

    /// The same store as it is now, such as a replica that takes its place later on.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            clock: Arc::clone(&self.clock),
            incarnation: self.incarnation.clone(),
            tables: Mutex::new(self.tables().clone()),
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn now(&self) -> i64 {
        self.clock.unix_ms()
    }
}

impl Tables {
    fn shard(&self, job_id: &JobId, shard_idx: ShardIdx) -> Option<&ShardRecord> {
        self.shards.get(&(job_id.clone(), shard_idx))
    }

    fn shard_mut(&mut self, job_id: &JobId, shard_idx: ShardIdx) -> Option<&mut ShardRecord> {
        self.shards.get_mut(&(job_id.clone(), shard_idx))
    }

    fn job_shards(&self, job_id: &JobId) -> impl Iterator<Item = &ShardRecord> {
        self.shards
            .range((job_id.clone(), 0)..=(job_id.clone(), ShardIdx::MAX))
            .map(|(_, s)| s)
    }

    fn next_shard_idx(&self, job_id: &JobId) -> ShardIdx {
        self.job_shards(job_id)
            .map(|shard| shard.shard_idx + 1)
            .last()
            .unwrap_or(0)
    }

    fn counters(&mut self, job_id: &JobId, change: impl FnOnce(&mut Counters)) {
        if let Some(job) = self.jobs.get_mut(job_id) {
            change(&mut job.counters);
        }
    }

    /// Sets a shard's state and counts the move.
    fn move_shard(&mut self, job_id: &JobId, shard_idx: ShardIdx, to: ShardState) {
        let Some(shard) = self.shard_mut(job_id, shard_idx) else {
            return;
        };
        let from = std::mem::replace(&mut shard.state, to);
        debug_assert!(from.may_become(to), "{from} to {to}");
        self.counters(job_id, |counters| counters.moved(from, to));
    }

    fn insert_shard(&mut self, job_id: &JobId, new: &NewShard, not_before_ms: i64) {
        let key = (job_id.clone(), new.shard_idx);
        if self.shards.contains_key(&key) {
            return;
        }
        let shard = ShardRecord {
            job_id: job_id.clone(),
            shard_idx: new.shard_idx,
            parent: new.parent,
            span: new.span,
            state: ShardState::Pending,
            epoch: 0,
            deaths: 0,
            setbacks: 0,
            isolate: new.isolate.clone(),
            not_before_ms,
            part: None,
            rows: RowCounts::default(),
            winner: None,
        };
        self.shards.insert(key, shard);
        self.counters(job_id, |counters| counters.shard(ShardState::Pending, 1));
    }

    /// Ends every lease of a shard but one.
    fn fence_shard(&mut self, job_id: &JobId, shard_idx: ShardIdx) {
        self.leases
            .retain(|_, lease| !(lease.job_id == *job_id && lease.shard_idx == shard_idx));
    }

    fn leased_otherwise(&self, lease: &LeaseRecord) -> bool {
        self.leases.values().any(|other| {
            other.job_id == lease.job_id
                && other.shard_idx == lease.shard_idx
                && other.lease_id != lease.lease_id
        })
    }

    fn judge(&mut self, lease: &LeaseRecord, end: &EndLease) {
        let (job_id, shard_idx) = (&lease.job_id, lease.shard_idx);
        match &end.verdict {
            Verdict::Retry {
                not_before_ms,
                isolate,
            } => {
                let others = self.leased_otherwise(lease);
                self.leases.remove(&lease.lease_id);
                if let Some(shard) = self.shard_mut(job_id, shard_idx) {
                    shard.not_before_ms = *not_before_ms;
                    shard.isolate.clone_from(isolate);
                }
                if !others {
                    self.move_shard(job_id, shard_idx, ShardState::Pending);
                }
            }
            Verdict::Halve { spans, isolate } => {
                self.fence_shard(job_id, shard_idx);
                self.move_shard(job_id, shard_idx, ShardState::Halved);
                let setbacks = self
                    .shard(job_id, shard_idx)
                    .map_or(0, |shard| shard.setbacks);
                for span in spans {
                    let child = NewShard {
                        shard_idx: self.next_shard_idx(job_id),
                        parent: Some(shard_idx),
                        span: *span,
                        isolate: isolate.clone(),
                    };
                    self.insert_shard(job_id, &child, 0);
                    if let Some(child) = self.shard_mut(job_id, child.shard_idx) {
                        child.setbacks = setbacks;
                    }
                }
            }
            Verdict::Quarantine { line, message } => {
                self.fence_shard(job_id, shard_idx);
                self.move_shard(job_id, shard_idx, ShardState::Quarantined);
                let Some(shard) = self.shard(job_id, shard_idx) else {
                    return;
                };
                let record = QuarantineRecord {
                    shard_idx,
                    span: shard.span,
                    line: (**line).clone(),
                    deaths: shard.deaths,
                    message: message.clone(),
                    manifest: None,
                };
                let rows = i64::from(shard.span.n_rows);
                self.quarantine.insert((job_id.clone(), shard_idx), record);
                self.counters(job_id, |counters| counters.rows_quarantined += rows);
            }
        }
    }

    fn change_shard(&mut self, job_id: &JobId, number: u64, change: &ShardChange) {
        match change {
            ShardChange::Insert(new) => self.insert_shard(job_id, new, 0),
            ShardChange::Supersede { shard_idx } => {
                self.fence_shard(job_id, *shard_idx);
                self.forget_part(job_id, *shard_idx);
                self.move_shard(job_id, *shard_idx, ShardState::Halved);
            }
            ShardChange::Publish {
                shard_idx,
                part,
                rows,
                lease_id,
            } => {
                self.fence_shard(job_id, *shard_idx);
                let key = (job_id.clone(), *shard_idx);
                let node = self.winner_nodes.get(&key).cloned();
                let is_known = self
                    .shard(job_id, *shard_idx)
                    .is_some_and(|shard| shard.winner.as_ref() == Some(lease_id));
                self.forget_part(job_id, *shard_idx);
                if let Some(node) = node.filter(|_| is_known) {
                    self.winner_nodes.insert(key, node);
                }
                let Some(shard) = self.shard_mut(job_id, *shard_idx) else {
                    return;
                };
                shard.part = Some(part.clone());
                shard.rows = *rows;
                shard.winner = Some(lease_id.clone());
                let n_rows = i64::from(shard.span.n_rows);
                self.move_shard(job_id, *shard_idx, ShardState::Published);
                self.counters(job_id, |counters| {
                    counters.rows(*rows, 1);
                    counters.rows_published += n_rows;
                });
            }
            ShardChange::List {
                shard_idx,
                part,
                lease_id,
            } => {
                let key = (job_id.clone(), *shard_idx);
                let Some(record) = self.quarantine.get_mut(&key) else {
                    return;
                };
                record.manifest = Some(number);
                let Some(shard) = self.shard_mut(job_id, *shard_idx) else {
                    return;
                };
                shard.part = Some(part.clone());
                shard.winner = Some(lease_id.clone());
                let n_rows = i64::from(shard.span.n_rows);
                self.counters(job_id, |counters| counters.rows_published += n_rows);
            }
        }
    }

    /// Takes back the rows of an accepted part that another takes the place of.
    fn forget_part(&mut self, job_id: &JobId, shard_idx: ShardIdx) {
        let Some(shard) = self.shard_mut(job_id, shard_idx) else {
            return;
        };
        let rows = std::mem::take(&mut shard.rows);
        (shard.part, shard.winner) = (None, None);
        self.winner_nodes.remove(&(job_id.clone(), shard_idx));
        self.counters(job_id, |counters| counters.rows(rows, -1));
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn incarnation(&self) -> Result<String> {
        Ok(self.incarnation.clone())
    }

    async fn now_ms(&self) -> Result<i64> {
        Ok(self.now())
    }

    async fn create_job(&self, new: &NewJob) -> Result<CreateJob> {
        let mut tables = self.tables();
        if tables.jobs.contains_key(&new.job_id) {
            return Ok(CreateJob::Known);
        }
        let mut of_out = tables.jobs.values().filter(|job| job.out == new.out);
        if of_out.any(|job| !job.state.is_final() || job.sequence >= new.sequence) {
            return Ok(CreateJob::Refused);
        }
        let number = tables
            .jobs
            .values()
            .map(|job| job.number)
            .max()
            .unwrap_or(0)
            + 1;
        let job = JobRecord {
            job_id: new.job_id.clone(),
            number,
            out: new.out.clone(),
            sequence: new.sequence,
            spec_json: new.spec_json.clone(),
            spec_sha256: new.spec_sha256.clone(),
            tenant: new.tenant.clone(),
            state: JobState::Planning,
            why: None,
            priority: new.priority,
            plan: PlanTotals::default(),
            counters: Counters::default(),
            last_manifest: 0,
            sealed_version: None,
            already_complete: false,
            created_at_ms: self.now(),
            planned_at_ms: None,
            finished_at_ms: None,
        };
        tables.jobs.insert(new.job_id.clone(), job);
        tables.add_tenant(&new.tenant, self.now());
        Ok(CreateJob::Created)
    }

    async fn job(&self, job_id: &JobId) -> Result<Option<JobRecord>> {
        Ok(self.tables().jobs.get(job_id).cloned())
    }

    async fn newest_job(&self, out: &str) -> Result<Option<JobRecord>> {
        let tables = self.tables();
        let of_out = tables.jobs.values().filter(|job| job.out == out);
        Ok(of_out.max_by_key(|job| job.number).cloned())
    }

    async fn jobs(&self, query: &JobQuery) -> Result<Vec<JobRecord>> {
        let tables = self.tables();
        let mut jobs: Vec<JobRecord> = tables
            .jobs
            .values()
            .filter(|job| !(query.unfinished && job.state.is_final()))
            .filter(|job| query.before.is_none_or(|before| job.number < before))
            .cloned()
            .collect();
        jobs.sort_by_key(|job| -job.number);
        jobs.truncate(query.limit as usize);
        Ok(jobs)
    }

    async fn move_job(
        &self,
        job_id: &JobId,
        from: JobState,
        to: JobState,
        why: Option<&Why>,
    ) -> Result<bool> {
        let now = self.now();
        let mut tables = self.tables();
        let Some(job) = tables.jobs.get_mut(job_id) else {
            return Ok(false);
        };
        if job.state != from || !from.may_become(to) {
            return Ok(false);
        }
        job.state = to;
        if super::forgets_why(to) {
            job.why = None;
        } else if let Some(why) = why {
            job.why = Some(why.clone());
        }
        job.finished_at_ms = to.is_final().then_some(now);
        Ok(true)
    }

    async fn add_shards(&self, job_id: &JobId, shards: &[NewShard]) -> Result<()> {
        let mut tables = self.tables();
        if tables
            .jobs
            .get(job_id)
            .is_some_and(|job| job.state == JobState::Planning)
        {
            for shard in shards {
                tables.insert_shard(job_id, shard, 0);
            }
        }
        Ok(())
    }

    async fn start_job(&self, job_id: &JobId, plan: &PlanTotals) -> Result<bool> {
        let now = self.now();
        let mut tables = self.tables();
        let Some(job) = tables.jobs.get_mut(job_id) else {
            return Ok(false);
        };
        if job.state != JobState::Planning {
            return Ok(false);
        }
        job.state = JobState::Running;
        job.plan = *plan;
        job.planned_at_ms = Some(now);
        Ok(true)
    }

    async fn finish_job(&self, job_id: &JobId, version: Option<u64>) -> Result<bool> {
        let now = self.now();
        let mut tables = self.tables();
        let Some(job) = tables.jobs.get_mut(job_id) else {
            return Ok(false);
        };
        let from_finishing = version.is_some() && job.state == JobState::Finishing;
        if job.state != JobState::Planning && !from_finishing {
            return Ok(false);
        }
        job.state = JobState::Done;
        job.sealed_version = version;
        job.already_complete = version.is_none();
        job.finished_at_ms = Some(now);
        Ok(true)
    }

    async fn set_priority(&self, job_id: &JobId, priority: i32) -> Result<bool> {
        let mut tables = self.tables();
        let job = tables.jobs.get_mut(job_id);
        let Some(job) = job.filter(|job| !job.state.is_final()) else {
            return Ok(false);
        };
        job.priority = priority;
        Ok(true)
    }

    async fn open_session(&self, session: &NewSession) -> Result<()> {
        let record = SessionRecord {
            session_id: session.session_id.clone(),
            worker_name: session.worker_name.clone(),
            node: session.node.clone(),
            version: session.version.clone(),
            engines_json: session.engines_json.clone(),
            devices: session.devices.clone(),
            state: SessionState::Live,
            is_unhealthy: false,
            expires_at_ms: self.now() + session.ttl_ms,
        };
        self.tables()
            .sessions
            .insert(session.session_id.clone(), record);
        Ok(())
    }

    async fn session(&self, session_id: &SessionId) -> Result<Option<SessionRecord>> {
        Ok(self.tables().sessions.get(session_id).cloned())
    }

    async fn heartbeat(&self, beat: &Beat) -> Result<Option<Vec<Standing>>> {
        let now = self.now();
        let mut tables = self.tables();
        let Some(session) = tables.sessions.get_mut(&beat.session_id) else {
            return Ok(None);
        };
        session.expires_at_ms = now + beat.ttl_ms;
        session.state = session.state.after_heartbeat(beat.said);
        session.is_unhealthy = beat.said == v1::WorkerState::Unhealthy;
        let mut standings = Vec::with_capacity(beat.progress.len());
        for progress in &beat.progress {
            let Some(lease) = tables.leases.get_mut(&progress.lease_id) else {
                standings.push(Standing::Fenced);
                continue;
            };
            if lease.session_id != beat.session_id {
                standings.push(Standing::Fenced);
                continue;
            }
            if super::moved_on(lease, progress, beat.store_away) {
                lease.progressed_at_ms = now;
            }
            lease.stage = progress.stage;
            lease.rows_done = progress.rows_done;
            lease.rows_failed = progress.rows_failed;
            lease.in_flight.clone_from(&progress.in_flight);
            let job_id = lease.job_id.clone();
            let accepts = tables
                .jobs
                .get(&job_id)
                .is_some_and(|job| job.state.accepts_commits());
            standings.push(if accepts {
                Standing::Live
            } else {
                Standing::JobEnded
            });
        }
        Ok(Some(standings))
    }

    async fn close_session(&self, session_id: &SessionId) -> Result<bool> {
        let mut tables = self.tables();
        if tables
            .leases
            .values()
            .any(|lease| lease.session_id == *session_id)
        {
            return Ok(false);
        }
        tables.sessions.remove(session_id);
        Ok(true)
    }

    async fn expire_sessions(&self) -> Result<()> {
        let now = self.now();
        for session in self.tables().sessions.values_mut() {
            session.expires_at_ms = session.expires_at_ms.min(now);
        }
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<SessionRecord>> {
        Ok(self.tables().all_sessions())
    }

    async fn expired_sessions(&self) -> Result<Vec<SessionRecord>> {
        let now = self.now();
        let tables = self.tables();
        let expired = tables
            .sessions
            .values()
            .filter(|session| session.expires_at_ms <= now);
        Ok(expired.cloned().collect())
    }

    async fn grant(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        lease_id: &LeaseId,
    ) -> Result<Grant> {
        let now = self.now();
        let mut tables = self.tables();
        let node = match tables.may_take(session_id, job_id, now) {
            Ok(node) => node,
            Err(refusal) => return Ok(refusal),
        };
        let waiting = tables
            .job_shards(job_id)
            .filter(|shard| shard.state == ShardState::Pending && shard.not_before_ms <= now)
            .min_by_key(|shard| (shard.setbacks, shard.span.first_row, shard.shard_idx))
            .map(|shard| shard.shard_idx);
        let Some(shard_idx) = waiting else {
            return Ok(Grant::Nothing);
        };
        tables.move_shard(job_id, shard_idx, ShardState::Leased);
        Ok(tables.add_lease(session_id, &node, (job_id, shard_idx), lease_id, now))
    }

    async fn grant_copy(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        shard_idx: ShardIdx,
        lease_id: &LeaseId,
    ) -> Result<Grant> {
        let now = self.now();
        let mut tables = self.tables();
        let node = match tables.may_take(session_id, job_id, now) {
            Ok(node) => node,
            Err(refusal) => return Ok(refusal),
        };
        let mut others = tables
            .leases
            .values()
            .filter(|lease| lease.job_id == *job_id && lease.shard_idx == shard_idx);
        let first = others.next();
        if first.is_none_or(|lease| lease.node == node) || others.next().is_some() {
            return Ok(Grant::Nothing);
        }
        Ok(tables.add_lease(session_id, &node, (job_id, shard_idx), lease_id, now))
    }

    async fn lease(&self, lease_id: &LeaseId) -> Result<Option<(LeaseRecord, ShardRecord)>> {
        let tables = self.tables();
        let Some(lease) = tables.leases.get(lease_id) else {
            return Ok(None);
        };
        let shard = tables.shard(&lease.job_id, lease.shard_idx);
        Ok(shard.map(|shard| (lease.clone(), shard.clone())))
    }

    async fn won_by(&self, lease_id: &LeaseId) -> Result<Option<ShardRecord>> {
        let tables = self.tables();
        let won = tables
            .shards
            .values()
            .find(|shard| shard.winner.as_ref() == Some(lease_id));
        Ok(won.cloned())
    }

    async fn leases_of_session(&self, session_id: &SessionId) -> Result<Vec<LeaseRecord>> {
        let tables = self.tables();
        Ok(tables
            .leases
            .values()
            .filter(|l| l.session_id == *session_id)
            .cloned()
            .collect())
    }

    async fn leases_of_job(&self, job_id: &JobId) -> Result<Vec<LeaseRecord>> {
        Ok(self
            .tables()
            .leases
            .values()
            .filter(|l| l.job_id == *job_id)
            .cloned()
            .collect())
    }

    async fn stalled_leases(&self, before_ms: i64) -> Result<Vec<LeaseRecord>> {
        let tables = self.tables();
        Ok(tables
            .leases
            .values()
            .filter(|l| l.progressed_at_ms < before_ms)
            .cloned()
            .collect())
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitResult> {
        let now = self.now();
        let mut tables = self.tables();
        if tables
            .shards
            .values()
            .any(|shard| shard.winner.as_ref() == Some(&commit.lease_id))
        {
            return Ok(CommitResult::Already);
        }
        let Some(lease) = tables.leases.get(&commit.lease_id).cloned() else {
            return Ok(CommitResult::Fenced);
        };
        let job_id = &lease.job_id;
        match tables.jobs.get(job_id).map(|job| job.state) {
            Some(state) if state.accepts_commits() => {}
            Some(state) => return Ok(CommitResult::JobNotRunning(state)),
            None => return Ok(CommitResult::Fenced),
        }
        tables.fence_shard(job_id, lease.shard_idx);
        tables.move_shard(job_id, lease.shard_idx, ShardState::Committed);
        tables.note_commit(&lease, commit, now);
        if let Some(shard) = tables.shard_mut(job_id, lease.shard_idx) {
            shard.part = Some(commit.part.clone());
            shard.rows = commit.rows;
            shard.winner = Some(commit.lease_id.clone());
        }
        tables.counters(job_id, |counters| counters.rows(commit.rows, 1));
        for failure in &commit.failures {
            let kept = tables
                .failures
                .entry((job_id.clone(), failure.code.clone()))
                .or_insert_with(|| FailureCount {
                    count: 0,
                    ..failure.clone()
                });
            kept.count += failure.count;
        }
        Ok(CommitResult::Committed)
    }

    async fn end_lease(&self, end: &EndLease) -> Result<bool> {
        let now = self.now();
        let mut tables = self.tables();
        let Some(lease) = tables.leases.get(&end.lease_id).cloned() else {
            return Ok(false);
        };
        let Some(shard) = tables.shard_mut(&lease.job_id, lease.shard_idx) else {
            return Ok(false);
        };
        if shard.deaths != end.deaths_seen || shard.state != ShardState::Leased {
            return Ok(false);
        }
        shard.deaths += u32::from(end.charged);
        shard.setbacks += u32::from(end.charged);
        tables.judge(&lease, end);
        let attempt = AttemptRecord {
            lease_id: lease.lease_id.clone(),
            shard_idx: lease.shard_idx,
            epoch: lease.epoch,
            node: lease.node.clone(),
            end: end.end,
            charged: end.charged,
            message: end.message.clone(),
            suspects: end.suspects.clone(),
            ended_at_ms: now,
        };
        tables.attempts.push((lease.job_id.clone(), attempt));
        Ok(true)
    }

    async fn fence_job(&self, job_id: &JobId) -> Result<u64> {
        let now = self.now();
        let mut tables = self.tables();
        if tables
            .jobs
            .get(job_id)
            .is_none_or(|job| job.state.accepts_commits())
        {
            return Ok(0);
        }
        let of_job: Vec<LeaseRecord> = tables
            .leases
            .values()
            .filter(|lease| lease.job_id == *job_id)
            .cloned()
            .collect();
        for lease in &of_job {
            let leased = tables
                .shard(job_id, lease.shard_idx)
                .is_some_and(|shard| shard.state == ShardState::Leased);
            if leased {
                tables.move_shard(job_id, lease.shard_idx, ShardState::Pending);
            }
            tables.leases.remove(&lease.lease_id);
            let attempt = AttemptRecord {
                lease_id: lease.lease_id.clone(),
                shard_idx: lease.shard_idx,
                epoch: lease.epoch,
                node: lease.node.clone(),
                end: LeaseEnd::Fenced,
                charged: false,
                message: "the job takes no more commits".into(),
                suspects: Vec::new(),
                ended_at_ms: now,
            };
            tables.attempts.push((job_id.clone(), attempt));
        }
        Ok(of_job.len() as u64)
    }

    async fn attempts(&self, job_id: &JobId, shard_idx: ShardIdx) -> Result<Vec<AttemptRecord>> {
        let tables = self.tables();
        let of_shard = tables
            .attempts
            .iter()
            .filter(|(job, attempt)| job == job_id && attempt.shard_idx == shard_idx);
        Ok(of_shard.map(|(_, attempt)| attempt.clone()).collect())
    }

    async fn requeue_quarantined(
        &self,
        job_id: &JobId,
        shard_idxs: &[ShardIdx],
    ) -> Result<(u64, u64)> {
        Ok(self.tables().requeue(job_id, shard_idxs))
    }

    async fn deaths(&self, since_ms: i64) -> Result<Vec<DeathRecord>> {
        Ok(self.tables().deaths(since_ms))
    }

    async fn paces(&self, job_id: &JobId, limit: u32) -> Result<Vec<f64>> {
        Ok(self.tables().newest_paces(job_id, limit as usize))
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        Ok(self.tables().nodes.values().cloned().collect())
    }

    async fn set_node(&self, node: &NodeRecord) -> Result<()> {
        let now = self.now();
        self.tables().set_node(node, now);
        Ok(())
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>> {
        Ok(self.tables().tenants.values().cloned().collect())
    }

    async fn set_tenant(&self, tenant: &str, weight: f64) -> Result<()> {
        let now = self.now();
        self.tables().add_tenant(tenant, now).weight = weight;
        Ok(())
    }

    async fn account(&self, half_life_ms: i64) -> Result<()> {
        let now = self.now();
        self.tables().account(half_life_ms, now);
        Ok(())
    }

    async fn take_duty(&self, duty: &Duty, holder: &str, ttl_ms: i64) -> Result<bool> {
        let now = self.now();
        Ok(self.tables().take_duty(duty, holder, now, ttl_ms))
    }

    async fn drop_duty(&self, duty: &Duty, holder: &str) -> Result<()> {
        self.tables()
            .duties
            .retain(|name, (held_by, _)| *name != duty.to_string() || held_by != holder);
        Ok(())
    }

    async fn work_announced(&self) {
        std::future::pending::<()>().await;
    }

    async fn announce_work(&self) -> Result<()> {
        Ok(())
    }

    async fn shards(&self, job_id: &JobId, query: &ShardQuery) -> Result<Vec<ShardRecord>> {
        let tables = self.tables();
        let shards = tables
            .job_shards(job_id)
            .filter(|shard| query.after.is_none_or(|after| shard.shard_idx > after))
            .filter(|shard| query.state.is_none_or(|state| shard.state == state))
            .take(query.limit as usize);
        Ok(shards.cloned().collect())
    }

    async fn overlapping(
        &self,
        job_id: &JobId,
        first_row: u64,
        end_row: u64,
    ) -> Result<Vec<ShardRecord>> {
        let tables = self.tables();
        let mut shards: Vec<ShardRecord> = tables
            .job_shards(job_id)
            .filter(|shard| shard.state != ShardState::Halved)
            .filter(|shard| shard.span.first_row < end_row && first_row < shard.span.end_row())
            .cloned()
            .collect();
        shards.sort_by_key(|shard| (shard.span.first_row, shard.shard_idx));
        Ok(shards)
    }

    async fn next_shard_idx(&self, job_id: &JobId) -> Result<ShardIdx> {
        Ok(self.tables().next_shard_idx(job_id))
    }

    async fn quarantine(
        &self,
        job_id: &JobId,
        query: &QuarantineQuery,
    ) -> Result<Vec<QuarantineRecord>> {
        let tables = self.tables();
        let is_asked = |record: &&QuarantineRecord| {
            query.after.is_none_or(|after| record.shard_idx > after)
                && !(query.unlisted && record.manifest.is_some())
        };
        let of_job = tables
            .quarantine
            .range((job_id.clone(), 0)..=(job_id.clone(), ShardIdx::MAX));
        let records = of_job.map(|(_, record)| record).filter(is_asked);
        Ok(records.take(query.limit as usize).cloned().collect())
    }

    async fn failures(&self, job_id: &JobId) -> Result<Vec<FailureCount>> {
        let tables = self.tables();
        let mut failures: Vec<FailureCount> = tables
            .failures
            .iter()
            .filter(|((job, _), _)| job == job_id)
            .map(|(_, failure)| failure.clone())
            .collect();
        failures.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.code.cmp(&b.code)));
        Ok(failures)
    }

    async fn apply_manifest(&self, job_id: &JobId, manifest: &AppliedManifest) -> Result<bool> {
        let mut tables = self.tables();
        let Some(job) = tables.jobs.get(job_id) else {
            return Ok(false);
        };
        if job.last_manifest + 1 != manifest.number {
            return Ok(false);
        }
        let is_outdated = |change: &ShardChange| match change {
            ShardChange::List { shard_idx, .. } => tables
                .shard(job_id, *shard_idx)
                .is_some_and(|shard| shard.state != ShardState::Quarantined),
            _ => false,
        };
        if manifest.changes.iter().any(is_outdated) {
            return Ok(false);
        }
        let Some(job) = tables.jobs.get_mut(job_id) else {
            return Ok(false);
        };
        job.last_manifest = manifest.number;
        for change in &manifest.changes {
            tables.change_shard(job_id, manifest.number, change);
        }
        Ok(true)
    }
}
