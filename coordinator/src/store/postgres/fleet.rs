//! What a fleet adds: deaths by node, paces, nodes, tenants, duties; and the clock of all.

use quire_core::JobId;

use super::{PostgresStore, rows};
use crate::error::Result;
use crate::store::records::{DeathRecord, Duty, NodeRecord, TenantRecord};

pub(super) async fn now(store: &PostgresStore) -> Result<i64> {
    if let Some(moment) = store.moment() {
        return Ok(moment);
    }
    let statement = sqlx::query("SELECT quire_now_ms() AS now");
    match store.one("ask for the time", statement).await? {
        Some(row) => rows::get(&row, "now"),
        None => Ok(0),
    }
}

pub(super) async fn paces(store: &PostgresStore, job_id: &JobId, limit: u32) -> Result<Vec<f64>> {
    let statement = sqlx::query(
        "SELECT ms_per_row FROM paces WHERE job_id = $1 ORDER BY at_ms DESC, slot LIMIT $2",
    )
    .bind(job_id.as_str())
    .bind(i64::from(limit));
    let found = store.all("read paces", statement).await?;
    found
        .iter()
        .map(|row| rows::get(row, "ms_per_row"))
        .collect()
}

pub(super) async fn deaths(store: &PostgresStore, since_ms: i64) -> Result<Vec<DeathRecord>> {
    let statement = sqlx::query(
        "SELECT a.node, a.job_id, a.shard_idx, a.ended_at_ms, \
         coalesce(s.winner_node <> a.node, false) AS is_finished_elsewhere \
         FROM attempts a LEFT JOIN shards s USING (job_id, shard_idx) \
         WHERE a.charged AND a.ended_at_ms >= $1 ORDER BY a.number",
    )
    .bind(since_ms);
    let found = store.all("read deaths", statement).await?;
    found.iter().map(rows::death).collect()
}

pub(super) async fn nodes(store: &PostgresStore) -> Result<Vec<NodeRecord>> {
    let statement = sqlx::query("SELECT * FROM nodes ORDER BY node");
    let found = store.all("read nodes", statement).await?;
    found.iter().map(rows::node).collect()
}

pub(super) async fn set_node(store: &PostgresStore, node: &NodeRecord) -> Result<()> {
    let statement = sqlx::query(
        "INSERT INTO nodes (node, standing, reason, is_automatic, since_ms) \
         VALUES ($1, $2, $3, $4, coalesce($5::bigint, quire_now_ms())) \
         ON CONFLICT (node) DO UPDATE SET standing = excluded.standing, \
         reason = excluded.reason, is_automatic = excluded.is_automatic, \
         since_ms = excluded.since_ms \
         WHERE nodes.standing = 'open' OR nodes.is_automatic OR NOT excluded.is_automatic",
    )
    .bind(rows::text(&node.node))
    .bind(node.standing.as_str())
    .bind(rows::text(&node.reason))
    .bind(node.is_automatic)
    .bind(store.moment());
    store.run("set a node", statement).await?;
    Ok(())
}

pub(super) async fn tenants(store: &PostgresStore) -> Result<Vec<TenantRecord>> {
    let statement = sqlx::query("SELECT * FROM tenants ORDER BY tenant");
    let found = store.all("read tenants", statement).await?;
    found.iter().map(rows::tenant).collect()
}

pub(super) async fn set_tenant(store: &PostgresStore, tenant: &str, weight: f64) -> Result<()> {
    let statement = sqlx::query(
        "INSERT INTO tenants (tenant, weight, used_rows, accounted_at_ms) \
         VALUES ($1, $2, 0, coalesce($3::bigint, quire_now_ms())) \
         ON CONFLICT (tenant) DO UPDATE SET weight = excluded.weight",
    )
    .bind(rows::text(tenant))
    .bind(weight)
    .bind(store.moment());
    store.run("set a tenant", statement).await?;
    Ok(())
}

/// What is left after the time since the last account is told by [`crate::store::decayed`].
const ACCOUNT: &str = "WITH clock AS MATERIALIZED \
         (SELECT coalesce($2::bigint, quire_now_ms()) AS now), \
     sums AS MATERIALIZED (SELECT job_id, \
         sum(rows_ok + rows_failed + rows_skipped)::bigint AS n FROM job_counters \
         GROUP BY job_id), \
     fresh AS MATERIALIZED (SELECT tenant, sum(greatest(sums.n - accounted_rows, 0)) AS n \
         FROM jobs JOIN sums USING (job_id) GROUP BY tenant), \
     noted AS (UPDATE jobs SET accounted_rows = sums.n FROM sums \
         WHERE sums.job_id = jobs.job_id AND accounted_rows <> sums.n) \
     UPDATE tenants SET accounted_at_ms = now, \
         used_rows = used_rows * power(0.5::double precision, \
             greatest(now - accounted_at_ms, 0)::double precision / greatest($1, 1)) \
             + coalesce((SELECT fresh.n FROM fresh WHERE fresh.tenant = tenants.tenant), 0) \
     FROM clock";

pub(super) async fn account(store: &PostgresStore, half_life_ms: i64) -> Result<()> {
    let mut tx = store.begin().await?;
    // Two at once would both charge the same rows: the second looks after the first is done.
    let alone = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('quire account', 0))");
    tx.run("account alone", alone).await?;
    let statement = sqlx::query(ACCOUNT).bind(half_life_ms).bind(store.moment());
    tx.run("charge tenants", statement).await?;
    tx.commit().await
}

pub(super) async fn take_duty(
    store: &PostgresStore,
    duty: &Duty,
    holder: &str,
    ttl_ms: i64,
) -> Result<bool> {
    let statement = sqlx::query(
        "WITH clock AS (SELECT coalesce($4::bigint, quire_now_ms()) AS now) \
         INSERT INTO duties (duty, holder, expires_at_ms) \
         SELECT $1, $2, now + $3 FROM clock \
         ON CONFLICT (duty) DO UPDATE \
         SET holder = excluded.holder, expires_at_ms = excluded.expires_at_ms \
         WHERE duties.holder = excluded.holder \
         OR duties.expires_at_ms <= excluded.expires_at_ms - $3",
    )
    .bind(duty.to_string())
    .bind(rows::text(holder))
    .bind(ttl_ms)
    .bind(store.moment());
    Ok(store.run("take a duty", statement).await? > 0)
}

pub(super) async fn drop_duty(store: &PostgresStore, duty: &Duty, holder: &str) -> Result<()> {
    let statement = sqlx::query("DELETE FROM duties WHERE duty = $1 AND holder = $2")
        .bind(duty.to_string())
        .bind(rows::text(holder));
    store.run("drop a duty", statement).await?;
    Ok(())
}
