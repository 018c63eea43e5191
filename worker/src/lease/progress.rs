//! What a shard has done so far, as heartbeats report it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quire_core::{DocId, LeaseId};
use quire_proto::v1::{LeaseProgress, LeaseStage};
use tokio_util::sync::CancellationToken;

/// Progress of one shard; shared between its pipeline and the heartbeat.
#[derive(Debug)]
pub(crate) struct ShardProgress {
    stage: AtomicI32,
    rows_done: AtomicU32,
    rows_failed: AtomicU32,
    documents: Mutex<BTreeMap<String, u32>>,
    /// Cancelled when the coordinator takes the shard away.
    pub(crate) abandoned: CancellationToken,
}

impl ShardProgress {
    fn new() -> Self {
        Self {
            stage: AtomicI32::new(LeaseStage::Queued.into()),
            rows_done: AtomicU32::new(0),
            rows_failed: AtomicU32::new(0),
            documents: Mutex::default(),
            abandoned: CancellationToken::new(),
        }
    }

    pub(crate) fn enter(&self, stage: LeaseStage) {
        self.stage.store(stage.into(), Ordering::Relaxed);
    }

    pub(crate) fn rows_done(&self, ok: u32, failed: u32) {
        self.rows_done.fetch_add(ok + failed, Ordering::Relaxed);
        self.rows_failed.fetch_add(failed, Ordering::Relaxed);
    }

    /// Marks a document as worked on until the guard is dropped.
    pub(crate) fn document(self: &Arc<Self>, doc_id: &DocId) -> InFlight {
        *self
            .documents()
            .entry(doc_id.as_str().to_owned())
            .or_default() += 1;
        InFlight {
            progress: Arc::clone(self),
            doc_id: doc_id.as_str().to_owned(),
        }
    }

    fn documents(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.documents
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn report(&self, lease_id: &LeaseId) -> LeaseProgress {
        LeaseProgress {
            lease_id: lease_id.as_str().to_owned(),
            stage: self.stage.load(Ordering::Relaxed),
            rows_done: self.rows_done.load(Ordering::Relaxed),
            rows_failed: self.rows_failed.load(Ordering::Relaxed),
            documents_in_flight: self.documents().keys().cloned().collect(),
        }
    }
}

/// A document that is being worked on.
#[derive(Debug)]
pub(crate) struct InFlight {
    progress: Arc<ShardProgress>,
    doc_id: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut documents = self.progress.documents();
        if let Some(count) = documents.get_mut(&self.doc_id) {
            *count -= 1;
            if *count == 0 {
                documents.remove(&self.doc_id);
            }
        }
    }
}

/// The leases a worker holds now.
#[derive(Debug, Default, Clone)]
pub(crate) struct HeldLeases(Arc<Mutex<HashMap<LeaseId, Arc<ShardProgress>>>>);

impl HeldLeases {
    fn leases(&self) -> MutexGuard<'_, HashMap<LeaseId, Arc<ShardProgress>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn hold(&self, lease_id: LeaseId) -> Arc<ShardProgress> {
        let progress = Arc::new(ShardProgress::new());
        self.leases().insert(lease_id, Arc::clone(&progress));
        progress
    }

    pub(crate) fn drop_lease(&self, lease_id: &LeaseId) {
        self.leases().remove(lease_id);
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self
            .leases()
            .keys()
            .map(|lease_id| lease_id.as_str().to_owned())
            .collect();
        ids.sort();
        ids
    }

    pub(crate) fn reports(&self) -> Vec<LeaseProgress> {
        let mut reports: Vec<LeaseProgress> = self
            .leases()
            .iter()
            .map(|(lease_id, progress)| progress.report(lease_id))
            .collect();
        reports.sort_by(|a, b| a.lease_id.cmp(&b.lease_id));
        reports
    }

    pub(crate) fn abandon(&self, lease_id: &str) {
        if let Some(progress) = self.leases().get(&LeaseId::new(lease_id)) {
            progress.abandoned.cancel();
        }
    }

    pub(crate) fn abandon_all(&self) {
        for lease_id in self.ids() {
            self.abandon(&lease_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_in_flight_until_its_last_guard_drops() {
        let held = HeldLeases::default();
        let progress = held.hold(LeaseId::new("l"));
        let doc_id = DocId::new("d");
        let (first, second) = (progress.document(&doc_id), progress.document(&doc_id));
        drop(first);
        assert_eq!(held.reports()[0].documents_in_flight, ["d"]);
        drop(second);
        assert!(held.reports()[0].documents_in_flight.is_empty());
    }

    #[test]
    fn abandoning_reaches_only_the_named_lease() {
        let held = HeldLeases::default();
        let (a, b) = (held.hold(LeaseId::new("a")), held.hold(LeaseId::new("b")));
        held.abandon("a");
        held.abandon("unknown");
        assert!(a.abandoned.is_cancelled() && !b.abandoned.is_cancelled());
    }
}
