//! Another chance for rows that were given up.

use quire_core::{JobId, ShardIdx};

use super::{SqliteStore, Tx, commit, count, during, rows};
use crate::error::Result;
use crate::job::{JobState, ShardState};
use crate::store::records::{Counters, QuarantineRecord};

pub(super) async fn requeue(
    store: &SqliteStore,
    job_id: &JobId,
    shard_idxs: &[ShardIdx],
) -> Result<(u64, u64)> {
    let mut tx = store.begin().await?;
    let state = super::leases::job_state(&mut tx, job_id).await?;
    if state.is_none_or(JobState::is_final) {
        return Ok((0, 0));
    }
    let found = sqlx::query("SELECT * FROM quarantine WHERE job_id = ?")
        .bind(job_id.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(during("read the quarantine"))?;
    let given_up = found.iter().map(rows::quarantine);
    let (mut waiting, mut listed) = (0, 0);
    let mut counted = Counters::default();
    for record in given_up.collect::<Result<Vec<_>>>()? {
        if !shard_idxs.is_empty() && !shard_idxs.contains(&record.shard_idx) {
            continue;
        }
        if record.manifest.is_some() {
            listed += u64::from(record.span.n_rows);
            continue;
        }
        wait_again(&mut tx, job_id, &record).await?;
        waiting += u64::from(record.span.n_rows);
        counted.moved(ShardState::Quarantined, ShardState::Pending);
        counted.rows_quarantined -= i64::from(record.span.n_rows);
    }
    count(&mut tx, job_id, &counted).await?;
    commit(tx).await?;
    Ok((waiting, listed))
}

async fn wait_again(tx: &mut Tx, job_id: &JobId, record: &QuarantineRecord) -> Result<()> {
    sqlx::query("DELETE FROM quarantine WHERE job_id = ? AND shard_idx = ?")
        .bind(job_id.as_str())
        .bind(rows::int(record.shard_idx)?)
        .execute(&mut **tx)
        .await
        .map_err(during("end a quarantine"))?;
    sqlx::query(
        "UPDATE shards SET state = 'pending', deaths = 0, setbacks = 0, qkey = first_row, \
         not_before_ms = 0 WHERE job_id = ? AND shard_idx = ? AND state = 'quarantined'",
    )
    .bind(job_id.as_str())
    .bind(rows::int(record.shard_idx)?)
    .execute(&mut **tx)
    .await
    .map_err(during("give a row another chance"))?;
    Ok(())
}
