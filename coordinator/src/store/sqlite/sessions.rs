//! Sessions and what their heartbeats say.

use quire_core::SessionId;
use quire_proto::v1;

use super::{SqliteStore, Tx, commit, during, rows};
use crate::error::Result;
use crate::job::JobState;
use crate::store::moved_on;
use crate::store::records::{Beat, NewSession, Progress, SessionRecord, Standing};

pub(super) async fn open(store: &SqliteStore, session: &NewSession) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "INSERT INTO sessions (session_id, worker_name, node, version, engines_json, \
         devices_json, state, expires_at_ms) VALUES (?, ?, ?, ?, ?, ?, 'live', ?)",
    )
    .bind(session.session_id.as_str())
    .bind(&session.worker_name)
    .bind(&session.node)
    .bind(&session.version)
    .bind(&session.engines_json)
    .bind(rows::words_json(&session.devices)?)
    .bind(store.now() + session.ttl_ms)
    .execute(&mut *tx)
    .await
    .map_err(during("add a session"))?;
    commit(tx).await
}

pub(super) async fn get(
    store: &SqliteStore,
    session_id: &SessionId,
) -> Result<Option<SessionRecord>> {
    let row = sqlx::query("SELECT * FROM sessions WHERE session_id = ?")
        .bind(session_id.as_str())
        .fetch_optional(&store.readers)
        .await
        .map_err(during("read a session"))?;
    row.as_ref().map(rows::session).transpose()
}

pub(super) async fn heartbeat(store: &SqliteStore, beat: &Beat) -> Result<Option<Vec<Standing>>> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let row = sqlx::query("SELECT * FROM sessions WHERE session_id = ?")
        .bind(beat.session_id.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(during("read a session"))?;
    let Some(session) = row.as_ref().map(rows::session).transpose()? else {
        return Ok(None);
    };
    sqlx::query(
        "UPDATE sessions SET expires_at_ms = ?, state = ?, unhealthy = ? WHERE session_id = ?",
    )
    .bind(now + beat.ttl_ms)
    .bind(session.state.after_heartbeat(beat.said).as_str())
    .bind(beat.said == v1::WorkerState::Unhealthy)
    .bind(beat.session_id.as_str())
    .execute(&mut *tx)
    .await
    .map_err(during("keep a session"))?;
    let mut standings = Vec::with_capacity(beat.progress.len());
    for progress in &beat.progress {
        standings.push(note(&mut tx, beat, progress, now).await?);
    }
    commit(tx).await?;
    Ok(Some(standings))
}

/// Notes the progress of one lease.
async fn note(tx: &mut Tx, beat: &Beat, progress: &Progress, now: i64) -> Result<Standing> {
    let row = sqlx::query("SELECT * FROM leases WHERE lease_id = ? AND session_id = ?")
        .bind(progress.lease_id.as_str())
        .bind(beat.session_id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(during("read a lease"))?;
    let Some(lease) = row.as_ref().map(rows::lease).transpose()? else {
        return Ok(Standing::Fenced);
    };
    let progressed_at = if moved_on(&lease, progress, beat.store_away) {
        now
    } else {
        lease.progressed_at_ms
    };
    sqlx::query(
        "UPDATE leases SET stage = ?, rows_done = ?, rows_failed = ?, in_flight_json = ?, \
         progressed_at_ms = ? WHERE lease_id = ?",
    )
    .bind(progress.stage.as_str())
    .bind(progress.rows_done)
    .bind(progress.rows_failed)
    .bind(rows::documents_json(&progress.in_flight)?)
    .bind(progressed_at)
    .bind(progress.lease_id.as_str())
    .execute(&mut **tx)
    .await
    .map_err(during("note progress"))?;
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM jobs WHERE job_id = ?")
        .bind(lease.job_id.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(during("read a job"))?;
    let accepts = state
        .as_deref()
        .and_then(JobState::parse)
        .is_some_and(JobState::accepts_commits);
    Ok(if accepts {
        Standing::Live
    } else {
        Standing::JobEnded
    })
}

pub(super) async fn close(store: &SqliteStore, session_id: &SessionId) -> Result<bool> {
    let mut tx = store.begin().await?;
    let n_leases: i64 = sqlx::query_scalar("SELECT count(*) FROM leases WHERE session_id = ?")
        .bind(session_id.as_str())
        .fetch_one(&mut *tx)
        .await
        .map_err(during("count leases"))?;
    if n_leases > 0 {
        return Ok(false);
    }
    sqlx::query("DELETE FROM sessions WHERE session_id = ?")
        .bind(session_id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(during("end a session"))?;
    commit(tx).await?;
    Ok(true)
}

pub(super) async fn expire_all(store: &SqliteStore) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query("UPDATE sessions SET expires_at_ms = min(expires_at_ms, ?)")
        .bind(store.now())
        .execute(&mut *tx)
        .await
        .map_err(during("expire sessions"))?;
    commit(tx).await
}

pub(super) async fn expired(store: &SqliteStore) -> Result<Vec<SessionRecord>> {
    let found = sqlx::query("SELECT * FROM sessions WHERE expires_at_ms <= ? ORDER BY session_id")
        .bind(store.now())
        .fetch_all(&store.readers)
        .await
        .map_err(during("read sessions"))?;
    found.iter().map(rows::session).collect()
}

pub(super) async fn all(store: &SqliteStore) -> Result<Vec<SessionRecord>> {
    let found = sqlx::query("SELECT * FROM sessions ORDER BY node, worker_name, session_id")
        .fetch_all(&store.readers)
        .await
        .map_err(during("read sessions"))?;
    found.iter().map(rows::session).collect()
}
