//! `quire submit`: gives a job to the fleet. Its identifier, alone on a line, is all that goes to
//! standard output.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use quire_core::{Clock, JobSpec, SystemClock};
use quire_corpus::Address;
use quire_proto::JobCalls;
use quire_proto::v1::{CreateJobOutcome, CreateJobRequest, UpdateJobRequest};
use serde_json::json;

use super::run::{self, Ran, Watch, audience, inputs, parts};
use crate::args::SubmitArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Fleet, shown};
use crate::output;
use crate::place;
use crate::progress::{Phase, Progress, Snapshot};
use crate::settings::{JobFile, Settings, is_job_file, set};
use crate::signals;

/// What is asked for.
struct Asked {
    spec: JobSpec,
    out: String,
    priority: Option<i32>,
}

/// What became of it.
struct Taken {
    job_id: String,
    is_resumed: bool,
}

/// Gives the job to the fleet; with `--wait` follows it to its end.
pub(crate) async fn execute(context: &Context, args: SubmitArgs) -> Outcome<ExitCode> {
    let wait = args.wait;
    let asked = asked(context, args).await?;
    warn_of_local_paths(context, &asked);
    let fleet = Fleet::connect(context).await?;
    let taken = submit(&fleet, &asked).await?;
    if context.json {
        output::print_json(&json!({
            "event": "submitted",
            "job_id": taken.job_id,
            "resumed": taken.is_resumed,
            "out": asked.out,
        }))?;
    } else {
        output::print(&format!("{}\n", taken.job_id))?;
    }
    if taken.is_resumed {
        tracing::info!("the fleet had this job already: it goes on");
    }
    if !wait {
        return Ok(ExitCode::SUCCESS);
    }
    follow(context, &fleet, &asked, taken).await
}

/// From the job's file or the command line, with paths and URIs as every node understands them.
async fn asked(context: &Context, args: SubmitArgs) -> Outcome<Asked> {
    let (job, settings) = said(context, &args)?;
    let typed = args.out.or(job.out).or_else(|| set(&settings.run.out));
    let out = typed.ok_or_else(|| {
        Failure::usage("no place for the dataset")
            .hint("name it with --out OUT, or with `out` in the job's file")
    })?;
    if job.inputs.is_empty() {
        let failure = Failure::usage("the job names no inputs");
        return Err(failure.hint("write inputs = [\"s3://bucket/prefix\", ...] into its file"));
    }
    let inputs = inputs::canonical(&job.inputs)?;
    place::keep_apart(&out, &inputs)?;
    let out = Address::parse(&out).map_err(Failure::of)?.uri();
    let engine = parts::engine_info(context, &settings).await?;
    Ok(Asked {
        spec: run::spec(&settings, inputs, engine),
        out: out.trim_end_matches('/').to_owned(),
        priority: args.priority.or(job.priority),
    })
}

fn said(context: &Context, args: &SubmitArgs) -> Outcome<(JobFile, Settings)> {
    match args.inputs.as_slice() {
        [file] if is_job_file(file) => {
            JobFile::read(Path::new(file), &context.loaded).map_err(Failure::of_settings)
        }
        inputs => {
            if let Some(file) = inputs.iter().find(|input| is_job_file(input)) {
                let what = format!("{file} is a job's file, and stands among inputs");
                return Err(Failure::usage(what)
                    .hint("a job's file stands alone: name all inputs in it, or none of them"));
            }
            let job = JobFile {
                inputs: inputs.to_vec(),
                out: None,
                priority: None,
            };
            Ok((job, context.settings().clone()))
        }
    }
}

/// A path of this machine may mean something else, or nothing, on another.
fn warn_of_local_paths(context: &Context, asked: &Asked) {
    if context.settings().fleet.is_on_this_machine() {
        return;
    }
    let is_local = |uri: &&String| !uri.trim_start_matches('@').contains("://") || is_file(uri);
    let mut local: Vec<&String> = asked.spec.inputs.iter().filter(is_local).collect();
    if is_file(&asked.out) {
        local.push(&asked.out);
    }
    if let Some(first) = local.first() {
        output::tell(&format!(
            "warning: {} is a local path: coordinator and workers must all find it, as on a \
             shared disk\n",
            shown(first)
        ));
    }
}

