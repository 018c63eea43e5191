//! The calls of workers.

use std::time::Duration;

use async_trait::async_trait;
use quire_core::{DocId, EngineInfo, Fault, LeaseId, SessionId};
use quire_dataset::paths::in_job;
use quire_proto::v1;
use quire_proto::{CallError, WorkerCalls};
use tokio::time::Instant;

use super::CoordinatorHandle;
use crate::caller::Role;
use crate::commit::accept::{self, Accepted};
use crate::error::{Error, Result};
use crate::job::{JobState, LeaseEnd};
use crate::schedule::order;
use crate::schedule::reap::{self, Cause};
use crate::schedule::verdict::{Sentence, failure_is_death};
use crate::shared::spec_of;
use crate::store::{
    Beat, Commit, FailureCount, Grant, JobQuery, JobRecord, LeaseStage, NewSession, PartRecord,
    Progress, RowCounts, SessionRecord, ShardRecord, Standing, Why,
};

/// A call that waits for work returns by then.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Waiting calls look at the store this often; being woken is only quicker.
const POLL: Duration = Duration::from_secs(1);
const RETRY_AFTER_MS: u64 = 1000;
/// Leases one call grants at most.
const MAX_LEASES: u32 = 64;
const MAX_JOBS: u32 = 1000;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl WorkerCalls for CoordinatorHandle {
    async fn register(
        &self,
        request: v1::RegisterRequest,
    ) -> Result<v1::RegisterResponse, CallError> {
        self.caller.require(Role::Worker)?;
        Ok(self.open_session(request).await?)
    }

    async fn acquire(&self, request: v1::AcquireRequest) -> Result<v1::AcquireResponse, CallError> {
        self.caller.require(Role::Worker)?;
        let until = Instant::now() + Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
        loop {
            // Registered before the look, so that nothing that happens meanwhile is missed.
            let woken = self.shared.work.notified();
            let leases = self.grant(&request).await?;
            if !leases.is_empty() {
                return Ok(v1::AcquireResponse {
                    leases,
                    retry_after_ms: 0,
                });
            }
            let now = Instant::now();
            if now >= until {
                let retry_after_ms = RETRY_AFTER_MS;
                return Ok(v1::AcquireResponse {
                    leases,
                    retry_after_ms,
                });
            }
            let pause = POLL.min(until.duration_since(now));
            drop(tokio::time::timeout(pause, woken).await);
        }
    }

    async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
    ) -> Result<v1::HeartbeatResponse, CallError> {
        self.caller.require(Role::Worker)?;
        Ok(self.beat(request).await?)
    }

    async fn commit(&self, request: v1::CommitRequest) -> Result<v1::CommitResponse, CallError> {
        self.caller.require(Role::Worker)?;
        let commit = commit_of(request)?;
        let outcome = match accept::accept(&self.shared, &commit).await? {
            Accepted::Now => v1::CommitOutcome::Committed,
            Accepted::Before => v1::CommitOutcome::AlreadyCommitted,
        };
        Ok(v1::CommitResponse {
            outcome: outcome.into(),
        })
    }

    async fn fail(&self, request: v1::FailRequest) -> Result<v1::FailResponse, CallError> {
        self.caller.require(Role::Worker)?;
        let disposition = self.give_up(request).await?;
        Ok(v1::FailResponse {
            disposition: disposition.into(),
        })
    }

    async fn release(&self, request: v1::ReleaseRequest) -> Result<v1::ReleaseResponse, CallError> {
        self.caller.require(Role::Worker)?;
        let session_id = SessionId::new(request.session_id);
        let lease_ids: Vec<LeaseId> = request.lease_ids.into_iter().map(LeaseId::new).collect();
        let some = if request.end_session {
            None
        } else {
            Some(lease_ids.as_slice())
        };
        reap::release(&self.shared, &session_id, some, &request.reason).await?;
        Ok(v1::ReleaseResponse {})
    }
}

