//! Where a shard stands.

use quire_proto::v1;

use super::state_names;

/// Where a shard stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShardState {
    /// Waits for a worker.
    Pending,
    /// At least one live lease is on it.
    Leased,
    /// Its part is accepted and in no manifest yet.
    Committed,
    /// A manifest lists its part.
    Published,
    /// Others stand in its place: the halves after repeated deaths.
    Halved,
    /// One row that killed its workers again and again.
    Quarantined,
}

state_names!(ShardState {
    Pending = "pending",
    Leased = "leased",
    Committed = "committed",
    Published = "published",
    Halved = "halved",
    Quarantined = "quarantined",
});

impl ShardState {
    /// Whether a shard may go from this state to `next`.
    pub fn may_become(self, next: Self) -> bool {
        use ShardState::{Committed, Halved, Leased, Pending, Published, Quarantined};
        match (self, next) {
            (Pending, Leased) => true,
            // Back when its last live lease ended.
            (Leased, Pending | Committed | Halved | Quarantined) => true,
            (Committed, Published) => true,
            // Its owner gives it another chance.
            (Quarantined, Pending) => true,
            // The manifest wins over a database that lost its tail: what it lists is published
            // whatever the database thought, and what stands in the way of it gives way.
            (Pending | Leased | Halved, Published) => true,
            (Pending | Committed, Halved) => true,
            _ => false,
        }
    }

    /// Whether the shard's rows still wait to be in a manifest.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Leased | Self::Committed)
    }
}

impl From<ShardState> for v1::ShardState {
    fn from(state: ShardState) -> Self {
        match state {
            ShardState::Pending => Self::Pending,
            ShardState::Leased => Self::Leased,
            ShardState::Committed => Self::Committed,
            ShardState::Published => Self::Published,
            ShardState::Halved => Self::Halved,
            ShardState::Quarantined => Self::Quarantined,
        }
    }
}

impl ShardState {
    /// The state a message names; `None` for any.
    pub fn from_message(state: v1::ShardState) -> Option<Self> {
        match state {
            v1::ShardState::Unspecified => None,
            v1::ShardState::Pending => Some(Self::Pending),
            v1::ShardState::Leased => Some(Self::Leased),
            v1::ShardState::Committed => Some(Self::Committed),
            v1::ShardState::Published => Some(Self::Published),
            v1::ShardState::Halved => Some(Self::Halved),
            v1::ShardState::Quarantined => Some(Self::Quarantined),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_rows_stay_published() {
        for &next in ShardState::ALL {
            assert!(!ShardState::Published.may_become(next));
            assert_eq!(ShardState::parse(next.as_str()), Some(next));
        }
    }
}
