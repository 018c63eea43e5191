//! Where a job stands, in the words of progress lines and events.

use quire_core::Fault;
use quire_proto::v1;

/// What a job does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Planning,
    Reading,
    Paused,
    Sealing,
    Done,
    /// Failed or canceled.
    Stopped,
}

/// Failures of one kind so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailuresOfCode {
    pub code: String,
    pub count: u64,
    /// Source and message of one of them.
    pub example: String,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub phase: Phase,
    /// Why it is paused or stopped.
    pub reason: String,
    /// What to do about it.
    pub fault: Fault,
    pub entries_listed: u64,
    pub entries_surveyed: u64,
    pub documents_found: u64,
    pub documents_known: u64,
    pub documents_planned: u64,
    pub pages_found: u64,
    /// Pages of the plan, and documents without pages: all that get a row.
    pub pages_planned: u64,
    /// Of them done, failed ones included.
    pub pages_done: u64,
    /// Of them in accepted parts: no crash takes these back.
    pub pages_safe: u64,
    pub pages_failed: u64,
    /// Pages that were read and are safe.
    pub pages_read: u64,
    pub failures: Vec<FailuresOfCode>,
    pub sealed_version: Option<u64>,
    pub already_complete: bool,
}

impl From<&v1::Job> for Snapshot {
    fn from(job: &v1::Job) -> Self {
        let planning = job.planning.unwrap_or_default();
        let committed = job.rows_committed.unwrap_or_default();
        let failures = job.failures.iter().map(|failure| FailuresOfCode {
            code: failure.code.clone(),
            count: failure.count,
            example: failure.example.clone(),
        });
        Self {
            phase: phase(job.state()),
            reason: job.state_reason.clone(),
            fault: job.state_fault().to_core(),
            entries_listed: planning.entries_listed,
            entries_surveyed: planning.entries_surveyed,
            documents_found: planning.documents_surveyed,
            documents_known: planning.documents_known,
            documents_planned: job.documents_planned,
            pages_found: planning.pages_surveyed,
            pages_planned: job.rows_planned,
            pages_done: committed.total() + job.rows_in_flight + job.rows_quarantined,
            pages_safe: committed.total() + job.rows_quarantined,
            pages_failed: committed.failed + job.rows_quarantined,
            pages_read: committed.ok,
            failures: failures.collect(),
            sealed_version: (job.sealed_version > 0).then_some(job.sealed_version),
            already_complete: job.already_complete,
        }
    }
}

fn phase(state: v1::JobState) -> Phase {
    match state {
        v1::JobState::Unspecified | v1::JobState::Planning => Phase::Planning,
        v1::JobState::Running => Phase::Reading,
        v1::JobState::Paused => Phase::Paused,
        v1::JobState::Finishing => Phase::Sealing,
        v1::JobState::Done => Phase::Done,
        v1::JobState::Canceling | v1::JobState::Canceled | v1::JobState::Failed => Phase::Stopped,
    }
}

impl Snapshot {
    /// Whether every row of the plan is done.
    pub(crate) fn is_complete(&self) -> bool {
        let planned = !matches!(self.phase, Phase::Planning) && self.pages_planned > 0;
        planned && self.pages_done >= self.pages_planned
    }
}

#[cfg(test)]
impl Snapshot {
    /// A job of 100 pages that is half done.
    pub(crate) fn for_test() -> Self {
        Self {
            phase: Phase::Reading,
            reason: String::new(),
            fault: Fault::Bug,
            entries_listed: 12,
            entries_surveyed: 12,
            documents_found: 20,
            documents_known: 0,
            documents_planned: 20,
            pages_found: 100,
            pages_planned: 100,
            pages_done: 50,
            pages_safe: 45,
            pages_failed: 2,
            pages_read: 40,
            failures: vec![FailuresOfCode {
                code: "encrypted".into(),
                count: 2,
                example: "file:///a.pdf: needs a password".into(),
            }],
            sealed_version: None,
            already_complete: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_in_accepted_parts_in_flight_and_given_up_are_done() {
        let job = v1::Job {
            state: v1::JobState::Running.into(),
            rows_planned: 100,
            rows_committed: Some(v1::RowCounts {
                ok: 40,
                failed: 3,
                skipped: 2,
            }),
            rows_in_flight: 7,
            rows_quarantined: 1,
            ..v1::Job::default()
        };
        let snapshot = Snapshot::from(&job);
        assert_eq!(snapshot.phase, Phase::Reading);
        assert_eq!((snapshot.pages_done, snapshot.pages_safe), (53, 46));
        assert_eq!((snapshot.pages_failed, snapshot.pages_read), (4, 40));
        assert_eq!(snapshot.sealed_version, None);
    }
}
