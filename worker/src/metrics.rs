//! What a worker counts. Each metric is declared here once; recorders belong to the program.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Tells the recorder what the worker's metrics are.
pub fn describe() {
    describe_counter!(
        "quire_worker_pages_total",
        Unit::Count,
        "Planned rows that were done, by outcome: ok, failed, skipped"
    );
    describe_histogram!(
        "quire_worker_stage_seconds",
        Unit::Seconds,
        "Time a stage took: fetch of an object or document, render and infer of a page, upload of a part"
    );
    describe_counter!(
        "quire_worker_shards_total",
        Unit::Count,
        "Leases that ended, by end: committed, fenced, failed, released"
    );
    describe_gauge!(
        "quire_worker_leases",
        Unit::Count,
        "Shards held now, waiting ones included"
    );
    describe_gauge!(
        "quire_worker_held_back_shards",
        Unit::Count,
        "Finished shards that wait for object storage or the coordinator"
    );
    describe_counter!(
        "quire_worker_bytes_total",
        Unit::Bytes,
        "Bytes of input objects and plans read (down) and of parts stored (up)"
    );
    describe_counter!(
        "quire_worker_renderer_deaths_total",
        Unit::Count,
        "Renderer children that died or were killed, by code of the errors table"
    );
    describe_counter!(
        "quire_worker_engine_busy_milliseconds_total",
        Unit::Milliseconds,
        "Time engine threads had pages to read, by device"
    );
    describe_counter!(
        "quire_worker_fallback_pages_total",
        Unit::Count,
        "Pages that an engine gave up and another engine or mode was asked for, by from, to and reason: length, repetition, trouble"
    );
    describe_counter!(
        "quire_worker_store_errors_total",
        Unit::Count,
        "Transfers with object storage that failed and were tried again or given up, by operation: plan, fetch, upload"
    );
    describe_counter!(
        "quire_worker_call_errors_total",
        Unit::Count,
        "Calls to the coordinator that were refused or did not arrive, by call and reason"
    );
    describe_counter!(
        "quire_worker_sessions_total",
        Unit::Count,
        "Sessions opened: more than one means that the coordinator lost sight of this worker"
    );
}

/// Rows that were done.
pub(crate) fn pages(outcome: &'static str, n: u32) {
    if n > 0 {
        metrics::counter!("quire_worker_pages_total", "outcome" => outcome).increment(u64::from(n));
    }
}

/// A page that goes down the ladder of fallbacks.
pub(crate) fn fallback(from: String, to: String, reason: &'static str) {
    metrics::counter!(
        "quire_worker_fallback_pages_total",
        "from" => from,
        "to" => to,
        "reason" => reason
    )
    .increment(1);
}

/// Time a stage took.
pub(crate) fn stage(stage: &'static str, spent: std::time::Duration) {
    metrics::histogram!("quire_worker_stage_seconds", "stage" => stage).record(spent.as_secs_f64());
}

/// Bytes that came or went.
pub(crate) fn bytes(direction: &'static str, n: u64) {
    metrics::counter!("quire_worker_bytes_total", "direction" => direction).increment(n);
}

/// A transfer that failed.
pub(crate) fn store_error(operation: &'static str) {
    metrics::counter!("quire_worker_store_errors_total", "operation" => operation).increment(1);
}

/// A call that was refused or did not arrive.
pub(crate) fn call_error(call: &'static str, error: &quire_proto::CallError) {
    let reason = error.reason.as_str();
    metrics::counter!("quire_worker_call_errors_total", "call" => call, "reason" => reason)
        .increment(1);
}
