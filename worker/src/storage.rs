//! Whether object storage answers, and which finished shards wait for it or for the coordinator.
//! While one does, no further shards are taken.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::status::StatusBoard;

/// What is known of the way out. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    trouble: Arc<watch::Sender<Trouble>>,
    board: StatusBoard,
}

/// Transfers that failed and are tried again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Of the object store.
    transfers: usize,
    /// Of finished shards, be it the store or the coordinator that is away.
    held_back: usize,
}

impl Storage {
    pub(crate) fn new(board: StatusBoard) -> Self {
        Self {
            trouble: Arc::default(),
            board,
        }
    }

    /// Whether everything that was last tried went well.
    pub(crate) fn is_ok(&self) -> bool {
        *self.trouble.borrow() == Trouble::default()
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<Trouble> {
        self.trouble.subscribe()
    }

    /// The store gave an answer.
    pub(crate) fn answered(&self) {
        self.board
            .update(|status| status.store_answered_at = Some(Instant::now()));
    }

    /// A transfer failed and is tried again until the guard is dropped.
    pub(crate) fn transfer_fails(&self) -> Failing {
        self.begin(Trouble {
            transfers: 1,
            held_back: 0,
        })
    }

    /// A finished shard is held back until the guard is dropped.
    pub(crate) fn hold_back(&self) -> Failing {
        self.begin(Trouble {
            transfers: 0,
            held_back: 1,
        })
    }

    fn begin(&self, share: Trouble) -> Failing {
        self.change(|trouble| {
            trouble.transfers += share.transfers;
            trouble.held_back += share.held_back;
        });
        Failing {
            storage: self.clone(),
            share,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Trouble)) {
        self.trouble.send_modify(change);
        let now = *self.trouble.borrow();
        metrics::gauge!("quire_worker_held_back_shards").set(now.held_back as f64);
        self.board.update(|status| {
            status.n_held_back = now.held_back;
            status.is_store_ok = now == Trouble::default();
        });
    }
}

/// Something is failing for as long as this lives.
#[derive(Debug)]
pub(crate) struct Failing {
    storage: Storage,
    share: Trouble,
}

impl Drop for Failing {
    fn drop(&mut self) {
        let share = self.share;
        self.storage.change(|trouble| {
            trouble.transfers -= share.transfers;
            trouble.held_back -= share.held_back;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_well_again_when_the_last_failure_ended() {
        let storage = Storage::new(StatusBoard::new());
        let (transfer, shard) = (storage.transfer_fails(), storage.hold_back());
        drop(transfer);
        assert!(!storage.is_ok());
        drop(shard);
        assert!(storage.is_ok());
    }
}
