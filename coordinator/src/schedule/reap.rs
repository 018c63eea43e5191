//! Ends leases: of sessions that fell silent, of workers that stand still, of those that said
//! they failed or gave back. The verdict is made on what the store said, and applied only if
//! that still holds.

use std::collections::BTreeSet;

use quire_core::{DocId, LeaseId, SessionId};
use tokio::time::Instant;

use super::verdict::{self, Case, Sentence};
use super::{halve, sick};
use crate::commit::finish;
use crate::error::Result;
use crate::job::LeaseEnd;
use crate::metrics;
use crate::plan::read;
use crate::shared::Shared;
use crate::store::{
    EndLease, LeaseRecord, LeaseStage, NodeRecord, NodeStanding, SessionRecord, ShardRecord,
    Verdict,
};

/// How often a verdict is made anew when the state changed under it.
const TRIES: usize = 8;

/// Why a lease ends.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub end: LeaseEnd,
    /// The shard may be to blame.
    pub charged: bool,
    pub message: String,
    pub suspects: Vec<DocId>,
}

impl Cause {
    fn expired(message: &str, charged: bool, lease: &LeaseRecord) -> Self {
        let suspects = if charged {
            lease.in_flight.clone()
        } else {
            Vec::new()
        };
        Self {
            end: LeaseEnd::Expired,
            charged,
            message: message.into(),
            suspects,
        }
    }

    pub(crate) fn released(message: &str) -> Self {
        let (end, message) = (LeaseEnd::Released, message.to_owned());
        Self {
            end,
            charged: false,
            message,
            suspects: Vec::new(),
        }
    }
}

/// Ends what expired; returns how many leases that were. `start` is when the store was first asked
/// for anything: if it took long to answer, it did so to workers that wanted to report as well,
/// and nothing is ended.
pub(crate) async fn reap(shared: &Shared, start: Instant) -> Result<usize> {
    let mut n_ended = 0;
    let expired = shared.store.expired_sessions().await?;
    let config = &shared.config;
    if !config.hosts_workers && start.elapsed() > config.session_ttl / 4 {
        tracing::info!("the database was slow to answer; nothing is ended for now");
        return Ok(0);
    }
    for session in expired {
        let leases = shared.store.leases_of_session(&session.session_id).await?;
        let blame = verdict::to_blame(&leases);
        for (lease, charged) in leases.iter().zip(blame) {
            let message = format!("worker {} fell silent", session.worker_name);
            end_lease(
                shared,
                &lease.lease_id,
                &Cause::expired(&message, charged, lease),
            )
            .await?;
            n_ended += 1;
        }
        shared.store.close_session(&session.session_id).await?;
        shared.forget_session(&session.session_id);
        let SessionRecord {
            session_id,
            worker_name,
            node,
            ..
        } = &session;
        let n_leases = leases.len();
        tracing::warn!(%session_id, worker_name, node, n_leases, "worker fell silent");
    }
    let timeout = i64::try_from(shared.config.progress_timeout.as_millis()).unwrap_or(i64::MAX);
    let before = shared.store.now_ms().await?.saturating_sub(timeout);
    for lease in shared.store.stalled_leases(before).await? {
        // One that was never begun got lost on the way, which no page is to blame for.
        let is_begun = lease.stage != LeaseStage::Queued || !lease.in_flight.is_empty();
        let cause = Cause::expired("no further page for too long", is_begun, &lease);
        end_lease(shared, &lease.lease_id, &cause).await?;
        n_ended += 1;
    }
    cordon_sick_nodes(shared).await?;
    Ok(n_ended)
}

