//! What a fleet adds: second copies, deaths by node, paces, nodes, tenants, duties.

use quire_core::{JobId, LeaseId, SessionId, ShardIdx};

use super::Tables;
use crate::job::{JobState, SessionState, ShardState};
use crate::store::records::*;
use crate::store::{PACE_RING, decayed, pace_of};

impl Tables {
    /// The node of a session that may take a shard of the job now, or why it may not.
    pub(super) fn may_take(
        &self,
        session_id: &SessionId,
        job_id: &JobId,
        now: i64,
    ) -> Result<String, Grant> {
        let session = self.sessions.get(session_id).filter(|session| {
            session.state == SessionState::Live
                && session.expires_at_ms > now
                && !session.is_unhealthy
        });
        let Some(session) = session else {
            return Err(Grant::NoSession);
        };
        let is_open = self
            .nodes
            .get(&session.node)
            .is_none_or(|node| node.standing == NodeStanding::Open);
        let runs = self
            .jobs
            .get(job_id)
            .is_some_and(|job| job.state == JobState::Running);
        if is_open && runs {
            Ok(session.node.clone())
        } else {
            Err(Grant::Nothing)
        }
    }

    /// Adds a lease on a leased shard: its next attempt.
    pub(super) fn add_lease(
        &mut self,
        session_id: &SessionId,
        node: &str,
        (job_id, shard_idx): (&JobId, ShardIdx),
        lease_id: &LeaseId,
        now: i64,
    ) -> Grant {
        let Some(shard) = self.shard_mut(job_id, shard_idx) else {
            return Grant::Nothing;
        };
        shard.epoch += 1;
        let shard = shard.clone();
        let lease = LeaseRecord {
            lease_id: lease_id.clone(),
            session_id: session_id.clone(),
            node: node.to_owned(),
            job_id: job_id.clone(),
            shard_idx,
            epoch: shard.epoch,
            granted_at_ms: now,
            stage: LeaseStage::Queued,
            rows_done: 0,
            rows_failed: 0,
            in_flight: Vec::new(),
            progressed_at_ms: now,
        };
        self.leases.insert(lease_id.clone(), lease);
        Grant::Granted(Box::new(shard))
    }

    /// Notes who brought a part and how long a row of it took.
    pub(super) fn note_commit(&mut self, lease: &LeaseRecord, commit: &Commit, now: i64) {
        let job_id = &lease.job_id;
        self.winner_nodes
            .insert((job_id.clone(), lease.shard_idx), lease.node.clone());
        if let Some(pace) = pace_of(commit) {
            let slot = lease.shard_idx % PACE_RING;
            self.paces.insert((job_id.clone(), slot), (now, pace));
        }
    }

    pub(super) fn all_sessions(&self) -> Vec<SessionRecord> {
        let mut sessions: Vec<SessionRecord> = self.sessions.values().cloned().collect();
        sessions.sort_by(|a, b| {
            (&a.node, &a.worker_name, &a.session_id).cmp(&(&b.node, &b.worker_name, &b.session_id))
        });
        sessions
    }

    pub(super) fn requeue(&mut self, job_id: &JobId, shard_idxs: &[ShardIdx]) -> (u64, u64) {
        if self.jobs.get(job_id).is_none_or(|job| job.state.is_final()) {
            return (0, 0);
        }
        let given_up: Vec<QuarantineRecord> = self
            .quarantine
            .range((job_id.clone(), 0)..=(job_id.clone(), ShardIdx::MAX))
            .map(|(_, record)| record.clone())
            .filter(|record| shard_idxs.is_empty() || shard_idxs.contains(&record.shard_idx))
            .collect();
        let (mut waiting, mut listed) = (0, 0);
        for record in given_up {
            let n_rows = u64::from(record.span.n_rows);
            if record.manifest.is_some() {
                listed += n_rows;
                continue;
            }
            waiting += n_rows;
            self.quarantine.remove(&(job_id.clone(), record.shard_idx));
            self.move_shard(job_id, record.shard_idx, ShardState::Pending);
            if let Some(shard) = self.shard_mut(job_id, record.shard_idx) {
                (shard.deaths, shard.setbacks, shard.not_before_ms) = (0, 0, 0);
            }
            let n_rows = i64::from(record.span.n_rows);
            self.counters(job_id, |counters| counters.rows_quarantined -= n_rows);
        }
        (waiting, listed)
    }

    pub(super) fn deaths(&self, since_ms: i64) -> Vec<DeathRecord> {
        let charged = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.charged && attempt.ended_at_ms >= since_ms);
        charged
            .map(|(job_id, attempt)| {
                let winner = self.winner_nodes.get(&(job_id.clone(), attempt.shard_idx));
                DeathRecord {
                    node: attempt.node.clone(),
                    job_id: job_id.clone(),
                    shard_idx: attempt.shard_idx,
                    is_finished_elsewhere: winner.is_some_and(|node| *node != attempt.node),
                    ended_at_ms: attempt.ended_at_ms,
                }
            })
            .collect()
    }

    pub(super) fn newest_paces(&self, job_id: &JobId, limit: usize) -> Vec<f64> {
        let mut kept: Vec<(i64, u64, f64)> = self
            .paces
            .range((job_id.clone(), 0)..=(job_id.clone(), u64::MAX))
            .map(|((_, slot), (at, pace))| (-at, *slot, *pace))
            .collect();
        kept.sort_by_key(|&(at, slot, _)| (at, slot));
        kept.truncate(limit);
        kept.into_iter().map(|(_, _, pace)| pace).collect()
    }

    pub(super) fn set_node(&mut self, node: &NodeRecord, now: i64) {
        let by_person = self
            .nodes
            .get(&node.node)
            .is_some_and(|kept| kept.standing != NodeStanding::Open && !kept.is_automatic);
        if by_person && node.is_automatic {
            return;
        }
        let node = NodeRecord {
            since_ms: now,
            ..node.clone()
        };
        self.nodes.insert(node.node.clone(), node);
    }

    pub(super) fn add_tenant(&mut self, tenant: &str, now: i64) -> &mut TenantRecord {
        self.tenants
            .entry(tenant.to_owned())
            .or_insert_with(|| TenantRecord {
                tenant: tenant.to_owned(),
                weight: 1.0,
                used_rows: 0.0,
                accounted_at_ms: now,
            })
    }

    pub(super) fn account(&mut self, half_life_ms: i64, now: i64) {
        for tenant in self.tenants.values_mut() {
            tenant.used_rows = decayed(
                tenant.used_rows,
                now.saturating_sub(tenant.accounted_at_ms),
                half_life_ms,
            );
            tenant.accounted_at_ms = now;
        }
        for job in self.jobs.values() {
            let rows = job.counters.rows_accepted();
            let before = self.accounted.insert(job.job_id.clone(), rows).unwrap_or(0);
            if let Some(tenant) = self.tenants.get_mut(&job.tenant) {
                tenant.used_rows += (rows - before).max(0) as f64;
            }
        }
    }

    pub(super) fn take_duty(&mut self, duty: &Duty, holder: &str, now: i64, ttl_ms: i64) -> bool {
        let name = duty.to_string();
        let held = self.duties.get(&name);
        if held.is_some_and(|(held_by, until)| held_by != holder && *until > now) {
            return false;
        }
        self.duties
            .insert(name, (holder.to_owned(), now.saturating_add(ttl_ms)));
        true
    }
}
