//! One lease from grant to its end: its plan and inputs are fetched, its pages read, its part
//! delivered. Whatever happens to one shard stays with that shard.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use quire_core::{Fault, Faulty, JobId, LeaseId, chain};
use quire_corpus::Stores;
use quire_dataset::{JobArea, Output};
use quire_proto::WorkerCalls;
use quire_proto::v1::{Lease, LeaseStage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::Instrument;

use super::backoff::Backoff;
use super::complete::{self, Failure};
use super::deliver::Finished;
use super::progress::Stop;
use super::{Session, ShardProgress};
use crate::config::WorkerConfig;
use crate::error::{Error, Result};
use crate::metrics;
use crate::pipeline::{FetchedObjects, Pipeline, Shard};
use crate::status::StatusBoard;
use crate::storage::Storage;

/// Finished shards on this machine's disk at once: those that are being delivered, and those
/// held back because something outside is away.
const MOST_FINISHED: usize = 2;

/// From this attempt on an input that cannot be fetched is a failed row: by then it is the
/// object, and not an outage.
const ATTEMPTS_FOR_INPUTS: u32 = 4;

/// What all leases of a worker share.
pub(crate) struct Shared {
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) calls: Arc<dyn WorkerCalls>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) pipeline: Pipeline,
    pub(crate) storage: Storage,
    pub(crate) board: StatusBoard,
    /// Shards that are worked on.
    slots: Arc<Semaphore>,
    /// Of them, finished ones.
    finished: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(
        config: Arc<WorkerConfig>,
        calls: Arc<dyn WorkerCalls>,
        stores: Arc<Stores>,
        pipeline: Pipeline,
        storage: Storage,
        board: StatusBoard,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(config.slots));
        Self {
            config,
            calls,
            stores,
            pipeline,
            storage,
            board,
            slots,
            finished: Arc::new(Semaphore::new(MOST_FINISHED)),
        }
    }
}

/// How a lease ended.
#[derive(Debug)]
pub(crate) enum End {
    Committed,
    /// Somebody else has the shard, or nobody wants it any more.
    Fenced,
    /// Given back undone because the worker leaves.
    GivenBack,
    Failed(Error),
}

impl End {
    fn as_str(&self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Fenced => "fenced",
            Self::GivenBack => "released",
            Self::Failed(_) => "failed",
        }
    }
}

/// One lease.
pub(crate) struct LeaseWork {
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Arc<Session>,
    pub(crate) progress: Arc<ShardProgress>,
}

impl LeaseWork {
    /// Carries the lease to its end, and tells the coordinator what came of it.
    pub(crate) async fn run(self, lease: Lease) -> End {
        let span = tracing::info_span!(
            "lease",
            job_id = lease.job_id,
            shard_idx = lease.shard_idx,
            lease_id = lease.lease_id,
            epoch = lease.epoch,
            traceparent = lease.traceparent,
        );
        let traceparent = lease.traceparent.clone();
        let work = quire_proto::with_traceparent(&traceparent, self.carry(lease));
        work.instrument(span).await
    }

    async fn carry(self, lease: Lease) -> End {
        let lease_id = LeaseId::new(lease.lease_id.clone());
        let isolated = lease.isolate_documents.clone();
        let attempt = AssertUnwindSafe(self.attempt(lease)).catch_unwind();
        let ended = match attempt.await {
            Ok(ended) => ended,
            Err(panic) => Err(Error::Bug(format!(
                "the work on a shard panicked: {}",
                words_of(&*panic)
            ))),
        };
        let end = match ended {
            Ok(()) => End::Committed,
            Err(error) if error.fault() == Fault::Fenced => self.dropped(&lease_id, &error).await,
            Err(error) => self.failed(&lease_id, isolated, error).await,
        };
        ::metrics::counter!("quire_worker_shards_total", "end" => end.as_str()).increment(1);
        end
    }

    async fn attempt(&self, lease: Lease) -> Result<()> {
        let lease_id = lease.lease_id.clone();
        let finished = tokio::select! {
            biased;
            () = self.progress.stopped() => return Err(Error::Fenced { lease_id }),
            finished = self.read(lease) => finished?,
        };
        self.deliver(finished).await
    }

    async fn dropped(&self, lease_id: &LeaseId, error: &Error) -> End {
        if self.progress.why_stopped() != Some(Stop::GiveBack) {
            tracing::info!(reason = chain(error), "shard dropped");
            return End::Fenced;
        }
        let ids = vec![lease_id.as_str().to_owned()];
        let calls = &*self.shared.calls;
        let told = complete::release(calls, &self.session.id, ids, "the worker leaves", false);
        if let Err(error) = told.await {
            tracing::debug!(%error, "the shard is given back with the session");
        }
        End::GivenBack
    }