/// Cordons nodes whose workers die on what others finish.
async fn cordon_sick_nodes(shared: &Shared) -> Result<()> {
    let Some(policy) = &shared.config.sick_nodes else {
        return Ok(());
    };
    let now_ms = shared.store.now_ms().await?;
    let within = i64::try_from(policy.within.as_millis()).unwrap_or(i64::MAX);
    let deaths = shared.store.deaths(now_ms.saturating_sub(within)).await?;
    if deaths.len() < policy.deaths as usize {
        return Ok(());
    }
    let nodes = shared.store.nodes().await?;
    for (node, n_shards) in sick::sick_nodes(policy, &deaths, &nodes, now_ms) {
        let reason = format!("its workers died on {n_shards} shards that other nodes finished");
        tracing::error!(node, reason, "node cordoned");
        let record = NodeRecord {
            node,
            standing: NodeStanding::Cordoned,
            reason,
            is_automatic: true,
            since_ms: now_ms,
        };
        shared.store.set_node(&record).await?;
        shared.views.outdated();
    }
    Ok(())
}

/// Gives back leases that their own worker does not name: it never learned of them, because the
/// answer that granted them was lost.
pub(crate) async fn release_unnamed(
    shared: &Shared,
    session_id: &SessionId,
    named: &[LeaseId],
) -> Result<()> {
    let ttl = i64::try_from(shared.config.session_ttl.as_millis()).unwrap_or(i64::MAX);
    let before = shared.store.now_ms().await?.saturating_sub(ttl);
    for lease in shared.store.leases_of_session(session_id).await? {
        // An answer may still be on its way.
        if lease.granted_at_ms <= before && !named.contains(&lease.lease_id) {
            let cause = Cause::released("its worker does not know of it");
            end_lease(shared, &lease.lease_id, &cause).await?;
        }
    }
    Ok(())
}

/// Gives back what a session holds: some leases, or all and the session with them.
pub(crate) async fn release(
    shared: &Shared,
    session_id: &SessionId,
    lease_ids: Option<&[LeaseId]>,
    message: &str,
) -> Result<()> {
    for lease in shared.store.leases_of_session(session_id).await? {
        if lease_ids.is_none_or(|ids| ids.contains(&lease.lease_id)) {
            end_lease(shared, &lease.lease_id, &Cause::released(message)).await?;
        }
    }
    if lease_ids.is_none() {
        shared.store.close_session(session_id).await?;
    }
    Ok(())
}

/// Ends a live lease; `None` if it was not live any more.
pub(crate) async fn end_lease(
    shared: &Shared,
    lease_id: &LeaseId,
    cause: &Cause,
) -> Result<Option<Sentence>> {
    for _ in 0..TRIES {
        let Some((lease, shard)) = shared.store.lease(lease_id).await? else {
            return Ok(None);
        };
        let charged = cause.charged && !is_sick(shared, &lease.node).await?;
        let sentence = sentence(shared, &lease, &shard, cause.end, charged).await?;
        let end = EndLease {
            lease_id: lease_id.clone(),
            end: cause.end,
            deaths_seen: shard.deaths,
            charged,
            message: cause.message.clone(),
            suspects: cause.suspects.clone(),
            verdict: verdict(shared, &shard, sentence, cause).await?,
        };
        if shared.store.end_lease(&end).await? {
            report(&lease, sentence, cause, charged);
            shared.watches.forget(lease_id);
            if sentence == Sentence::Quarantine {
                finish::watch_quarantine(shared, &lease.job_id).await?;
            }
            match sentence {
                // The other coordinators see a shard that waits again within a second.
                Sentence::Retry { .. } => shared.work_is_here(),
                Sentence::Halve | Sentence::Quarantine => shared.work_waits().await,
            }
            shared.tick.notify_one();
            return Ok(Some(sentence));
        }
    }
    Ok(None)
}

/// Deaths on a node that was cordoned for them say nothing of the shard.
async fn is_sick(shared: &Shared, node: &str) -> Result<bool> {
    if shared.config.sick_nodes.is_none() {
        return Ok(false);
    }
    Ok(shared.views.get(&*shared.store).await?.is_sick(node))
}

