//! A large table, half done: the calls that happen all the time touch few rows of it.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::*;
use crate::job::ShardState;
use crate::store::ShardQuery;

const N_SHARDS: u64 = 20_000;

/// How `quire_grant` looks for a shard; [`the_plan_that_is_tested_is_the_one_that_is_used`].
const FIRST_WAITING: &str = "SELECT shard_idx FROM shards \
     WHERE job_id = p_job AND state = 'pending' AND not_before_ms <= v_now \
     ORDER BY qkey LIMIT 1 FOR UPDATE SKIP LOCKED";

#[test]
fn the_plan_that_is_tested_is_the_one_that_is_used() {
    let functions = include_str!("../migrations/0002_leases.sql");
    let words: Vec<&str> = functions.split_whitespace().collect();
    assert!(words.join(" ").contains(FIRST_WAITING));
}

/// A running job whose first half is published, as autovacuum would leave it.
async fn half_done() -> Option<Arc<PostgresStore>> {
    let (store, _) = timed_store().await?;
    running(&store, N_SHARDS, 1).await;
    let half = i64::try_from(N_SHARDS / 2).unwrap();
    let publish = sqlx::query(
        "UPDATE shards SET state = 'published', part_key = 'p', part_bytes = 1, \
         part_sha256 = 'ab', rows_ok = 10, winner = 'l-' || shard_idx WHERE shard_idx < $1",
    );
    store.run("publish", publish.bind(half)).await.unwrap();
    store
        .run("vacuum", sqlx::query("VACUUM ANALYZE shards"))
        .await
        .unwrap();
    Some(store)
}

/// What this connection read of the table of shards of late: scans of the whole, and rows fetched
/// by index.
async fn touched(connection: &mut PgConnection) -> (i64, i64) {
    let row = sqlx::query(
        "SELECT coalesce(seq_scan, 0), coalesce(idx_tup_fetch, 0) \
         FROM pg_stat_xact_user_tables WHERE relname = 'shards'",
    )
    .fetch_one(connection)
    .await
    .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn grant_and_commit_touch_few_rows_of_a_half_done_table() {
    let Some(store) = half_done().await else {
        return;
    };
    // More often than it takes until the server keeps one plan for all.
    for n in 0..12 {
        let mut tx = store.begin().await.unwrap();
        let before = touched(&mut tx.0).await;
        let grant = sqlx::query("SELECT (taken).shard_idx FROM quire_grant($1, $2, $3, NULL)")
            .bind("s-0")
            .bind("j-1")
            .bind(format!("l-new-{n}"));
        let row = tx.one("grant", grant).await.unwrap().unwrap();
        let granted: i64 = row.get(0);
        assert_eq!(granted, i64::try_from(N_SHARDS / 2).unwrap() + n);
        let after = touched(&mut tx.0).await;
        let (scans, rows) = (after.0 - before.0, after.1 - before.1);
        assert!(
            scans == 0 && rows <= 20,
            "grant {n}: {scans} scans, {rows} rows"
        );
        let commit = sqlx::query(
            "SELECT quire_commit($1, 'p', 1, 'ab', NULL, 10, 0, 0, 1.5, 128, '{}', '{}', '{}', NULL)",
        )
        .bind(format!("l-new-{n}"));
        tx.one("commit", commit).await.unwrap();
        let after = touched(&mut tx.0).await;
        let (scans, rows) = (after.0 - before.0, after.1 - before.1);
        assert!(
            scans == 0 && rows <= 30,
            "commit {n}: {scans} scans, {rows} rows"
        );
        tx.commit().await.unwrap();
    }
}

async fn explain(store: &PostgresStore, query: &str) -> String {
    let query = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN {query}")));
    let steps = store.all("explain", query).await.unwrap();
    let lines: Vec<String> = steps.iter().map(|step| step.get(0)).collect();
    lines.join("\n")
}

#[tokio::test]
async fn waiting_shards_are_found_by_the_partial_index() {
    let Some(store) = half_done().await else {
        return;
    };
    let query = FIRST_WAITING
        .replace("p_job", "'j-1'")
        .replace("v_now", "1");
    let plan = explain(&store, &query).await;
    assert!(plan.contains("Index Scan using shards_pending"), "{plan}");
    assert!(!plan.contains("Sort"), "{plan}");
}

#[tokio::test]
async fn what_waits_for_a_manifest_is_found_by_the_partial_index() {
    let Some(store) = half_done().await else {
        return;
    };
    let plan = explain(
        &store,
        "SELECT * FROM shards WHERE job_id = 'j-1' AND shard_idx > -1 AND state = 'committed' \
         ORDER BY shard_idx LIMIT 4096",
    )
    .await;
    assert!(plan.contains("shards_committed"), "{plan}");
    let query = ShardQuery {
        after: None,
        state: Some(ShardState::Committed),
        limit: 10,
    };
    assert_eq!(store.shards(&job_id(), &query).await.unwrap(), []);
}

#[tokio::test]
async fn shards_that_hold_a_row_are_found_near_it() {
    let Some(store) = half_done().await else {
        return;
    };
    let first_row = N_SHARDS * 10 - 25;
    let here = store
        .overlapping(&job_id(), first_row, first_row + 10)
        .await
        .unwrap();
    let here: Vec<u64> = here.iter().map(|shard| shard.shard_idx).collect();
    assert_eq!(here, [N_SHARDS - 3, N_SHARDS - 2]);
    let plan = explain(
        &store,
        "(ANALYZE, TIMING OFF) SELECT * FROM shards WHERE job_id = 'j-1' AND first_row < 199985 \
         AND first_row > 199975 - (SELECT widest FROM jobs WHERE job_id = 'j-1') \
         AND first_row + n_rows > 199975 AND state <> 'halved' ORDER BY first_row, shard_idx",
    )
    .await;
    assert!(plan.contains("shards_rows"), "{plan}");
    assert!(!plan.contains("Seq Scan on shards"), "{plan}");
}
