//! One state of everything together.

use crate::database::Database;
use crate::objects::Objects;
use crate::plan::{Lease, LeaseSet, Leases};
use crate::publisher::Publisher;

/// What a worker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Worker {
    Idle,
    /// Has a lease, live or not, and reads its pages.
    Reading(Lease),
    /// Believes that its part is in the store, and commits until it is answered.
    Uploaded(Lease),
}

impl Worker {
    pub fn lease(self) -> Option<Lease> {
        match self {
            Self::Idle => None,
            Self::Reading(lease) | Self::Uploaded(lease) => Some(lease),
        }
    }
}

/// One state of everything together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub database: Database,
    /// What the database would go back to if it lost its tail now.
    pub replica: Option<Database>,
    pub objects: Objects,
    pub workers: [Worker; 2],
    pub publishers: [Publisher; 2],
    pub leases: Leases,
    /// Leases whose part was accepted while they were live. Nobody sees this but the properties.
    pub rightful: LeaseSet,
    /// Faults that may still come.
    pub faults: u8,
}

impl State {
    pub fn new(faults: u8) -> Self {
        Self {
            database: Database::new(),
            replica: None,
            objects: Objects::new(),
            workers: [Worker::Idle; 2],
            publishers: [Publisher::Idle; 2],
            leases: Leases::default(),
            rightful: LeaseSet::default(),
            faults,
        }
    }

    /// Leases that a worker still believes it has.
    pub fn held(&self) -> LeaseSet {
        let mut held = LeaseSet::default();
        for lease in self.workers.iter().filter_map(|worker| worker.lease()) {
            held.insert(lease);
        }
        held
    }

    /// The one state that stands for all that differ only by who is who: leases that nobody
    /// remembers are forgotten, workers and publishers stand in order.
    #[must_use]
    pub fn canonical(mut self) -> Self {
        if self.faults == 0 {
            // It cannot be gone back to any more.
            self.replica = None;
        }
        self.forget_leases();
        self.workers.sort_unstable();
        let comparing = self.publishers.map(Publisher::compares_nonces);
        let is_known = |nonce: u8| comparing.get(usize::from(nonce)) == Some(&true);
        self.objects
            .rename_nonces(|nonce| is_known(nonce).then_some(nonce));
        if self.publishers[0] > self.publishers[1] {
            self.publishers.swap(0, 1);
            self.objects.rename_nonces(|nonce| Some(1 - nonce));
        }
        self
    }

    fn forget_leases(&mut self) {
        let mut kept = self.held();
        for database in [Some(&self.database), self.replica.as_ref()]
            .into_iter()
            .flatten()
        {
            kept = kept.or(database.live).or(database.winners());
        }
        let underway = self.objects.underway.iter().map(|(_, manifest)| manifest);
        for manifest in self.objects.manifests().chain(underway) {
            kept = kept.or(manifest.parts);
        }
        for publisher in self.publishers {
            kept = kept.or(publisher.parts());
        }
        let n_before = self.leases;
        self.leases = self.leases.renumbered(kept);
        if self.leases == n_before {
            self.objects.parts = self.objects.parts.and(kept);
            self.rightful = self.rightful.and(kept);
            return;
        }
        self.database = self.database.renumbered(kept);
        self.replica = self.replica.map(|replica| replica.renumbered(kept));
        self.objects = self.objects.renumbered(kept);
        self.publishers = self.publishers.map(|publisher| publisher.renumbered(kept));
        self.rightful = self.rightful.renumbered(kept);
        let rename = |lease: Lease| {
            let number = LeaseSet::one(lease).renumbered(kept).iter().next();
            number.unwrap_or(0)
        };
        self.workers = self.workers.map(|worker| match worker {
            Worker::Idle => Worker::Idle,
            Worker::Reading(lease) => Worker::Reading(rename(lease)),
            Worker::Uploaded(lease) => Worker::Uploaded(rename(lease)),
        });
    }
}
