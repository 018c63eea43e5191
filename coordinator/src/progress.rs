//! A job as its owner sees it.

use std::collections::BTreeSet;

use quire_core::SessionId;
use quire_proto::v1;

use crate::error::Result;
use crate::handle::fault_message;
use crate::job::JobState;
use crate::schedule::pace;
use crate::shared::Shared;
use crate::store::JobRecord;

/// Shards whose pace is looked at.
const PACES: u32 = 128;

/// A job that is known, with its progress.
pub(crate) async fn message(shared: &Shared, job: &JobRecord) -> Result<v1::Job> {
    let leases = shared.store.leases_of_job(&job.job_id).await?;
    let workers: BTreeSet<&SessionId> = leases.iter().map(|lease| &lease.session_id).collect();
    let mut paces = shared.store.paces(&job.job_id, PACES).await?;
    let failures = shared.store.failures(&job.job_id).await?;
    let planning = shared.planning(&job.job_id).message();
    let state: v1::JobState = job.state.into();
    let counters = &job.counters;
    // While the plan is drawn up, its size is what was seen so far.
    let is_planning = job.state == JobState::Planning && job.planned_at_ms.is_none();
    let (documents, rows) = match is_planning {
        true => (planning.documents_surveyed, planning.pages_surveyed),
        false => (job.plan.documents, job.plan.rows),
    };
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    Ok(v1::Job {
        job_id: job.job_id.to_string(),
        state: state.into(),
        state_reason: job
            .why
            .as_ref()
            .map(|why| why.reason.clone())
            .unwrap_or_default(),
        job_spec_json: job.spec_json.clone(),
        planning: Some(planning),
        documents_planned: documents,
        rows_planned: rows,
        rows_committed: Some(v1::RowCounts {
            ok: count(counters.rows_ok),
            failed: count(counters.rows_failed),
            skipped: count(counters.rows_skipped),
        }),
        rows_quarantined: count(counters.rows_quarantined),
        rows_in_flight: leases.iter().map(|lease| u64::from(lease.rows_done)).sum(),
        shards: Some(v1::ShardCounts {
            pending: count(counters.pending),
            leased: count(counters.leased),
            committed: count(counters.committed),
            published: count(counters.published),
            halved: count(counters.halved),
            quarantined: count(counters.quarantined),
        }),
        failures: failures
            .into_iter()
            .map(|failure| v1::FailureCount {
                code: failure.code,
                count: failure.count,
                example: failure.example,
            })
            .collect(),
        last_manifest: job.last_manifest,
        sealed_version: job.sealed_version.unwrap_or(0),
        already_complete: job.already_complete,
        created_at_ms: job.created_at_ms,
        planned_at_ms: job.planned_at_ms.unwrap_or(0),
        finished_at_ms: job.finished_at_ms.unwrap_or(0),
        out: job.out.clone(),
        state_fault: fault_message(job.why.as_ref().and_then(|why| why.fault)).into(),
        tenant: job.tenant.clone(),
        priority: job.priority,
        workers: u32::try_from(workers.len()).unwrap_or(u32::MAX),
        ms_per_row: pace::median(&mut paces).unwrap_or(0.0),
    })
}
