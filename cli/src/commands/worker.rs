//! `quire worker`: reads shards that a coordinator hands out, until it is told to leave.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quire_worker::{DrainedBy, Left, Shutdown, Worker, WorkerConfig, WorkerHealth, WorkerStatus};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::run::parts;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::fleet::Fleet;
use crate::observe::{self, Health};
use crate::output::{self, counted};
use crate::settings::{Settings, set};
use crate::signals;

/// How long one request for work waits at the coordinator.
const ACQUIRE_WAIT: Duration = Duration::from_secs(20);
/// Beyond its own deadline a worker only says goodbye.
const GOODBYE: Duration = Duration::from_secs(20);

/// Works until a signal, or until its node is drained.
pub(crate) async fn execute(context: &Context) -> Outcome<ExitCode> {
    let settings = context.settings();
    let metrics = observe::install()?;
    let fleet = Fleet::connect(context).await?;
    let config = config(context)?;
    let children = config.slots + 1;
    let renderer = parts::start_renderer(settings, children).await?;
    if renderer.sandbox_status().is_complete() {
        tracing::info!("documents are opened in a sandbox");
    }
    let engines = parts::start_engines(context, settings).await?;
    let tasks = TaskTracker::new();
    let health = Health::default();
    let pages_end = CancellationToken::new();
    let pages = observe::serve(
        &tasks,
        set(&settings.worker.metrics_listen),
        "worker.metrics_listen",
        health.clone(),
        metrics,
        pages_end.clone(),
    );
    let pages = pages.await?;
    let deadline = config.drain_deadline;
    let words = signals::Words {
        // The worker keeps the deadline itself; this is for one that cannot say goodbye.
        deadline: deadline + GOODBYE,
        ..signals::Words::of_reading(
            context.screen.clone(),
            deadline,
            "Left at once. What was in hand is given to another worker.\n",
        )
    };
    let (stop, listener) = signals::listen(&tasks, words);
    announce(context, &fleet, &config, pages)?;
    tasks.spawn(
        fleet
            .clone()
            .follow_certificates(settings.fleet.clone(), pages_end.clone()),
    );
    let worker = Worker::new(
        config,
        Arc::new(fleet.client.clone()),
        Arc::new(context.stores.clone()),
        renderer,
        engines,
    );
    tasks.spawn(tell_changes(worker.status(), health.clone()));
    let shutdown = Shutdown {
        drain: stop.drain.clone(),
        now: stop.now.clone(),
    };
    let ended = worker.run(shutdown).await;
    health.set(false);
    pages_end.cancel();
    listener.abort();
    tasks.close();
    drop(tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await);
    match ended {
        Ok(left) => said_goodbye(context, &left),
        Err(error) => Err(cannot_go_on(error, &fleet)),
    }
}

/// How this process works.
fn config(context: &Context) -> Outcome<WorkerConfig> {
    let settings = context.settings();
    let own = &settings.worker;
    let node = match set(&own.node) {
        Some(node) => node,
        None => host_name().ok_or_else(|| {
            Failure::usage("this machine has no host name").hint("name it with --node")
        })?,
    };
    let name = set(&own.name).unwrap_or_else(|| format!("{node}-{}", std::process::id()));
    let scratch = set(&own.scratch).map_or_else(std::env::temp_dir, PathBuf::from);
    Ok(WorkerConfig {
        name,
        node,
        slots: n_slots(settings),
        prefetch: own.prefetch,
        prefetch_bytes: own.prefetch_bytes.0,
        scratch,
        limits: settings.input.limits(),
        acquire_wait: ACQUIRE_WAIT,
        drain_deadline: own.drain_deadline.0,
        patience: None,
    })
}

fn n_slots(settings: &Settings) -> usize {
    match settings.worker.slots {
        0 => parts::n_slots(settings),
        set => set,
    }
}

/// As the machine names itself.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

fn announce(
    context: &Context,
    fleet: &Fleet,
    config: &WorkerConfig,
    pages: Option<SocketAddr>,
) -> Outcome<()> {
    let pages = pages.map(|address| format!("http://{address}"));
    let (name, node, slots) = (&config.name, &config.node, config.slots);
    let shards = counted(slots as u64, "shard", "shards");
    tracing::info!(
        "worker {name} on node {node} asks {} for {shards} at once",
        fleet.url
    );
    if let Some(pages) = &pages {
        tracing::info!("metrics at {pages}/metrics, health at {pages}/healthz");
    }
    if !context.json {
        return Ok(());
    }
    output::print_json(&json!({
        "event": "worker_started",
        "name": name,
        "node": node,
        "slots": slots,
        "coordinator": fleet.url,
        "metrics_url": pages,
    }))
}

/// Logs how the worker feels when that changes, and answers probes by it. A worker that waits for
/// its coordinator is alive: to start it anew would help nobody.
async fn tell_changes(mut status: watch::Receiver<WorkerStatus>, health: Health) {
    let mut last: Option<WorkerHealth> = None;
    loop {
        let now = status.borrow_and_update().health.clone();
        health.set(!matches!(
            now,
            WorkerHealth::Unhealthy(_) | WorkerHealth::Gone
        ));
        if last.as_ref() != Some(&now) {
            match &now {
                WorkerHealth::Unhealthy(why) => tracing::warn!("cannot work now: {why}"),
                WorkerHealth::Registering => tracing::info!("looking for the coordinator"),
                WorkerHealth::Ready => tracing::info!("known to the coordinator, takes shards"),
                WorkerHealth::Draining => tracing::info!("finishing what is in hand"),
                WorkerHealth::Gone => {}
            }
            last = Some(now);
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

fn said_goodbye(context: &Context, left: &Left) -> Outcome<ExitCode> {
    let by = match left.by {
        DrainedBy::Caller => "signal",
        DrainedBy::Directive => "coordinator",
    };
    if context.json {
        output::print_json(&json!({
            "event": "worker_left",
            "told_by": by,
            "shards_committed": left.n_committed,
            "shards_given_back": left.n_given_back,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let why = match left.by {
        DrainedBy::Caller => "Left",
        DrainedBy::Directive => "Left, since the coordinator drains this node",
    };
    let committed = counted(left.n_committed, "shard", "shards");
    let given_back = match left.n_given_back {
        0 => String::new(),
        n => format!(", {} given back undone", counted(n, "shard", "shards")),
    };
    output::tell(&format!("{why}: {committed} committed{given_back}.\n"));
    Ok(ExitCode::SUCCESS)
}

fn cannot_go_on(error: quire_worker::Error, fleet: &Fleet) -> Failure {
    match error {
        quire_worker::Error::Call(error) => fleet.refused(error).context("the worker cannot go on"),
        error => Failure::of(error).context("the worker cannot go on"),
    }
}
