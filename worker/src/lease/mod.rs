//! The worker's side of leases: ask for shards, keep them alive, report or give back.

mod acquire;
mod complete;
mod progress;
mod renew;

pub(crate) use acquire::{Acquired, acquire, register};
pub(crate) use complete::{commit, fail, release};
pub(crate) use progress::{HeldLeases, ShardProgress};
pub(crate) use renew::renew;

use std::time::Duration;

use quire_core::Fault;
use quire_proto::CallError;

/// Calls are repeated while the coordinator is away; anything else is an answer.
const TRIES: u32 = 8;

/// Repeats a call while its answer is "unavailable", waiting longer each time.
pub(crate) async fn retried<T, F>(mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut pause = Duration::from_millis(100);
    for _ in 1..TRIES {
        match call().await {
            Err(error) if error.fault == Fault::Unavailable => {
                tracing::warn!(%error, "the coordinator is away, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            answer => return answer,
        }
    }
    call().await
}
