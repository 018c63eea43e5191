//! The calls of `WorkerService` and `JobService` as traits. The coordinator implements them; in
//! `run` mode a worker holds that implementation itself, and in a fleet one that carries each
//! call over gRPC. Callers cannot tell, and decide by [`CallError::fault`] alone.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use quire_core::{Fault, Faulty};
use thiserror::Error;

use crate::v1::{
    AcquireRequest, AcquireResponse, CancelJobRequest, CancelJobResponse, CommitRequest,
    CommitResponse, CordonRequest, CordonResponse, CreateJobRequest, CreateJobResponse,
    DrainRequest, DrainResponse, FailRequest, FailResponse, GetDatasetRequest, GetDatasetResponse,
    GetJobRequest, GetJobResponse, HeartbeatRequest, HeartbeatResponse, ListJobsRequest,
    ListJobsResponse, ListQuarantineRequest, ListQuarantineResponse, ListShardsRequest,
    ListShardsResponse, ListTenantsRequest, ListTenantsResponse, ListVersionsRequest,
    ListVersionsResponse, ListWorkersRequest, ListWorkersResponse, PauseJobRequest,
    PauseJobResponse, ProbeStorageRequest, ProbeStorageResponse, RegisterRequest, RegisterResponse,
    ReleaseRequest, ReleaseResponse, RequeueQuarantinedRequest, RequeueQuarantinedResponse,
    ResumeJobRequest, ResumeJobResponse, SetTenantRequest, SetTenantResponse, UpdateJobRequest,
    UpdateJobResponse, WatchJobRequest, WatchJobResponse,
};

/// A job as it changes.
pub type JobUpdates = BoxStream<'static, Result<WatchJobResponse, CallError>>;

/// What a worker says to the coordinator.
#[async_trait]
pub trait WorkerCalls: Send + Sync {
    /// Makes the worker known.
    async fn register(&self, request: RegisterRequest) -> Result<RegisterResponse, CallError>;
    /// Asks for shards; waits up to the request's `wait_ms` if there are none.
    async fn acquire(&self, request: AcquireRequest) -> Result<AcquireResponse, CallError>;
    /// Keeps the session alive and reports progress.
    async fn heartbeat(&self, request: HeartbeatRequest) -> Result<HeartbeatResponse, CallError>;
    /// Reports an uploaded part; idempotent by lease.
    async fn commit(&self, request: CommitRequest) -> Result<CommitResponse, CallError>;
    /// Gives a shard back because it cannot be done here.
    async fn fail(&self, request: FailRequest) -> Result<FailResponse, CallError>;
    /// Gives shards back that were not worked to the end.
    async fn release(&self, request: ReleaseRequest) -> Result<ReleaseResponse, CallError>;
}

/// What the owner of a job says to the coordinator.
#[async_trait]
pub trait JobCalls: Send + Sync {
    /// Takes a job, or goes on with the unfinished one that has the same specification.
    async fn create_job(&self, request: CreateJobRequest) -> Result<CreateJobResponse, CallError>;
    /// One job with its progress.
    async fn get_job(&self, request: GetJobRequest) -> Result<GetJobResponse, CallError>;
    /// Jobs, newest first.
    async fn list_jobs(&self, request: ListJobsRequest) -> Result<ListJobsResponse, CallError>;
    /// Stops giving out shards.
    async fn pause_job(&self, request: PauseJobRequest) -> Result<PauseJobResponse, CallError>;
    /// Goes on with a paused job.
    async fn resume_job(&self, request: ResumeJobRequest) -> Result<ResumeJobResponse, CallError>;
    /// Gives a job up.
    async fn cancel_job(&self, request: CancelJobRequest) -> Result<CancelJobResponse, CallError>;
    /// Shards of a job in order.
    async fn list_shards(
        &self,
        request: ListShardsRequest,
    ) -> Result<ListShardsResponse, CallError>;
    /// Rows that were given up, by shard.
    async fn list_quarantine(
        &self,
        request: ListQuarantineRequest,
    ) -> Result<ListQuarantineResponse, CallError>;
    /// Changes what may be changed of an unfinished job.
    async fn update_job(&self, request: UpdateJobRequest) -> Result<UpdateJobResponse, CallError>;
    /// Gives rows that were given up another chance.
    async fn requeue_quarantined(
        &self,
        request: RequeueQuarantinedRequest,
    ) -> Result<RequeueQuarantinedResponse, CallError>;
    /// A job now and at every change; ends after its final state, or after an error.
    async fn watch_job(&self, request: WatchJobRequest) -> Result<JobUpdates, CallError>;
}

/// What is known of datasets that jobs write.
#[async_trait]
pub trait DatasetCalls: Send + Sync {
    /// The newest version of a dataset.
    async fn get_dataset(
        &self,
        request: GetDatasetRequest,
    ) -> Result<GetDatasetResponse, CallError>;
    /// Versions of a dataset, newest first.
    async fn list_versions(
        &self,
        request: ListVersionsRequest,
    ) -> Result<ListVersionsResponse, CallError>;
}

