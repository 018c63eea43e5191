//! One run on this machine: everything started, a job followed to its end, everything stopped.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quire_coordinator::{
    Coordinator, CoordinatorConfig, CoordinatorHandle, CoordinatorService, RunState, SealSettings,
    Submitted,
};
use quire_core::{Clock, EngineInfo, SystemClock};
use quire_worker::pipeline::render::RenderPool;
use quire_worker::{EnginePool, Left, Shutdown, Worker};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::end;
use super::parts::{self, RenderSurvey};
use super::watch::Watch;
use crate::context::{Context, Dataset};
use crate::events::Event;
use crate::failure::{Failure, Outcome};
use crate::progress::{Audience, Progress, Snapshot};
use crate::settings::set;
use crate::signals::{self, Stop};

/// A worker that is told to leave and does not is left behind after this.
const LEAVE_TIME: Duration = Duration::from_secs(10);

/// A run on this machine, with nothing of it going on yet.
pub(crate) struct Session<'a> {
    context: &'a Context,
    pub dataset: Dataset,
    pub handle: CoordinatorHandle,
    pub renderer: RenderPool,
    service: CoordinatorService,
    engines: EnginePool,
    state: RunState,
    scratch: PathBuf,
    clock: Arc<dyn Clock>,
    started: Duration,
}

/// Why following a job ended.
enum Ended {
    /// The job is in a state that it does not leave by itself.
    Job(Snapshot),
    /// The worker was told to leave and left.
    Drained,
    Failed(Failure),
}

impl<'a> Session<'a> {
    /// Starts renderer and engines, takes the output's lock and opens its state.
    pub(crate) async fn start(context: &'a Context, out: &str) -> Outcome<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let started = clock.monotonic();
        let settings = context.settings();
        let dataset = context.create_dataset(out)?;
        let renderer =
            parts::start_renderer(settings, parts::n_slots(settings) + SURVEY_CHILDREN).await?;
        if renderer.sandbox_status().is_complete() {
            tracing::info!("documents are opened in a sandbox");
        }
        let engines = parts::start_engines(context, settings).await?;
        let remote = context.state_folder();
        let state = RunState::open(&context.stores, out, &remote, Arc::clone(&clock));
        let state = state
            .await
            .map_err(|error| cannot_write(Failure::of(error), out))?;
        let scratch = context.scratch_folder(&dataset, state.folder());
        std::fs::create_dir_all(&scratch).map_err(|error| {
            let what = format!("cannot make the folder {}", scratch.display());
            Failure::from(error).context(what)
        })?;
        let seal = seal_settings(context, &dataset, scratch.clone());
        let config = CoordinatorConfig {
            limits: settings.input.limits(),
            survey_entries: SURVEY_CHILDREN,
            ..CoordinatorConfig::one_machine(seal)
        };
        let survey = Arc::new(RenderSurvey(renderer.clone()));
        let opened = Coordinator::open(config, state.store(), context.stores.clone(), survey);
        let (service, handle) = opened.await.map_err(Failure::of)?;
        Ok(Self {
            context,
            dataset,
            handle,
            renderer,
            service,
            engines,
            state,
            scratch,
            clock,
            started,
        })
    }

    /// Who reads.
    pub(crate) fn engine(&self) -> &EngineInfo {
        self.engines.info()
    }

