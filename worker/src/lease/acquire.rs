//! Asks for shards.

use std::time::Duration;

use quire_core::SessionId;
use quire_proto::v1::{AcquireRequest, Lease};
use quire_proto::{CallError, WorkerCalls};

/// What asking for work brought.
#[derive(Debug)]
pub(crate) enum Acquired {
    Leases(Vec<Lease>),
    /// Nothing now; ask again after this long.
    Nothing(Duration),
}

/// Asks for up to `n` shards, once.
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
    let answer = calls.acquire(request).await?;
    Ok(if answer.leases.is_empty() {
        Acquired::Nothing(Duration::from_millis(answer.retry_after_ms))
    } else {
        Acquired::Leases(answer.leases)
    })
}