/// What those who keep a fleet running say to the coordinator.
#[async_trait]
pub trait AdminCalls: Send + Sync {
    /// Workers that are known, with what they do.
    async fn list_workers(
        &self,
        request: ListWorkersRequest,
    ) -> Result<ListWorkersResponse, CallError>;
    /// Gives nothing more to a node, or opens it again.
    async fn cordon(&self, request: CordonRequest) -> Result<CordonResponse, CallError>;
    /// Tells every worker of a node to finish what it holds and leave.
    async fn drain(&self, request: DrainRequest) -> Result<DrainResponse, CallError>;
    /// Sets the share of a tenant.
    async fn set_tenant(&self, request: SetTenantRequest) -> Result<SetTenantResponse, CallError>;
    /// Tenants with their shares and use.
    async fn list_tenants(
        &self,
        request: ListTenantsRequest,
    ) -> Result<ListTenantsResponse, CallError>;
    /// Checks whether a place keeps the promises that commits need.
    async fn probe_storage(
        &self,
        request: ProbeStorageRequest,
    ) -> Result<ProbeStorageResponse, CallError>;
}

/// Why a call was refused, in a word that programs may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The lease is not live any more: drop its work.
    LeaseFenced,
    /// The session is not known or has ended: register anew.
    SessionUnknown,
    /// The job does not accept this now.
    JobNotRunning,
    /// There is no such job.
    JobUnknown,
    /// Another job with another specification is not finished.
    JobUnfinished,
    /// The part does not hold the rows that were planned.
    RowCountMismatch,
    /// The part is not in the store, or has another size.
    PartMissing,
    /// The part's key is not the lease's.
    PartKeyForeign,
    /// The coordinator's database was made anew since.
    IncarnationChanged,
    /// A limit of the caller is used up.
    Quota,
    /// The caller's code is too old for this coordinator.
    VersionTooOld,
    /// The caller shows no identity that this coordinator knows.
    IdentityUnknown,
    /// The caller's identity has another role than the call asks for.
    RoleMissing,
    /// The job or dataset belongs to another tenant.
    TenantForeign,
    /// The message is longer than this coordinator takes.
    MessageTooLarge,
    /// The request does not say what it must.
    Malformed,
    /// A bucket or key that the request names is missing, or closed to the coordinator.
    StoreRefused,
    /// An object store that the request names does not answer.
    StoreAway,
    /// Something the coordinator needs is away.
    Unavailable,
    /// Stored state contradicts itself.
    Corrupt,
    /// A bug of ours.
    Internal,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::LeaseFenced,
        Self::SessionUnknown,
        Self::JobNotRunning,
        Self::JobUnknown,
        Self::JobUnfinished,
        Self::RowCountMismatch,
        Self::PartMissing,
        Self::PartKeyForeign,
        Self::IncarnationChanged,
        Self::Quota,
        Self::VersionTooOld,
        Self::IdentityUnknown,
        Self::RoleMissing,
        Self::TenantForeign,
        Self::MessageTooLarge,
        Self::Malformed,
        Self::StoreRefused,
        Self::StoreAway,
        Self::Unavailable,
        Self::Corrupt,
        Self::Internal,
    ];

    /// As it is written in error details.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseFenced => "LEASE_FENCED",
            Self::SessionUnknown => "SESSION_UNKNOWN",
            Self::JobNotRunning => "JOB_NOT_RUNNING",
            Self::JobUnknown => "JOB_UNKNOWN",
            Self::JobUnfinished => "JOB_UNFINISHED",
            Self::RowCountMismatch => "ROW_COUNT_MISMATCH",
            Self::PartMissing => "PART_MISSING",
            Self::PartKeyForeign => "PART_KEY_FOREIGN",
            Self::IncarnationChanged => "INCARNATION_CHANGED",
            Self::Quota => "QUOTA",
            Self::VersionTooOld => "VERSION_TOO_OLD",
            Self::IdentityUnknown => "IDENTITY_UNKNOWN",
            Self::RoleMissing => "ROLE_MISSING",
            Self::TenantForeign => "TENANT_FOREIGN",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::Malformed => "MALFORMED",
            Self::StoreRefused => "STORE_REFUSED",
            Self::StoreAway => "STORE_AWAY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Corrupt => "CORRUPT",
            Self::Internal => "INTERNAL",
        }
    }

    /// The reason written as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == text)
    }

    /// What a caller does about it.
    pub fn fault(self) -> Fault {
        match self {
            Self::LeaseFenced | Self::SessionUnknown | Self::IncarnationChanged => Fault::Fenced,
            Self::JobNotRunning
            | Self::JobUnknown
            | Self::JobUnfinished
            | Self::Quota
            | Self::VersionTooOld
            | Self::IdentityUnknown
            | Self::RoleMissing
            | Self::TenantForeign
            | Self::MessageTooLarge
            | Self::StoreRefused => Fault::Config,
            Self::RowCountMismatch | Self::PartMissing | Self::PartKeyForeign => Fault::Bug,
            Self::Malformed => Fault::Input,
            Self::StoreAway | Self::Unavailable => Fault::Unavailable,
            Self::Corrupt => Fault::Corrupt,
            Self::Internal => Fault::Bug,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call that was refused or could not be carried.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct CallError {
    /// What the caller should do; the only thing that decides.
    pub fault: Fault,
    /// Why, in a word for programs.
    pub reason: Reason,
    /// Why, for people; no credentials.
    pub message: String,
    /// The field of the request that is at fault, if one is.
    pub field: Option<String>,
    /// How long to wait before another try, if the one who refuses knows.
    pub retry_after: Option<Duration>,
}

impl CallError {
    /// An error whose fault is that of its reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            fault: reason.fault(),
            reason,
            message: message.into(),
            field: None,
            retry_after: None,
        }
    }

    /// The same error, told to be that of one field of the request.
    #[must_use]
    pub fn in_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl Faulty for CallError {
    fn fault(&self) -> Fault {
        self.fault
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_parses_back() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
        assert_eq!(Reason::parse("lease_fenced"), None);
    }
}
