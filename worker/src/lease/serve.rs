//! One session of a worker: asks for shards, starts the work on them, judges what comes of it,
//! and leaves with nothing in hand.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quire_core::{Fault, Faulty, LeaseId, chain};
use quire_proto::CallError;
use quire_proto::v1::Lease;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acquire::{Acquired, acquire};
use super::backoff::Backoff;
use super::complete;
use super::progress::Stop;
use super::work::{End, LeaseWork, Shared};
use super::{HeldLeases, Session, is_final};
use crate::config::MOST_PREFETCHED;
use crate::drain::{DrainOrder, hopeless};
use crate::error::{Error, Result};
use crate::metrics;
use crate::status::WorkerHealth;

/// Failures in a row after which the worker itself is taken to be at fault.
const MOST_FAILURES: u32 = 3;
/// A worker that is not well rests this long before it tries another shard, and twice as long
/// the next time.
const REST: Duration = Duration::from_secs(5);
/// After the deadline of a drain, shards have this long to be given back one by one.
const GRACE: Duration = Duration::from_secs(5);

/// What a worker did in its life; outlasts its sessions.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) n_committed: u64,
    pub(crate) n_given_back: u64,
    /// Failures in a row that speak against the worker.
    failures: u32,
}

/// One session.
pub(crate) struct Service<'a> {
    shared: &'a Arc<Shared>,
    session: &'a Arc<Session>,
    held: &'a HeldLeases,
    drain: &'a DrainOrder,
    now: &'a CancellationToken,
    tally: &'a mut Tally,
    work: JoinSet<End>,
    /// A request for work is not dropped half-way while the session goes on: what it was granted
    /// would be held by nobody until the lease expires.
    asking: Option<BoxFuture<'static, std::result::Result<Acquired, CallError>>>,
    rest_until: Instant,
    /// Since when requests for work fail, and how long the next one waits.
    away: Option<(Instant, Backoff)>,
    /// When the rest is given back, and when the worker leaves whatever is still held.
    deadlines: Option<(Instant, Instant)>,
}

impl<'a> Service<'a> {
    pub(crate) fn new(
        shared: &'a Arc<Shared>,
        session: &'a Arc<Session>,
        held: &'a HeldLeases,
        drain: &'a DrainOrder,
        now: &'a CancellationToken,
        tally: &'a mut Tally,
    ) -> Self {
        Self {
            shared,
            session,
            held,
            drain,
            now,
            tally,
            work: JoinSet::new(),
            asking: None,
            rest_until: Instant::now(),
            away: None,
            deadlines: None,
        }
    }

    /// Works until the session is lost or the worker is to leave.
    ///
    /// # Errors
    /// When the worker cannot go on.
    pub(crate) async fn run(mut self) -> Result<()> {
        let ended = self.serve().await;
        // Work that is cut off here is given back with the session.
        if !self.session.lost.is_cancelled() {
            self.tally.n_given_back += self.work.len() as u64;
        }
        ended
    }

