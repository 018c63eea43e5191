//! Metrics of the network side, declared. How long calls take is the handle's to measure.

use metrics::{Unit, describe_counter, describe_gauge};

pub(super) const CALLS: &str = "quire_coordinator_grpc_calls_total";
pub(super) const AT_WORK: &str = "quire_coordinator_grpc_calls_at_work";
pub(super) const CONNECTIONS: &str = "quire_coordinator_grpc_connections_total";
pub(super) const REFUSED: &str = "quire_coordinator_grpc_handshakes_refused_total";

/// Tells the recorder what these metrics mean.
pub(crate) fn describe() {
    describe_counter!(
        CALLS,
        Unit::Count,
        "Calls answered over the network, by call and reason; `OK` if not refused"
    );
    describe_gauge!(
        AT_WORK,
        Unit::Count,
        "Calls that have arrived over the network and are not answered"
    );
    describe_counter!(CONNECTIONS, Unit::Count, "Connections accepted");
    describe_counter!(
        REFUSED,
        Unit::Count,
        "Connections that were refused in the TLS handshake"
    );
}
