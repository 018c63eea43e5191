//! The call traits on the client: which call goes where, and how long it may take.

use std::time::Duration;

use async_trait::async_trait;
use tonic::transport::Channel;

use super::MAX_MESSAGE_BYTES;
use super::client::{Client, Manner};
use super::watch;
use crate::calls::{AdminCalls, CallError, DatasetCalls, JobCalls, JobUpdates, WorkerCalls};
use crate::v1::admin_service_client::AdminServiceClient;
use crate::v1::dataset_service_client::DatasetServiceClient;
use crate::v1::job_service_client::JobServiceClient;
use crate::v1::worker_service_client::WorkerServiceClient;
use crate::v1::{self};

/// Answered from the coordinator's database.
pub(super) const QUICK: Manner = Manner {
    deadline: Duration::from_secs(10),
    is_idempotent: true,
    is_once: false,
};
/// Opens something that nobody would know of if the answer is lost.
const OPENING: Manner = Manner {
    deadline: Duration::from_secs(10),
    is_idempotent: false,
    is_once: false,
};
/// Waits up to 20 s for work before it answers.
const WAITING: Manner = Manner {
    deadline: Duration::from_secs(30),
    is_idempotent: false,
    is_once: false,
};
/// Looks at object storage before it answers.
const LOOKING: Manner = Manner {
    deadline: Duration::from_secs(30),
    is_idempotent: true,
    is_once: false,
};
/// Looks at object storage, too. A worker whose commit is refused may remove its part only if it
/// knows that it asked once: an earlier commit may have been accepted without its hearing of it.
const COMMITTING: Manner = Manner {
    is_once: true,
    ..LOOKING
};
/// Races hundreds of writes on object storage.
const PROBING: Manner = Manner {
    deadline: Duration::from_secs(120),
    is_idempotent: false,
    is_once: false,
};

macro_rules! over {
    ($client:ident, $channel:ident) => {
        $client::new($channel).max_decoding_message_size(MAX_MESSAGE_BYTES)
    };
}

/// A call trait, each call carried by the generated client of its service.
macro_rules! carried {
    ($calls:ident by $client:ident {
        $($call:ident($request:ident) -> $response:ident, $manner:ident;)*
        $(; $($more:tt)*)?
    }) => {
        #[async_trait]
        impl $calls for Client {
            $(async fn $call(&self, request: v1::$request) -> Result<v1::$response, CallError> {
                self.carry($manner, request, |channel, request| {
                    Box::pin(async move { over!($client, channel).$call(request).await })
                })
                .await
            })*
            $($($more)*)?
        }
    };
}

carried! { WorkerCalls by WorkerServiceClient {
    register(RegisterRequest) -> RegisterResponse, OPENING;
    acquire(AcquireRequest) -> AcquireResponse, WAITING;
    heartbeat(HeartbeatRequest) -> HeartbeatResponse, QUICK;
    commit(CommitRequest) -> CommitResponse, COMMITTING;
    fail(FailRequest) -> FailResponse, QUICK;
    release(ReleaseRequest) -> ReleaseResponse, QUICK;
}}

carried! { JobCalls by JobServiceClient {
    create_job(CreateJobRequest) -> CreateJobResponse, LOOKING;
    get_job(GetJobRequest) -> GetJobResponse, QUICK;
    list_jobs(ListJobsRequest) -> ListJobsResponse, QUICK;
    pause_job(PauseJobRequest) -> PauseJobResponse, QUICK;
    resume_job(ResumeJobRequest) -> ResumeJobResponse, QUICK;
    cancel_job(CancelJobRequest) -> CancelJobResponse, QUICK;
    list_shards(ListShardsRequest) -> ListShardsResponse, QUICK;
    list_quarantine(ListQuarantineRequest) -> ListQuarantineResponse, QUICK;
    update_job(UpdateJobRequest) -> UpdateJobResponse, QUICK;
    requeue_quarantined(RequeueQuarantinedRequest) -> RequeueQuarantinedResponse, LOOKING;
    ;
    async fn watch_job(&self, request: v1::WatchJobRequest) -> Result<JobUpdates, CallError> {
        watch::watch(self.clone(), request).await
    }
}}

carried! { DatasetCalls by DatasetServiceClient {
    get_dataset(GetDatasetRequest) -> GetDatasetResponse, LOOKING;
    list_versions(ListVersionsRequest) -> ListVersionsResponse, LOOKING;
}}

carried! { AdminCalls by AdminServiceClient {
    list_workers(ListWorkersRequest) -> ListWorkersResponse, QUICK;
    cordon(CordonRequest) -> CordonResponse, QUICK;
    drain(DrainRequest) -> DrainResponse, QUICK;
    set_tenant(SetTenantRequest) -> SetTenantResponse, QUICK;
    list_tenants(ListTenantsRequest) -> ListTenantsResponse, QUICK;
    probe_storage(ProbeStorageRequest) -> ProbeStorageResponse, PROBING;
}}

/// The generated client of jobs, for the one call that streams.
pub(super) fn jobs(channel: Channel) -> JobServiceClient<Channel> {
    over!(JobServiceClient, channel)
}
