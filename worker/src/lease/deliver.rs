//! A finished shard's way out: its part is stored, then committed. While object storage or the
//! coordinator is away the shard is held back on this machine's disk, and tried again for as long
//! as the lease may still be live.

use std::sync::Arc;
use std::time::Duration;

use quire_core::{Fault, Faulty, chain};
use quire_proto::v1::{CommitRequest, Part, RowCounts, ShardTimings};
use quire_proto::{CallError, Reason};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::progress::Stop;
use super::work::LeaseWork;
use crate::error::{Error, Result};
use crate::metrics;
use crate::pipeline::{Shard, Timings, WrittenPart, upload};
use crate::storage::Failing;

/// A shard whose part is on this machine's disk.
pub(super) struct Finished {
    pub(super) shard: Arc<Shard>,
    pub(super) written: WrittenPart,
    pub(super) timings: Timings,
    /// When its reading began.
    pub(super) since: Instant,
    /// The places it takes among the shards worked on and among the finished ones.
    pub(super) _places: [OwnedSemaphorePermit; 2],
}

/// Times that a part is stored anew because the coordinator does not find it.
const STORED_ANEW: u32 = 1;

impl LeaseWork {
    /// Stores and commits a finished shard.
    pub(super) async fn deliver(&self, finished: Finished) -> Result<()> {
        let mut held_back = None;
        let mut anew = 0;
        loop {
            let start = Instant::now();
            let part = self.upload(&finished, &mut held_back).await?;
            let took = start.elapsed();
            let request = self.commit_request(&finished, part, took);
            match self.commit(&finished, request, &mut held_back).await {
                Err(Error::Call(error))
                    if error.reason == Reason::PartMissing
                        && anew < STORED_ANEW
                        && finished.written.file.path().exists() =>
                {
                    tracing::warn!(%error, "the part is gone from the store, storing it anew");
                    anew += 1;
                }
                ended => return ended,
            }
        }
    }

    /// Stores the part, however often it takes.
    async fn upload(&self, finished: &Finished, held_back: &mut Option<Failing>) -> Result<Part> {
        let shard = &finished.shard;
        let mut backoff = Backoff::of_transfers(shard.lease_id.as_str());
        let start = Instant::now();
        loop {
            let stored = tokio::select! {
                biased;
                () = self.progress.stopped() => return drop_unsent(shard).await,
                stored = upload::upload(shard, &finished.written) => stored,
            };
            let error = match stored {
                Ok(part) => {
                    self.shared.storage.answered();
                    return Ok(part);
                }
                Err(error) => error,
            };
            if error.fault() != Fault::Unavailable || self.is_out_of_patience(start) {
                return Err(error);
            }
            self.hold_back(held_back, &error);
            tokio::select! {
                () = self.progress.stopped() => return drop_unsent(shard).await,
                () = tokio::time::sleep(backoff.pause()) => {}
            }
        }
    }

    /// Commits the part. Once a commit is on its way only an answer ends this, or the worker
    /// leaves: the coordinator may have accepted it, whatever became of the reply.
    async fn commit(
        &self,
        finished: &Finished,
        request: CommitRequest,
        held_back: &mut Option<Failing>,
    ) -> Result<()> {
        let shard = &finished.shard;
        let mut backoff = Backoff::of_calls(shard.lease_id.as_str());
        let start = Instant::now();
        // Whether no earlier commit may have been accepted without our hearing of it.
        let mut is_first = true;
        loop {
            if !self.may_commit(is_first).await {
                return drop_unsent(shard).await;
            }
            // Carried once: repeating it is for this loop.
            let error = match self.shared.calls.commit(request.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            metrics::call_error("commit", &error);
            if let Some(dropped) = dropped(shard, &error) {
                if is_first {
                    upload::remove(shard).await;
                }
                return Err(dropped);
            }
            is_first = false;
            if !self.will_pass(&error, start) {
                return Err(Error::Call(error));
            }
            self.hold_back(held_back, &error);
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Waits until a commit makes sense: while the session is uncertain none is sent. False if
    /// the shard is to be dropped, which it is only while no commit is on its way.
    async fn may_commit(&self, is_first: bool) -> bool {
        let certain = self.session.certain();
        if !is_first {
            certain.await;
            return true;
        }
        tokio::select! {
            biased;
            () = certain => {}
            () = self.progress.stopped() => {}
        }
        // Of a session that is over the lease may live on: one commit finds out.
        matches!(self.progress.why_stopped(), None | Some(Stop::SessionLost))
    }

    /// Whether trouble with the coordinator is worth waiting out.
    fn will_pass(&self, error: &CallError, start: Instant) -> bool {
        let is_of_fleet = self.shared.config.is_of_fleet();
        let passes =
            error.fault == Fault::Unavailable || (is_of_fleet && error.reason == Reason::Internal);
        passes && !self.is_out_of_patience(start)
    }

    pub(super) fn is_out_of_patience(&self, start: Instant) -> bool {
        let patience = self.shared.config.patience;
        patience.is_some_and(|patience| start.elapsed() >= patience)
    }

    /// Counts the shard among those that wait for the world outside, and says so once.
    fn hold_back(&self, held_back: &mut Option<Failing>, error: &dyn std::error::Error) {
        if held_back.is_none() {
            let error = chain(error);
            tracing::warn!(
                error,
                "a finished shard cannot be delivered; it is held back"
            );
            *held_back = Some(self.shared.storage.hold_back());
        }
    }

    fn commit_request(&self, finished: &Finished, part: Part, upload: Duration) -> CommitRequest {
        let Finished {
            shard,
            written,
            timings,
            since,
            ..
        } = finished;
        let summary = &written.summary;
        CommitRequest {
            lease_id: shard.lease_id.as_str().to_owned(),
            session_id: self.session.id.as_str().to_owned(),
            part: Some(part),
            n_rows: shard.n_rows,
            counts: Some(RowCounts {
                ok: summary.ok,
                failed: summary.failed,
                skipped: summary.skipped,
            }),
            timings: Some(ShardTimings {
                fetch_ms: millis(timings.fetch),
                render_ms: millis(timings.render),
                infer_ms: millis(timings.infer),
                upload_ms: millis(upload),
                total_ms: millis(since.elapsed()),
            }),
            failures: written.failures.clone(),
        }
    }
}

/// What a refused commit makes of the shard: somebody else has it, or nobody wants it any more.
fn dropped(shard: &Shard, error: &CallError) -> Option<Error> {
    match error.reason {
        Reason::JobNotRunning | Reason::JobUnknown => Some(Error::JobEnded {
            key: shard.part_key.clone(),
            source: error.clone(),
        }),
        _ if error.fault == Fault::Fenced => Some(Error::Fenced {
            lease_id: shard.lease_id.to_string(),
        }),
        _ => None,
    }
}

/// Gives a part up before anybody was told of it.
async fn drop_unsent<T>(shard: &Shard) -> Result<T> {
    upload::remove(shard).await;
    Err(Error::Fenced {
        lease_id: shard.lease_id.to_string(),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
