//! Where a job stands.

use quire_proto::v1;

use super::state_names;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobState {
    /// Its documents are listed, opened and counted.
    Planning,
    /// Shards are given out.
    Running,
    /// Nothing is given out until it is resumed; what is leased may still be committed.
    Paused,
    /// All rows are published; the dataset version is being sealed.
    Finishing,
    /// The version exists, or there was nothing new to read.
    Done,
    /// Workers are told to drop its leases.
    Canceling,
    /// Given up by its owner.
    Canceled,
    /// Stopped by bad input as a whole, a contradiction in stored state, or a bug.
    Failed,
}

state_names!(JobState {
    Planning = "planning",
    Running = "running",
    Paused = "paused",
    Finishing = "finishing",
    Done = "done",
    Canceling = "canceling",
    Canceled = "canceled",
    Failed = "failed",
});

impl JobState {
    /// Whether a job may go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use JobState::{Canceled, Canceling, Done, Failed, Finishing, Paused, Planning, Running};
        match (self, next) {
            // Done straight from planning: nothing new to read.
            (Planning, Running | Done | Canceling) => true,
            (Running, Paused | Finishing | Canceling) => true,
            (Paused, Running | Canceling) => true,
            (Finishing, Done) => true,
            (Canceling, Canceled) => true,
            // Opened again by its owner, once what stopped it is mended: its plan and its
            // accepted parts still count.
            (Failed, Planning) => true,
            (from, Failed) => !from.is_final(),
            _ => false,
        }
    }

    /// Whether nothing will happen to the job by itself any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Canceled | Self::Failed)
    }

    /// Whether a live lease may still be committed.
    pub fn accepts_commits(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl JobState {
    /// The state a message names.
    pub fn from_message(state: v1::JobState) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|&known| v1::JobState::from(known) == state)
    }
}

impl From<JobState> for v1::JobState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Planning => Self::Planning,
            JobState::Running => Self::Running,
            JobState::Paused => Self::Paused,
            JobState::Finishing => Self::Finishing,
            JobState::Done => Self::Done,
            JobState::Canceling => Self::Canceling,
            JobState::Canceled => Self::Canceled,
            JobState::Failed => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failed_job_comes_back_and_every_unfinished_one_can_fail() {
        for &from in JobState::ALL {
            let somewhere = JobState::ALL.iter().any(|&next| from.may_become(next));
            assert_eq!(
                somewhere,
                !from.is_final() || from == JobState::Failed,
                "{from}"
            );
            assert_eq!(
                from.may_become(JobState::Failed),
                !from.is_final(),
                "{from}"
            );
            assert!(!from.may_become(from), "{from}");
            assert_eq!(JobState::parse(from.as_str()), Some(from));
        }
    }
}
