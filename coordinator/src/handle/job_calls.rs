//! The calls of owners of jobs.

use async_trait::async_trait;
use quire_core::{Fault, JobId, JobSpec};
use quire_proto::v1;
use quire_proto::{CallError, JobCalls, JobUpdates};

use super::timed::timed;
use super::{CoordinatorHandle, watch};
use crate::caller::Role;
use crate::error::{Error, Result};
use crate::job::{JobState, ShardState};
use crate::progress;
use crate::store::{
    JobQuery, JobRecord, QuarantineQuery, QuarantineRecord, ShardQuery, ShardRecord, Why,
};
use crate::submit::{self, Submission};

const PAGE_SIZE: u32 = 100;
const MAX_PAGE_SIZE: u32 = 1000;
/// A state may change between looking and moving; then it is looked at again.
const TRIES: usize = 8;

pub(super) fn page_size(asked: u32) -> u32 {
    if asked == 0 {
        PAGE_SIZE
    } else {
        asked.min(MAX_PAGE_SIZE)
    }
}

/// A page token is the number of the last thing on the page before.
pub(super) fn token<T: std::str::FromStr>(text: &str) -> Result<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::Malformed {
        what: "a page token that it was given",
    })
}

#[async_trait]
impl JobCalls for CoordinatorHandle {
    async fn create_job(
        &self,
        request: v1::CreateJobRequest,
    ) -> Result<v1::CreateJobResponse, CallError> {
        timed("create_job", async {
            self.caller.require(Role::Submitter)?;
            let spec: JobSpec = serde_json::from_str(&request.job_spec_json)
                .map_err(|source| Error::Specification { source })?;
            if request.out.is_empty() {
                return Err(Error::Malformed { what: "the output" }.into());
            }
            let submission = Submission {
                priority: request.priority,
                ..self.submission(&request.out, &spec)
            };
            let submitted = submit::submit(&self.shared, &submission).await?;
            let outcome = match submitted.is_resumed {
                true => v1::CreateJobOutcome::Resumed,
                false => v1::CreateJobOutcome::Created,
            };
            let job_id = submitted.job_id.to_string();
            Ok(v1::CreateJobResponse {
                job_id,
                outcome: outcome.into(),
            })
        })
        .await
    }

    async fn get_job(&self, request: v1::GetJobRequest) -> Result<v1::GetJobResponse, CallError> {
        timed("get_job", async {
            self.caller.require(Role::Submitter)?;
            let job = self.job(&JobId::new(request.job_id)).await?;
            Ok(v1::GetJobResponse { job: Some(job) })
        })
        .await
    }

