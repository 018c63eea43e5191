//! The calls of workers.

use std::time::Duration;

use async_trait::async_trait;
use quire_core::{DocId, EngineInfo, Fault, LeaseId, SessionId};
use quire_proto::v1;
use quire_proto::{CallError, WorkerCalls};
use tokio::time::Instant;

use super::CoordinatorHandle;
use super::timed::timed;
use crate::caller::Role;
use crate::commit::accept::{self, Accepted};
use crate::error::{Error, Result};
use crate::job::{JobState, LeaseEnd};
use crate::schedule::grant::{self, Asked};
use crate::schedule::reap::{self, Cause};
use crate::schedule::verdict::{Sentence, failure_is_death};
use crate::store::{
    Beat, Commit, FailureCount, LeaseStage, NewSession, NodeStanding, PartRecord, Progress,
    RowCounts, Standing, Why,
};
use crate::version::is_too_old;

/// A call that waits for work returns by then.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Waiting calls look at the store this often; being woken is only quicker.
const POLL: Duration = Duration::from_secs(1);
const RETRY_AFTER_MS: u64 = 1000;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl WorkerCalls for CoordinatorHandle {
    async fn register(
        &self,
        request: v1::RegisterRequest,
    ) -> Result<v1::RegisterResponse, CallError> {
        timed("register", async {
            self.caller.require(Role::Worker)?;
            Ok(self.open_session(request).await?)
        })
        .await
    }

    async fn acquire(&self, request: v1::AcquireRequest) -> Result<v1::AcquireResponse, CallError> {
        timed("acquire", async {
            self.caller.require(Role::Worker)?;
            let until = Instant::now() + Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
            let session_id = SessionId::new(request.session_id);
            // Asked for once a call: a session that ends meanwhile gets nothing from the store.
            let Some(record) = self.shared.store.session(&session_id).await? else {
                self.shared.forget_session(&session_id);
                return Err(self.shared.unknown(&session_id).into());
            };
            let session = self.shared.know_session(&record);
            let asked = Asked {
                session_id: &session_id,
                session: &session,
                max_leases: request.max_leases,
                want_rows: request.want_rows,
            };
            loop {
                // Registered before the look, so that nothing that happens meanwhile is missed.
                let woken = self.shared.work.notified();
                let leases = grant::grant(&self.shared, &asked).await?;
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
        })
        .await
    }

    async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
    ) -> Result<v1::HeartbeatResponse, CallError> {
        timed("heartbeat", async {
            self.caller.require(Role::Worker)?;
            Ok(self.beat(request).await?)
        })
        .await
    }

    async fn commit(&self, request: v1::CommitRequest) -> Result<v1::CommitResponse, CallError> {
        timed("commit", async {
            self.caller.require(Role::Worker)?;
            let session_id = SessionId::new(&request.session_id);
            let commit = commit_of(request)?;
            let accepted = accept::accept(&self.shared, &commit).await;
            let outcome = match accepted.map_err(|error| self.explained(error, &session_id))? {
                Accepted::Now => v1::CommitOutcome::Committed,
                Accepted::Before => v1::CommitOutcome::AlreadyCommitted,
            };
            Ok(v1::CommitResponse {
                outcome: outcome.into(),
            })
        })
        .await
    }

    async fn fail(&self, request: v1::FailRequest) -> Result<v1::FailResponse, CallError> {
        timed("fail", async {
            self.caller.require(Role::Worker)?;
            let session_id = SessionId::new(&request.session_id);
            let given_up = self.give_up(request).await;
            let disposition = given_up.map_err(|error| self.explained(error, &session_id))?;
            Ok(v1::FailResponse {
                disposition: disposition.into(),
            })
        })
        .await
    }

    async fn release(&self, request: v1::ReleaseRequest) -> Result<v1::ReleaseResponse, CallError> {
        timed("release", async {
            self.caller.require(Role::Worker)?;
            let session_id = SessionId::new(request.session_id);
            let lease_ids: Vec<LeaseId> = request.lease_ids.into_iter().map(LeaseId::new).collect();
            let some = if request.end_session {
                None
            } else {
                Some(lease_ids.as_slice())
            };
            reap::release(&self.shared, &session_id, some, &request.reason).await?;
            if request.end_session {
                self.shared.forget_session(&session_id);
                tracing::info!(%session_id, reason = request.reason, "worker left");
            }
            Ok(v1::ReleaseResponse {})
        })
        .await
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
        let config = &self.shared.config;
        if let Some(oldest) = &config.oldest_worker
            && is_too_old(&request.version, oldest)
        {
            let (version, oldest) = (request.version, oldest.clone());
            return Err(Error::VersionTooOld { version, oldest });
        }
        let session_id = self.shared.new_session_id();
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
        let NewSession {
            worker_name,
            node,
            version,
            ..
        } = &session;
        tracing::info!(%session_id, worker_name, node, version, "worker registered");
        Ok(v1::RegisterResponse {
            session_id: session_id.to_string(),
            incarnation: self.shared.incarnation.clone(),
            heartbeat_period_ms: millis(config.heartbeat_period),
            session_ttl_ms: millis(config.session_ttl),
            max_prefetch: config.max_prefetch,
        })
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
        let Some(standings) = standings else {
            self.shared.forget_session(&session_id);
            return Err(self.shared.unknown(&session_id));
        };
        for progress in &beat.progress {
            let (lease_id, stage) = (&progress.lease_id, progress.stage);
            self.shared.watches.note_progress(lease_id, stage);
        }
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
        let session = self.shared.session(&session_id).await?;
        let view = self.shared.views.get(&*self.shared.store).await?;
        Ok(v1::HeartbeatResponse {
            directives: directives.collect(),
            drain: view.standing(&session.node) == NodeStanding::Draining,
            next_heartbeat_ms: millis(config.heartbeat_period),
        })
    }

    /// A lease may be unknown because the whole database is another.
    fn explained(&self, error: Error, session_id: &SessionId) -> Error {
        match (error, self.shared.unknown(session_id)) {
            (Error::LeaseFenced { .. }, changed @ Error::IncarnationChanged { .. }) => changed,
            (error, _) => error,
        }
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

fn progress_of(lease: &v1::LeaseProgress) -> Progress {
    Progress {
        lease_id: LeaseId::new(&lease.lease_id),
        stage: LeaseStage::from(lease.stage()),
        rows_done: lease.rows_done,
        rows_failed: lease.rows_failed,
        in_flight: lease.documents_in_flight.iter().map(DocId::new).collect(),
        engine_moved: lease.engine_moved,
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
