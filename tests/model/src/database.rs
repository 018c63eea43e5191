//! The database: where each shard stands and which leases are live. Each function is one
//! transaction.

use crate::objects::Manifest;
use crate::plan::{ALL_PAGES, Lease, LeaseSet, Leases, Pages, ShardIdx};
use crate::protocol::Safeguards;

/// Where a shard stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shard {
    /// The database does not know it.
    Absent,
    Pending,
    Leased,
    /// The part of this lease was accepted.
    Committed(Lease),
    /// A manifest lists the part of this lease.
    Published(Lease),
    /// Others stand in its place.
    Halved,
}

impl Shard {
    fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Leased | Self::Committed(_))
    }

    fn winner(self) -> Option<Lease> {
        match self {
            Self::Committed(lease) | Self::Published(lease) => Some(lease),
            _ => None,
        }
    }
}

/// What the database says to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Committed,
    AlreadyCommitted,
    Fenced,
    JobNotRunning,
}

/// The database as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Database {
    pub shards: [Shard; 4],
    pub live: LeaseSet,
    /// Number of the last manifest it knows of.
    pub applied: u8,
    /// The owner gave the job up.
    pub is_canceled: bool,
    /// A manifest lists rows that the database holds for published otherwise: the job would
    /// stop as corrupt.
    pub is_contradicted: bool,
}

impl Database {
    /// The plan, and nothing done.
    pub fn new() -> Self {
        let (pending, absent) = (Shard::Pending, Shard::Absent);
        Self {
            shards: [pending, pending, absent, absent],
            live: LeaseSet::default(),
            applied: 0,
            is_canceled: false,
            is_contradicted: false,
        }
    }

    pub fn shard(&self, shard: ShardIdx) -> Shard {
        self.shards[shard as usize]
    }

    fn set(&mut self, shard: ShardIdx, to: Shard) {
        self.shards[shard as usize] = to;
    }

    /// Leases of accepted parts.
    pub fn winners(&self) -> LeaseSet {
        let mut winners = LeaseSet::default();
        for winner in self.shards.iter().filter_map(|shard| shard.winner()) {
            winners.insert(winner);
        }
        winners
    }

    /// Pages of shards that it holds for published.
    pub fn published(&self) -> Pages {
        let published = |shard: &&ShardIdx| matches!(self.shard(**shard), Shard::Published(_));
        let shards = ShardIdx::ALL.iter().filter(published);
        shards.fold(0, |pages, shard| pages | shard.pages())
    }

    /// Whether every planned page is published, as far as it knows.
    pub fn is_complete(&self) -> bool {
        self.published() == ALL_PAGES
    }

    pub fn grant(&mut self, leases: &mut Leases, shard: ShardIdx) -> Lease {
        let lease = leases.add(shard);
        self.set(shard, Shard::Leased);
        self.live.insert(lease);
        lease
    }

    fn fence(&mut self, leases: &Leases, shard: ShardIdx) {
        self.live = self.live.without(leases.on(self.live, shard));
    }

    /// Accepts a part if its lease is live; every other lease of the shard ends.
    pub fn commit(&mut self, leases: &Leases, lease: Lease, guards: &Safeguards) -> Answer {
        let shard = leases.shard(lease);
        if self.shard(shard).winner() == Some(lease) {
            return Answer::AlreadyCommitted;
        }
        if guards.live_check && !self.live.has(lease) {
            return Answer::Fenced;
        }
        if self.is_canceled {
            return Answer::JobNotRunning;
        }
        self.fence(leases, shard);
        self.set(shard, Shard::Committed(lease));
        Answer::Committed
    }

    /// Ends a lease whose worker fell silent; the shard waits again when it was the last one.
    pub fn expire(&mut self, leases: &Leases, lease: Lease) {
        let shard = leases.shard(lease);
        self.live = self.live.without(LeaseSet::one(lease));
        if self.shard(shard) == Shard::Leased && leases.on(self.live, shard).is_empty() {
            self.set(shard, Shard::Pending);
        }
    }

    pub fn may_halve(&self, leases: &Leases, lease: Lease) -> bool {
        leases.shard(lease) == ShardIdx::Whole && self.shard(ShardIdx::Whole) == Shard::Leased
    }

    /// Halves the shard of a lease that ended by its worker's death; all its leases end.
    pub fn halve(&mut self, leases: &Leases) {
        self.fence(leases, ShardIdx::Whole);
        self.set(ShardIdx::Whole, Shard::Halved);
        self.set(ShardIdx::Left, Shard::Pending);
        self.set(ShardIdx::Right, Shard::Pending);
    }

    /// Applies a manifest that follows the last one applied; `false` if one before it is missing.
    pub fn apply(&mut self, leases: &Leases, number: u8, manifest: &Manifest) -> bool {
        if number <= self.applied {
            return true;
        }
        if number > self.applied + 1 {
            return false;
        }
        self.applied = number;
        self.mark(leases, manifest);
        true
    }

    /// What a manifest lists is published, whatever the database thought of those rows.
    pub fn mark(&mut self, leases: &Leases, manifest: &Manifest) {
        for lease in manifest.parts.iter() {
            let shard = leases.shard(lease);
            match self.shard(shard) {
                Shard::Pending | Shard::Leased | Shard::Committed(_) => {
                    self.fence(leases, shard);
                    self.set(shard, Shard::Published(lease));
                }
                Shard::Published(winner) => self.is_contradicted |= winner != lease,
                Shard::Absent | Shard::Halved => {
                    self.make_room(leases, shard);
                    self.set(shard, Shard::Published(lease));
                }
            }
        }
    }

    /// Shards that overlap a listed part give way; what they hold beyond it becomes shards of
    /// their own.
    fn make_room(&mut self, leases: &Leases, listed: ShardIdx) {
        for other in ShardIdx::ALL {
            if other == listed || other.pages() & listed.pages() == 0 {
                continue;
            }
            match self.shard(other) {
                Shard::Absent | Shard::Halved => continue,
                Shard::Published(_) => self.is_contradicted = true,
                open => debug_assert!(open.is_open()),
            }
            self.fence(leases, other);
            self.set(other, Shard::Halved);
            for rest in [ShardIdx::Left, ShardIdx::Right] {
                let is_left_over = other == ShardIdx::Whole && rest != listed;
                if is_left_over && self.shard(rest) == Shard::Absent {
                    self.set(rest, Shard::Pending);
                }
            }
        }
    }

    pub(crate) fn renumbered(&self, kept: LeaseSet) -> Self {
        let rename = |lease: Lease| {
            let before = LeaseSet(kept.0 & ((1 << lease) - 1));
            u8::try_from(before.0.count_ones()).unwrap_or(u8::MAX)
        };
        let mut new = *self;
        for shard in &mut new.shards {
            *shard = match *shard {
                Shard::Committed(lease) => Shard::Committed(rename(lease)),
                Shard::Published(lease) => Shard::Published(rename(lease)),
                other => other,
            };
        }
        new.live = self.live.renumbered(kept);
        new
    }
}

impl Default for Database {
    fn default() -> Self {
        Self::new()
    }
}
