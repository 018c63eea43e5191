//! Follows a job to its end: asks where it stands and shows it.

use std::sync::Arc;
use std::time::Duration;

use quire_core::{Clock, Fault};
use quire_proto::v1::{GetJobRequest, Job};
use quire_proto::{CallError, JobCalls};

use crate::failure::{Failure, Outcome};
use crate::progress::{Phase, Progress, Snapshot};

/// Between looks: a run of a few pages should not wait for the look that finds it done.
const PERIOD: Duration = Duration::from_millis(100);

/// A job that is being watched.
pub(crate) struct Watch {
    pub calls: Arc<dyn JobCalls>,
    pub job_id: String,
    pub clock: Arc<dyn Clock>,
    /// The coordinator is another process: it may be away for a while, and asking costs more.
    pub is_remote: bool,
}

/// Between looks over a network.
const REMOTE_PERIOD: Duration = Duration::from_secs(2);

impl Watch {
    /// Where the job stands.
    pub(crate) async fn job(&self) -> Result<Job, CallError> {
        let request = GetJobRequest {
            job_id: self.job_id.clone(),
        };
        let response = self.calls.get_job(request).await?;
        response
            .job
            .ok_or_else(|| CallError::new(quire_proto::Reason::Internal, "the answer holds no job"))
    }

    /// Looks once and shows it.
    pub(crate) async fn look(&self, progress: &mut Progress) -> Outcome<Snapshot> {
        let job = self.job().await.map_err(Failure::of)?;
        let snapshot = Snapshot::from(&job);
        progress.update(self.clock.monotonic(), &snapshot)?;
        Ok(snapshot)
    }

    /// As [`Self::look`]; waits while a coordinator elsewhere is away.
    async fn look_patiently(&self, progress: &mut Progress) -> Outcome<Snapshot> {
        loop {
            match self.job().await {
                Ok(job) => {
                    let snapshot = Snapshot::from(&job);
                    progress.update(self.clock.monotonic(), &snapshot)?;
                    return Ok(snapshot);
                }
                Err(error) if self.is_remote && error.fault == Fault::Unavailable => {
                    tracing::warn!("the coordinator is away, and asked again: {error}");
                    tokio::time::sleep(self.period()).await;
                }
                Err(error) => return Err(Failure::of(error)),
            }
        }
    }

    fn period(&self) -> Duration {
        if self.is_remote {
            REMOTE_PERIOD
        } else {
            PERIOD
        }
    }

    /// Shows the job until it is done, stopped or paused.
    pub(crate) async fn until_end(&self, progress: &mut Progress) -> Outcome<Snapshot> {
        loop {
            let snapshot = self.look_patiently(progress).await?;
            match snapshot.phase {
                Phase::Done | Phase::Stopped | Phase::Paused => return Ok(snapshot),
                Phase::Planning | Phase::Reading | Phase::Sealing => {}
            }
            tokio::time::sleep(self.period()).await;
        }
    }
}
