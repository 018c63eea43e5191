//! Another chance for rows that were given up.

use quire_core::{JobId, ShardIdx};

use super::{PostgresStore, Tx, rows};
use crate::error::Result;
use crate::job::{JobState, ShardState};
use crate::store::records::Counters;

pub(super) async fn requeue(
    store: &PostgresStore,
    job_id: &JobId,
    shard_idxs: &[ShardIdx],
) -> Result<(u64, u64)> {
    let chosen: Vec<i64> = shard_idxs
        .iter()
        .map(|&shard_idx| rows::int(shard_idx))
        .collect::<Result<_>>()?;
    let mut tx = store.begin().await?;
    let state = tx.hold_job(job_id).await?;
    if state.is_none_or(JobState::is_final) {
        tx.roll_back().await?;
        return Ok((0, 0));
    }
    let (ended, waiting) = end_quarantine(&mut tx, job_id, &chosen).await?;
    let again = sqlx::query(
        "UPDATE shards SET state = 'pending', deaths = 0, setbacks = 0, qkey = first_row, \
         not_before_ms = 0 WHERE job_id = $1 AND shard_idx = ANY($2) AND state = 'quarantined'",
    )
    .bind(job_id.as_str())
    .bind(&ended);
    tx.run("give rows another chance", again).await?;
    // Those that are left are listed in a manifest.
    let left = sqlx::query(
        "SELECT coalesce(sum(n_rows), 0)::bigint AS n FROM quarantine WHERE job_id = $1 \
         AND (cardinality($2::bigint[]) = 0 OR shard_idx = ANY($2))",
    )
    .bind(job_id.as_str())
    .bind(&chosen);
    let left = tx.one("read the quarantine", left).await?;
    let listed = left.as_ref().map_or(Ok(0), |row| rows::count(row, "n"))?;
    let n_ended = i64::try_from(ended.len()).unwrap_or(i64::MAX);
    let mut counted = Counters::default();
    counted.shard(ShardState::Quarantined, -n_ended);
    counted.shard(ShardState::Pending, n_ended);
    counted.rows_quarantined -= i64::try_from(waiting).unwrap_or(i64::MAX);
    tx.count(job_id, 0, &counted).await?;
    tx.commit().await?;
    Ok((waiting, listed))
}

/// Ends the quarantine of those that no manifest lists: their shards and rows.
async fn end_quarantine(tx: &mut Tx, job_id: &JobId, chosen: &[i64]) -> Result<(Vec<i64>, u64)> {
    let end = sqlx::query(
        "DELETE FROM quarantine WHERE job_id = $1 AND manifest IS NULL \
         AND (cardinality($2::bigint[]) = 0 OR shard_idx = ANY($2)) RETURNING shard_idx, n_rows",
    )
    .bind(job_id.as_str())
    .bind(chosen);
    let (mut ended, mut n_rows) = (Vec::new(), 0);
    for row in &tx.all("end a quarantine", end).await? {
        ended.push(rows::get(row, "shard_idx")?);
        n_rows += u64::from(rows::little(row, "n_rows")?);
    }
    Ok((ended, n_rows))
}
