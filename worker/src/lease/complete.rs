//! The end of a lease without a part: the shard is given back. Deliveries are in `deliver`.

use std::time::Duration;

use quire_core::{Fault, LeaseId, SessionId};
use quire_proto::v1::{self, FailRequest, ReleaseRequest};
use quire_proto::{CallError, WorkerCalls};
use tokio::time::{Instant, timeout_at};

use super::backoff::Backoff;
use crate::metrics;

/// What a shard's failure is told with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// Documents that may be the cause.
    pub(crate) suspects: Vec<String>,
    /// For people.
    pub(crate) message: String,
}

/// Says that a shard cannot be done here; tries for as long as the coordinator would wait for
/// the worker, since by then the lease has ended by itself.
pub(crate) async fn fail(
    calls: &dyn WorkerCalls,
    session: &SessionId,
    lease_id: &LeaseId,
    failure: Failure,
    patience: Duration,
) -> Result<(), CallError> {
    let request = FailRequest {
        lease_id: lease_id.as_str().to_owned(),
        session_id: session.as_str().to_owned(),
        fault: v1::Fault::from(failure.fault).into(),
        stage: String::new(),
        suspects: failure.suspects,
        message: failure.message,
    };
    let told = insist("fail", lease_id.as_str(), patience, || {
        calls.fail(request.clone())
    });
    told.await.map(|_| ())
}

/// Gives shards back undone and, at the end, the session with them.
pub(crate) async fn release(
    calls: &dyn WorkerCalls,
    session: &SessionId,
    lease_ids: Vec<String>,
    reason: &str,
    end_session: bool,
) -> Result<(), CallError> {
    let request = ReleaseRequest {
        session_id: session.as_str().to_owned(),
        lease_ids,
        reason: reason.to_owned(),
        end_session,
    };
    let told = insist("release", session.as_str(), RELEASE_PATIENCE, || {
        calls.release(request.clone())
    });
    told.await.map(|_| ())
}

/// What is not given back is given to others when the session expires.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// Repeats a call while the coordinator is away, for `patience` at most.
async fn insist<T, F>(
    name: &'static str,
    seed: &str,
    patience: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let until = Instant::now() + patience;
    let mut backoff = Backoff::of_calls(seed);
    loop {
        let error = match timeout_at(until, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => CallError::new(
                quire_proto::Reason::Unavailable,
                format!("no answer to {name} within {} s", patience.as_secs()),
            ),
        };
        metrics::call_error(name, &error);
        if error.fault != Fault::Unavailable || Instant::now() >= until {
            return Err(error);
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}