    async fn failed(&self, lease_id: &LeaseId, isolated: Vec<String>, error: Error) -> End {
        let message = chain(&error);
        tracing::error!(error = message, "shard failed");
        let mut suspects: Vec<String> = error
            .suspect()
            .map(|doc_id| doc_id.as_str().to_owned())
            .into_iter()
            .collect();
        if suspects.is_empty() {
            suspects = self.progress.in_flight();
        }
        if suspects.is_empty() {
            suspects = isolated;
        }
        let failure = Failure {
            fault: error.fault_of_shard(),
            suspects,
            message,
        };
        let (calls, session) = (&*self.shared.calls, &self.session);
        let told = complete::fail(calls, &session.id, lease_id, failure, session.ttl());
        if let Err(error) = told.await {
            tracing::warn!(%error, "the failure could not be reported; the lease expires");
        }
        End::Failed(error)
    }

    /// From the grant to a part on this machine's disk.
    async fn read(&self, lease: Lease) -> Result<Finished> {
        let epoch = lease.epoch;
        let shard = Arc::new(self.open(lease).await?);
        tracing::debug!(rows = shard.n_rows, "shard taken");
        let (slot, fetched) = self.wait_for_slot(&shard).await?;
        // Waiting behind other shards says nothing of the pace of reading.
        let since = Instant::now();
        tracing::info!(
            rows = shard.n_rows,
            n_fetched = fetched.n_objects(),
            "shard is read"
        );
        self.progress.enter(LeaseStage::Reading);
        let outage_is_error = self.shared.config.is_of_fleet() && epoch < ATTEMPTS_FOR_INPUTS;
        let fetched = Arc::new(fetched);
        let reading = self.shared.pipeline.read(&shard, &fetched, outage_is_error);
        let (rows, mut timings) = reading.await?;
        timings.fetch += fetched.spent;
        // The copies are not needed any more.
        drop(fetched);
        // From here on it waits for nothing but the way out.
        self.progress.enter(LeaseStage::Uploading);
        let place = acquire(&self.shared.finished).await?;
        let written = self.shared.pipeline.write(&shard, rows).await?;
        Ok(Finished {
            shard,
            written,
            timings,
            since,
            _places: [slot, place],
        })
    }

    /// Reads the plan, for as long as it takes: nothing can be done without it.
    async fn open(&self, lease: Lease) -> Result<Shard> {
        let start = Instant::now();
        let mut backoff = Backoff::of_transfers(&lease.lease_id);
        let mut failing = None;
        loop {
            let error = match self.try_open(lease.clone()).await {
                Ok(shard) => {
                    self.shared.storage.answered();
                    return Ok(shard);
                }
                Err(error) => error,
            };
            if error.fault() != Fault::Unavailable || self.is_out_of_patience(start) {
                return Err(error);
            }
            metrics::store_error("plan");
            if failing.is_none() {
                tracing::warn!(
                    error = chain(&error),
                    "the plan cannot be read, trying again"
                );
                failing = Some(self.shared.storage.transfer_fails());
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    async fn try_open(&self, lease: Lease) -> Result<Shard> {
        let job_id = JobId::new(lease.job_id.clone());
        let area = self.area(&lease.out, &job_id)?;
        Shard::open(lease, area, Arc::clone(&self.progress)).await
    }

    /// Waits for a turn, and meanwhile fetches the objects that will be opened then.
    async fn wait_for_slot(
        &self,
        shard: &Arc<Shard>,
    ) -> Result<(OwnedSemaphorePermit, FetchedObjects)> {
        let mut fetched = FetchedObjects::default();
        let slots = &self.shared.slots;
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return Ok((slot, fetched));
        }
        let turn = acquire(slots);
        tokio::pin!(turn);
        if self.shared.config.prefetch > 0 {
            let fetching = self.shared.pipeline.fetch(shard, &mut fetched);
            tokio::select! {
                slot = &mut turn => return Ok((slot?, fetched)),
                () = fetching => {}
            }
        }
        Ok((turn.await?, fetched))
    }

    fn area(&self, out: &str, job_id: &JobId) -> Result<JobArea> {
        let opened = self.shared.stores.open_output(out);
        let location = opened.map_err(|source| Error::Output {
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

async fn acquire(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let place = Arc::clone(places).acquire_owned().await;
    place.map_err(|_| Error::Bug("the semaphore is never closed".into()))
}

/// What a panic said.
pub(crate) fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned());
    words
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say why".to_owned())
}
