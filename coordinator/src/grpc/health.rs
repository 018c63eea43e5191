//! `grpc.health.v1`: not serving while the coordinator leaves or its store is away.

use std::time::Duration;

use quire_proto::v1::admin_service_server::AdminServiceServer;
use quire_proto::v1::dataset_service_server::DatasetServiceServer;
use quire_proto::v1::job_service_server::JobServiceServer;
use quire_proto::v1::worker_service_server::WorkerServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::desk::Desk;
use crate::handle::CoordinatorHandle;
use crate::store::JobQuery;

const PERIOD: Duration = Duration::from_secs(2);
/// A store that takes longer to say one word is away.
const PROBE: Duration = Duration::from_secs(3);

/// What never changes may be remembered without a database, and says nothing of it: this is read.
const ANY_JOB: JobQuery = JobQuery {
    unfinished: true,
    before: None,
    limit: 1,
};

/// The services whose health is told; the empty name is that of the whole server.
const SERVICES: [&str; 5] = [
    "",
    <WorkerServiceServer<Desk> as NamedService>::NAME,
    <JobServiceServer<Desk> as NamedService>::NAME,
    <DatasetServiceServer<Desk> as NamedService>::NAME,
    <AdminServiceServer<Desk> as NamedService>::NAME,
];

/// Tells the truth about the store every few seconds, until shutdown.
pub(super) async fn report(
    reporter: HealthReporter,
    handle: CoordinatorHandle,
    shutdown: CancellationToken,
) {
    let mut was_serving = None;
    loop {
        let probe = tokio::time::timeout(PROBE, handle.shared.store.jobs(&ANY_JOB));
        let is_serving = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            answer = probe => matches!(answer, Ok(Ok(_))),
        };
        if was_serving != Some(is_serving) {
            if !is_serving {
                tracing::warn!("the coordinator's database is away: not serving");
            } else if was_serving.is_some() {
                tracing::info!("the coordinator's database is back: serving");
            }
            was_serving = Some(is_serving);
            handle.shared.is_ready.send_replace(is_serving);
            tell(&reporter, is_serving).await;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
    handle.shared.is_ready.send_replace(false);
    tell(&reporter, false).await;
}

pub(super) async fn tell(reporter: &HealthReporter, is_serving: bool) {
    let status = match is_serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
