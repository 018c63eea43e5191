//! `quire recover`: a new database from what lies beside a dataset, after the old one is lost.
//! Job, plan and manifests are all that is needed; what was done after the last manifest is done
//! again.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quire_coordinator::{Coordinator, CoordinatorHandle};
use quire_core::{Clock, JobId, SystemClock};
use quire_proto::v1::{Job, JobState};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::coordinator::{self, store};
use super::run::parts::{self, RenderSurvey};
use crate::args::RecoverArgs;
use crate::context::{Context, Dataset};
use crate::failure::{Failure, Outcome};
use crate::fleet::{pages_done, state_name};
use crate::output::{self, counted, grouped};

/// Between looks at a job that is made known again.
const PERIOD: Duration = Duration::from_millis(200);
const LEAVE_TIME: Duration = Duration::from_secs(30);

/// A job that the database knows now.
struct Recovered {
    job: Job,
    /// Its plan was never finished: it is drawn up anew.
    is_unplanned: bool,
}

/// Makes the jobs of a dataset known to the database of the settings.
pub(crate) async fn execute(context: &Context, args: RecoverArgs) -> Outcome<ExitCode> {
    let dataset = context.open_dataset(&args.out)?;
    let found = dataset.output.jobs().await.map_err(Failure::of)?;
    if found.is_empty() {
        let what = format!("no job lies beside {}", dataset.name);
        return Err(Failure::failed(what)
            .hint("OUT is the place that a job wrote to; its jobs lie beside it in OUT.quire"));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let opened = store::open(context, clock).await?;
    let renderer = parts::start_renderer(context.settings(), coordinator::SURVEY_ENTRIES).await?;
    let scratch = coordinator::Scratch::make(&context.settings().coordinator)?;
    let config = coordinator::config(context.settings(), &scratch, opened.is_alone());
    let survey = Arc::new(RenderSurvey(renderer));
    let started = Coordinator::open(config, opened.store(), context.stores.clone(), survey);
    let (service, handle) = started.await.map_err(Failure::of)?;
    let made_known = handle.recover(&dataset.uri).await.map_err(Failure::of)?;

    let tasks = TaskTracker::new();
    let end = CancellationToken::new();
    let service = tasks.spawn(service.run(end.clone()));
    let mut jobs = Vec::new();
    for job_id in &found {
        jobs.extend(settled(&handle, &dataset, job_id).await?);
    }
    end.cancel();
    drop(tokio::time::timeout(LEAVE_TIME, service).await);
    let name = opened.name();
    opened.close().await;
    tell(context, &name, &dataset, &made_known, &jobs)?;
    Ok(ExitCode::SUCCESS)
}

/// The job as soon as its plan and its manifests are in the database.
async fn settled(
    handle: &CoordinatorHandle,
    dataset: &Dataset,
    job_id: &JobId,
) -> Outcome<Option<Recovered>> {
    let area = dataset.output.job_area(job_id).map_err(Failure::of)?;
    let is_planned = area.plan_index().await.map_err(Failure::of)?.is_some();
    loop {
        let job = match handle.job(job_id).await {
            Ok(job) => job,
            // Two submissions raced once, and this one never became a job.
            Err(quire_coordinator::Error::JobUnknown { .. }) => return Ok(None),
            Err(error) => return Err(Failure::of(error)),
        };
        if job.state() != JobState::Planning || !is_planned {
            let is_unplanned = job.state() == JobState::Planning;
            return Ok(Some(Recovered { job, is_unplanned }));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn tell(
    context: &Context,
    store: &str,
    dataset: &Dataset,
    made_known: &[JobId],
    jobs: &[Recovered],
) -> Outcome<()> {
    let is_new = |job: &Job| made_known.iter().any(|known| known.as_str() == job.job_id);
    if context.json {
        let jobs = jobs.iter().map(|Recovered { job, is_unplanned }| {
            json!({
                "job_id": job.job_id,
                "made_known": is_new(job),
                "state": state_name(job.state()),
                "rows_planned": job.rows_planned,
                "rows_done": pages_done(job),
                "last_manifest": job.last_manifest,
                "sealed_version": job.sealed_version,
                "planned_anew": is_unplanned,
            })
        });
        let jobs: Vec<_> = jobs.collect();
        return output::print_json(&json!({ "out": dataset.name, "store": store, "jobs": jobs }));
    }
    let mut text = format!("Jobs of {} in {store}:\n", dataset.name);
    for Recovered { job, is_unplanned } in jobs {
        let known = if is_new(job) {
            ""
        } else {
            "  (was known already)"
        };
        let (id, state) = (&job.job_id, state_name(job.state()));
        let facts = facts(job, *is_unplanned);
        text.push_str(&format!("  {id}  {state:<9} {facts}{known}\n"));
    }
    text.push_str(&format!(
        "`quire coordinator --store {store}` goes on with what is unfinished.\n"
    ));
    output::print(&text)
}

fn facts(job: &Job, is_unplanned: bool) -> String {
    if is_unplanned {
        return "its plan was not finished, and is drawn up anew".to_owned();
    }
    match (job.state(), job.sealed_version) {
        (_, version) if version > 0 => format!("version {version}"),
        (JobState::Done | JobState::Canceled, _) => String::new(),
        _ => format!(
            "{} of {} pages are safe in {}",
            grouped(pages_done(job)),
            grouped(job.rows_planned),
            counted(job.last_manifest, "manifest", "manifests"),
        ),
    }
}
