//! A job as it changes, for those who watch it.

use std::time::Duration;

use futures::StreamExt;
use quire_core::JobId;
use quire_proto::v1;
use quire_proto::{CallError, JobUpdates};

use super::CoordinatorHandle;
use crate::job::JobState;

const PERIOD: Duration = Duration::from_secs(1);
/// More often nobody can read, and each look costs the store some queries.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

struct Watch {
    handle: CoordinatorHandle,
    job_id: JobId,
    period: Duration,
    last: Option<v1::Job>,
    is_over: bool,
}

/// The job now and at every change, until it is in a final state or cannot be read.
pub(super) fn updates(handle: CoordinatorHandle, job_id: JobId, period_ms: u64) -> JobUpdates {
    let period = match period_ms {
        0 => PERIOD,
        asked => Duration::from_millis(asked).max(SHORTEST_PERIOD),
    };
    let watch = Watch {
        handle,
        job_id,
        period,
        last: None,
        is_over: false,
    };
    futures::stream::unfold(watch, next).boxed()
}

async fn next(mut watch: Watch) -> Option<(Result<v1::WatchJobResponse, CallError>, Watch)> {
    if watch.is_over {
        return None;
    }
    loop {
        if watch.last.is_some() {
            tokio::time::sleep(watch.period).await;
        }
        let job = match watch.handle.job(&watch.job_id).await {
            Ok(job) => job,
            Err(error) => {
                watch.is_over = true;
                return Some((Err(error.into()), watch));
            }
        };
        if watch.last.as_ref() == Some(&job) {
            continue;
        }
        watch.is_over = JobState::from_message(job.state()).is_some_and(JobState::is_final);
        watch.last = Some(job.clone());
        return Some((Ok(v1::WatchJobResponse { job: Some(job) }), watch));
    }
}