fn report(lease: &LeaseRecord, sentence: Sentence, cause: &Cause, charged: bool) {
    metrics::lease_ended(cause.end.as_str(), charged);
    let LeaseRecord {
        lease_id,
        job_id,
        shard_idx,
        epoch,
        ..
    } = lease;
    let (end, reason) = (cause.end, &cause.message);
    match sentence {
        Sentence::Retry { .. } if !charged => {
            tracing::debug!(%job_id, shard_idx, epoch, %lease_id, %end, reason, "lease ended");
        }
        Sentence::Retry { .. } => {
            let node = &lease.node;
            tracing::warn!(
                %job_id, shard_idx, epoch, %lease_id, node, %end, reason, "a worker died on a shard"
            );
        }
        Sentence::Halve => {
            tracing::warn!(%job_id, shard_idx, epoch, %lease_id, reason, "shard is halved");
        }
        Sentence::Quarantine => tracing::error!(
            %job_id, shard_idx, epoch, %lease_id, reason, "a row is given up: it kills its workers"
        ),
    }
}

async fn sentence(
    shared: &Shared,
    lease: &LeaseRecord,
    shard: &ShardRecord,
    end: LeaseEnd,
    charged: bool,
) -> Result<Sentence> {
    let store = &shared.store;
    let attempts = store.attempts(&shard.job_id, shard.shard_idx).await?;
    let no_nodes = BTreeSet::new();
    let case = Case {
        end,
        charged,
        n_rows: shard.span.n_rows,
        epoch: shard.epoch,
        deaths: shard.deaths,
        node: &lease.node,
        attempts: &attempts,
        sick_nodes: &no_nodes,
        has_copy: false,
    };
    let first = verdict::judge(&shared.config.deaths, &case);
    if matches!(first, Sentence::Retry { .. }) {
        return Ok(first);
    }
    // Only what would be condemned is looked at more closely.
    let mut sick_nodes = BTreeSet::new();
    for node in attempts.iter().map(|attempt| &attempt.node) {
        if is_sick(shared, node).await? {
            sick_nodes.insert(node.clone());
        }
    }
    let leases = store.leases_of_job(&shard.job_id).await?;
    let has_copy = leases
        .iter()
        .any(|other| other.shard_idx == shard.shard_idx && other.lease_id != lease.lease_id);
    let case = Case {
        sick_nodes: &sick_nodes,
        has_copy,
        ..case
    };
    Ok(verdict::judge(&shared.config.deaths, &case))
}

/// What the store is asked to do; reads the plan where rows have to be told apart.
async fn verdict(
    shared: &Shared,
    shard: &ShardRecord,
    sentence: Sentence,
    cause: &Cause,
) -> Result<Verdict> {
    let isolate = verdict::isolate(&cause.suspects, &shard.isolate);
    match sentence {
        Sentence::Retry { wait_ms } => {
            let not_before_ms = shared.store.now_ms().await?.saturating_add(wait_ms);
            let not_before_ms = if wait_ms == 0 { 0 } else { not_before_ms };
            Ok(Verdict::Retry {
                not_before_ms,
                isolate,
            })
        }
        Sentence::Halve => {
            let area = shared.area_of(&shard.job_id).await?;
            let found = read::lines_of(&area, &shard.span).await?;
            let after = halve::cut_after(&found.lines, &cause.suspects);
            let spans = halve::split(&shard.span, &found.line_rows, after);
            Ok(Verdict::Halve { spans, isolate })
        }
        Sentence::Quarantine => {
            let area = shared.area_of(&shard.job_id).await?;
            let mut found = read::lines_of(&area, &shard.span).await?;
            let Some(line) = found.lines.pop() else {
                return Err(crate::Error::Contradiction {
                    job_id: shard.job_id.clone(),
                    message: format!("shard {} has no line", shard.shard_idx),
                });
            };
            let message = format!(
                "given up after {} attempts that ended with their worker: {}",
                shard.deaths + 1,
                cause.message
            );
            Ok(Verdict::Quarantine {
                line: Box::new(line),
                message,
            })
        }
    }
}
