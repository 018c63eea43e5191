//! Metrics of the calls, declared.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const CALLS: &str = "quire_coordinator_calls_total";
pub(super) const SECONDS: &str = "quire_coordinator_call_seconds";
pub(super) const AT_WORK: &str = "quire_coordinator_calls_at_work";
pub(super) const CONNECTIONS: &str = "quire_coordinator_connections_total";
pub(super) const REFUSED: &str = "quire_coordinator_handshakes_refused_total";

/// Tells the recorder what the metrics of the calls mean.
pub fn describe() {
    describe_counter!(
        CALLS,
        Unit::Count,
        "Calls answered, by call and by reason; `OK` if not refused"
    );
    describe_histogram!(
        SECONDS,
        Unit::Seconds,
        "Time from a call's arrival to its answer, by call; waiting for work included"
    );
    describe_gauge!(
        AT_WORK,
        Unit::Count,
        "Calls that have arrived and are not answered"
    );
    describe_counter!(CONNECTIONS, Unit::Count, "Connections accepted");
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Connections that were refused in the TLS handshake"
    );
}
