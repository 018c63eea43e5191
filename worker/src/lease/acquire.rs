//! Makes the worker known and asks for shards.

use std::time::Duration;

use quire_core::{EngineInfo, SessionId};
use quire_proto::v1::{self, AcquireRequest, Lease, RegisterRequest};
use quire_proto::{CallError, WorkerCalls};

use super::retried;
use crate::config::WorkerConfig;

/// A worker's session as the coordinator opened it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) heartbeat_period: Duration,
}

/// What asking for work brought.
#[derive(Debug)]
pub(crate) enum Acquired {
    Leases(Vec<Lease>),
    /// Nothing now; ask again after this long.
    Nothing(Duration),
}

/// Opens a session.
pub(crate) async fn register(
    calls: &dyn WorkerCalls,
    config: &WorkerConfig,
    engine: &EngineInfo,
) -> Result<Session, CallError> {
    let request = RegisterRequest {
        worker_name: config.name.clone(),
        node: config.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engines: vec![v1::EngineInfo::from(engine)],
        devices: vec!["cpu".to_owned()],
        pages_per_second_hint: 0.0,
    };
    let answer = retried(|| calls.register(request.clone())).await?;
    Ok(Session {
        id: SessionId::new(answer.session_id),
        heartbeat_period: Duration::from_millis(answer.heartbeat_period_ms.max(1)),
    })
}

/// Asks for up to `n` shards.
pub(crate) async fn acquire(
    calls: &dyn WorkerCalls,
    session: &SessionId,
    n: usize,
    wait: Duration,
) -> Result<Acquired, CallError> {
    let request = AcquireRequest {
        session_id: session.as_str().to_owned(),
        max_leases: u32::try_from(n).unwrap_or(u32::MAX),
        want_rows: 0,
        wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
    };
    let answer = retried(|| calls.acquire(request.clone())).await?;
    Ok(if answer.leases.is_empty() {
        Acquired::Nothing(Duration::from_millis(answer.retry_after_ms))
    } else {
        Acquired::Leases(answer.leases)
    })
}
