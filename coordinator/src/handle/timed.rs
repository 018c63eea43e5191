//! Times calls and says how they ended.

use quire_proto::CallError;
use tokio::time::Instant;

use crate::metrics;

/// Makes a call.
pub(super) async fn timed<T>(
    call: &'static str,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let start = Instant::now();
    let answer = work.await;
    let reason = answer
        .as_ref()
        .err()
        .map_or("", |error| error.reason.as_str());
    metrics::called(call, reason, start.elapsed());
    if let Err(error) = &answer {
        tracing::debug!(call, reason, message = error.message, "call refused");
    }
    answer
}
