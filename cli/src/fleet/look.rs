//! One look at a fleet: its jobs and its workers.

use quire_proto::v1::{GetJobRequest, Job, ListJobsRequest, ListWorkersRequest, Worker};
use quire_proto::{AdminCalls, CallError, JobCalls, Reason};

/// Jobs and workers at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// By node and name. `Err` says why they cannot be seen: who calls needs the role for it.
    pub workers: Result<Vec<Worker>, String>,
    /// When it was, by this machine's clock.
    pub at_ms: i64,
}

impl Look {
    /// The workers, or none if they cannot be seen.
    pub(crate) fn workers(&self) -> &[Worker] {
        self.workers.as_deref().unwrap_or_default()
    }
}

/// Most jobs that are asked for at once, and shown.
const MOST_JOBS: u32 = 200;

/// The newest jobs.
pub(crate) async fn jobs(calls: &dyn JobCalls) -> Result<Vec<Job>, CallError> {
    let request = ListJobsRequest {
        page_size: MOST_JOBS,
        page_token: String::new(),
    };
    Ok(calls.list_jobs(request).await?.jobs)
}

/// One job.
pub(crate) async fn job_of(calls: &dyn JobCalls, job_id: &str) -> Result<Job, CallError> {
    let request = GetJobRequest {
        job_id: job_id.to_owned(),
    };
    let response = calls.get_job(request).await?;
    response
        .job
        .ok_or_else(|| CallError::new(Reason::Internal, "the answer holds no job"))
}

/// All workers. Whoever owns jobs need not be allowed to see them: that is no error.
pub(crate) async fn workers(
    calls: &dyn AdminCalls,
) -> Result<Result<Vec<Worker>, String>, CallError> {
    match calls.list_workers(ListWorkersRequest {}).await {
        Ok(response) => Ok(Ok(response.workers)),
        Err(error) if error.reason == Reason::RoleMissing => Ok(Err(error.message)),
        Err(error) => Err(error),
    }
}
