//! What is known of the leases a worker holds, as the heartbeat reports it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use quire_core::{DocId, LeaseId};
use quire_proto::v1::{LeaseProgress, LeaseStage};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::session::Session;
use crate::drain::InHand;
use crate::metrics;

/// Why work on a shard stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The coordinator says so: somebody else has it, or its job has ended.
    Taken,
    /// The session is over, and its leases with it.
    SessionLost,
    /// The worker leaves.
    GiveBack,
}

/// Progress of one shard; shared between its pipeline and the heartbeat.
#[derive(Debug)]
pub(crate) struct ShardProgress {
    n_rows: u32,
    stage: AtomicI32,
    rows_done: AtomicU32,
    rows_failed: AtomicU32,
    documents: Mutex<BTreeMap<String, u32>>,
    engine: Mutex<WithEngine>,
    reading_since: OnceLock<Instant>,
    session: Arc<Session>,
    stop: CancellationToken,
    why: OnceLock<Stop>,
}

impl ShardProgress {
    fn new(session: Arc<Session>, n_rows: u32) -> Self {
        Self {
            n_rows,
            stage: AtomicI32::new(LeaseStage::Queued.into()),
            rows_done: AtomicU32::new(0),
            rows_failed: AtomicU32::new(0),
            documents: Mutex::default(),
            engine: Mutex::default(),
            reading_since: OnceLock::new(),
            session,
            stop: CancellationToken::new(),
            why: OnceLock::new(),
        }
    }

    pub(crate) fn enter(&self, stage: LeaseStage) {
        if stage == LeaseStage::Reading {
            self.reading_since.get_or_init(Instant::now);
        }
        self.stage.store(stage.into(), Ordering::Relaxed);
    }

    fn is_in(&self, stage: LeaseStage) -> bool {
        self.stage.load(Ordering::Relaxed) == i32::from(stage)
    }

    pub(crate) fn rows_done(&self, ok: u32, failed: u32) {
        metrics::pages("ok", ok);
        metrics::pages("failed", failed);
        self.count(ok + failed, failed);
    }

    /// Rows that the plan had settled already.
    pub(crate) fn rows_skipped(&self, n: u32) {
        metrics::pages("skipped", n);
        self.count(n, 0);
    }

    fn count(&self, done: u32, failed: u32) {
        self.rows_done.fetch_add(done, Ordering::Relaxed);
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

    /// Marks a document under suspicion, and has the coordinator told before it can do harm.
    pub(crate) fn suspect(self: &Arc<Self>, doc_id: &DocId) -> InFlight {
        let in_flight = self.document(doc_id);
        self.session.beat_soon();
        in_flight
    }

    /// Marks a page as asked of an engine, whose steps are counted, until the guard is dropped.
    pub(crate) fn asks(self: &Arc<Self>, steps: &Arc<AtomicU64>) -> Asking {
        let mut engine = self.with_engine();
        if engine.n_pages == 0 {
            engine.seen = steps.load(Ordering::Relaxed);
        }
        engine.n_pages += 1;
        engine.steps.get_or_insert_with(|| Arc::clone(steps));
        Asking(Arc::clone(self))
    }

    fn with_engine(&self) -> MutexGuard<'_, WithEngine> {
        self.engine
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Documents that are worked on now.
    pub(crate) fn in_flight(&self) -> Vec<String> {
        self.documents().keys().cloned().collect()
    }

    /// Ends the work; the first reason counts.
    pub(crate) fn stop(&self, why: Stop) {
        self.why.get_or_init(|| why);
        self.stop.cancel();
    }

    /// Waits until the work is to end.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Why the work is to end, if it is.
    pub(crate) fn why_stopped(&self) -> Option<Stop> {
        self.why.get().copied()
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
            documents_in_flight: self.in_flight(),
            engine_moved: self.with_engine().has_moved(),
        }
    }

    fn in_hand(&self) -> InHand {
        let rows_done = self.rows_done.load(Ordering::Relaxed);
        InHand {
            rows_done,
            rows_left: self.n_rows.saturating_sub(rows_done),
            reading_for: self
                .reading_since
                .get()
                .map(Instant::elapsed)
                .unwrap_or_default(),
        }
    }
}

/// Pages of a shard that are with an engine. Engines take pages in the order in which they were
/// asked, so those that still wait come nearer with every step, too.
#[derive(Debug, Default)]
struct WithEngine {
    n_pages: u32,
    /// What the engine counts its steps in.
    steps: Option<Arc<AtomicU64>>,
    /// What stood there at the last report.
    seen: u64,
}

impl WithEngine {
    /// Whether the engine took a step since this was asked last, with pages of the shard.
    fn has_moved(&mut self) -> bool {
        let Some(steps) = self.steps.as_ref().filter(|_| self.n_pages > 0) else {
            return false;
        };
        let now = steps.load(Ordering::Relaxed);
        now != std::mem::replace(&mut self.seen, now)
    }
}

