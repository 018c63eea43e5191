//! Rows of the tables as records, and back.

use std::borrow::Cow;

use quire_core::{DocId, Fault, JobId, LeaseId, SessionId};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::during;
use crate::error::{Error, Result};
use crate::job::{JobState, LeaseEnd, SessionState, ShardState};
use crate::store::records::*;

fn out_of_range(number: impl ToString) -> Error {
    Error::DatabaseValue {
        what: "a number",
        value: number.to_string(),
    }
}

/// A number as `bigint`.
pub(super) fn int(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| out_of_range(number))
}

/// A number as `integer`.
pub(super) fn small(number: impl TryInto<i32> + ToString + Copy) -> Result<i32> {
    number.try_into().map_err(|_| out_of_range(number))
}

/// Text as the server takes it: everything but the character 0, which a worker's message about a
/// broken file may hold.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A list as JSON.
pub(super) fn json(list: &(impl serde::Serialize + ?Sized)) -> Result<String> {
    serde_json::to_string(list)
        .map_err(|source| during("write a list")(sqlx::Error::Encode(Box::new(source))))
}

pub(super) fn get<'r, T>(row: &'r PgRow, column: &'static str) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(column).map_err(during("read a row"))
}

fn strange(column: &'static str, value: impl ToString) -> Error {
    Error::DatabaseValue {
        what: column,
        value: value.to_string(),
    }
}

/// A `bigint` that counts.
pub(super) fn count(row: &PgRow, column: &'static str) -> Result<u64> {
    let kept: i64 = get(row, column)?;
    u64::try_from(kept).map_err(|_| strange(column, kept))
}

/// An `integer` that counts.
pub(super) fn little(row: &PgRow, column: &'static str) -> Result<u32> {
    let kept: i32 = get(row, column)?;
    u32::try_from(kept).map_err(|_| strange(column, kept))
}

fn word<T>(row: &PgRow, column: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T> {
    let kept: &str = get(row, column)?;
    parse(kept).ok_or_else(|| strange(column, kept))
}

fn list<T: serde::de::DeserializeOwned>(row: &PgRow, column: &'static str) -> Result<T> {
    let kept: &str = get(row, column)?;
    serde_json::from_str(kept).map_err(|_| strange(column, kept))
}

pub(super) fn job_state(row: &PgRow) -> Result<JobState> {
    word(row, "state", JobState::parse)
}

pub(super) fn job(row: &PgRow) -> Result<JobRecord> {
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

fn counters(row: &PgRow) -> Result<Counters> {
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

fn span(row: &PgRow) -> Result<Span> {
    Ok(Span {
        first_row: count(row, "first_row")?,
        n_rows: little(row, "n_rows")?,
        group: little(row, "plan_group")?,
        line_start: little(row, "line_start")?,
        line_end: little(row, "line_end")?,
        skip_rows: little(row, "skip_rows")?,
    })
}

pub(super) fn shard(row: &PgRow) -> Result<ShardRecord> {
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
        epoch: little(row, "epoch")?,
        deaths: little(row, "deaths")?,
        setbacks: little(row, "setbacks")?,
        isolate: list::<Vec<DocId>>(row, "isolate_json")?,
        not_before_ms: get(row, "not_before_ms")?,
        part,
        rows: RowCounts {
            ok: u64::from(little(row, "rows_ok")?),
            failed: u64::from(little(row, "rows_failed")?),
            skipped: u64::from(little(row, "rows_skipped")?),
        },
        winner: get::<Option<String>>(row, "winner")?.map(LeaseId::new),
    })
}

pub(super) fn session(row: &PgRow) -> Result<SessionRecord> {
    Ok(SessionRecord {
        session_id: SessionId::new(get::<String>(row, "session_id")?),
        worker_name: get(row, "worker_name")?,
        node: get(row, "node")?,
        version: get(row, "version")?,
        engines_json: get(row, "engines_json")?,
        devices: list(row, "devices_json")?,
        state: word(row, "state", SessionState::parse)?,
        is_unhealthy: get(row, "unhealthy")?,
        expires_at_ms: get(row, "expires_at_ms")?,
    })
}

pub(super) fn lease(row: &PgRow) -> Result<LeaseRecord> {
    Ok(LeaseRecord {
        lease_id: LeaseId::new(get::<String>(row, "lease_id")?),
        session_id: SessionId::new(get::<String>(row, "session_id")?),
        node: get(row, "node")?,
        job_id: JobId::new(get::<String>(row, "job_id")?),
        shard_idx: count(row, "shard_idx")?,
        epoch: little(row, "epoch")?,
        granted_at_ms: get(row, "granted_at_ms")?,
        stage: word(row, "stage", LeaseStage::parse)?,
        rows_done: little(row, "rows_done")?,
        rows_failed: little(row, "rows_failed")?,
        in_flight: list(row, "in_flight_json")?,
        progressed_at_ms: get(row, "progressed_at_ms")?,
    })
}

pub(super) fn attempt(row: &PgRow) -> Result<AttemptRecord> {
    Ok(AttemptRecord {
        lease_id: LeaseId::new(get::<String>(row, "lease_id")?),
        shard_idx: count(row, "shard_idx")?,
        epoch: little(row, "epoch")?,
        node: get(row, "node")?,
        end: word(row, "ended", LeaseEnd::parse)?,
        charged: get(row, "charged")?,
        message: get(row, "message")?,
        suspects: list(row, "suspects_json")?,
        ended_at_ms: get(row, "ended_at_ms")?,
    })
}

pub(super) fn quarantine(row: &PgRow) -> Result<QuarantineRecord> {
    let manifest: Option<i64> = get(row, "manifest")?;
    Ok(QuarantineRecord {
        shard_idx: count(row, "shard_idx")?,
        span: span(row)?,
        line: list(row, "line_json")?,
        deaths: little(row, "deaths")?,
        message: get(row, "message")?,
        manifest: manifest.and_then(|number| u64::try_from(number).ok()),
    })
}

pub(super) fn failure(row: &PgRow) -> Result<FailureCount> {
    Ok(FailureCount {
        code: get(row, "code")?,
        count: count(row, "count")?,
        example: get(row, "example")?,
    })
}

pub(super) fn death(row: &PgRow) -> Result<DeathRecord> {
    Ok(DeathRecord {
        node: get(row, "node")?,
        job_id: JobId::new(get::<String>(row, "job_id")?),
        shard_idx: count(row, "shard_idx")?,
        is_finished_elsewhere: get(row, "is_finished_elsewhere")?,
        ended_at_ms: get(row, "ended_at_ms")?,
    })
}

pub(super) fn node(row: &PgRow) -> Result<NodeRecord> {
    Ok(NodeRecord {
        node: get(row, "node")?,
        standing: word(row, "standing", NodeStanding::parse)?,
        reason: get(row, "reason")?,
        is_automatic: get(row, "is_automatic")?,
        since_ms: get(row, "since_ms")?,
    })
}

pub(super) fn tenant(row: &PgRow) -> Result<TenantRecord> {
    Ok(TenantRecord {
        tenant: get(row, "tenant")?,
        weight: get(row, "weight")?,
        used_rows: get(row, "used_rows")?,
        accounted_at_ms: get(row, "accounted_at_ms")?,
    })
}
