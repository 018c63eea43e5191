//! What the commands of a fleet share: the way to the coordinator, one look at everything it
//! knows, and what follows from such looks.

pub(crate) mod certificates;
mod client;
mod json;
mod look;
mod measure;

pub(crate) use client::{Fleet, pem};
pub(crate) use json::{job_json, tenant_json, worker_json};
pub(crate) use look::{Look, job_of, jobs, workers};
pub(crate) use measure::{Backlog, Rates, SETTLED, average, backlog, pages_done, share};

use quire_proto::v1;

use crate::output::grouped;

/// A place as people read it: the path of a local one, else the URI.
pub(crate) fn shown(uri: &str) -> &str {
    // What is encoded stays a URI: that much can be pasted.
    let path = uri.strip_prefix("file://");
    path.filter(|path| !path.contains('%')).unwrap_or(uri)
}

/// A state as people read it.
pub(crate) fn state_name(state: v1::JobState) -> &'static str {
    match state {
        v1::JobState::Unspecified => "unknown",
        v1::JobState::Planning => "planning",
        v1::JobState::Running => "running",
        v1::JobState::Paused => "paused",
        v1::JobState::Finishing => "finishing",
        v1::JobState::Done => "done",
        v1::JobState::Canceling => "canceling",
        v1::JobState::Canceled => "canceled",
        v1::JobState::Failed => "failed",
    }
}

/// Shards of a job by state, as people read them; empty if it has none.
pub(crate) fn shard_states(job: &v1::Job) -> String {
    let shards = job.shards.unwrap_or_default();
    let states = [
        (shards.pending, "pending"),
        (shards.leased, "leased"),
        (shards.committed, "committed"),
        (shards.published, "published"),
        (shards.halved, "halved"),
        (shards.quarantined, "given up"),
    ];
    let some = states.iter().filter(|(count, _)| *count > 0);
    let some = some.map(|(count, name)| format!("{} {name}", grouped(*count)));
    some.collect::<Vec<_>>().join(", ")
}

/// A stage as people read it.
pub(crate) fn stage_name(stage: v1::LeaseStage) -> &'static str {
    match stage {
        v1::LeaseStage::Unspecified => "unknown",
        v1::LeaseStage::Queued => "queued",
        v1::LeaseStage::Reading => "reading",
        v1::LeaseStage::Uploading => "uploading",
    }
}

/// How a worker feels, or what its node may be given if that says more.
pub(crate) fn worker_state(worker: &v1::Worker) -> &'static str {
    match (worker.state(), worker.node_standing()) {
        (v1::WorkerState::Unhealthy, _) => "unhealthy",
        (v1::WorkerState::Draining, _) | (_, v1::NodeStanding::Draining) => "draining",
        (_, v1::NodeStanding::Cordoned) => "cordoned",
        (v1::WorkerState::Ready | v1::WorkerState::Unspecified, _) => "ready",
    }
}

/// What may be given to a node, as programs read it.
pub(crate) fn standing_name(standing: v1::NodeStanding) -> &'static str {
    match standing {
        v1::NodeStanding::Cordoned => "cordoned",
        v1::NodeStanding::Draining => "draining",
        v1::NodeStanding::Open | v1::NodeStanding::Unspecified => "open",
    }
}
