//! What a store keeps, as values. Every store reads and writes these and nothing else.

use quire_core::{DocId, Fault, JobId, LeaseId, PlannedDocument, SessionId, ShardIdx};
use quire_proto::v1;

use crate::job::{JobState, LeaseEnd, SessionState, ShardState};

/// A run of rows of a job's plan.
///
/// Rows of the whole plan are numbered from 0 in plan order, so that two spans are compared
/// without a look at the plan. The lines say where a worker finds these rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Number of the first row.
    pub first_row: u64,
    pub n_rows: u32,
    /// Plan object that holds the lines.
    pub group: u32,
    /// Half-open range of lines in it.
    pub line_start: u32,
    pub line_end: u32,
    /// Rows of the first line that lie before the span.
    pub skip_rows: u32,
}

impl Span {
    /// Number of the row after the last.
    pub fn end_row(&self) -> u64 {
        self.first_row + u64::from(self.n_rows)
    }

    /// Whether both have a row in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first_row < other.end_row() && other.first_row < self.end_row()
    }

    /// Whether every row of `other` is in this span.
    pub fn contains(&self, other: &Self) -> bool {
        self.first_row <= other.first_row && other.end_row() <= self.end_row()
    }
}

/// A job that is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    pub job_id: JobId,
    /// Canonical URI of the dataset.
    pub out: String,
    /// Position among the jobs of this dataset, from 0.
    pub sequence: u64,
    /// The specification as JSON, and its SHA-256 in hex.
    pub spec_json: String,
    pub spec_sha256: String,
    /// Who pays for it.
    pub tenant: String,
    /// Larger goes first among the jobs of one tenant.
    pub priority: i32,
}

/// What became of a new job.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateJob {
    Created,
    /// The job with this identifier is known already.
    Known,
    /// Another job of this dataset is not finished, or took this place in the sequence.
    Refused,
}

/// Why a job is paused, canceled or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    pub reason: String,
    pub fault: Option<Fault>,
}

/// What a plan holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanTotals {
    pub documents: u64,
    pub rows: u64,
}

/// Rows by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCounts {
    pub ok: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl RowCounts {
    /// All rows.
    pub fn total(&self) -> u64 {
        self.ok
            .saturating_add(self.failed)
            .saturating_add(self.skipped)
    }
}

/// Sums over the shards of a job, kept up to date by every change: never counted anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub pending: i64,
    pub leased: i64,
    pub committed: i64,
    pub published: i64,
    pub halved: i64,
    pub quarantined: i64,
    /// Rows of accepted parts.
    pub rows_ok: i64,
    pub rows_failed: i64,
    pub rows_skipped: i64,
    /// Rows that are in a manifest, read or given up.
    pub rows_published: i64,
    pub rows_quarantined: i64,
}

impl Counters {
    /// Counts `by` more shards in `state`.
    pub(crate) fn shard(&mut self, state: ShardState, by: i64) {
        let counter = match state {
            ShardState::Pending => &mut self.pending,
            ShardState::Leased => &mut self.leased,
            ShardState::Committed => &mut self.committed,
            ShardState::Published => &mut self.published,
            ShardState::Halved => &mut self.halved,
            ShardState::Quarantined => &mut self.quarantined,
        };
        *counter += by;
    }

    /// Counts a shard that goes from one state to another.
    pub(crate) fn moved(&mut self, from: ShardState, to: ShardState) {
        self.shard(from, -1);
        self.shard(to, 1);
    }

    /// Counts the rows of an accepted part.
    pub(crate) fn rows(&mut self, rows: RowCounts, sign: i64) {
        self.rows_ok += sign * signed(rows.ok);
        self.rows_failed += sign * signed(rows.failed);
        self.rows_skipped += sign * signed(rows.skipped);
    }

    /// Rows of accepted parts.
    pub(crate) fn rows_accepted(&self) -> i64 {
        self.rows_ok + self.rows_failed + self.rows_skipped
    }

    /// Adds `other` to this.
    pub(crate) fn add(&mut self, other: &Self) {
        self.pending += other.pending;
        self.leased += other.leased;
        self.committed += other.committed;
        self.published += other.published;
        self.halved += other.halved;
        self.quarantined += other.quarantined;
        self.rows_ok += other.rows_ok;
        self.rows_failed += other.rows_failed;
        self.rows_skipped += other.rows_skipped;
        self.rows_published += other.rows_published;
        self.rows_quarantined += other.rows_quarantined;
    }
}

pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A job as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    pub job_id: JobId,
    /// Order in which jobs were taken; larger is newer.
    pub number: i64,
    pub out: String,
    pub sequence: u64,
    pub spec_json: String,
    pub spec_sha256: String,
    /// Who pays for it.
    pub tenant: String,
    pub state: JobState,
    pub why: Option<Why>,
    /// Larger goes first among the jobs of one tenant.
    pub priority: i32,
    pub plan: PlanTotals,
    pub counters: Counters,
    /// Number of the newest manifest that is applied; 0 before the first.
    pub last_manifest: u64,
    pub sealed_version: Option<u64>,
    /// It ended because there was nothing new to read.
    pub already_complete: bool,
    pub created_at_ms: i64,
    pub planned_at_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
}

