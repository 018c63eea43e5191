//! The handle of a coordinator: the calls of workers and of owners of jobs.

use std::sync::Arc;

use quire_core::{JobId, JobSpec, PlannedDocument};
use quire_dataset::Output;
use quire_proto::v1;

use crate::error::Result;
use crate::progress;
use crate::shared::Shared;
use crate::submit::{self, Submitted};

pub(crate) use job_calls::fault_message;

mod job_calls;
mod worker_calls;

/// The way to a coordinator in this process; a cheap clone.
#[derive(Debug, Clone)]
pub struct CoordinatorHandle {
    pub(crate) shared: Arc<Shared>,
}

impl CoordinatorHandle {
    /// Takes a job for the dataset at `out`, or goes on with the unfinished one that asks for
    /// the same.
    ///
    /// # Errors
    /// When another job of this dataset is not finished, or something outside fails.
    pub async fn submit(&self, out: &str, spec: &JobSpec) -> Result<Submitted> {
        submit::submit(&self.shared, out, spec, None).await
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
        submit::submit(&self.shared, out, spec, Some(lines)).await
    }

    /// A job with its progress.
    ///
    /// # Errors
    /// When there is no such job, or the store fails.
    pub async fn job(&self, job_id: &JobId) -> Result<v1::Job> {
        progress::job(&self.shared, job_id).await
    }

    /// Uses `output` for the dataset at this canonical URI instead of opening it anew.
    pub fn use_output(&self, uri: &str, output: Output) {
        self.shared.use_output(uri, output);
    }
}
