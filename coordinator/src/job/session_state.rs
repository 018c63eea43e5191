//! Where a worker's session stands. A session that is gone is no row any more.

use quire_proto::v1;

use super::state_names;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionState {
    /// Takes shards.
    Live,
    /// Finishes what it holds and leaves.
    Draining,
    /// Ended or silent for too long; unknown to the store.
    Gone,
}

state_names!(SessionState { Live = "live", Draining = "draining", Gone = "gone", });

impl SessionState {
    /// Whether a session may go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Live, Self::Draining | Self::Gone) | (Self::Draining, Self::Gone)
        )
    }

    /// What a heartbeat says about the session. An unhealthy worker keeps its leases but gets no
    /// more; it may be ready again, which draining may not.
    pub fn after_heartbeat(self, said: v1::WorkerState) -> Self {
        match said {
            v1::WorkerState::Draining if self.may_become(Self::Draining) => Self::Draining,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_does_not_turn_back() {
        let draining = SessionState::Live.after_heartbeat(v1::WorkerState::Draining);
        assert_eq!(draining, SessionState::Draining);
        assert_eq!(
            draining.after_heartbeat(v1::WorkerState::Ready),
            SessionState::Draining
        );
        assert!(!SessionState::Gone.may_become(SessionState::Live));
    }
}
