//! Rows of the tables as records, and back.

use quire_core::{DocId, Fault, JobId, LeaseId, SessionId};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::during;
use crate::error::{Error, Result};
use crate::job::{JobState, LeaseEnd, SessionState, ShardState};
use crate::store::records::*;

/// A number as SQLite keeps it.
pub(super) fn int(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::DatabaseValue {
        what: "a number",
        value: number.to_string(),
    })
}

/// Documents as JSON.
pub(super) fn documents_json(documents: &[DocId]) -> Result<String> {
    serde_json::to_string(documents).map_err(|source| Error::Database {
        action: "write documents",
        source: sqlx::Error::Encode(Box::new(source)),
    })
}

/// Words as JSON.
pub(super) fn words_json(words: &[String]) -> Result<String> {
    serde_json::to_string(words).map_err(|source| Error::Database {
        action: "write words",
        source: sqlx::Error::Encode(Box::new(source)),
    })
}

fn words(row: &SqliteRow, column: &'static str) -> Result<Vec<String>> {
    let kept: String = get(row, column)?;
    serde_json::from_str(&kept).map_err(|_| Error::DatabaseValue {
        what: column,
        value: kept,
    })
}

fn get<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(during("read a row"))
}

fn count(row: &SqliteRow, column: &'static str) -> Result<u64> {
    let kept: i64 = get(row, column)?;
    u64::try_from(kept).map_err(|_| Error::DatabaseValue {
        what: column,
        value: kept.to_string(),
    })
}

