//! `quire cancel`: gives up a job of the fleet, or the unfinished one of a dataset of this
//! machine, so that another one can start.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quire_coordinator::{Coordinator, CoordinatorConfig, CoordinatorHandle, RunState, Survey};
use quire_core::{Stage, SystemClock, Trouble, TroubleCode};
use quire_proto::JobCalls;
use quire_proto::v1::{CancelJobRequest, GetJobRequest, Job, ListJobsRequest};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::{CancelArgs, Target};
use crate::commands::run::seal_settings;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Nothing of a cancel takes longer: no page is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const PERIOD: Duration = Duration::from_millis(100);

/// Cancels a job of the fleet, or the unfinished one of a dataset of this machine.
pub(crate) async fn execute(context: &Context, args: CancelArgs) -> Outcome<()> {
    match args.target {
        Target::Job(job_id) => super::control::cancel(context, job_id, args.reason).await,
        Target::Dataset(out) => cancel_local(context, &out, args.reason).await,
    }
}

async fn cancel_local(context: &Context, out: &str, reason: Option<String>) -> Outcome<()> {
    let dataset = context.open_dataset(out)?;
    let remote = context.state_folder();
    let clock = Arc::new(SystemClock::default());
    let state = RunState::open(&context.stores, out, &remote, clock);
    let state = state.await.map_err(Failure::of)?;
    let seal = seal_settings(
        context,
        &dataset,
        context.scratch_folder(&dataset, state.folder()),
    );
    let opened = Coordinator::open(
        CoordinatorConfig::one_machine(seal),
        state.store(),
        context.stores.clone(),
        Arc::new(NoSurvey),
    );
    let (service, handle) = opened.await.map_err(Failure::of)?;
    let canceled = match unfinished(&handle).await? {
        None => None,
        Some(job) => {
            let request = CancelJobRequest {
                job_id: job.job_id.clone(),
                reason: reason.unwrap_or_else(|| "canceled by its owner".to_owned()),
            };
            handle.cancel_job(request).await.map_err(Failure::of)?;
            let tasks = TaskTracker::new();
            let done = CancellationToken::new();
            let service = tasks.spawn(service.run(done.clone()));
            let waited = tokio::time::timeout(PATIENCE, until_final(&handle, &job.job_id)).await;
            done.cancel();
            drop(service.await);
            waited.map_err(|_| Failure::failed("the job does not end"))??;
            Some(job.job_id)
        }
    };
    state.close().await;
    if context.json {
        return output::print_json(&json!({ "out": dataset.name, "canceled": canceled }));
    }
    output::print(&match canceled {
        Some(job_id) => format!("Job {job_id} is given up.\n"),
        None => "No job of this dataset is unfinished.\n".to_owned(),
    })
}

async fn unfinished(handle: &CoordinatorHandle) -> Outcome<Option<Job>> {
    let request = ListJobsRequest {
        page_size: 1,
        ..ListJobsRequest::default()
    };
    let jobs = handle.list_jobs(request).await.map_err(Failure::of)?.jobs;
    Ok(jobs.into_iter().find(|job| !job.state().is_final()))
}

async fn until_final(handle: &CoordinatorHandle, job_id: &str) -> Outcome<()> {
    loop {
        let request = GetJobRequest {
            job_id: job_id.to_owned(),
        };
        let job = handle.get_job(request).await.map_err(Failure::of)?.job;
        if job.is_none_or(|job| job.state().is_final()) {
            return Ok(());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// A job that is given up is not planned: nothing is opened.
#[derive(Debug)]
struct NoSurvey;

#[async_trait]
impl Survey for NoSurvey {
    async fn count_pages(&self, _: Bytes, _: &str) -> Result<u32, Trouble> {
        Err(Trouble::new(
            Stage::Open,
            TroubleCode::Other,
            "the job is given up",
        ))
    }
}
