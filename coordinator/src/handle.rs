//! The handle of a coordinator: the calls of workers and of owners of jobs.

use std::sync::Arc;

use quire_core::{JobId, JobSpec, PlannedDocument};
use quire_dataset::Output;
use quire_proto::v1;
use tokio::sync::watch::Receiver;

use crate::caller::{Caller, Role};
use crate::error::Result;
use crate::progress;
use crate::shared::Shared;
use crate::store::JobRecord;
use crate::submit::{self, Submission, Submitted};

pub(crate) use job_calls::fault_message;

mod admin_calls;
mod dataset_calls;
mod job_calls;
mod timed;
mod watch;
mod worker_calls;

/// The way to a coordinator in this process; a cheap clone.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Caller,
}

impl CoordinatorHandle {
    /// The same coordinator for somebody else: every call is checked against what `caller` may
    /// do. A handle starts out for [`Caller::local`].
    pub fn on_behalf_of(&self, caller: Caller) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            caller,
        }
    }

    /// For whom this handle makes its calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Takes a job for the dataset at `out`, or goes on with the unfinished one that asks for
    /// the same.
    ///
    /// # Errors
    /// When another job of this dataset is not finished, or something outside fails.
    pub async fn submit(&self, out: &str, spec: &JobSpec) -> Result<Submitted> {
        submit::submit(&self.shared, &self.submission(out, spec)).await
    }

    /// Takes a job whose plan the caller made, as for a retry. If the job is known already, the
    /// plan that it has counts.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub async fn submit_planned(
        &self,
        out: &str,
        spec: &JobSpec,
        lines: Vec<PlannedDocument>,
    ) -> Result<Submitted> {
        let submission = Submission {
            lines: Some(lines),
            ..self.submission(out, spec)
        };
        submit::submit(&self.shared, &submission).await
    }

    /// Makes the jobs of the dataset at `out` known to a database that has lost them, from
    /// `job.json`, plan and manifests beside the dataset; which ones it was. The service then
    /// goes on with the newest: what its manifests list is done, the rest is done again. Earlier
    /// sessions and leases stay unknown, so that nothing of them can be committed.
    ///
    /// # Errors
    /// When the caller is no admin, or something outside fails.
    pub async fn recover(&self, out: &str) -> Result<Vec<JobId>> {
        self.caller.require(Role::Admin)?;
        let (out, output) = self.shared.output(out)?;
        let made_known = submit::recover(&self.shared, &out, &output).await?;
        self.shared.tick.notify_one();
        self.shared.work_waits().await;
        Ok(made_known)
    }

    /// A job with its progress.
    ///
    /// # Errors
    /// When there is no such job, or the store fails.
    pub async fn job(&self, job_id: &JobId) -> Result<v1::Job> {
        let record = self.known_job(job_id).await?;
        progress::message(&self.shared, &record).await
    }

    /// A job that the caller may see.
    async fn known_job(&self, job_id: &JobId) -> Result<JobRecord> {
        let job = self.shared.job(job_id).await?;
        self.caller
            .require_tenant(&job.tenant, &format!("job {job_id}"))?;
        Ok(job)
    }

    fn submission<'a>(&'a self, out: &'a str, spec: &'a JobSpec) -> Submission<'a> {
        Submission {
            out,
            spec,
            lines: None,
            caller: &self.caller,
            priority: 0,
        }
    }

    /// Whether calls over the network can be answered: not before the database was looked at, nor
    /// while it is away, nor once the server leaves.
    pub fn readiness(&self) -> Receiver<bool> {
        self.shared.is_ready.subscribe()
    }

    /// Uses `output` for the dataset at this canonical URI instead of opening it anew.
    pub fn use_output(&self, uri: &str, output: Output) {
        self.shared.use_output(uri, output);
    }
}
