//! How a lease ends. Live leases are rows of the store; of ended ones only the attempt remains.

use super::state_names;

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeaseEnd {
    /// Its part was accepted.
    Committed,
    /// Its session went silent, or it made no progress.
    Expired,
    /// The worker gave it back unfinished.
    Released,
    /// The worker said that it cannot do it.
    Failed,
    /// Something else ended the shard: another lease's commit, a manifest, a halving.
    Fenced,
}

state_names!(LeaseEnd {
    Committed = "committed",
    Expired = "expired",
    Released = "released",
    Failed = "failed",
    Fenced = "fenced",
});

impl LeaseEnd {
    /// Whether this end may count as a death of the worker on this shard.
    pub fn may_be_death(self) -> bool {
        match self {
            Self::Expired | Self::Failed => true,
            Self::Committed | Self::Released | Self::Fenced => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn giving_back_is_no_death() {
        assert!(!LeaseEnd::Released.may_be_death());
        assert!(LeaseEnd::Expired.may_be_death());
        for &end in LeaseEnd::ALL {
            assert_eq!(LeaseEnd::parse(end.as_str()), Some(end));
        }
    }
}