fn word<T>(
    row: &SqliteRow,
    column: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T> {
    let kept: String = get(row, column)?;
    parse(&kept).ok_or(Error::DatabaseValue {
        what: column,
        value: kept,
    })
}

fn documents(row: &SqliteRow, column: &'static str) -> Result<Vec<DocId>> {
    let kept: String = get(row, column)?;
    serde_json::from_str(&kept).map_err(|_| Error::DatabaseValue {
        what: column,
        value: kept,
    })
}

pub(super) fn job(row: &SqliteRow) -> Result<JobRecord> {
    let reason: Option<String> = get(row, "reason")?;
    let fault: Option<String> = get(row, "fault")?;
    let sealed_version: Option<i64> = get(row, "sealed_version")?;
    Ok(JobRecord {
        job_id: JobId::new(get::<String>(row, "job_id")?),
        number: get(row, "number")?,
        out: get(row, "out")?,
        sequence: count(row, "sequence")?,
        spec_json: get(row, "spec_json")?,
        spec_sha256: get(row, "spec_sha256")?,
        tenant: get(row, "tenant")?,
        state: word(row, "state", JobState::parse)?,
        why: reason.map(|reason| Why {
            reason,
            fault: fault.as_deref().and_then(Fault::parse),
        }),
        priority: get(row, "priority")?,
        plan: PlanTotals {
            documents: count(row, "documents")?,
            rows: count(row, "rows")?,
        },
        counters: counters(row)?,
        last_manifest: count(row, "last_manifest")?,
        sealed_version: sealed_version.and_then(|version| u64::try_from(version).ok()),
        already_complete: get(row, "already_complete")?,
        created_at_ms: get(row, "created_at_ms")?,
        planned_at_ms: get(row, "planned_at_ms")?,
        finished_at_ms: get(row, "finished_at_ms")?,
    })
}

fn counters(row: &SqliteRow) -> Result<Counters> {
    Ok(Counters {
        pending: get(row, "pending")?,
        leased: get(row, "leased")?,
        committed: get(row, "committed")?,
        published: get(row, "published")?,
        halved: get(row, "halved")?,
        quarantined: get(row, "quarantined")?,
        rows_ok: get(row, "rows_ok")?,
        rows_failed: get(row, "rows_failed")?,
        rows_skipped: get(row, "rows_skipped")?,
        rows_published: get(row, "rows_published")?,
        rows_quarantined: get(row, "rows_quarantined")?,
    })
}

fn span(row: &SqliteRow) -> Result<Span> {
    Ok(Span {
        first_row: count(row, "first_row")?,
        n_rows: get(row, "n_rows")?,
        group: get(row, "plan_group")?,
        line_start: get(row, "line_start")?,
        line_end: get(row, "line_end")?,
        skip_rows: get(row, "skip_rows")?,
    })
}

pub(super) fn shard(row: &SqliteRow) -> Result<ShardRecord> {
    let parent: Option<i64> = get(row, "parent")?;
    let key: Option<String> = get(row, "part_key")?;
    let part = match key {
        None => None,
        Some(key) => Some(PartRecord {
            key,
            bytes: count(row, "part_bytes")?,
            sha256: get(row, "part_sha256")?,
            etag: get(row, "part_etag")?,
        }),
    };
    Ok(ShardRecord {
        job_id: JobId::new(get::<String>(row, "job_id")?),
        shard_idx: count(row, "shard_idx")?,
        parent: parent.and_then(|parent| u64::try_from(parent).ok()),
        span: span(row)?,
        state: word(row, "state", ShardState::parse)?,
        epoch: get(row, "epoch")?,
        deaths: get(row, "deaths")?,
        setbacks: get(row, "setbacks")?,
        isolate: documents(row, "isolate_json")?,
        not_before_ms: get(row, "not_before_ms")?,
        part,
        rows: RowCounts {
            ok: count(row, "rows_ok")?,
            failed: count(row, "rows_failed")?,
            skipped: count(row, "rows_skipped")?,
        },
        winner: get::<Option<String>>(row, "winner")?.map(LeaseId::new),
    })
}

pub(super) fn session(row: &SqliteRow) -> Result<SessionRecord> {
    Ok(SessionRecord {
        session_id: SessionId::new(get::<String>(row, "session_id")?),
        worker_name: get(row, "worker_name")?,
        node: get(row, "node")?,
        version: get(row, "version")?,
        engines_json: get(row, "engines_json")?,
        devices: words(row, "devices_json")?,
        state: word(row, "state", SessionState::parse)?,
        is_unhealthy: get(row, "unhealthy")?,
        expires_at_ms: get(row, "expires_at_ms")?,
    })
}

pub(super) fn lease(row: &SqliteRow) -> Result<LeaseRecord> {
    Ok(LeaseRecord {
        lease_id: LeaseId::new(get::<String>(row, "lease_id")?),
        session_id: SessionId::new(get::<String>(row, "session_id")?),
        node: get(row, "node")?,
        job_id: JobId::new(get::<String>(row, "job_id")?),
        shard_idx: count(row, "shard_idx")?,
        epoch: get(row, "epoch")?,
        granted_at_ms: get(row, "granted_at_ms")?,
        stage: word(row, "stage", LeaseStage::parse)?,
        rows_done: get(row, "rows_done")?,
        rows_failed: get(row, "rows_failed")?,
        in_flight: documents(row, "in_flight_json")?,
        progressed_at_ms: get(row, "progressed_at_ms")?,
    })
}

pub(super) fn attempt(row: &SqliteRow) -> Result<AttemptRecord> {
    Ok(AttemptRecord {
        lease_id: LeaseId::new(get::<String>(row, "lease_id")?),
        shard_idx: count(row, "shard_idx")?,
        epoch: get(row, "epoch")?,
        node: get(row, "node")?,
        end: word(row, "ended", LeaseEnd::parse)?,
        charged: get(row, "charged")?,
        message: get(row, "message")?,
        suspects: documents(row, "suspects_json")?,
        ended_at_ms: get(row, "ended_at_ms")?,
    })
}

pub(super) fn quarantine(row: &SqliteRow) -> Result<QuarantineRecord> {
    let line: String = get(row, "line_json")?;
    let manifest: Option<i64> = get(row, "manifest")?;
    Ok(QuarantineRecord {
        shard_idx: count(row, "shard_idx")?,
        span: span(row)?,
        line: serde_json::from_str(&line).map_err(|_| Error::DatabaseValue {
            what: "line_json",
            value: line,
        })?,
        deaths: get(row, "deaths")?,
        message: get(row, "message")?,
        manifest: manifest.and_then(|number| u64::try_from(number).ok()),
    })
}

pub(super) fn failure(row: &SqliteRow) -> Result<FailureCount> {
    Ok(FailureCount {
        code: get(row, "code")?,
        count: count(row, "count")?,
        example: get(row, "example")?,
    })
}

pub(super) fn death(row: &SqliteRow) -> Result<DeathRecord> {
    Ok(DeathRecord {
        node: get(row, "node")?,
        job_id: JobId::new(get::<String>(row, "job_id")?),
        shard_idx: count(row, "shard_idx")?,
        is_finished_elsewhere: get(row, "is_finished_elsewhere")?,
        ended_at_ms: get(row, "ended_at_ms")?,
    })
}

pub(super) fn node(row: &SqliteRow) -> Result<NodeRecord> {
    Ok(NodeRecord {
        node: get(row, "node")?,
        standing: word(row, "standing", NodeStanding::parse)?,
        reason: get(row, "reason")?,
        is_automatic: get(row, "is_automatic")?,
        since_ms: get(row, "since_ms")?,
    })
}

pub(super) fn tenant(row: &SqliteRow) -> Result<TenantRecord> {
    Ok(TenantRecord {
        tenant: get(row, "tenant")?,
        weight: get(row, "weight")?,
        used_rows: get(row, "used_rows")?,
        accounted_at_ms: get(row, "accounted_at_ms")?,
    })
}