/// A page that an engine was asked to read.
#[derive(Debug)]
pub(crate) struct Asking(Arc<ShardProgress>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.with_engine().n_pages -= 1;
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

/// The leases a worker holds now. A cheap clone.
#[derive(Debug, Default, Clone)]
pub(crate) struct HeldLeases(Arc<Mutex<HashMap<LeaseId, Arc<ShardProgress>>>>);

impl HeldLeases {
    fn leases(&self) -> MutexGuard<'_, HashMap<LeaseId, Arc<ShardProgress>>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn sorted(&self) -> Vec<(LeaseId, Arc<ShardProgress>)> {
        let mut leases: Vec<_> = self
            .leases()
            .iter()
            .map(|(lease_id, progress)| (lease_id.clone(), Arc::clone(progress)))
            .collect();
        leases.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        leases
    }

    /// Names a lease in heartbeats until the hold is dropped.
    pub(crate) fn hold(
        &self,
        session: &Arc<Session>,
        lease_id: LeaseId,
        n_rows: u32,
    ) -> (Hold, Arc<ShardProgress>) {
        let progress = Arc::new(ShardProgress::new(Arc::clone(session), n_rows));
        self.leases()
            .insert(lease_id.clone(), Arc::clone(&progress));
        let held = self.clone();
        (Hold { held, lease_id }, progress)
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.sorted()
            .into_iter()
            .map(|(lease_id, _)| lease_id.as_str().to_owned())
            .collect()
    }

    pub(crate) fn reports(&self) -> Vec<LeaseProgress> {
        self.sorted()
            .iter()
            .map(|(lease_id, progress)| progress.report(lease_id))
            .collect()
    }

    /// The shards of which pages are read, with a way to stop them.
    pub(crate) fn reading(&self) -> Vec<(Arc<ShardProgress>, InHand)> {
        self.sorted()
            .into_iter()
            .filter(|(_, progress)| progress.is_in(LeaseStage::Reading))
            .map(|(_, progress)| {
                let in_hand = progress.in_hand();
                (progress, in_hand)
            })
            .collect()
    }

    pub(crate) fn stop(&self, lease_id: &str, why: Stop) {
        if let Some(progress) = self.leases().get(&LeaseId::new(lease_id)) {
            progress.stop(why);
        }
    }

    pub(crate) fn stop_all(&self, why: Stop) {
        for (_, progress) in self.sorted() {
            progress.stop(why);
        }
    }

    /// Stops the shards of which nothing is read yet.
    pub(crate) fn stop_queued(&self, why: Stop) {
        for (_, progress) in self.sorted() {
            if progress.is_in(LeaseStage::Queued) {
                progress.stop(why);
            }
        }
    }
}

/// A lease that is held for as long as this lives.
#[derive(Debug)]
pub(crate) struct Hold {
    held: HeldLeases,
    lease_id: LeaseId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.leases().remove(&self.lease_id);
    }
}

#[cfg(test)]
mod tests {
    use quire_proto::v1::RegisterResponse;

    use super::*;

    fn session() -> Arc<Session> {
        Arc::new(Session::for_test(RegisterResponse::default()))
    }

    #[tokio::test]
    async fn a_page_that_is_being_written_is_progress_while_its_engine_takes_steps() {
        let held = HeldLeases::default();
        let (_hold, progress) = held.hold(&session(), LeaseId::new("l"), 2);
        let moved = || held.reports()[0].engine_moved;
        let steps = Arc::new(AtomicU64::new(7));
        assert!(!moved());
        let asking = progress.asks(&steps);
        assert!(!moved(), "steps of before are nobody's");
        steps.fetch_add(3, Ordering::Relaxed);
        assert!(moved());
        assert!(!moved(), "said once");
        steps.fetch_add(1, Ordering::Relaxed);
        drop(asking);
        assert!(!moved(), "others' pages are no progress of this shard");
    }

    #[tokio::test]
    async fn a_document_is_in_flight_until_its_last_guard_drops() {
        let held = HeldLeases::default();
        let (hold, progress) = held.hold(&session(), LeaseId::new("l"), 1);
        let doc_id = DocId::new("d");
        let (first, second) = (progress.document(&doc_id), progress.document(&doc_id));
        drop(first);
        assert_eq!(held.reports()[0].documents_in_flight, ["d"]);
        drop(second);
        assert!(held.reports()[0].documents_in_flight.is_empty());
        drop(hold);
        assert!(held.reports().is_empty());
    }

    #[tokio::test]
    async fn stopping_reaches_only_the_named_lease_and_its_first_reason_counts() {
        let (held, session) = (HeldLeases::default(), session());
        let (_a, a) = held.hold(&session, LeaseId::new("a"), 1);
        let (_b, b) = held.hold(&session, LeaseId::new("b"), 1);
        b.enter(LeaseStage::Reading);
        held.stop("a", Stop::Taken);
        held.stop("a", Stop::GiveBack);
        held.stop("unknown", Stop::Taken);
        assert_eq!(
            (a.why_stopped(), b.why_stopped()),
            (Some(Stop::Taken), None)
        );
        let (_c, c) = held.hold(&session, LeaseId::new("c"), 1);
        held.stop_queued(Stop::GiveBack);
        assert_eq!(
            (b.why_stopped(), c.why_stopped()),
            (None, Some(Stop::GiveBack))
        );
    }
}