    /// Works on a job until it ends or somebody stops it, and tells how it went.
    pub(crate) async fn follow(self, submitted: Submitted) -> Outcome<ExitCode> {
        let Self {
            context,
            dataset,
            handle,
            renderer,
            engines,
            state,
            clock,
            ..
        } = self;
        let settings = context.settings();
        let mut progress = Progress::new(audience(context), &context.screen, submitted.is_resumed);
        progress.event(&Event::Started {
            job_id: submitted.job_id.to_string(),
            resumed: submitted.is_resumed,
            out: dataset.name.clone(),
        })?;
        let tasks = TaskTracker::new();
        let words = signals::Words::of_reading(
            context.screen.clone(),
            settings.run.drain_deadline.0,
            "Left at once. The same command goes on where the last commit was.\n",
        );
        let (stop, listener) = signals::listen(&tasks, words);
        let all_done = CancellationToken::new();
        let mut service = tasks.spawn(self.service.run(all_done.clone()));
        // Its own tokens: the end of the job stops the worker, too, and is no interruption.
        let shutdown = Shutdown {
            drain: stop.drain.child_token(),
            now: stop.now.child_token(),
        };
        let worker = Worker::new(
            parts::worker_config(settings, self.scratch.clone()),
            Arc::new(handle.clone()),
            Arc::new(context.stores.clone()),
            renderer,
            engines,
        );
        let mut worker = tasks.spawn(worker.run(shutdown.clone()));
        let watch = Watch {
            calls: Arc::new(handle),
            job_id: submitted.job_id.to_string(),
            clock: Arc::clone(&clock),
            is_remote: false,
        };
        let ended = tokio::select! {
            snapshot = watch.until_end(&mut progress) => match snapshot {
                Ok(snapshot) => Ended::Job(snapshot),
                Err(failure) => Ended::Failed(failure),
            },
            left = &mut worker => worker_ended(left, &stop),
            ended = &mut service => Ended::Failed(service_ended(ended)),
        };
        let ended = match ended {
            Ended::Drained => after_drain(&watch, &mut progress, &stop)
                .await
                .map(Ended::Job),
            other => Ok(other),
        };
        stop_worker(&shutdown, worker).await;
        all_done.cancel();
        if !service.is_finished() {
            drop(tokio::time::timeout(LEAVE_TIME, service).await);
        }
        listener.abort();
        state.close().await;
        let read = progress.finish();
        let seconds = clock.monotonic().saturating_sub(self.started);
        let ran = end::Ran { seconds, read };
        match ended? {
            Ended::Job(snapshot) => end::tell(context, &dataset, &progress, snapshot, ran).await,
            Ended::Failed(failure) => Err(failure),
            Ended::Drained => Ok(ExitCode::FAILURE),
        }
    }
}

/// Documents that planning holds open beside those of the worker.
const SURVEY_CHILDREN: usize = 2;

pub(crate) fn audience(context: &Context) -> Audience {
    use std::io::IsTerminal;
    let at_terminal = std::io::stderr().is_terminal();
    // Bar and events on one screen would tear each other.
    let torn = context.json && std::io::stdout().is_terminal();
    Audience {
        bar: at_terminal && !context.quiet && !torn,
        json: context.json,
    }
}

pub(crate) fn seal_settings(
    context: &Context,
    dataset: &Dataset,
    scratch: PathBuf,
) -> SealSettings {
    let card = &context.settings().dataset;
    let name = dataset
        .name
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .map(str::to_owned);
    SealSettings {
        title: set(&card.title).or(name),
        license: set(&card.license),
        renderer: "hayro".to_owned(),
        renderer_version: HAYRO_VERSION.to_owned(),
        scratch,
    }
}

/// As the workspace pins it.
pub(crate) const HAYRO_VERSION: &str = "0.9.0";

fn cannot_write(failure: Failure, out: &str) -> Failure {
    // A lock that somebody holds says itself what to do.
    if failure.message().contains("in use") {
        return failure.exit_code(1);
    }
    failure
        .exit_code(1)
        .context(format!("cannot write beside {out}"))
        .hint("unfinished work lies beside OUT: choose an OUT whose folder this user may write to")
}

/// If the last commits completed the job, its version is still written: that takes seconds, and
/// the next run would do nothing else.
async fn after_drain(watch: &Watch, progress: &mut Progress, stop: &Stop) -> Outcome<Snapshot> {
    let snapshot = watch.look(progress).await?;
    if !snapshot.is_complete() {
        return Ok(snapshot);
    }
    tokio::select! {
        ended = watch.until_end(progress) => ended,
        () = stop.now.cancelled() => Ok(snapshot),
    }
}

async fn stop_worker(shutdown: &Shutdown, worker: JoinHandle<quire_worker::Result<Left>>) {
    shutdown.drain.cancel();
    if worker.is_finished() {
        return;
    }
    let aborting = worker.abort_handle();
    if tokio::time::timeout(LEAVE_TIME, worker).await.is_err() {
        shutdown.now.cancel();
        aborting.abort();
    }
}

fn worker_ended(left: Result<quire_worker::Result<Left>, JoinError>, stop: &Stop) -> Ended {
    match left {
        Ok(Ok(_)) if stop.drain.is_cancelled() => Ended::Drained,
        Ok(Ok(_)) => Ended::Failed(Failure::failed("the worker left before the job was done")),
        Ok(Err(error)) => Ended::Failed(Failure::of(error).context("the worker cannot go on")),
        Err(panic) => Ended::Failed(lost_task("worker", &panic)),
    }
}

fn service_ended(ended: Result<quire_coordinator::Result<()>, JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::failed("the coordinator left before the job was done"),
        Ok(Err(error)) => Failure::of(error).context("the coordinator cannot go on"),
        Err(panic) => lost_task("coordinator", &panic),
    }
}

fn lost_task(who: &str, panic: &JoinError) -> Failure {
    Failure::failed(format!("the {who} ended by a fault of its own: {panic}"))
        .hint("this is a fault of Quire: please report it with the lines above")
}