fn is_file(uri: &str) -> bool {
    uri.trim_start_matches('@').starts_with("file://")
}

async fn submit(fleet: &Fleet, asked: &Asked) -> Outcome<Taken> {
    let spec = serde_json::to_string(&asked.spec)
        .map_err(|error| Failure::from(anyhow::Error::new(error)))?;
    let request = CreateJobRequest {
        request_id: format!("submit-{}", std::process::id()),
        job_spec_json: spec,
        out: asked.out.clone(),
        priority: asked.priority.unwrap_or(0),
    };
    let created = fleet.client.create_job(request).await;
    let created = created.map_err(|error| fleet.refused(error))?;
    let is_resumed = created.outcome() == CreateJobOutcome::Resumed;
    if is_resumed && let Some(priority) = asked.priority {
        let request = UpdateJobRequest {
            job_id: created.job_id.clone(),
            priority: Some(priority),
        };
        let updated = fleet.client.update_job(request).await;
        updated.map_err(|error| fleet.refused(error))?;
    }
    Ok(Taken {
        job_id: created.job_id,
        is_resumed,
    })
}

/// The usual bar and exit code; Ctrl-C only stops looking.
async fn follow(
    context: &Context,
    fleet: &Fleet,
    asked: &Asked,
    taken: Taken,
) -> Outcome<ExitCode> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let started = clock.monotonic();
    let mut progress = Progress::new(audience(context), &context.screen, taken.is_resumed);
    let watch = Watch {
        calls: Arc::new(fleet.client.clone()),
        job_id: taken.job_id.clone(),
        clock: Arc::clone(&clock),
        is_remote: true,
    };
    let ended = tokio::select! {
        ended = watch.until_end(&mut progress) => Some(ended?),
        () = signals::next() => None,
    };
    let read = progress.finish();
    let Some(snapshot) = ended else {
        let job_id = &taken.job_id;
        output::tell(&format!(
            "The job goes on without you: `quire status {job_id} --watch` looks again.\n"
        ));
        return Ok(ExitCode::FAILURE);
    };
    let seconds = clock.monotonic().saturating_sub(started);
    let ran = Ran { seconds, read };
    tell_end(context, asked, &taken, &progress, snapshot, ran).await
}

async fn tell_end(
    context: &Context,
    asked: &Asked,
    taken: &Taken,
    progress: &Progress,
    snapshot: Snapshot,
    ran: Ran,
) -> Outcome<ExitCode> {
    let job_id = &taken.job_id;
    match snapshot.phase {
        Phase::Paused => {
            let what = format!("job {job_id} is paused: {}", snapshot.reason);
            return Err(Failure::failed(what).hint(format!("`quire resume {job_id}` goes on")));
        }
        Phase::Stopped => {
            let what = format!("job {job_id} stopped: {}", snapshot.reason);
            return Err(Failure::of_fault(snapshot.fault, what)
                .hint(format!("`quire status {job_id}` says more")));
        }
        _ => {}
    }
    // Whoever submits need not be able to read what is written.
    let seen = match context.open_dataset(&asked.out) {
        Ok(dataset) => run::finished(context, &dataset, progress, &snapshot, ran).await,
        Err(failure) => Err(failure),
    };
    match seen {
        Ok((text, code)) => {
            output::tell(&text);
            Ok(code)
        }
        Err(failure) => {
            let why = failure.message();
            tracing::debug!("the dataset cannot be read from here: {why}");
            output::tell(&format!("Job {job_id} is done: {}\n", shown(&asked.out)));
            Ok(run::judge(context, &snapshot))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_paths_are_told_from_uris() {
        for (uri, is_local) in [
            ("file:///a", true),
            ("@file:///list.txt", true),
            ("s3://bucket/a", false),
        ] {
            assert_eq!(is_file(uri), is_local, "{uri}");
        }
    }
}
