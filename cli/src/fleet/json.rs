//! Messages as JSON, with the names of the wire's fields. Fields are only ever added.

use quire_proto::v1::{Job, Tenant, Worker};
use serde_json::{Value, json};

use super::{pages_done, stage_name, standing_name, state_name, worker_state};

/// A job; rates are null where nothing is known.
pub(crate) fn job_json(job: &Job, pages_per_second: Option<f64>, eta: Option<u64>) -> Value {
    let rows = job.rows_committed.unwrap_or_default();
    let shards = job.shards.unwrap_or_default();
    let planning = job.planning.unwrap_or_default();
    let spec = serde_json::from_str(&job.job_spec_json).unwrap_or(Value::Null);
    let failures = job.failures.iter().map(|failure| {
        json!({ "code": failure.code, "count": failure.count, "example": failure.example })
    });
    json!({
        "job_id": job.job_id,
        "state": state_name(job.state()),
        "state_reason": job.state_reason,
        "out": job.out,
        "tenant": job.tenant,
        "priority": job.priority,
        "planning": {
            "entries_listed": planning.entries_listed,
            "entries_surveyed": planning.entries_surveyed,
            "documents_surveyed": planning.documents_surveyed,
            "pages_surveyed": planning.pages_surveyed,
            "documents_known": planning.documents_known,
        },
        "documents_planned": job.documents_planned,
        "rows_planned": job.rows_planned,
        "rows_done": pages_done(job),
        "rows_committed": { "ok": rows.ok, "failed": rows.failed, "skipped": rows.skipped },
        "rows_in_flight": job.rows_in_flight,
        "rows_quarantined": job.rows_quarantined,
        "shards": {
            "pending": shards.pending,
            "leased": shards.leased,
            "committed": shards.committed,
            "published": shards.published,
            "halved": shards.halved,
            "quarantined": shards.quarantined,
        },
        "failures": failures.collect::<Vec<_>>(),
        "workers": job.workers,
        "ms_per_row": job.ms_per_row,
        "pages_per_second": pages_per_second.map(|rate| (rate * 1000.0).round() / 1000.0),
        "eta_seconds": eta,
        "last_manifest": job.last_manifest,
        "sealed_version": job.sealed_version,
        "already_complete": job.already_complete,
        "created_at_ms": job.created_at_ms,
        "planned_at_ms": job.planned_at_ms,
        "finished_at_ms": job.finished_at_ms,
        "spec": spec,
    })
}

/// A worker with what it holds.
pub(crate) fn worker_json(worker: &Worker) -> Value {
    let leases = worker.leases.iter().map(|lease| {
        json!({
            "lease_id": lease.lease_id,
            "job_id": lease.job_id,
            "shard_idx": lease.shard_idx,
            "epoch": lease.epoch,
            "stage": stage_name(lease.stage()),
            "rows_done": lease.rows_done,
            "rows_failed": lease.rows_failed,
            "n_rows": lease.n_rows,
            "granted_at_ms": lease.granted_at_ms,
            "is_copy": lease.is_copy,
        })
    });
    json!({
        "session_id": worker.session_id,
        "worker_name": worker.worker_name,
        "node": worker.node,
        "version": worker.version,
        "devices": worker.devices,
        "engines": worker.engines,
        "state": worker_state(worker),
        "node_standing": standing_name(worker.node_standing()),
        "node_reason": worker.node_reason,
        "expires_at_ms": worker.expires_at_ms,
        "leases": leases.collect::<Vec<_>>(),
    })
}

/// A tenant with its share.
pub(crate) fn tenant_json(tenant: &Tenant) -> Value {
    json!({
        "tenant": tenant.tenant,
        "weight": tenant.weight,
        "used_rows": tenant.used_rows,
        "rows_waiting": tenant.rows_waiting,
    })
}