    async fn serve(&mut self) -> Result<()> {
        let mut storage = self.shared.storage.changes();
        loop {
            let is_lost = self.session.lost.is_cancelled();
            if self.drain.is_given() && self.deadlines.is_none() {
                self.begin_drain();
            }
            let is_stopping = is_lost || self.deadlines.is_some();
            if is_stopping && self.work.is_empty() {
                return Ok(());
            }
            storage.mark_unchanged();
            let wanted = if is_stopping { 0 } else { self.wanted() };
            let rest = self.rest_until.saturating_duration_since(Instant::now());
            if wanted > 0 && rest.is_zero() && self.asking.is_none() {
                if self.is_unwell() {
                    // The coordinator gives nothing to one who says it is unwell.
                    self.feel_well();
                }
                self.ask(wanted);
            }
            let waits = wanted > 0 && self.asking.is_none();
            let deadline = self.deadlines.map(|(deadline, _)| deadline);
            tokio::select! {
                biased;
                () = self.now.cancelled() => return Ok(()),
                Some(joined) = self.work.join_next() => {
                    match joined {
                        Ok(end) => self.judge(end)?,
                        // Not even its failure could be told: the lease is not named any more.
                        Err(error) => tracing::error!(%error, "a shard's task ended"),
                    }
                    self.count();
                }
                () = self.drain.given(), if self.deadlines.is_none() => {}
                () = self.session.lost.cancelled(), if !is_lost => {}
                () = until(deadline) => {
                    if !self.give_rest_back() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(rest), if waits => {}
                _ = storage.changed() => {}
                acquired = answer(&mut self.asking), if self.asking.is_some() => {
                    self.asking = None;
                    self.take(acquired, is_stopping)?;
                    self.count();
                }
            }
        }
    }

    /// How many shards to ask for.
    fn wanted(&self) -> usize {
        // What cannot be delivered must not become more.
        if !self.shared.storage.is_ok() {
            return 0;
        }
        // A worker that was not well tries one shard.
        if self.tally.failures > 0 && self.shared.config.is_of_fleet() {
            return usize::from(self.work.is_empty());
        }
        let config = &self.shared.config;
        let beyond = config
            .prefetch
            .min(self.session.max_prefetch)
            .min(MOST_PREFETCHED);
        (config.slots + beyond).saturating_sub(self.work.len())
    }

    fn is_unwell(&self) -> bool {
        matches!(self.shared.board.health(), WorkerHealth::Unhealthy(_))
    }

    fn feel_well(&self) {
        tracing::info!("the worker has rested and tries a shard");
        self.shared.board.feel(WorkerHealth::Ready);
        self.session.beat_soon();
    }

    fn ask(&mut self, n: usize) {
        let (shared, session) = (Arc::clone(self.shared), Arc::clone(self.session));
        let wait = shared.config.acquire_wait;
        self.asking =
            Some(async move { acquire(&*shared.calls, &session.id, n, wait).await }.boxed());
    }

    fn take(
        &mut self,
        acquired: std::result::Result<Acquired, CallError>,
        is_stopping: bool,
    ) -> Result<()> {
        let error = match acquired {
            Ok(acquired) => {
                self.away = None;
                match acquired {
                    Acquired::Leases(leases) if is_stopping => self.give_back(leases),
                    Acquired::Leases(leases) => {
                        for lease in leases {
                            self.start(lease);
                        }
                    }
                    Acquired::Nothing(wait) => self.rest(wait.max(Duration::from_millis(50))),
                }
                return Ok(());
            }
            Err(error) => error,
        };
        metrics::call_error("acquire", &error);
        if error.fault == Fault::Fenced {
            tracing::warn!(%error, "the session has ended, registering anew");
            self.session.lost.cancel();
            self.held.stop_all(Stop::SessionLost);
            return Ok(());
        }
        let is_of_fleet = self.shared.config.is_of_fleet();
        if is_final(&error) || (!is_of_fleet && error.fault != Fault::Unavailable) {
            return Err(Error::Call(error));
        }
        let seed = self.session.id.as_str();
        let (since, backoff) = self.away.get_or_insert_with(|| {
            tracing::warn!(%error, "no work can be asked for now, trying again");
            (Instant::now(), Backoff::of_calls(seed))
        });
        let patience = self.shared.config.patience;
        if patience.is_some_and(|patience| since.elapsed() >= patience) {
            return Err(Error::Call(error));
        }
        let pause = backoff.pause();
        self.rest(pause);
        Ok(())
    }

    fn rest(&mut self, pause: Duration) {
        self.rest_until = self.rest_until.max(Instant::now() + pause);
    }

    fn start(&mut self, lease: Lease) {
        let lease_id = LeaseId::new(lease.lease_id.clone());
        let (hold, progress) = self.held.hold(self.session, lease_id, lease.n_rows);
        let work = LeaseWork {
            shared: Arc::clone(self.shared),
            session: Arc::clone(self.session),
            progress,
        };
        self.work.spawn(async move {
            let _named_until_its_end = hold;
            work.run(lease).await
        });
    }

    /// Leases that arrived too late.
    fn give_back(&mut self, leases: Vec<Lease>) {
        let (shared, session) = (Arc::clone(self.shared), Arc::clone(self.session));
        let ids: Vec<String> = leases.into_iter().map(|lease| lease.lease_id).collect();
        self.tally.n_given_back += ids.len() as u64 - 1;
        self.work.spawn(async move {
            let told =
                complete::release(&*shared.calls, &session.id, ids, "the worker leaves", false);
            if let Err(error) = told.await {
                tracing::debug!(%error, "shards are given back with the session");
            }
            End::GivenBack
        });
    }

    /// What the end of a lease says of the worker; `Err` when it cannot go on.
    fn judge(&mut self, end: End) -> Result<()> {
        let error = match end {
            End::Committed => {
                self.tally.n_committed += 1;
                self.tally.failures = 0;
                return Ok(());
            }
            End::Fenced => return Ok(()),
            End::GivenBack => {
                self.tally.n_given_back += 1;
                return Ok(());
            }
            End::Failed(error) => error,
        };
        if !self.shared.config.is_of_fleet() {
            return self.judge_alone(error);
        }
        // Shards that fail elsewhere, too, are the coordinator's to judge.
        if !error.is_of_worker() {
            return Ok(());
        }
        self.tally.failures += 1;
        if self.tally.failures >= MOST_FAILURES || self.shared.pipeline.engine_is_lost() {
            return Err(error);
        }
        let rest = REST * 2_u32.pow(self.tally.failures - 1);
        tracing::error!(error = chain(&error), ?rest, "the worker is not well");
        self.shared
            .board
            .feel(WorkerHealth::Unhealthy(chain(&error)));
        self.session.beat_soon();
        self.rest(rest);
        Ok(())
    }

    /// Somebody waits for one job: what goes wrong for good is told at once.
    fn judge_alone(&mut self, error: Error) -> Result<()> {
        self.tally.failures += 1;
        let lasts = match error.fault() {
            Fault::Fenced => false,
            Fault::Config | Fault::Corrupt | Fault::Bug => true,
            Fault::Input | Fault::Unavailable => self.tally.failures >= MOST_FAILURES,
        };
        if lasts || error.is_of_worker() {
            return Err(error);
        }
        Ok(())
    }

    fn begin_drain(&mut self) {
        let deadline = self.shared.config.drain_deadline;
        self.deadlines = Some((Instant::now() + deadline, Instant::now() + deadline + GRACE));
        self.shared.board.feel(WorkerHealth::Draining);
        self.session.beat_soon();
        self.held.stop_queued(Stop::GiveBack);
        let (shards, in_hand): (Vec<_>, Vec<_>) = self.held.reading().into_iter().unzip();
        let hopeless = hopeless(&in_hand, deadline);
        tracing::info!(
            n_in_hand = in_hand.len(),
            n_hopeless = hopeless.len(),
            ?deadline,
            "leaving: what is in hand is finished, and the rest given back"
        );
        for at in hopeless {
            shards[at].stop(Stop::GiveBack);
        }
    }

    /// The time to finish is over. False when even giving back took too long.
    fn give_rest_back(&mut self) -> bool {
        let Some((_, leave_at)) = self.deadlines else {
            return true;
        };
        if Instant::now() >= leave_at {
            return false;
        }
        tracing::info!(n = self.work.len(), "the time to finish is over");
        self.held.stop_all(Stop::GiveBack);
        self.deadlines = Some((leave_at, leave_at));
        true
    }

    fn count(&self) {
        let n_leases = self.work.len();
        ::metrics::gauge!("quire_worker_leases").set(n_leases as f64);
        self.shared
            .board
            .update(|status| status.n_leases = n_leases);
    }
}

impl std::fmt::Debug for Service<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// The answer to a request that is under way; waits for ever if there is none.
async fn answer<T>(asking: &mut Option<BoxFuture<'_, T>>) -> T {
    match asking {
        Some(request) => request.await,
        None => std::future::pending().await,
    }
}

/// Waits for a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
