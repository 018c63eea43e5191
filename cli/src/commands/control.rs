//! `quire pause`, `resume`, `cancel JOB` and `retry JOB`: what the owner of a job may say while
//! it is under way.

use quire_proto::JobCalls;
use quire_proto::v1::{
    CancelJobRequest, JobState, PauseJobRequest, RequeueQuarantinedRequest, ResumeJobRequest,
};
use serde_json::json;

use crate::args::{JobArgs, ResumeArgs};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::fleet::{self, Fleet};
use crate::output::{self, counted};

/// Hands out nothing more of a job.
pub(crate) async fn pause(context: &Context, args: JobArgs) -> Outcome<()> {
    let fleet = Fleet::connect(context).await?;
    let request = PauseJobRequest {
        job_id: args.job.clone(),
        reason: reason(args.reason, "paused by its owner"),
    };
    let paused = fleet.client.pause_job(request).await;
    paused.map_err(|error| fleet.refused(error))?;
    tell(
        context,
        &args.job,
        "paused",
        "is paused: what is handed out is finished, nothing more is",
    )
}

/// Goes on with a job.
pub(crate) async fn resume(context: &Context, args: ResumeArgs) -> Outcome<()> {
    let fleet = Fleet::connect(context).await?;
    let request = ResumeJobRequest {
        job_id: args.job.clone(),
    };
    let resumed = fleet.client.resume_job(request).await;
    resumed.map_err(|error| fleet.refused(error))?;
    tell(context, &args.job, "resumed", "goes on")
}

/// Gives a job of the fleet up.
pub(crate) async fn cancel(context: &Context, job_id: String, why: Option<String>) -> Outcome<()> {
    let fleet = Fleet::connect(context).await?;
    let request = CancelJobRequest {
        job_id: job_id.clone(),
        reason: reason(why, "canceled by its owner"),
    };
    let canceled = fleet.client.cancel_job(request).await;
    canceled.map_err(|error| fleet.refused(error))?;
    tell(
        context,
        &job_id,
        "canceled",
        "is given up: workers are told to drop its shards, and no version is written",
    )
}

/// Gives the rows that a job gave up another chance, and lets it go on.
pub(crate) async fn requeue(context: &Context, job_id: &str) -> Outcome<()> {
    let fleet = Fleet::connect(context).await?;
    let refused = |error| fleet.refused(error);
    let request = RequeueQuarantinedRequest {
        job_id: job_id.to_owned(),
        shard_idxs: Vec::new(),
    };
    let requeued = fleet.client.requeue_quarantined(request).await;
    let requeued = requeued.map_err(refused)?;
    let job = fleet::job_of(&fleet.client, job_id)
        .await
        .map_err(refused)?;
    let goes_on = matches!(job.state(), JobState::Paused | JobState::Failed);
    if goes_on {
        let request = ResumeJobRequest {
            job_id: job_id.to_owned(),
        };
        fleet.client.resume_job(request).await.map_err(refused)?;
    }
    if context.json {
        return output::print_json(&json!({
            "job_id": job_id,
            "rows": requeued.rows,
            "rows_listed": requeued.rows_listed,
            "resumed": goes_on,
        }));
    }
    let rows = counted(requeued.rows, "page waits", "pages wait");
    let resumed = if goes_on { ", and the job goes on" } else { "" };
    output::print(&format!("{rows} for a worker again{resumed}.\n"))?;
    if requeued.rows_listed > 0 {
        let listed = counted(requeued.rows_listed, "page is", "pages are");
        output::tell(&format!(
            "{listed} published as given up already: when the job is done, \
             `quire retry OUT --where \"...\"` reads them into the next version.\n"
        ));
    }
    Ok(())
}

/// A flag that belongs to the other kind of target.
pub(crate) fn not_for_jobs(flag: &str) -> Failure {
    Failure::usage(format!(
        "`{flag}` is for datasets, and this is a job of the fleet"
    ))
    .hint("a folder whose name looks like a job is written ./j-...")
}

fn reason(given: Option<String>, default: &str) -> String {
    given.unwrap_or_else(|| default.to_owned())
}

fn tell(context: &Context, job_id: &str, done: &str, text: &str) -> Outcome<()> {
    if context.json {
        return output::print_json(&json!({ "job_id": job_id, "done": done }));
    }
    output::print(&format!("Job {job_id} {text}.\n"))
}