impl CoordinatorHandle {
    async fn open_session(&self, request: v1::RegisterRequest) -> Result<v1::RegisterResponse> {
        let engines: Vec<EngineInfo> = request
            .engines
            .into_iter()
            .map(|engine| EngineInfo {
                name: engine.name,
                version: engine.version,
                model_id: engine.model_id,
                model_revision: engine.model_revision,
                mode: engine.mode,
            })
            .collect();
        let session_id = SessionId::new(uuid::Uuid::new_v4().to_string());
        let config = &self.shared.config;
        let session = NewSession {
            session_id: session_id.clone(),
            worker_name: request.worker_name,
            node: request.node,
            version: request.version,
            devices: request.devices,
            engines_json: serde_json::to_string(&engines)
                .map_err(|source| Error::Specification { source })?,
            ttl_ms: i64::try_from(config.session_ttl.as_millis()).unwrap_or(i64::MAX),
        };
        self.shared.store.open_session(&session).await?;
        tracing::debug!(%session_id, worker = session.worker_name, "worker registered");
        Ok(v1::RegisterResponse {
            session_id: session_id.to_string(),
            incarnation: self.shared.incarnation.clone(),
            heartbeat_period_ms: millis(config.heartbeat_period),
            session_ttl_ms: millis(config.session_ttl),
            max_prefetch: config.max_prefetch,
        })
    }

    /// Grants what the session may have now.
    async fn grant(&self, request: &v1::AcquireRequest) -> Result<Vec<v1::Lease>> {
        let session_id = SessionId::new(&request.session_id);
        let store = &self.shared.store;
        let session = store.session(&session_id).await?;
        let session = session.ok_or_else(|| unknown(&session_id))?;
        let jobs = store
            .jobs(&JobQuery {
                unfinished: true,
                before: None,
                limit: MAX_JOBS,
            })
            .await?;
        let (mut leases, mut n_rows) = (Vec::new(), 0_u64);
        for job_id in order::grant_order(&jobs) {
            let Some(job) = jobs.iter().find(|job| job.job_id == job_id) else {
                continue;
            };
            if !can_read(&session, job)? {
                continue;
            }
            while leases.len() < request.max_leases.min(MAX_LEASES) as usize
                && (request.want_rows == 0 || n_rows < request.want_rows)
            {
                let lease_id = LeaseId::new(uuid::Uuid::new_v4().to_string());
                match store.grant(&session_id, &job_id, &lease_id).await? {
                    Grant::Granted(shard) => {
                        n_rows += u64::from(shard.span.n_rows);
                        leases.push(lease_message(job, &shard, &lease_id));
                    }
                    Grant::Nothing => break,
                    // A draining session keeps what it holds and gets nothing more.
                    Grant::NoSession => return Ok(leases),
                }
            }
        }
        Ok(leases)
    }

