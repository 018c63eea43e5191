//! `quire coordinator`: plans jobs, hands out shards and publishes what is done, for workers and
//! owners of jobs on other machines.

mod access;
mod config;
pub(crate) mod store;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quire_coordinator::{Coordinator, CoordinatorService, grpc};
use quire_core::{Clock, SystemClock};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::run::parts::{self, RenderSurvey};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::observe::{self, Health};
use crate::output;
use crate::settings::{Span, set};
use crate::signals;

pub(crate) use config::{SURVEY_ENTRIES, Scratch, coordinator as config};
use store::OpenedStore;

/// Calls in hand are answered and what is committed is published in this time.
const LEAVE_TIME: Duration = Duration::from_secs(30);

/// Serves until a signal.
pub(crate) async fn execute(context: &Context) -> Outcome<ExitCode> {
    let settings = &context.settings().coordinator;
    let metrics = observe::install()?;
    // What is wrong with addresses and certificates is said before anything is opened.
    let mut access = access::config(settings)?;
    let listener = observe::bind(&settings.listen, "coordinator.listen").await?;
    let address = listener.local_addr()?;
    access::refuse_plaintext(settings, address)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let opened = store::open(context, Arc::clone(&clock)).await?;
    let renderer = parts::start_renderer(context.settings(), SURVEY_ENTRIES).await?;
    if renderer.sandbox_status().is_complete() {
        tracing::info!("documents are opened in a sandbox");
    }
    let scratch = Scratch::make(settings)?;
    let config = config(context.settings(), &scratch, opened.is_alone());
    let survey = Arc::new(RenderSurvey(renderer));
    let started = Coordinator::open(config, opened.store(), context.stores.clone(), survey);
    let (service, handle) = started.await.map_err(Failure::of)?;

    let tasks = TaskTracker::new();
    let health = Health::default();
    let pages_end = CancellationToken::new();
    let pages = set(&settings.metrics_listen);
    let pages = observe::serve(
        &tasks,
        pages,
        "coordinator.metrics_listen",
        health.clone(),
        metrics,
        pages_end.clone(),
    );
    let pages = pages.await?;
    let (stop, listener_of_signals) = signals::listen(
        &tasks,
        signals::Words {
            screen: context.screen.clone(),
            deadline: LEAVE_TIME,
            first: format!(
                "Stopping: answering what was asked and publishing what is committed, at most {}. \
             Ctrl-C again leaves at once.\n",
                Span(LEAVE_TIME)
            ),
            second: "Left at once. Whoever starts next goes on where the last commit was.\n",
        },
    );
    tasks.spawn(access::follow_certificates(
        &mut access,
        settings,
        pages_end.clone(),
    ));
    announce(
        context,
        address,
        pages,
        &opened,
        settings.cert_file.is_empty(),
    )?;
    tasks.spawn(follow_readiness(
        handle.readiness(),
        health.clone(),
        pages_end.clone(),
    ));
    let served = tasks.spawn(grpc::serve(
        listener,
        handle,
        access,
        stop.drain.child_token(),
    ));
    let ended = work(&tasks, service, served, &stop.drain, &health).await;
    pages_end.cancel();
    listener_of_signals.abort();
    opened.close().await;
    tasks.close();
    drop(tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await);
    ended.map(|()| {
        tracing::info!("stopped");
        ExitCode::SUCCESS
    })
}

/// Tells probes what the server finds: that it serves, or that its database is away.
async fn follow_readiness(
    mut readiness: watch::Receiver<bool>,
    health: Health,
    end: CancellationToken,
) {
    loop {
        health.set(*readiness.borrow_and_update());
        let changed = tokio::select! {
            () = end.cancelled() => return,
            changed = readiness.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Until somebody stops the coordinator or a part of it fails. Calls end first, so that what they
/// committed is published.
async fn work(
    tasks: &TaskTracker,
    service: CoordinatorService,
    mut served: JoinHandle<quire_coordinator::Result<()>>,
    stop: &CancellationToken,
    health: &Health,
) -> Outcome<()> {
    let service_end = CancellationToken::new();
    let mut service = tasks.spawn(service.run(service_end.clone()));
    let ended = tokio::select! {
        // In this order: an idle server ends in the moment that it is told to, and an end that was
        // asked for is no failure.
        biased;
        () = stop.cancelled() => None,
        ended = &mut served => Some(part_ended("server", ended)),
        ended = &mut service => Some(part_ended("coordinator", ended)),
    };
    health.set(false);
    stop.cancel();
    if !served.is_finished() {
        drop(tokio::time::timeout(LEAVE_TIME, &mut served).await);
    }
    service_end.cancel();
    if !service.is_finished() {
        drop(tokio::time::timeout(LEAVE_TIME, &mut service).await);
    }
    match ended {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

fn part_ended(part: &str, ended: Result<quire_coordinator::Result<()>, JoinError>) -> Failure {
    match ended {
        Ok(Ok(())) => Failure::failed(format!("the {part} ended though nobody stopped it")),
        Ok(Err(error)) => Failure::of(error).context(format!("the {part} cannot go on")),
        Err(panic) => Failure::failed(format!("the {part} ended by a fault of its own: {panic}"))
            .hint("this is a fault of Quire: please report it with the lines above"),
    }
}

/// Says where it listens: with port 0 nobody knows it before.
fn announce(
    context: &Context,
    address: SocketAddr,
    pages: Option<SocketAddr>,
    opened: &OpenedStore,
    is_plain: bool,
) -> Outcome<()> {
    let scheme = if is_plain { "http" } else { "https" };
    let url = format!("{scheme}://{address}");
    let pages = pages.map(|address| format!("http://{address}"));
    tracing::info!("coordinator listens at {url}, store {}", opened.name());
    if let Some(pages) = &pages {
        tracing::info!("metrics at {pages}/metrics, health at {pages}/healthz");
    }
    if is_plain && !address.ip().is_loopback() {
        tracing::warn!("without TLS everybody who reaches {address} may do everything");
    }
    if !context.json {
        return Ok(());
    }
    output::print_json(&json!({
        "event": "listening",
        "url": url,
        "address": address.to_string(),
        "metrics_url": pages,
        "store": opened.name(),
    }))
}