    async fn list_jobs(
        &self,
        request: v1::ListJobsRequest,
    ) -> Result<v1::ListJobsResponse, CallError> {
        timed("list_jobs", async {
            self.caller.require(Role::Submitter)?;
            let limit = page_size(request.page_size);
            let (records, last) = self
                .visible_jobs(token(&request.page_token)?, limit)
                .await?;
            let mut jobs = Vec::with_capacity(records.len());
            for record in &records {
                jobs.push(progress::message(&self.shared, record).await?);
            }
            Ok(v1::ListJobsResponse {
                jobs,
                next_page_token: last.map(|number| number.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn pause_job(
        &self,
        request: v1::PauseJobRequest,
    ) -> Result<v1::PauseJobResponse, CallError> {
        timed("pause_job", async {
            self.caller.require(Role::Submitter)?;
            let job_id = JobId::new(request.job_id);
            let why = Why {
                reason: request.reason,
                fault: None,
            };
            self.move_to(&job_id, JobState::Paused, Some(&why)).await?;
            Ok(v1::PauseJobResponse {})
        })
        .await
    }

    async fn resume_job(
        &self,
        request: v1::ResumeJobRequest,
    ) -> Result<v1::ResumeJobResponse, CallError> {
        timed("resume_job", async {
            self.caller.require(Role::Submitter)?;
            let job_id = JobId::new(request.job_id);
            let failed = self.known_job(&job_id).await?.state == JobState::Failed;
            let next = if failed {
                JobState::Planning
            } else {
                JobState::Running
            };
            self.move_to(&job_id, next, None).await?;
            Ok(v1::ResumeJobResponse {})
        })
        .await
    }

    async fn cancel_job(
        &self,
        request: v1::CancelJobRequest,
    ) -> Result<v1::CancelJobResponse, CallError> {
        timed("cancel_job", async {
            self.caller.require(Role::Submitter)?;
            let job_id = JobId::new(request.job_id);
            let why = Why {
                reason: request.reason,
                fault: None,
            };
            if self.known_job(&job_id).await?.state != JobState::Canceled {
                self.move_to(&job_id, JobState::Canceling, Some(&why))
                    .await?;
            }
            Ok(v1::CancelJobResponse {})
        })
        .await
    }

    async fn list_shards(
        &self,
        request: v1::ListShardsRequest,
    ) -> Result<v1::ListShardsResponse, CallError> {
        timed("list_shards", async {
            self.caller.require(Role::Submitter)?;
            let limit = page_size(request.page_size);
            let state = ShardState::from_message(request.state());
            let query = ShardQuery {
                after: token(&request.page_token)?,
                state,
                limit,
            };
            let job_id = JobId::new(request.job_id);
            self.known_job(&job_id).await?;
            let records = self.shared.store.shards(&job_id, &query).await?;
            let is_full = records.len() >= limit as usize;
            let last = records
                .last()
                .filter(|_| is_full)
                .map(|shard| shard.shard_idx.to_string());
            let shards = records.into_iter().map(shard_message).collect();
            Ok(v1::ListShardsResponse {
                shards,
                next_page_token: last.unwrap_or_default(),
            })
        })
        .await
    }

    async fn list_quarantine(
        &self,
        request: v1::ListQuarantineRequest,
    ) -> Result<v1::ListQuarantineResponse, CallError> {
        timed("list_quarantine", async {
            self.caller.require(Role::Submitter)?;
            let limit = page_size(request.page_size);
            let query = QuarantineQuery {
                after: token(&request.page_token)?,
                unlisted: false,
                // One more tells whether there is another page.
                limit: limit + 1,
            };
            let job_id = JobId::new(request.job_id);
            self.known_job(&job_id).await?;
            let mut records = self.shared.store.quarantine(&job_id, &query).await?;
            let limit = limit as usize;
            let last = records
                .get(limit.saturating_sub(1))
                .filter(|_| records.len() > limit)
                .map(|record| record.shard_idx.to_string());
            records.truncate(limit);
            let rows = records.into_iter().map(quarantine_message).collect();
            Ok(v1::ListQuarantineResponse {
                rows,
                next_page_token: last.unwrap_or_default(),
            })
        })
        .await
    }

    async fn update_job(
        &self,
        request: v1::UpdateJobRequest,
    ) -> Result<v1::UpdateJobResponse, CallError> {
        timed("update_job", async {
            self.caller.require(Role::Submitter)?;
            let job_id = JobId::new(request.job_id);
            let job = self.known_job(&job_id).await?;
            if let Some(priority) = request.priority {
                if !self.shared.store.set_priority(&job_id, priority).await? {
                    let state = job.state;
                    return Err(Error::JobNotRunning { job_id, state }.into());
                }
                self.shared.views.outdated();
                tracing::info!(%job_id, priority, "job has another priority");
            }
            let job = Some(self.job(&job_id).await?);
            Ok(v1::UpdateJobResponse { job })
        })
        .await
    }

    async fn requeue_quarantined(
        &self,
        request: v1::RequeueQuarantinedRequest,
    ) -> Result<v1::RequeueQuarantinedResponse, CallError> {
        timed("requeue_quarantined", async {
            self.caller.require(Role::Submitter)?;
            let job_id = JobId::new(request.job_id);
            let job = self.known_job(&job_id).await?;
            if job.state.is_final() {
                let state = job.state;
                return Err(Error::JobNotRunning { job_id, state }.into());
            }
            let requeued = self
                .shared
                .store
                .requeue_quarantined(&job_id, &request.shard_idxs);
            let (rows, rows_listed) = requeued.await?;
            tracing::info!(%job_id, rows, rows_listed, "given-up rows wait again");
            self.shared.work_waits().await;
            Ok(v1::RequeueQuarantinedResponse { rows, rows_listed })
        })
        .await
    }

    async fn watch_job(&self, request: v1::WatchJobRequest) -> Result<JobUpdates, CallError> {
        timed("watch_job", async {
            self.caller.require(Role::Submitter)?;
            let job_id = JobId::new(request.job_id);
            self.known_job(&job_id).await?;
            Ok(watch::updates(self.clone(), job_id, request.period_ms))
        })
        .await
    }
}

impl CoordinatorHandle {
    /// Jobs that the caller may see, and the number after which the next page begins.
    async fn visible_jobs(
        &self,
        mut before: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<JobRecord>, Option<i64>)> {
        let mut visible: Vec<JobRecord> = Vec::new();
        loop {
            let query = JobQuery {
                unfinished: false,
                before,
                limit,
            };
            let records = self.shared.store.jobs(&query).await?;
            let is_last = records.len() < limit as usize;
            for record in records {
                before = Some(record.number);
                if self.caller.sees(&record.tenant) {
                    visible.push(record);
                }
                if visible.len() >= limit as usize {
                    return Ok((visible, before));
                }
            }
            if is_last {
                return Ok((visible, None));
            }
        }
    }

    /// Moves a job from whatever state it is in, if that is legal. That it is there already is
    /// fine: calls may be repeated.
    async fn move_to(&self, job_id: &JobId, next: JobState, why: Option<&Why>) -> Result<()> {
        for _ in 0..TRIES {
            let state = self.known_job(job_id).await?.state;
            if state == next {
                return Ok(());
            }
            if !state.may_become(next) {
                return Err(Error::JobNotRunning {
                    job_id: job_id.clone(),
                    state,
                });
            }
            if self.shared.store.move_job(job_id, state, next, why).await? {
                self.shared.tick.notify_one();
                self.shared.work_waits().await;
                return Ok(());
            }
        }
        Err(Error::TaskLost)
    }
}

fn shard_message(shard: ShardRecord) -> v1::Shard {
    let state: v1::ShardState = shard.state.into();
    v1::Shard {
        shard_idx: shard.shard_idx,
        state: state.into(),
        parent: shard.parent,
        plan_key: quire_dataset::paths::in_job::plan_group(u64::from(shard.span.group)),
        line_start: shard.span.line_start,
        line_end: shard.span.line_end,
        skip_rows: shard.span.skip_rows,
        n_rows: shard.span.n_rows,
        epoch: shard.epoch,
        deaths: shard.deaths,
        part: shard.part.map(|part| v1::Part {
            key: part.key,
            bytes: part.bytes,
            checksum: part.sha256,
            etag: part.etag.unwrap_or_default(),
        }),
    }
}

fn quarantine_message(record: QuarantineRecord) -> v1::QuarantinedRow {
    let page_number = match record.line.work {
        quire_core::PlannedWork::Read { first_idx, .. } => first_idx + 1,
        _ => 0,
    };
    v1::QuarantinedRow {
        shard_idx: record.shard_idx,
        doc_id: record.line.doc_id.to_string(),
        source_uri: record.line.source_uri,
        source_member: record.line.source_member.unwrap_or_default(),
        page_number,
        deaths: record.deaths,
        message: record.message,
    }
}

/// The fault of a job that does not go on, as a message.
pub(crate) fn fault_message(fault: Option<Fault>) -> v1::Fault {
    fault.map_or(v1::Fault::Unspecified, v1::Fault::from)
}
