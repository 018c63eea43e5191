//! A worker: config, service, handle. Leases shards, reads them, commits them, and leaves with
//! nothing in hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use quire_core::{Fault, Faulty, JobId, LeaseId, SessionId};
use quire_corpus::Stores;
use quire_dataset::{JobArea, Output};
use quire_proto::v1::{CommitRequest, Lease, LeaseStage, RowCounts, ShardTimings};
use quire_proto::{CallError, WorkerCalls};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::WorkerConfig;
use crate::engine::EnginePool;
use crate::error::{Error, Result};
use crate::lease::{self, Acquired, HeldLeases, ShardProgress};
use crate::pipeline::render::RenderPool;
use crate::pipeline::{Pipeline, Shard};

/// Failures of shards in a row after which the worker itself is taken to be at fault.
const MOST_FAILURES: u32 = 3;

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing more, finish and commit what is in hand.
    pub drain: CancellationToken,
    /// Leave at once, giving shards back undone.
    pub now: CancellationToken,
}

/// Leases shards and reads them until told to stop.
pub struct Worker {
    config: Arc<WorkerConfig>,
    calls: Arc<dyn WorkerCalls>,
    stores: Arc<Stores>,
    pipeline: Arc<Pipeline>,
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
        let config = Arc::new(config);
        let pipeline = Arc::new(Pipeline::new(
            Arc::clone(&config),
            Arc::clone(&stores),
            renderer,
            engine,
        ));
        Self {
            config,
            calls,
            stores,
            pipeline,
        }
    }

    /// Works until `shutdown`, then leaves its session.
    ///
    /// # Errors
    /// When the worker itself cannot go on: its engine ended, its disk is full, stored state is
    /// corrupt, or shard after shard fails. Shards in hand are given back first.
    pub async fn run(self, shutdown: Shutdown) -> Result<()> {
        loop {
            let lost = CancellationToken::new();
            self.session(&shutdown, &lost).await?;
            if shutdown.drain.is_cancelled() || shutdown.now.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// One session: ends when the worker is to stop, cannot go on, or is not known any more.
    async fn session(&self, shutdown: &Shutdown, lost: &CancellationToken) -> Result<()> {
        let session = lease::register(&*self.calls, &self.config, self.pipeline.engine_info())
            .await
            .map_err(Error::Call)?;
        let held = HeldLeases::default();
        let heartbeat = {
            let (calls, id) = (Arc::clone(&self.calls), session.id.clone());
            let (held, drain, lost) = (held.clone(), shutdown.drain.clone(), lost.clone());
            let period = session.heartbeat_period;
            let mut beats = JoinSet::new();
            beats.spawn(async move { lease::renew(&*calls, id, period, held, drain, lost).await });
            beats
        };
        let outcome = self.lease_loop(&session.id, &held, shutdown, lost).await;
        drop(heartbeat);
        let reason = if outcome.is_err() {
            "the worker cannot go on"
        } else {
            "the worker leaves"
        };
        if let Err(error) =
            lease::release(&*self.calls, &session.id, held.ids(), reason, true).await
        {
            tracing::debug!(%error, "the session could not be ended; it expires by itself");
        }
        outcome
    }

    async fn lease_loop(
        &self,
        session: &SessionId,
        held: &HeldLeases,
        shutdown: &Shutdown,
        lost: &CancellationToken,
    ) -> Result<()> {
        let mut shards: JoinSet<Result<()>> = JoinSet::new();
        let mut failures = 0;
        // A request for work is never dropped half-way: what it was granted would be held by
        // nobody until the lease expires.
        let mut asking: Option<BoxFuture<'_, std::result::Result<Acquired, CallError>>> = None;
        let mut rest_until = Instant::now();
        loop {
            let stopping = shutdown.drain.is_cancelled() || lost.is_cancelled();
            if stopping && shards.is_empty() {
                return Ok(());
            }
            let free = self.config.slots.saturating_sub(shards.len());
            let rest = rest_until.saturating_duration_since(Instant::now());
            let may_ask = !stopping && free > 0 && asking.is_none();
            if may_ask && rest.is_zero() {
                let wait = self.config.acquire_wait;
                asking = Some(lease::acquire(&*self.calls, session, free, wait).boxed());
            }
            tokio::select! {
                biased;
                () = shutdown.now.cancelled() => return Ok(()),
                Some(joined) = shards.join_next() => {
                    let ended = joined
                        .map_err(|error| Error::Bug(format!("a shard's task ended: {error}")))?;
                    failures = self.judge(ended, failures)?;
                }
                () = shutdown.drain.cancelled(), if !stopping => {}
                () = lost.cancelled(), if !stopping => {}
                () = tokio::time::sleep(rest), if may_ask && !rest.is_zero() => {}
                acquired = answer(&mut asking), if asking.is_some() => {
                    asking = None;
                    match acquired {
                        // Given back with the session, as soon as the shards in hand are done.
                        Ok(Acquired::Leases(_)) if stopping => {}
                        Ok(Acquired::Leases(leases)) => {
                            for lease in leases {
                                self.start(&mut shards, session, held, lease);
                            }
                        }
                        Ok(Acquired::Nothing(wait)) => {
                            rest_until = Instant::now() + wait.max(Duration::from_millis(50));
                        }
                        Err(error) if error.fault == Fault::Fenced => lost.cancel(),
                        Err(error) => return Err(Error::Call(error)),
                    }
                }
            }
        }
    }

    /// Counts failures in a row; `Err` when the worker must stop.
    fn judge(&self, ended: Result<()>, failures: u32) -> Result<u32> {
        let Err(error) = ended else { return Ok(0) };
        match error.fault() {
            Fault::Fenced => Ok(failures),
            Fault::Config | Fault::Corrupt | Fault::Bug => Err(error),
            Fault::Input | Fault::Unavailable if failures + 1 >= MOST_FAILURES => Err(error),
            Fault::Input | Fault::Unavailable => Ok(failures + 1),
        }
    }

    fn start(
        &self,
        shards: &mut JoinSet<Result<()>>,
        session: &SessionId,
        held: &HeldLeases,
        lease: Lease,
    ) {
        let lease_id = LeaseId::new(lease.lease_id.clone());
        let progress = held.hold(lease_id.clone());
        let work = ShardWork {
            calls: Arc::clone(&self.calls),
            stores: Arc::clone(&self.stores),
            pipeline: Arc::clone(&self.pipeline),
            session: session.clone(),
            progress,
        };
        let held = held.clone();
        shards.spawn(async move {
            let ended = work.run(lease).await;
            held.drop_lease(&lease_id);
            ended
        });
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("config", &self.config)
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

/// One lease from grant to its end.
struct ShardWork {
    calls: Arc<dyn WorkerCalls>,
    stores: Arc<Stores>,
    pipeline: Arc<Pipeline>,
    session: SessionId,
    progress: Arc<ShardProgress>,
}

impl ShardWork {
    async fn run(self, lease: Lease) -> Result<()> {
        let lease_id = LeaseId::new(lease.lease_id.clone());
        let suspects = lease.isolate_documents.clone();
        let abandoned = self.progress.abandoned.clone();
        let work = self.read_and_commit(lease);
        let ended = tokio::select! {
            () = abandoned.cancelled() => Err(Error::Fenced { lease_id: lease_id.to_string() }),
            ended = work => ended,
        };
        match ended {
            Ok(()) => Ok(()),
            Err(error) if error.fault() == Fault::Fenced => {
                tracing::info!(%lease_id, "shard dropped: somebody else has it now");
                Err(error)
            }
            Err(error) => {
                let message = chain(&error);
                tracing::error!(%lease_id, error = message, "shard failed");
                let fault = error.fault();
                let told = lease::fail(
                    &*self.calls,
                    &self.session,
                    &lease_id,
                    fault,
                    suspects,
                    message,
                );
                if let Err(error) = told.await {
                    tracing::warn!(%error, "the failure could not be reported; the lease expires");
                }
                Err(error)
            }
        }
    }

    async fn read_and_commit(&self, lease: Lease) -> Result<()> {
        let start = Instant::now();
        let job_id = JobId::new(lease.job_id.clone());
        let area = self.area(&lease.out, &job_id)?;
        let shard = Arc::new(Shard::open(lease, area, Arc::clone(&self.progress)).await?);
        tracing::info!(
            job_id = %shard.job_id, shard_idx = shard.shard_idx, lease_id = %shard.lease_id,
            rows = shard.n_rows, "shard taken"
        );
        self.progress.enter(LeaseStage::Reading);
        let (written, timings) = self.pipeline.read(&shard).await?;
        self.progress.enter(LeaseStage::Uploading);
        let upload_start = Instant::now();
        let part = self.pipeline.upload(&shard, &written).await?;
        let summary = &written.summary;
        let request = CommitRequest {
            lease_id: shard.lease_id.as_str().to_owned(),
            session_id: self.session.as_str().to_owned(),
            part: Some(part),
            n_rows: shard.n_rows,
            counts: Some(RowCounts {
                ok: summary.ok,
                failed: summary.failed,
                skipped: summary.skipped,
            }),
            timings: Some(ShardTimings {
                fetch_ms: 0,
                render_ms: millis(timings.render),
                infer_ms: millis(timings.infer),
                upload_ms: millis(upload_start.elapsed()),
                total_ms: millis(start.elapsed()),
            }),
            failures: written.failures.clone(),
        };
        lease::commit(&*self.calls, request)
            .await
            .map_err(|error| match error.fault {
                Fault::Fenced => Error::Fenced {
                    lease_id: shard.lease_id.to_string(),
                },
                _ => Error::Call(error),
            })
    }

    fn area(&self, out: &str, job_id: &JobId) -> Result<JobArea> {
        let location = self
            .stores
            .open_output(out)
            .map_err(|source| Error::Output {
                out: out.to_owned(),
                source,
            })?;
        let in_dataset = |source| Error::Part {
            key: out.to_owned(),
            source: Box::new(source),
        };
        let output = match &location.folder {
            Some(folder) => Output::open_local(folder).map_err(in_dataset)?,
            None => Output::remote(location.store, location.prefix),
        };
        output.job_area(job_id).map_err(in_dataset)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error with its sources, for logs and the coordinator's record.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
