//! What a fleet adds: deaths by node, paces, nodes, tenants, duties.

use quire_core::JobId;
use sqlx::Row;

use super::{SqliteStore, Tx, commit, during, rows};
use crate::error::Result;
use crate::store::records::{DeathRecord, Duty, NodeRecord, TenantRecord};
use crate::store::{PACE_RING, decayed};

/// Notes how long a row of an accepted part took.
pub(super) async fn note_pace(
    tx: &mut Tx,
    job_id: &JobId,
    shard_idx: u64,
    ms_per_row: f64,
    now: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO paces (job_id, slot, ms_per_row, at_ms) VALUES (?, ?, ?, ?) \
         ON CONFLICT (job_id, slot) DO UPDATE \
         SET ms_per_row = excluded.ms_per_row, at_ms = excluded.at_ms",
    )
    .bind(job_id.as_str())
    .bind(rows::int(shard_idx % PACE_RING)?)
    .bind(ms_per_row)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(during("note a pace"))?;
    Ok(())
}

pub(super) async fn paces(store: &SqliteStore, job_id: &JobId, limit: u32) -> Result<Vec<f64>> {
    sqlx::query_scalar(
        "SELECT ms_per_row FROM paces WHERE job_id = ? ORDER BY at_ms DESC, slot LIMIT ?",
    )
    .bind(job_id.as_str())
    .bind(limit)
    .fetch_all(&store.readers)
    .await
    .map_err(during("read paces"))
}

pub(super) async fn deaths(store: &SqliteStore, since_ms: i64) -> Result<Vec<DeathRecord>> {
    let found = sqlx::query(
        "SELECT a.node, a.job_id, a.shard_idx, a.ended_at_ms, \
         coalesce(s.winner_node <> a.node, 0) AS is_finished_elsewhere \
         FROM attempts a LEFT JOIN shards s USING (job_id, shard_idx) \
         WHERE a.charged = 1 AND a.ended_at_ms >= ? ORDER BY a.number",
    )
    .bind(since_ms)
    .fetch_all(&store.readers)
    .await
    .map_err(during("read deaths"))?;
    found.iter().map(rows::death).collect()
}

pub(super) async fn nodes(store: &SqliteStore) -> Result<Vec<NodeRecord>> {
    let found = sqlx::query("SELECT * FROM nodes ORDER BY node")
        .fetch_all(&store.readers)
        .await
        .map_err(during("read nodes"))?;
    found.iter().map(rows::node).collect()
}

pub(super) async fn set_node(store: &SqliteStore, node: &NodeRecord) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "INSERT INTO nodes (node, standing, reason, is_automatic, since_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (node) DO UPDATE \
         SET standing = ?2, reason = ?3, is_automatic = ?4, since_ms = ?5 \
         WHERE nodes.standing = 'open' OR nodes.is_automatic OR NOT ?4",
    )
    .bind(&node.node)
    .bind(node.standing.as_str())
    .bind(&node.reason)
    .bind(node.is_automatic)
    .bind(store.now())
    .execute(&mut *tx)
    .await
    .map_err(during("set a node"))?;
    commit(tx).await
}

pub(super) async fn tenants(store: &SqliteStore) -> Result<Vec<TenantRecord>> {
    let found = sqlx::query("SELECT * FROM tenants ORDER BY tenant")
        .fetch_all(&store.readers)
        .await
        .map_err(during("read tenants"))?;
    found.iter().map(rows::tenant).collect()
}

/// Makes a tenant known with a weight of 1, unless it is.
pub(super) async fn add_tenant(tx: &mut Tx, tenant: &str, now: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO tenants (tenant, weight, used_rows, accounted_at_ms) VALUES (?, 1.0, 0.0, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(during("add a tenant"))?;
    Ok(())
}

pub(super) async fn set_tenant(store: &SqliteStore, tenant: &str, weight: f64) -> Result<()> {
    let mut tx = store.begin().await?;
    add_tenant(&mut tx, tenant, store.now()).await?;
    sqlx::query("UPDATE tenants SET weight = ? WHERE tenant = ?")
        .bind(weight)
        .bind(tenant)
        .execute(&mut *tx)
        .await
        .map_err(during("set a tenant"))?;
    commit(tx).await
}

/// Rows of a tenant's accepted parts that it was not charged for.
const UNCHARGED: &str = "SELECT coalesce(sum(max(rows_ok + rows_failed + rows_skipped \
     - accounted_rows, 0)), 0) FROM jobs JOIN job_counters USING (job_id) WHERE tenant = ?";

pub(super) async fn account(store: &SqliteStore, half_life_ms: i64) -> Result<()> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let found = sqlx::query("SELECT * FROM tenants")
        .fetch_all(&mut *tx)
        .await
        .map_err(during("read tenants"))?;
    for row in &found {
        let tenant = rows::tenant(row)?;
        let fresh: i64 = sqlx::query_scalar(UNCHARGED)
            .bind(&tenant.tenant)
            .fetch_one(&mut *tx)
            .await
            .map_err(during("add up rows"))?;
        let elapsed = now.saturating_sub(tenant.accounted_at_ms);
        let used = decayed(tenant.used_rows, elapsed, half_life_ms) + fresh as f64;
        sqlx::query("UPDATE tenants SET used_rows = ?, accounted_at_ms = ? WHERE tenant = ?")
            .bind(used)
            .bind(now)
            .bind(&tenant.tenant)
            .execute(&mut *tx)
            .await
            .map_err(during("charge a tenant"))?;
    }
    sqlx::query(
        "UPDATE jobs SET accounted_rows = c.rows FROM (SELECT job_id, \
         rows_ok + rows_failed + rows_skipped AS rows FROM job_counters) AS c \
         WHERE c.job_id = jobs.job_id AND jobs.accounted_rows <> c.rows",
    )
    .execute(&mut *tx)
    .await
    .map_err(during("note what was charged"))?;
    commit(tx).await
}

pub(super) async fn take_duty(
    store: &SqliteStore,
    duty: &Duty,
    holder: &str,
    ttl_ms: i64,
) -> Result<bool> {
    let now = store.now();
    let mut tx = store.begin().await?;
    let done = sqlx::query(
        "INSERT INTO duties (duty, holder, expires_at_ms) VALUES (?1, ?2, ?3) \
         ON CONFLICT (duty) DO UPDATE SET holder = ?2, expires_at_ms = ?3 \
         WHERE duties.holder = ?2 OR duties.expires_at_ms <= ?4",
    )
    .bind(duty.to_string())
    .bind(holder)
    .bind(now.saturating_add(ttl_ms))
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(during("take a duty"))?;
    commit(tx).await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn drop_duty(store: &SqliteStore, duty: &Duty, holder: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query("DELETE FROM duties WHERE duty = ? AND holder = ?")
        .bind(duty.to_string())
        .bind(holder)
        .execute(&mut *tx)
        .await
        .map_err(during("drop a duty"))?;
    commit(tx).await
}

/// Whether a node may be given anything.
pub(super) async fn is_open(tx: &mut Tx, node: &str) -> Result<bool> {
    let closed = sqlx::query("SELECT 1 FROM nodes WHERE node = ? AND standing <> 'open'")
        .bind(node)
        .fetch_optional(&mut **tx)
        .await
        .map_err(during("read a node"))?;
    Ok(closed.is_none_or(|row| row.is_empty()))
}