impl JobRecord {
    /// Rows of the plan that are in no accepted part and were not given up.
    pub fn rows_waiting(&self) -> u64 {
        let settled = self.counters.rows_accepted() + self.counters.rows_quarantined;
        self.plan
            .rows
            .saturating_sub(u64::try_from(settled).unwrap_or(0))
    }
}

/// A shard that is not known yet; it starts pending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewShard {
    pub shard_idx: ShardIdx,
    pub parent: Option<ShardIdx>,
    pub span: Span,
    /// Documents to read alone.
    pub isolate: Vec<DocId>,
}

/// An accepted part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    /// Relative to the job's area.
    pub key: String,
    pub bytes: u64,
    /// In hex.
    pub sha256: String,
    pub etag: Option<String>,
}

/// A shard as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRecord {
    pub job_id: JobId,
    pub shard_idx: ShardIdx,
    pub parent: Option<ShardIdx>,
    pub span: Span,
    pub state: ShardState,
    /// Attempts so far.
    pub epoch: u32,
    /// Of them, deaths of the worker that are charged to the shard.
    pub deaths: u32,
    /// Deaths, with those of the shards that it was cut from: the fewer, the sooner it is given
    /// out.
    pub setbacks: u32,
    /// Documents to read alone.
    pub isolate: Vec<DocId>,
    /// Not given out before.
    pub not_before_ms: i64,
    /// What was accepted, its rows and the lease that brought it.
    pub part: Option<PartRecord>,
    pub rows: RowCounts,
    pub winner: Option<LeaseId>,
}

/// A worker process that makes itself known.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSession {
    pub session_id: SessionId,
    pub worker_name: String,
    pub node: String,
    /// Version of the worker's code.
    pub version: String,
    /// Names and weights it can read with, as JSON.
    pub engines_json: String,
    /// Such as `cpu`, `cuda:0`.
    pub devices: Vec<String>,
    pub ttl_ms: i64,
}

/// A worker's session as the store knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    pub session_id: SessionId,
    pub worker_name: String,
    pub node: String,
    pub version: String,
    pub engines_json: String,
    pub devices: Vec<String>,
    pub state: SessionState,
    /// It said with its last heartbeat that it cannot work now.
    pub is_unhealthy: bool,
    pub expires_at_ms: i64,
}

/// How far a lease is, as its worker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub lease_id: LeaseId,
    pub stage: LeaseStage,
    pub rows_done: u32,
    pub rows_failed: u32,
    pub in_flight: Vec<DocId>,
    /// Whether engines came further with its pages since the last report.
    pub engine_moved: bool,
}

/// How far a lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseStage {
    /// Waits on the worker.
    Queued,
    /// Its pages are read.
    Reading,
    /// Its part is on its way.
    Uploading,
}

impl LeaseStage {
    /// As stores keep it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Reading => "reading",
            Self::Uploading => "uploading",
        }
    }

    /// The stage kept as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Reading, Self::Uploading]
            .into_iter()
            .find(|stage| stage.as_str() == text)
    }
}

impl From<v1::LeaseStage> for LeaseStage {
    fn from(stage: v1::LeaseStage) -> Self {
        match stage {
            v1::LeaseStage::Queued => Self::Queued,
            v1::LeaseStage::Unspecified | v1::LeaseStage::Reading => Self::Reading,
            v1::LeaseStage::Uploading => Self::Uploading,
        }
    }
}

/// A heartbeat.
#[derive(Debug, Clone)]
pub struct Beat {
    pub session_id: SessionId,
    pub said: v1::WorkerState,
    pub ttl_ms: i64,
    pub progress: Vec<Progress>,
    /// The worker does not reach its object store: an upload that waits for it is no standstill.
    pub store_away: bool,
}

/// Whether work on a lease still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Live,
    /// It ended.
    Fenced,
    /// It is live, but its job takes no more commits.
    JobEnded,
}

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    pub lease_id: LeaseId,
    pub session_id: SessionId,
    pub node: String,
    pub job_id: JobId,
    pub shard_idx: ShardIdx,
    pub epoch: u32,
    pub granted_at_ms: i64,
    pub stage: LeaseStage,
    pub rows_done: u32,
    pub rows_failed: u32,
    pub in_flight: Vec<DocId>,
    pub progressed_at_ms: i64,
}

/// What a grant found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    Granted(Box<ShardRecord>),
    /// No shard of this job waits, the job is not running, or the node is not open.
    Nothing,
    /// The session is unknown or takes no more.
    NoSession,
}

/// How often one kind of trouble was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureCount {
    pub code: String,
    pub count: u64,
    pub example: String,
}

