//! What a coordinator counts. Gauges are of the whole store, so every coordinator on it shows the
//! same; counters are of one process, to be summed.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use quire_core::Faulty;

use crate::error::Error;
use crate::store::RowCounts;

const GRANTS: &str = "quire_coordinator_grants_total";
const COMMITS: &str = "quire_coordinator_commits_total";
const ROWS: &str = "quire_coordinator_rows_total";
const FENCED: &str = "quire_coordinator_fenced_total";
const ENDS: &str = "quire_coordinator_lease_ends_total";
const DEATHS: &str = "quire_coordinator_deaths_total";
const PUBLISHED: &str = "quire_coordinator_published_parts_total";
const ORPHANS: &str = "quire_coordinator_orphans_removed_total";
const STORE_ERRORS: &str = "quire_coordinator_store_errors_total";
const CALL_SECONDS: &str = "quire_coordinator_call_seconds";
const STORE_SECONDS: &str = "quire_coordinator_store_seconds";
const JOBS: &str = "quire_coordinator_jobs";
const SHARDS: &str = "quire_coordinator_shards";
const LEASES: &str = "quire_coordinator_leases_live";
const SESSIONS: &str = "quire_coordinator_sessions_live";
const NODES_CLOSED: &str = "quire_coordinator_nodes_closed";
const LAG: &str = "quire_coordinator_publish_lag_seconds";
const BACKLOG_ROWS: &str = "quire_coordinator_backlog_rows";
const BACKLOG_SECONDS: &str = "quire_coordinator_backlog_node_seconds";
const QUARANTINED: &str = "quire_coordinator_rows_quarantined";

/// Names, units and meanings of this crate's metrics, for the recorder.
pub fn describe() {
    crate::grpc::metrics::describe();
    describe_counter!(GRANTS, Unit::Count, "Leases granted; kind is first or copy");
    describe_counter!(
        COMMITS,
        Unit::Count,
        "Parts accepted, by whether for the first time"
    );
    describe_counter!(ROWS, Unit::Count, "Rows of accepted parts by outcome");
    describe_counter!(
        FENCED,
        Unit::Count,
        "Commits whose lease was not live any more"
    );
    describe_counter!(
        ENDS,
        Unit::Count,
        "Leases that ended without a part, by how"
    );
    describe_counter!(
        DEATHS,
        Unit::Count,
        "Leases that ended with a death charged to the shard"
    );
    describe_counter!(PUBLISHED, Unit::Count, "Parts listed in manifests");
    describe_counter!(ORPHANS, Unit::Count, "Parts removed that no manifest lists");
    describe_counter!(
        STORE_ERRORS,
        Unit::Count,
        "Calls of the database that failed"
    );
    describe_histogram!(
        CALL_SECONDS,
        Unit::Seconds,
        "Time of calls of workers and owners; acquire waits for work"
    );
    describe_histogram!(
        STORE_SECONDS,
        Unit::Seconds,
        "Time of calls of the database"
    );
    describe_gauge!(JOBS, Unit::Count, "Unfinished jobs by state");
    describe_gauge!(SHARDS, Unit::Count, "Shards of unfinished jobs by state");
    describe_gauge!(
        LEASES,
        Unit::Count,
        "Shards of unfinished jobs that a worker holds"
    );
    describe_gauge!(SESSIONS, Unit::Count, "Workers that are known");
    describe_gauge!(
        NODES_CLOSED,
        Unit::Count,
        "Nodes that get nothing, by standing"
    );
    describe_gauge!(
        LAG,
        Unit::Seconds,
        "How long accepted parts wait for their manifest, of the job that waits longest"
    );
    describe_gauge!(
        BACKLOG_ROWS,
        Unit::Count,
        "Rows of unfinished jobs that nobody has read"
    );
    describe_gauge!(
        BACKLOG_SECONDS,
        Unit::Seconds,
        "Time of one worker's slot that the backlog takes, as far as a pace is known"
    );
    describe_gauge!(
        QUARANTINED,
        Unit::Count,
        "Rows of unfinished jobs given up because they killed their workers"
    );
}

pub(crate) fn granted(is_copy: bool) {
    let kind = if is_copy { "copy" } else { "first" };
    counter!(GRANTS, "kind" => kind).increment(1);
}

pub(crate) fn committed(rows: &RowCounts) {
    counter!(COMMITS, "outcome" => "committed").increment(1);
    for (outcome, count) in [
        ("ok", rows.ok),
        ("failed", rows.failed),
        ("skipped", rows.skipped),
    ] {
        counter!(ROWS, "outcome" => outcome).increment(count);
    }
}

pub(crate) fn committed_before() {
    counter!(COMMITS, "outcome" => "already").increment(1);
}

pub(crate) fn fenced() {
    counter!(FENCED).increment(1);
}

pub(crate) fn lease_ended(end: &'static str, charged: bool) {
    counter!(ENDS, "end" => end).increment(1);
    if charged {
        counter!(DEATHS).increment(1);
    }
}

pub(crate) fn published(n_parts: u64) {
    counter!(PUBLISHED).increment(n_parts);
}

pub(crate) fn orphans_removed(n_orphans: u64) {
    counter!(ORPHANS).increment(n_orphans);
}

/// A call of a worker, an owner or an admin ended; `reason` is empty if it was answered.
pub(crate) fn called(call: &'static str, reason: &'static str, took: Duration) {
    histogram!(CALL_SECONDS, "call" => call, "reason" => reason).record(took.as_secs_f64());
}

/// A call of the database ended.
pub(crate) fn stored(operation: &'static str, took: Duration, error: Option<&Error>) {
    histogram!(STORE_SECONDS, "operation" => operation).record(took.as_secs_f64());
    if let Some(error) = error {
        let fault = error.fault().as_str();
        counter!(STORE_ERRORS, "operation" => operation, "fault" => fault).increment(1);
    }
}

/// The state of the whole store at one moment.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Census {
    pub jobs: Vec<(&'static str, u64)>,
    pub shards: Vec<(&'static str, i64)>,
    pub leases: i64,
    pub sessions: u64,
    pub nodes_closed: Vec<(&'static str, u64)>,
    pub publish_lag: Duration,
    pub backlog_rows: u64,
    pub backlog_seconds: f64,
    pub rows_quarantined: i64,
}

pub(crate) fn show(census: &Census) {
    for &(state, count) in &census.jobs {
        gauge!(JOBS, "state" => state).set(count as f64);
    }
    for &(state, count) in &census.shards {
        gauge!(SHARDS, "state" => state).set(count as f64);
    }
    for &(standing, count) in &census.nodes_closed {
        gauge!(NODES_CLOSED, "standing" => standing).set(count as f64);
    }
    gauge!(LEASES).set(census.leases as f64);
    gauge!(SESSIONS).set(census.sessions as f64);
    gauge!(LAG).set(census.publish_lag.as_secs_f64());
    gauge!(BACKLOG_ROWS).set(census.backlog_rows as f64);
    gauge!(BACKLOG_SECONDS).set(census.backlog_seconds);
    gauge!(QUARANTINED).set(census.rows_quarantined as f64);
}
