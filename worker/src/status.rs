//! What others on this machine may know of a worker: how it feels, and whom it reaches.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How a worker feels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerHealth {
    /// Not yet known to the coordinator, or not any more.
    Registering,
    /// Takes shards.
    Ready,
    /// Finishes what it holds and leaves.
    Draining,
    /// Cannot work now; the reason is for people.
    Unhealthy(String),
    /// Has left.
    Gone,
}

impl WorkerHealth {
    /// In a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Unhealthy(_) => "unhealthy",
            Self::Gone => "gone",
        }
    }
}

/// A worker as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// How it feels.
    pub health: WorkerHealth,
    /// Shards it holds, waiting ones included.
    pub n_leases: usize,
    /// Of them, finished ones that could not be delivered at the first try.
    pub n_held_back: usize,
    /// Whether its last transfer to or from object storage went well.
    pub is_store_ok: bool,
    /// When the coordinator last answered.
    pub coordinator_answered_at: Option<Instant>,
    /// When object storage last answered.
    pub store_answered_at: Option<Instant>,
}

impl WorkerStatus {
    /// Whether it takes shards.
    pub fn is_ready(&self) -> bool {
        self.health == WorkerHealth::Ready
    }

    /// Time since the coordinator last answered; `None` if it never did.
    pub fn coordinator_silent_for(&self) -> Option<Duration> {
        self.coordinator_answered_at.map(|at| at.elapsed())
    }

    /// Time since object storage last answered; `None` if it was never asked.
    pub fn store_silent_for(&self) -> Option<Duration> {
        self.store_answered_at.map(|at| at.elapsed())
    }
}

/// Where the worker's parts write what they know. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct StatusBoard(watch::Sender<WorkerStatus>);

impl StatusBoard {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(WorkerStatus {
            health: WorkerHealth::Registering,
            n_leases: 0,
            n_held_back: 0,
            is_store_ok: true,
            coordinator_answered_at: None,
            store_answered_at: None,
        }))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<WorkerStatus> {
        self.0.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut WorkerStatus)) {
        self.0.send_modify(change);
    }

    pub(crate) fn feel(&self, health: WorkerHealth) {
        self.0.send_if_modified(|status| {
            let is_new = status.health != health;
            status.health = health;
            is_new
        });
    }

    pub(crate) fn health(&self) -> WorkerHealth {
        self.0.borrow().health.clone()
    }
}
