//! A worker: config, service, handle. Registers, works one session after another, and leaves
//! with nothing in hand.

use std::sync::Arc;

use quire_core::Fault;
use quire_corpus::Stores;
use quire_proto::{CallError, WorkerCalls};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::WorkerConfig;
use crate::drain::{DrainOrder, Left, Shutdown};
use crate::engine::EnginePool;
use crate::error::{Error, Result};
use crate::lease::{self, Backoff, Heart, HeldLeases, Service, Session, Shared, Tally};
use crate::metrics;
use crate::pipeline::Pipeline;
use crate::pipeline::render::RenderPool;
use crate::scratch::Scratch;
use crate::status::{StatusBoard, WorkerHealth, WorkerStatus};
use crate::storage::Storage;

/// Leases shards and reads them until told to stop.
pub struct Worker {
    config: Arc<WorkerConfig>,
    calls: Arc<dyn WorkerCalls>,
    stores: Arc<Stores>,
    renderer: RenderPool,
    engine: EnginePool,
    board: StatusBoard,
}

impl Worker {
    /// Puts a worker together from its started parts.
    pub fn new(
        config: WorkerConfig,
        calls: Arc<dyn WorkerCalls>,
        stores: Arc<Stores>,
        renderer: RenderPool,
        engine: EnginePool,
    ) -> Self {
        Self {
            config: Arc::new(config),
            calls,
            stores,
            renderer,
            engine,
            board: StatusBoard::new(),
        }
    }

    /// How the worker is, now and at every change.
    pub fn status(&self) -> watch::Receiver<WorkerStatus> {
        self.board.subscribe()
    }

    /// Works until `shutdown` or until the coordinator drains its node, then leaves its session.
    ///
    /// # Errors
    /// When the worker itself cannot go on: its engine ended, its disk is full, the coordinator
    /// does not let it in; without a fleet around it also when shard after shard fails. Shards
    /// in hand are given back first.
    pub async fn run(self, shutdown: Shutdown) -> Result<Left> {
        let ended = self.work(&shutdown).await;
        self.board.feel(WorkerHealth::Gone);
        match &ended {
            Ok(left) => tracing::debug!(?left, "the worker left"),
            Err(error) => {
                tracing::debug!(error = quire_core::chain(error), "the worker cannot go on");
            }
        }
        ended
    }

    async fn work(&self, shutdown: &Shutdown) -> Result<Left> {
        self.config.validate()?;
        let scratch = Scratch::open(&self.config.scratch)?;
        let storage = Storage::new(self.board.clone());
        let pipeline = Pipeline::new(
            Arc::clone(&self.config),
            scratch.path().to_owned(),
            Arc::clone(&self.stores),
            storage.clone(),
            self.renderer.clone(),
            self.engine.clone(),
        );
        let shared = Arc::new(Shared::new(
            Arc::clone(&self.config),
            Arc::clone(&self.calls),
            Arc::clone(&self.stores),
            pipeline,
            storage,
            self.board.clone(),
        ));
        let drain = DrainOrder::of(shutdown);
        let mut tally = Tally::default();
        loop {
            let opened = tokio::select! {
                biased;
                () = shutdown.now.cancelled() => None,
                () = drain.given() => None,
                opened = self.register() => Some(opened?),
            };
            if let Some(session) = opened {
                self.session(&shared, session, shutdown, &drain, &mut tally)
                    .await?;
            }
            if drain.is_given() || shutdown.now.is_cancelled() {
                return Ok(Left {
                    by: drain.by(),
                    n_committed: tally.n_committed,
                    n_given_back: tally.n_given_back,
                });
            }
        }
    }

    /// Opens a session, for as long as it takes.
    async fn register(&self) -> Result<Session> {
        let start = Instant::now();
        let introduction =
            lease::introduction(&self.config, self.engine.info(), self.engine.devices());
        let mut backoff = Backoff::of_calls(&self.config.name);
        let mut is_told = false;
        loop {
            let error = match Session::open(&*self.calls, introduction.clone()).await {
                Ok(session) => {
                    self.board
                        .update(|status| status.coordinator_answered_at = Some(Instant::now()));
                    return Ok(session);
                }
                Err(error) => error,
            };
            metrics::call_error("register", &error);
            if !self.will_pass(&error, start) {
                return Err(Error::Call(error));
            }
            if is_told {
                tracing::debug!(%error, "cannot register, trying again");
            } else {
                tracing::warn!(%error, "cannot register, trying again");
            }
            is_told = true;
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    fn will_pass(&self, error: &CallError, start: Instant) -> bool {
        match self.config.patience {
            Some(patience) => error.fault == Fault::Unavailable && start.elapsed() < patience,
            None => !lease::is_final(error),
        }
    }

    /// One session: ends when the worker is to stop, cannot go on, or is not known any more.
    async fn session(
        &self,
        shared: &Arc<Shared>,
        session: Session,
        shutdown: &Shutdown,
        drain: &DrainOrder,
        tally: &mut Tally,
    ) -> Result<()> {
        let session = Arc::new(session);
        let held = HeldLeases::default();
        if self.board.health() == WorkerHealth::Registering {
            self.board.feel(WorkerHealth::Ready);
        }
        let heart = Heart {
            calls: Arc::clone(&self.calls),
            session: Arc::clone(&session),
            held: held.clone(),
            drain: drain.clone(),
            storage: shared.storage.clone(),
            board: self.board.clone(),
        };
        let mut beating = JoinSet::new();
        beating.spawn(heart.beat());
        let service = Service::new(shared, &session, &held, drain, &shutdown.now, tally);
        let outcome = service.run().await;
        drop(beating);
        if session.lost.is_cancelled() {
            if self.board.health() == WorkerHealth::Ready {
                self.board.feel(WorkerHealth::Registering);
            }
            return outcome;
        }
        let reason = if outcome.is_err() {
            "the worker cannot go on"
        } else {
            "the worker leaves"
        };
        let ending = lease::release(&*self.calls, &session.id, held.ids(), reason, true);
        if let Err(error) = ending.await {
            tracing::debug!(%error, "the session could not be ended; it expires by itself");
        }
        outcome
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
