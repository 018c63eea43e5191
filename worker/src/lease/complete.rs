//! The end of a lease: report its part, or give the shard back.

use quire_core::{Fault, LeaseId, SessionId};
use quire_proto::v1::{self, CommitRequest, FailRequest, ReleaseRequest};
use quire_proto::{CallError, WorkerCalls};

use super::retried;

/// Reports an uploaded part; safe to repeat.
pub(crate) async fn commit(
    calls: &dyn WorkerCalls,
    request: CommitRequest,
) -> Result<(), CallError> {
    retried(|| calls.commit(request.clone())).await.map(|_| ())
}

/// Says that a shard cannot be done here.
pub(crate) async fn fail(
    calls: &dyn WorkerCalls,
    session: &SessionId,
    lease_id: &LeaseId,
    fault: Fault,
    suspects: Vec<String>,
    message: String,
) -> Result<(), CallError> {
    let request = FailRequest {
        lease_id: lease_id.as_str().to_owned(),
        session_id: session.as_str().to_owned(),
        fault: v1::Fault::from(fault).into(),
        stage: String::new(),
        suspects,
        message,
    };
    retried(|| calls.fail(request.clone())).await.map(|_| ())
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
    calls.release(request).await.map(|_| ())
}
