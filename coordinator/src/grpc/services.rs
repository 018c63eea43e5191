//! The services of `quire.v1` over the handle.

use futures::stream::{BoxStream, StreamExt};
use quire_proto::v1::admin_service_server::AdminService;
use quire_proto::v1::dataset_service_server::DatasetService;
use quire_proto::v1::job_service_server::JobService;
use quire_proto::v1::worker_service_server::WorkerService;
use quire_proto::v1::{self};
use quire_proto::{AdminCalls, DatasetCalls, JobCalls, WorkerCalls};
use tonic::{Request, Response, Status};

use super::desk::{Desk, leaving};
use super::{fit, spec};
use crate::caller::Role;

/// A call of a service, answered by the call of the same name on the handle.
macro_rules! answered {
    ($service:ident: $calls:ident {
        $($call:ident($request:ident) -> $response:ident;)*
        $(; $($more:tt)*)?
    }) => {
        #[tonic::async_trait]
        impl $service for Desk {
            $(async fn $call(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                self.answer(stringify!($call), request, |handle, request| async move {
                    $calls::$call(&handle, request).await
                })
                .await
            })*
            $($($more)*)?
        }
    };
}

answered! { WorkerService: WorkerCalls {
    register(RegisterRequest) -> RegisterResponse;
    heartbeat(HeartbeatRequest) -> HeartbeatResponse;
    commit(CommitRequest) -> CommitResponse;
    fail(FailRequest) -> FailResponse;
    release(ReleaseRequest) -> ReleaseResponse;
    ;
    async fn acquire(
        &self,
        request: Request<v1::AcquireRequest>,
    ) -> Result<Response<v1::AcquireResponse>, Status> {
        self.answer_waiting("acquire", request, |handle, request| async move {
            let session_id = request.session_id.clone();
            let answer = handle.acquire(request).await?;
            fit::leases(&handle, session_id, answer).await
        })
        .await
    }
}}

answered! { JobService: JobCalls {
    get_job(GetJobRequest) -> GetJobResponse;
    pause_job(PauseJobRequest) -> PauseJobResponse;
    resume_job(ResumeJobRequest) -> ResumeJobResponse;
    cancel_job(CancelJobRequest) -> CancelJobResponse;
    update_job(UpdateJobRequest) -> UpdateJobResponse;
    requeue_quarantined(RequeueQuarantinedRequest) -> RequeueQuarantinedResponse;
    ;
    async fn create_job(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::CreateJobResponse>, Status> {
        self.answer("create_job", request, |handle, request| async move {
            handle.caller().require(Role::Submitter)?;
            spec::check(&request.job_spec_json)?;
            handle.create_job(request).await
        })
        .await
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        self.answer("list_jobs", request, |handle, request| {
            fit::page(request, move |request| {
                let handle = handle.clone();
                async move { handle.list_jobs(request).await }
            })
        })
        .await
    }

    async fn list_shards(
        &self,
        request: Request<v1::ListShardsRequest>,
    ) -> Result<Response<v1::ListShardsResponse>, Status> {
        self.answer("list_shards", request, |handle, request| {
            fit::page(request, move |request| {
                let handle = handle.clone();
                async move { handle.list_shards(request).await }
            })
        })
        .await
    }

    async fn list_quarantine(
        &self,
        request: Request<v1::ListQuarantineRequest>,
    ) -> Result<Response<v1::ListQuarantineResponse>, Status> {
        self.answer("list_quarantine", request, |handle, request| {
            fit::page(request, move |request| {
                let handle = handle.clone();
                async move { handle.list_quarantine(request).await }
            })
        })
        .await
    }

    type WatchJobStream = BoxStream<'static, Result<v1::WatchJobResponse, Status>>;

    async fn watch_job(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let place = self.watch_place()?;
        let opened = self.answer("watch_job", request, |handle, request| async move {
            handle.watch_job(request).await
        });
        let updates = opened.await?.into_inner();
        let shutdown = self.shutdown().clone();
        let watch = (updates, place, Some(shutdown));
        let updates = futures::stream::unfold(watch, |(mut updates, place, shutdown)| async move {
            let token = shutdown?;
            tokio::select! {
                biased;
                // Tells the one who watches to go on elsewhere, and lets the connection close.
                () = token.cancelled() => Some((Err(leaving().into()), (updates, place, None))),
                update = updates.next() => {
                    let update = update?.map_err(Status::from);
                    Some((update, (updates, place, Some(token))))
                }
            }
        });
        Ok(Response::new(updates.boxed()))
    }
}}

answered! { DatasetService: DatasetCalls {
    get_dataset(GetDatasetRequest) -> GetDatasetResponse;
    ;
    async fn list_versions(
        &self,
        request: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        self.answer("list_versions", request, |handle, request| {
            fit::page(request, move |request| {
                let handle = handle.clone();
                async move { handle.list_versions(request).await }
            })
        })
        .await
    }
}}

answered! { AdminService: AdminCalls {
    list_workers(ListWorkersRequest) -> ListWorkersResponse;
    cordon(CordonRequest) -> CordonResponse;
    drain(DrainRequest) -> DrainResponse;
    set_tenant(SetTenantRequest) -> SetTenantResponse;
    list_tenants(ListTenantsRequest) -> ListTenantsResponse;
    probe_storage(ProbeStorageRequest) -> ProbeStorageResponse;
}}
