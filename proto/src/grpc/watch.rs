//! Watching a job over connections that come and go.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use quire_core::Fault;
use tonic::{Request, Response, Status, Streaming};

use super::calls::{QUICK, jobs};
use super::client::{Client, late, traced};
use super::retry::{self, Next};
use crate::calls::{CallError, JobUpdates, Reason};
use crate::v1::{WatchJobRequest, WatchJobResponse};

/// Rounds of tries to take up a broken watch again; with growing pauses they outlast a
/// coordinator that is being replaced.
const ROUNDS: u32 = 30;

struct Watch {
    client: Client,
    request: WatchJobRequest,
    stream: Streaming<WatchJobResponse>,
    route: usize,
    is_over: bool,
}

/// Opens a watch. A stream that breaks is opened again; its first answer is the job as it is
/// then, so that nothing that lasts is missed.
pub(super) async fn watch(
    client: Client,
    request: WatchJobRequest,
) -> Result<JobUpdates, CallError> {
    let (route, stream) = open(&client, &request).await?;
    let watch = Watch {
        client,
        request,
        stream,
        route,
        is_over: false,
    };
    let updates = stream::unfold(watch, |mut watch| async move {
        let update = watch.next().await?;
        Some((update, watch))
    });
    Ok(updates.boxed())
}

impl Watch {
    async fn next(&mut self) -> Option<Result<WatchJobResponse, CallError>> {
        if self.is_over {
            return None;
        }
        loop {
            let broken = match self.stream.message().await {
                Ok(Some(update)) => {
                    let job = update.job.as_ref();
                    self.is_over = job.is_some_and(|job| job.state().is_final());
                    return Some(Ok(update));
                }
                Ok(None) => Status::unavailable("the coordinator ended the watch"),
                Err(status) => status,
            };
            let (error, _) = self.client.judged(broken, QUICK, self.route);
            let taken_up = match error.fault {
                Fault::Unavailable => self.take_up(&error).await,
                _ => Err(error),
            };
            if let Err(error) = taken_up {
                self.is_over = true;
                return Some(Err(error));
            }
        }
    }

    async fn take_up(&mut self, broken: &CallError) -> Result<(), CallError> {
        tracing::debug!(%broken, "a watch broke, taking it up again");
        for round in 1.. {
            tokio::time::sleep(retry::pause(round, self.client.jitter())).await;
            match open(&self.client, &self.request).await {
                Ok((route, stream)) => {
                    (self.route, self.stream) = (route, stream);
                    return Ok(());
                }
                Err(error) if error.fault == Fault::Unavailable && round < ROUNDS => {}
                Err(error) => return Err(error),
            }
        }
        Err(CallError::new(Reason::Unavailable, broken.message.clone()))
    }
}

/// Opens the stream at whichever coordinator answers. The deadline is for the opening alone: a
/// watch lasts as long as its job.
async fn open(
    client: &Client,
    request: &WatchJobRequest,
) -> Result<(usize, Streaming<WatchJobResponse>), CallError> {
    let n_routes = client.n_routes();
    for tried in 1.. {
        let (route, channel) = client.route();
        let request = traced(Request::new(request.clone()));
        let mut calls = jobs(channel);
        let opening = tokio::time::timeout(QUICK.deadline, calls.watch_job(request));
        let status = match opening.await {
            Ok(Ok(stream)) => return Ok((route, Response::into_inner(stream))),
            Ok(Err(status)) => status,
            Err(_) => late(QUICK),
        };
        let (error, outcome) = client.judged(status, QUICK, route);
        match retry::next(outcome, tried, n_routes, client.jitter()) {
            Next::GiveUp => return Err(error),
            Next::Again(pause) => tokio::time::sleep(pause.max(Duration::ZERO)).await,
        }
    }
    Err(CallError::new(
        Reason::Unavailable,
        "the watch could not be opened",
    ))
}