    async fn beat(&self, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatResponse> {
        let config = &self.shared.config;
        let said = request.state();
        let session_id = SessionId::new(request.session_id);
        let beat = Beat {
            session_id: session_id.clone(),
            said,
            ttl_ms: i64::try_from(config.session_ttl.as_millis()).unwrap_or(i64::MAX),
            progress: request.leases.iter().map(progress_of).collect(),
            store_away: !request.store_ok,
        };
        let standings = self.shared.store.heartbeat(&beat).await?;
        let standings = standings.ok_or_else(|| unknown(&session_id))?;
        let named: Vec<LeaseId> = beat
            .progress
            .iter()
            .map(|progress| progress.lease_id.clone())
            .collect();
        reap::release_unnamed(&self.shared, &session_id, &named).await?;
        let directives = beat
            .progress
            .iter()
            .zip(standings)
            .map(|(progress, standing)| {
                let (action, reason) = match standing {
                    Standing::Live => (v1::DirectiveAction::Continue, ""),
                    Standing::Fenced => (v1::DirectiveAction::Abandon, "the lease has ended"),
                    Standing::JobEnded => (v1::DirectiveAction::Abandon, "the job has ended"),
                };
                v1::Directive {
                    lease_id: progress.lease_id.to_string(),
                    action: action.into(),
                    reason: reason.to_owned(),
                }
            });
        Ok(v1::HeartbeatResponse {
            directives: directives.collect(),
            drain: false,
            next_heartbeat_ms: millis(config.heartbeat_period),
        })
    }

    /// A worker says that it cannot do a shard.
    async fn give_up(&self, request: v1::FailRequest) -> Result<v1::Disposition> {
        let fault = request.fault().to_core();
        let lease_id = LeaseId::new(request.lease_id);
        let fenced = || Error::LeaseFenced {
            lease_id: lease_id.clone(),
        };
        let (lease, _) = self
            .shared
            .store
            .lease(&lease_id)
            .await?
            .ok_or_else(fenced)?;
        let message = if request.stage.is_empty() {
            request.message
        } else {
            format!("{}: {}", request.stage, request.message)
        };
        let cause = Cause {
            end: LeaseEnd::Failed,
            charged: failure_is_death(fault),
            message: message.clone(),
            suspects: request.suspects.into_iter().map(DocId::new).collect(),
        };
        let sentence = reap::end_lease(&self.shared, &lease_id, &cause).await?;
        // No other worker would fare better against a wrong setting or a torn plan.
        let stops = match fault {
            Fault::Config => Some(JobState::Paused),
            Fault::Corrupt => Some(JobState::Failed),
            _ => None,
        };
        if let Some(next) = stops {
            let why = Why {
                reason: message,
                fault: Some(fault),
            };
            let running = JobState::Running;
            self.shared
                .store
                .move_job(&lease.job_id, running, next, Some(&why))
                .await?;
            self.shared.store.fence_job(&lease.job_id).await?;
            return Ok(v1::Disposition::Stop);
        }
        match sentence.ok_or_else(fenced)? {
            Sentence::Retry { .. } => Ok(v1::Disposition::Retry),
            Sentence::Halve => Ok(v1::Disposition::Halve),
            Sentence::Quarantine => Ok(v1::Disposition::Quarantine),
        }
    }
}

fn unknown(session_id: &SessionId) -> Error {
    Error::SessionUnknown {
        session_id: session_id.clone(),
    }
}

/// Whether the session has the engine that the job names; one that names none takes anything.
fn can_read(session: &SessionRecord, job: &JobRecord) -> Result<bool> {
    let engines: Vec<EngineInfo> = serde_json::from_str(&session.engines_json).unwrap_or_default();
    Ok(engines.is_empty() || engines.contains(&spec_of(job)?.engine))
}

fn lease_message(job: &JobRecord, shard: &ShardRecord, lease_id: &LeaseId) -> v1::Lease {
    v1::Lease {
        lease_id: lease_id.to_string(),
        job_id: job.job_id.to_string(),
        shard_idx: shard.shard_idx,
        epoch: shard.epoch,
        plan_key: in_job::plan_group(u64::from(shard.span.group)),
        line_start: shard.span.line_start,
        line_end: shard.span.line_end,
        skip_rows: shard.span.skip_rows,
        n_rows: shard.span.n_rows,
        part_key: in_job::part(shard.shard_idx, lease_id),
        job_spec_json: job.spec_json.clone(),
        soft_deadline_ms: 0,
        isolate_documents: shard.isolate.iter().map(ToString::to_string).collect(),
        traceparent: String::new(),
        out: job.out.clone(),
    }
}

fn progress_of(lease: &v1::LeaseProgress) -> Progress {
    Progress {
        lease_id: LeaseId::new(&lease.lease_id),
        stage: LeaseStage::from(lease.stage()),
        rows_done: lease.rows_done,
        rows_failed: lease.rows_failed,
        in_flight: lease.documents_in_flight.iter().map(DocId::new).collect(),
    }
}

fn commit_of(request: v1::CommitRequest) -> Result<Commit> {
    let part = request.part.ok_or(Error::Malformed { what: "the part" })?;
    let counts = request
        .counts
        .ok_or(Error::Malformed { what: "the counts" })?;
    if part.checksum.len() != 64 || !part.checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::Malformed {
            what: "a SHA-256 of the part in hex",
        });
    }
    let rows = RowCounts {
        ok: counts.ok,
        failed: counts.failed,
        skipped: counts.skipped,
    };
    if rows.total() != u64::from(request.n_rows) {
        return Err(Error::Malformed {
            what: "counts that add up to its rows",
        });
    }
    Ok(Commit {
        lease_id: LeaseId::new(request.lease_id),
        part: PartRecord {
            key: part.key,
            bytes: part.bytes,
            sha256: part.checksum.to_ascii_lowercase(),
            etag: Some(part.etag).filter(|etag| !etag.is_empty()),
        },
        rows,
        work_ms: request.timings.map_or(0, |timings| timings.total_ms),
        failures: request
            .failures
            .into_iter()
            .map(|failure| FailureCount {
                code: failure.code,
                count: failure.count,
                example: failure.example,
            })
            .collect(),
    })
}