/// A part that asks to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub lease_id: LeaseId,
    pub part: PartRecord,
    pub rows: RowCounts,
    pub failures: Vec<FailureCount>,
    /// Milliseconds that the worker was at it, as it says; 0 if it does not.
    pub work_ms: u64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitResult {
    Committed,
    /// An earlier call with this lease had done it.
    Already,
    Fenced,
    JobNotRunning(JobState),
}

/// What happens to a shard whose lease ended without a part.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It waits again, from `not_before_ms` on.
    Retry {
        not_before_ms: i64,
        isolate: Vec<DocId>,
    },
    /// Two take its place; the store numbers them.
    Halve {
        spans: [Span; 2],
        isolate: Vec<DocId>,
    },
    /// Its one row is given up.
    Quarantine {
        line: Box<PlannedDocument>,
        message: String,
    },
}

/// A lease that ends without a part.
#[derive(Debug, Clone, PartialEq)]
pub struct EndLease {
    pub lease_id: LeaseId,
    pub end: LeaseEnd,
    /// Deaths of the shard as the verdict saw them: if they changed since, nothing is done.
    pub deaths_seen: u32,
    /// This end counts as a death.
    pub charged: bool,
    pub message: String,
    pub suspects: Vec<DocId>,
    pub verdict: Verdict,
}

/// One attempt that ended without a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    pub lease_id: LeaseId,
    pub shard_idx: ShardIdx,
    pub epoch: u32,
    pub node: String,
    pub end: LeaseEnd,
    pub charged: bool,
    pub message: String,
    pub suspects: Vec<DocId>,
    pub ended_at_ms: i64,
}

/// A row that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct QuarantineRecord {
    pub shard_idx: ShardIdx,
    pub span: Span,
    /// The plan's line, cut to this one row.
    pub line: PlannedDocument,
    pub deaths: u32,
    pub message: String,
    /// The manifest that lists it.
    pub manifest: Option<u64>,
}

/// What a manifest does to one shard.
#[derive(Debug, Clone, PartialEq)]
pub enum ShardChange {
    /// A shard that the store did not know; it starts pending.
    Insert(NewShard),
    /// Its part is listed.
    Publish {
        shard_idx: ShardIdx,
        part: PartRecord,
        rows: RowCounts,
        lease_id: LeaseId,
    },
    /// The row that it gave up is listed, in a part that the coordinator wrote.
    List {
        shard_idx: ShardIdx,
        part: PartRecord,
        lease_id: LeaseId,
    },
    /// Others stand in its place.
    Supersede { shard_idx: ShardIdx },
}

/// A manifest that is applied to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct AppliedManifest {
    /// Its number; the store must be at the one before.
    pub number: u64,
    pub changes: Vec<ShardChange>,
}

/// What may be given to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeStanding {
    /// Anything.
    Open,
    /// Nothing; what its workers hold goes on.
    Cordoned,
    /// Nothing; its workers finish and leave.
    Draining,
}

impl NodeStanding {
    /// As stores keep it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
        }
    }

    /// The standing kept as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Cordoned, Self::Draining]
            .into_iter()
            .find(|standing| standing.as_str() == text)
    }
}

impl From<NodeStanding> for v1::NodeStanding {
    fn from(standing: NodeStanding) -> Self {
        match standing {
            NodeStanding::Open => Self::Open,
            NodeStanding::Cordoned => Self::Cordoned,
            NodeStanding::Draining => Self::Draining,
        }
    }
}

/// A node that is, or was, not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    pub node: String,
    pub standing: NodeStanding,
    /// For people.
    pub reason: String,
    /// Set by the coordinator itself, not by a person.
    pub is_automatic: bool,
    /// When that was; the store's to fill in.
    pub since_ms: i64,
}

/// A death that was charged to a shard, for judging its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeathRecord {
    pub node: String,
    pub job_id: JobId,
    pub shard_idx: ShardIdx,
    /// Another attempt, on another node, brought the shard's accepted part.
    pub is_finished_elsewhere: bool,
    pub ended_at_ms: i64,
}

/// Who pays for jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRecord {
    pub tenant: String,
    /// Its share beside the others'; more than 0.
    pub weight: f64,
    /// Rows read for it, decayed to `accounted_at_ms`.
    pub used_rows: f64,
    pub accounted_at_ms: i64,
}

/// Something that one coordinator does at a time, to save work: correctness rests on none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Ends what expired.
    Reap,
    /// Publishes and finishes a job.
    Publish(JobId),
    /// Plans a job.
    Plan(JobId),
    /// Adds up what tenants used.
    Account,
    /// Removes objects that nothing refers to.
    Sweep(JobId),
}

impl std::fmt::Display for Duty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reap => f.write_str("reap"),
            Self::Publish(job_id) => write!(f, "publish/{job_id}"),
            Self::Plan(job_id) => write!(f, "plan/{job_id}"),
            Self::Account => f.write_str("account"),
            Self::Sweep(job_id) => write!(f, "sweep/{job_id}"),
        }
    }
}
