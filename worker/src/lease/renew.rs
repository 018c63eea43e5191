//! The heartbeat: keeps the session alive, reports progress, carries directives out.

use std::sync::Arc;
use std::time::Duration;

use quire_core::Fault;
use quire_proto::v1::{DirectiveAction, HeartbeatRequest, HeartbeatResponse, WorkerState};
use quire_proto::{CallError, WorkerCalls};
use tokio::time::Instant;

use super::backoff::Backoff;
use super::progress::Stop;
use super::{HeldLeases, Session};
use crate::drain::DrainOrder;
use crate::metrics;
use crate::status::{StatusBoard, WorkerHealth};
use crate::storage::Storage;

/// What the heartbeat reports and changes.
#[derive(Clone)]
pub(crate) struct Heart {
    pub(crate) calls: Arc<dyn WorkerCalls>,
    pub(crate) session: Arc<Session>,
    pub(crate) held: HeldLeases,
    pub(crate) drain: DrainOrder,
    pub(crate) storage: Storage,
    pub(crate) board: StatusBoard,
}

impl Heart {
    /// Sends heartbeats until the session is lost; whoever started it drops it before.
    ///
    /// When the session is over every lease is lost: all are stopped, and the session's `lost`
    /// tells the worker to register anew.
    pub(crate) async fn beat(self) {
        let mut period = self.session.heartbeat_period;
        let mut pause = period;
        let mut backoff = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.session.wants_beat() => {}
            }
            let sent = Instant::now();
            match self.calls.heartbeat(self.report()).await {
                Ok(answer) => {
                    if backoff.take().is_some() {
                        tracing::info!("the coordinator answers again");
                    }
                    self.session.answered(sent);
                    self.board
                        .update(|status| status.coordinator_answered_at = Some(Instant::now()));
                    if answer.next_heartbeat_ms > 0 {
                        period = Duration::from_millis(answer.next_heartbeat_ms);
                    }
                    pause = period;
                    self.follow(answer);
                }
                Err(error) if error.fault == Fault::Fenced => {
                    tracing::warn!(%error, "the session has ended, registering anew");
                    metrics::call_error("heartbeat", &error);
                    self.session.lost.cancel();
                    self.held.stop_all(Stop::SessionLost);
                    return;
                }
                // Leases outlive several missed heartbeats; commits decide in the end.
                Err(error) => {
                    self.tell(&error, backoff.is_none());
                    let seed = self.session.id.as_str();
                    let waits = backoff.get_or_insert_with(|| Backoff::of_calls(seed));
                    pause = waits.pause().min(period);
                }
            }
        }
    }

    fn report(&self) -> HeartbeatRequest {
        let state = if self.drain.is_given() {
            WorkerState::Draining
        } else if let WorkerHealth::Unhealthy(_) = self.board.health() {
            WorkerState::Unhealthy
        } else {
            WorkerState::Ready
        };
        HeartbeatRequest {
            session_id: self.session.id.as_str().to_owned(),
            state: state.into(),
            leases: self.held.reports(),
            store_ok: self.storage.is_ok(),
        }
    }

    fn follow(&self, answer: HeartbeatResponse) {
        for directive in answer.directives {
            if directive.action() == DirectiveAction::Abandon {
                tracing::info!(
                    lease_id = directive.lease_id,
                    reason = directive.reason,
                    "the coordinator takes a shard away"
                );
                self.held.stop(&directive.lease_id, Stop::Taken);
            }
        }
        if answer.drain && !self.drain.is_given() {
            tracing::info!("the coordinator drains this node");
            self.drain.direct();
        }
    }

    fn tell(&self, error: &CallError, is_first: bool) {
        metrics::call_error("heartbeat", error);
        if is_first {
            tracing::warn!(%error, "a heartbeat did not arrive; work goes on");
        } else {
            tracing::debug!(%error, "a heartbeat did not arrive");
        }
    }
}

impl std::fmt::Debug for Heart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heart")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
