//! The heartbeat: keeps the session alive, reports progress, carries directives out.

use std::time::Duration;

use quire_core::{Fault, SessionId};
use quire_proto::WorkerCalls;
use quire_proto::v1::{DirectiveAction, HeartbeatRequest, WorkerState};
use tokio_util::sync::CancellationToken;

use super::HeldLeases;

/// Sends heartbeats for ever; whoever started it drops it.
///
/// `drain` is both what the worker reports and what the coordinator may ask for. When the session
/// is gone every lease is lost: all are abandoned, and `lost` tells the worker to register anew.
pub(crate) async fn renew(
    calls: &dyn WorkerCalls,
    session: SessionId,
    mut period: Duration,
    held: HeldLeases,
    drain: CancellationToken,
    lost: CancellationToken,
) {
    loop {
        tokio::time::sleep(period).await;
        let state = if drain.is_cancelled() {
            WorkerState::Draining
        } else {
            WorkerState::Ready
        };
        let request = HeartbeatRequest {
            session_id: session.as_str().to_owned(),
            state: state.into(),
            leases: held.reports(),
            store_ok: true,
        };
        match calls.heartbeat(request).await {
            Ok(answer) => {
                for directive in answer.directives {
                    if directive.action() == DirectiveAction::Abandon {
                        tracing::info!(
                            lease_id = directive.lease_id,
                            reason = directive.reason,
                            "the coordinator takes a shard away"
                        );
                        held.abandon(&directive.lease_id);
                    }
                }
                if answer.drain {
                    drain.cancel();
                }
                if answer.next_heartbeat_ms > 0 {
                    period = Duration::from_millis(answer.next_heartbeat_ms);
                }
            }
            Err(error) if error.fault == Fault::Fenced => {
                tracing::warn!(%error, "the session has ended, registering anew");
                held.abandon_all();
                lost.cancel();
                return;
            }
            // The lease outlives several missed heartbeats; commits decide in the end.
            Err(error) => tracing::warn!(%error, "a heartbeat did not arrive"),
        }
    }
}
