//! Sessions and what their heartbeats say.

use quire_core::SessionId;
use quire_proto::v1;
use sqlx::postgres::PgRow;

use super::{PostgresStore, rows};
use crate::error::Result;
use crate::job::JobState;
use crate::store::records::{Beat, NewSession, Progress, SessionRecord, Standing};

pub(super) async fn open(store: &PostgresStore, session: &NewSession) -> Result<()> {
    let statement = sqlx::query(
        "INSERT INTO sessions (session_id, worker_name, node, version, engines_json, \
         devices_json, state, expires_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, 'live', coalesce($8::bigint, quire_now_ms()) + $7) \
         ON CONFLICT (session_id) DO UPDATE SET expires_at_ms = excluded.expires_at_ms",
    )
    .bind(session.session_id.as_str())
    .bind(rows::text(&session.worker_name))
    .bind(rows::text(&session.node))
    .bind(rows::text(&session.version))
    .bind(rows::text(&session.engines_json))
    .bind(rows::json(&session.devices)?)
    .bind(session.ttl_ms)
    .bind(store.moment());
    store.run("add a session", statement).await?;
    Ok(())
}

pub(super) async fn get(
    store: &PostgresStore,
    session_id: &SessionId,
) -> Result<Option<SessionRecord>> {
    let statement =
        sqlx::query("SELECT * FROM sessions WHERE session_id = $1").bind(session_id.as_str());
    let row = store.one("read a session", statement).await?;
    row.as_ref().map(rows::session).transpose()
}

/// One round trip a heartbeat. When a lease moved on is told by [`crate::store::moved_on`], and
/// what a session becomes by [`crate::job::SessionState::after_heartbeat`]; here they stand in the
/// server's words. Leases are locked in one order, as whoever ends several does.
const HEARTBEAT: &str = "WITH clock AS MATERIALIZED \
         (SELECT coalesce($5::bigint, quire_now_ms()) AS now), \
     kept AS (UPDATE sessions SET expires_at_ms = now + $2, unhealthy = $4, \
         state = CASE WHEN $3 AND state = 'live' THEN 'draining' ELSE state END \
         FROM clock WHERE session_id = $1 RETURNING session_id), \
     said AS MATERIALIZED (SELECT * FROM unnest($6::text[], $7::text[], $8::integer[], \
         $9::integer[], $10::text[], $12::bool[]) WITH ORDINALITY \
         AS said (lease_id, stage, rows_done, rows_failed, in_flight_json, engine_moved, \
         place)), \
     held AS MATERIALIZED (SELECT l.lease_id FROM leases l JOIN kept USING (session_id) \
         WHERE l.lease_id = ANY($6) ORDER BY l.lease_id FOR NO KEY UPDATE OF l), \
     noted AS (UPDATE leases l SET stage = said.stage, rows_done = said.rows_done, \
         rows_failed = said.rows_failed, in_flight_json = said.in_flight_json, \
         progressed_at_ms = CASE WHEN said.rows_done > l.rows_done OR said.stage <> l.stage \
             OR said.stage = 'queued' OR said.engine_moved OR (said.stage = 'uploading' AND $11) \
             THEN clock.now ELSE l.progressed_at_ms END \
         FROM held, said, clock WHERE l.lease_id = held.lease_id \
         AND said.lease_id = held.lease_id RETURNING l.lease_id, l.job_id) \
     SELECT said.place, jobs.state FROM kept LEFT JOIN said ON true \
     LEFT JOIN noted USING (lease_id) LEFT JOIN jobs USING (job_id) ORDER BY said.place";

pub(super) async fn heartbeat(store: &PostgresStore, beat: &Beat) -> Result<Option<Vec<Standing>>> {
    let of =
        |read: fn(&Progress) -> &str| -> Vec<&str> { beat.progress.iter().map(read).collect() };
    // A count that no shard has is kept as the largest there is: it is the worker's affair.
    let counts = |read: fn(&Progress) -> u32| -> Vec<i32> {
        let counts = beat.progress.iter().map(read);
        counts
            .map(|n| i32::try_from(n).unwrap_or(i32::MAX))
            .collect()
    };
    let in_flight: Vec<String> = beat
        .progress
        .iter()
        .map(|progress| rows::json(&progress.in_flight))
        .collect::<Result<_>>()?;
    let engine_moved: Vec<bool> = beat.progress.iter().map(|of| of.engine_moved).collect();
    let statement = sqlx::query(HEARTBEAT)
        .bind(beat.session_id.as_str())
        .bind(beat.ttl_ms)
        .bind(beat.said == v1::WorkerState::Draining)
        .bind(beat.said == v1::WorkerState::Unhealthy)
        .bind(store.moment())
        .bind(of(|progress| progress.lease_id.as_str()))
        .bind(of(|progress| progress.stage.as_str()))
        .bind(counts(|progress| progress.rows_done))
        .bind(counts(|progress| progress.rows_failed))
        .bind(in_flight)
        .bind(beat.store_away)
        .bind(engine_moved);
    let found = store.all("keep a session", statement).await?;
    if found.is_empty() {
        return Ok(None);
    }
    // One row a lease; a session without any gives one row without a place.
    let told = found.iter().take(beat.progress.len());
    told.map(standing).collect::<Result<Vec<_>>>().map(Some)
}

fn standing(row: &PgRow) -> Result<Standing> {
    let state: Option<String> = rows::get(row, "state")?;
    Ok(match state.as_deref().map(JobState::parse) {
        None => Standing::Fenced,
        Some(state) if state.is_some_and(JobState::accepts_commits) => Standing::Live,
        Some(_) => Standing::JobEnded,
    })
}

pub(super) async fn close(store: &PostgresStore, session_id: &SessionId) -> Result<bool> {
    let mut tx = store.begin().await?;
    // A grant that is under way holds the row; what it granted is seen by the next statement.
    let hold = sqlx::query("SELECT 1 FROM sessions WHERE session_id = $1 FOR UPDATE");
    tx.run("hold a session", hold.bind(session_id.as_str()))
        .await?;
    let held = sqlx::query("SELECT 1 FROM leases WHERE session_id = $1 LIMIT 1");
    let held = tx
        .one("look for leases", held.bind(session_id.as_str()))
        .await?;
    if held.is_some() {
        tx.roll_back().await?;
        return Ok(false);
    }
    let end = sqlx::query("DELETE FROM sessions WHERE session_id = $1");
    tx.run("end a session", end.bind(session_id.as_str()))
        .await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn expire_all(store: &PostgresStore) -> Result<()> {
    let statement = sqlx::query(
        "UPDATE sessions SET expires_at_ms = least(expires_at_ms, clock.now) \
         FROM (SELECT coalesce($1::bigint, quire_now_ms()) AS now) AS clock",
    )
    .bind(store.moment());
    store.run("expire sessions", statement).await?;
    Ok(())
}

pub(super) async fn all(store: &PostgresStore) -> Result<Vec<SessionRecord>> {
    let statement = sqlx::query("SELECT * FROM sessions ORDER BY node, worker_name, session_id");
    let found = store.all("read sessions", statement).await?;
    found.iter().map(rows::session).collect()
}

pub(super) async fn expired(store: &PostgresStore) -> Result<Vec<SessionRecord>> {
    let statement = sqlx::query(
        "SELECT * FROM sessions WHERE expires_at_ms <= coalesce($1::bigint, quire_now_ms()) \
         ORDER BY session_id",
    )
    .bind(store.moment());
    let found = store.all("read sessions", statement).await?;
    found.iter().map(rows::session).collect()
}
