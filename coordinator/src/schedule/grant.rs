//! Gives shards out: whose turn it is says `share`, whether it may be the store.

use quire_core::{EngineInfo, LeaseId, SessionId};
use quire_dataset::paths::in_job;
use quire_proto::v1;

use super::copies;
use super::straggle::soft_deadline_ms;
use super::view::{View, ViewedJob};
use crate::error::Result;
use crate::metrics;
use crate::shared::{KnownSession, Shared};
use crate::store::{Grant, NodeStanding, ShardRecord};

/// Leases one call grants at most.
const MAX_LEASES: u32 = 64;

/// Who asks, and for how much.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub session_id: &'a SessionId,
    pub session: &'a KnownSession,
    pub max_leases: u32,
    /// 0 for no such limit.
    pub want_rows: u64,
}

impl Asked<'_> {
    fn is_met(&self, leases: &[v1::Lease]) -> bool {
        let n_rows: u64 = leases.iter().map(|lease| u64::from(lease.n_rows)).sum();
        leases.len() >= self.max_leases.min(MAX_LEASES) as usize
            || (self.want_rows > 0 && n_rows >= self.want_rows)
    }
}

/// Grants what the session may have now.
pub(crate) async fn grant(shared: &Shared, asked: &Asked<'_>) -> Result<Vec<v1::Lease>> {
    let view = shared.views.get(&*shared.store).await?;
    let mut leases = Vec::new();
    if view.standing(&asked.session.node) != NodeStanding::Open || asked.max_leases == 0 {
        return Ok(leases);
    }
    // A shard that is far behind the others holds its job up: it goes before fresh ones.
    leases.extend(copies::grant(shared, &view, asked, false).await?);
    while !asked.is_met(&leases) {
        match grant_one(shared, &view, asked).await? {
            Granted::Lease(lease) => leases.push(*lease),
            Granted::Exhausted => {}
            // A draining session keeps what it holds and gets nothing more.
            Granted::Refused => return Ok(leases),
            Granted::Nothing => break,
        }
    }
    if leases.is_empty() {
        leases.extend(copies::grant(shared, &view, asked, true).await?);
    }
    Ok(leases)
}

enum Granted {
    Lease(Box<v1::Lease>),
    /// The job had nothing after all; another may.
    Exhausted,
    /// The session gets nothing.
    Refused,
    /// No job has anything.
    Nothing,
}

async fn grant_one(shared: &Shared, view: &View, asked: &Asked<'_>) -> Result<Granted> {
    let may = |job: &ViewedJob| can_read(asked.session, &job.engine);
    let Some((at, job)) = view.next_job(may) else {
        return Ok(Granted::Nothing);
    };
    let lease_id = new_lease_id();
    let job_id = &job.record.job_id;
    let granted = shared.store.grant(asked.session_id, job_id, &lease_id);
    match granted.await? {
        Grant::Granted(shard) => {
            view.granted(at, shard.span.n_rows);
            let lease = message(shared, job, &shard, &lease_id);
            report(asked, &lease, false);
            Ok(Granted::Lease(Box::new(lease)))
        }
        Grant::Nothing => {
            view.exhausted(at);
            Ok(Granted::Exhausted)
        }
        Grant::NoSession => Ok(Granted::Refused),
    }
}

pub(super) fn new_lease_id() -> LeaseId {
    LeaseId::new(uuid::Uuid::new_v4().to_string())
}

pub(super) fn report(asked: &Asked<'_>, lease: &v1::Lease, is_copy: bool) {
    metrics::granted(is_copy);
    tracing::debug!(
        job_id = lease.job_id,
        shard_idx = lease.shard_idx,
        epoch = lease.epoch,
        lease_id = lease.lease_id,
        session_id = %asked.session_id,
        node = asked.session.node,
        is_copy,
        traceparent = lease.traceparent,
        "shard granted"
    );
}

/// Whether the session has the engine that the job names; one that names none takes anything.
pub(super) fn can_read(session: &KnownSession, engine: &EngineInfo) -> bool {
    session.engines.is_empty() || session.engines.contains(engine)
}

/// A lease as its worker is told of it.
pub(super) fn message(
    shared: &Shared,
    job: &ViewedJob,
    shard: &ShardRecord,
    lease_id: &LeaseId,
) -> v1::Lease {
    let n_rows = shard.span.n_rows;
    shared.watches.note_lease(lease_id, shard);
    let record = &job.record;
    let soft_deadline_ms = match (
        &shared.config.stragglers,
        shared.watches.pace(&record.job_id),
    ) {
        (Some(policy), Some(pace)) => soft_deadline_ms(policy, pace, n_rows) as u64,
        _ => 0,
    };
    v1::Lease {
        lease_id: lease_id.to_string(),
        job_id: record.job_id.to_string(),
        shard_idx: shard.shard_idx,
        epoch: shard.epoch,
        plan_key: in_job::plan_group(u64::from(shard.span.group)),
        line_start: shard.span.line_start,
        line_end: shard.span.line_end,
        skip_rows: shard.span.skip_rows,
        n_rows,
        part_key: in_job::part(shard.shard_idx, lease_id),
        job_spec_json: record.spec_json.clone(),
        soft_deadline_ms,
        isolate_documents: shard.isolate.iter().map(ToString::to_string).collect(),
        traceparent: traceparent(),
        out: record.out.clone(),
    }
}

/// A trace of its own for each lease: version, trace, span, sampled.
fn traceparent() -> String {
    let trace = uuid::Uuid::new_v4().simple().to_string();
    let mut span = uuid::Uuid::new_v4().simple().to_string();
    span.truncate(16);
    format!("00-{trace}-{span}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lease_has_a_trace_of_its_own() {
        let (one, other) = (traceparent(), traceparent());
        assert_eq!(one.len(), 55);
        assert_ne!(one.get(3..35), other.get(3..35));
    }
}
