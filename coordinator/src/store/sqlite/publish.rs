//! What manifests do to shards, and lists for people.

use quire_core::{JobId, LeaseId, ShardIdx};

use super::{
    SqliteStore, Tx, commit, count, during, fence_shard, insert_shard, rows, set_state, shard,
};
use crate::error::Result;
use crate::job::ShardState;
use crate::store::records::{
    AppliedManifest, Counters, FailureCount, PartRecord, QuarantineRecord, RowCounts, ShardChange,
    ShardRecord,
};
use crate::store::{QuarantineQuery, ShardQuery};

pub(super) async fn shards(
    store: &SqliteStore,
    job_id: &JobId,
    query: &ShardQuery,
) -> Result<Vec<ShardRecord>> {
    let after = query.after.map(rows::int).transpose()?.unwrap_or(-1);
    let found = match query.state {
        // Spelled out so that its partial index serves: this is asked for every few seconds.
        Some(ShardState::Committed) => {
            sqlx::query(
                "SELECT * FROM shards WHERE job_id = ?1 AND shard_idx > ?2 \
                 AND state = 'committed' ORDER BY shard_idx LIMIT ?3",
            )
            .bind(job_id.as_str())
            .bind(after)
            .bind(query.limit)
            .fetch_all(&store.readers)
            .await
        }
        state => {
            sqlx::query(
                "SELECT * FROM shards WHERE job_id = ?1 AND shard_idx > ?2 \
                 AND (?3 IS NULL OR state = ?3) ORDER BY shard_idx LIMIT ?4",
            )
            .bind(job_id.as_str())
            .bind(after)
            .bind(state.map(ShardState::as_str))
            .bind(query.limit)
            .fetch_all(&store.readers)
            .await
        }
    };
    found
        .map_err(during("read shards"))?
        .iter()
        .map(rows::shard)
        .collect()
}

pub(super) async fn overlapping(
    store: &SqliteStore,
    job_id: &JobId,
    first_row: u64,
    end_row: u64,
) -> Result<Vec<ShardRecord>> {
    let found = sqlx::query(
        "SELECT * FROM shards WHERE job_id = ? AND first_row < ? AND first_row + n_rows > ? \
         AND state <> 'halved' ORDER BY first_row, shard_idx",
    )
    .bind(job_id.as_str())
    .bind(rows::int(end_row)?)
    .bind(rows::int(first_row)?)
    .fetch_all(&store.readers)
    .await
    .map_err(during("read shards"))?;
    found.iter().map(rows::shard).collect()
}

pub(super) async fn next_shard_idx(store: &SqliteStore, job_id: &JobId) -> Result<ShardIdx> {
    let last: Option<i64> =
        sqlx::query_scalar("SELECT max(shard_idx) FROM shards WHERE job_id = ?")
            .bind(job_id.as_str())
            .fetch_one(&store.readers)
            .await
            .map_err(during("number a shard"))?;
    Ok(last
        .and_then(|last| u64::try_from(last + 1).ok())
        .unwrap_or(0))
}

pub(super) async fn quarantine(
    store: &SqliteStore,
    job_id: &JobId,
    query: &QuarantineQuery,
) -> Result<Vec<QuarantineRecord>> {
    let statement = "SELECT * FROM quarantine WHERE job_id = ?1 AND shard_idx > ?2 \
         AND (manifest IS NULL OR NOT ?3) ORDER BY shard_idx LIMIT ?4";
    let found = sqlx::query(statement)
        .bind(job_id.as_str())
        .bind(query.after.map(rows::int).transpose()?.unwrap_or(-1))
        .bind(query.unlisted)
        .bind(query.limit)
        .fetch_all(&store.readers)
        .await
        .map_err(during("read the quarantine"))?;
    found.iter().map(rows::quarantine).collect()
}

pub(super) async fn failures(store: &SqliteStore, job_id: &JobId) -> Result<Vec<FailureCount>> {
    let found = sqlx::query("SELECT * FROM failures WHERE job_id = ? ORDER BY count DESC, code")
        .bind(job_id.as_str())
        .fetch_all(&store.readers)
        .await
        .map_err(during("read failures"))?;
    found.iter().map(rows::failure).collect()
}

pub(super) async fn apply(
    store: &SqliteStore,
    job_id: &JobId,
    manifest: &AppliedManifest,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = sqlx::query(
        "UPDATE jobs SET last_manifest = ?1 WHERE job_id = ?2 AND last_manifest = ?1 - 1",
    )
    .bind(rows::int(manifest.number)?)
    .bind(job_id.as_str())
    .execute(&mut *tx)
    .await
    .map_err(during("apply a manifest"))?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    let mut counted = Counters::default();
    for change in &manifest.changes {
        match change_shard(&mut tx, job_id, manifest.number, change).await? {
            Some(delta) => counted.add(&delta),
            None => return Ok(false),
        }
    }
    count(&mut tx, job_id, &counted).await?;
    commit(tx).await?;
    Ok(true)
}

/// Makes one change; `None` if it was decided on a state that the shard is not in any more.
async fn change_shard(
    tx: &mut Tx,
    job_id: &JobId,
    number: u64,
    change: &ShardChange,
) -> Result<Option<Counters>> {
    let mut counted = Counters::default();
    match change {
        ShardChange::Insert(new) => {
            if insert_shard(tx, job_id, new).await? {
                counted.shard(ShardState::Pending, 1);
            }
        }
        ShardChange::Supersede { shard_idx } => {
            let Some(old) = shard(tx, job_id, *shard_idx).await? else {
                return Ok(Some(counted));
            };
            fence_shard(tx, job_id, *shard_idx).await?;
            set_part(tx, job_id, *shard_idx, None).await?;
            set_state(tx, job_id, *shard_idx, ShardState::Halved).await?;
            counted.rows(old.rows, -1);
            counted.moved(old.state, ShardState::Halved);
        }
        ShardChange::Publish {
            shard_idx,
            part,
            rows,
            lease_id,
        } => {
            let Some(old) = shard(tx, job_id, *shard_idx).await? else {
                return Ok(Some(counted));
            };
            fence_shard(tx, job_id, *shard_idx).await?;
            set_part(tx, job_id, *shard_idx, Some((part, *rows, lease_id))).await?;
            set_state(tx, job_id, *shard_idx, ShardState::Published).await?;
            counted.rows(old.rows, -1);
            counted.rows(*rows, 1);
            counted.moved(old.state, ShardState::Published);
            counted.rows_published += i64::from(old.span.n_rows);
        }
        ShardChange::List {
            shard_idx,
            part,
            lease_id,
        } => {
            let Some(old) = shard(tx, job_id, *shard_idx).await? else {
                return Ok(Some(counted));
            };
            if old.state != ShardState::Quarantined {
                return Ok(None);
            }
            sqlx::query("UPDATE quarantine SET manifest = ? WHERE job_id = ? AND shard_idx = ?")
                .bind(rows::int(number)?)
                .bind(job_id.as_str())
                .bind(rows::int(*shard_idx)?)
                .execute(&mut **tx)
                .await
                .map_err(during("list a quarantined row"))?;
            set_part(
                tx,
                job_id,
                *shard_idx,
                Some((part, RowCounts::default(), lease_id)),
            )
            .await?;
            counted.rows_published += i64::from(old.span.n_rows);
        }
    }
    Ok(Some(counted))
}

async fn set_part(
    tx: &mut Tx,
    job_id: &JobId,
    shard_idx: ShardIdx,
    part: Option<(&PartRecord, RowCounts, &LeaseId)>,
) -> Result<()> {
    let counts = part.map(|(_, rows, _)| rows).unwrap_or_default();
    sqlx::query(
        "UPDATE shards SET part_key = ?1, part_bytes = ?2, part_sha256 = ?3, part_etag = ?4, \
         rows_ok = ?5, rows_failed = ?6, rows_skipped = ?7, winner = ?8, \
         winner_node = CASE WHEN winner IS ?8 THEN winner_node END \
         WHERE job_id = ?9 AND shard_idx = ?10",
    )
    .bind(part.map(|(part, _, _)| part.key.as_str()))
    .bind(part.map(|(part, _, _)| rows::int(part.bytes)).transpose()?)
    .bind(part.map(|(part, _, _)| part.sha256.as_str()))
    .bind(part.and_then(|(part, _, _)| part.etag.as_deref()))
    .bind(rows::int(counts.ok)?)
    .bind(rows::int(counts.failed)?)
    .bind(rows::int(counts.skipped)?)
    .bind(part.map(|(_, _, lease_id)| lease_id.as_str()))
    .bind(job_id.as_str())
    .bind(rows::int(shard_idx)?)
    .execute(&mut **tx)
    .await
    .map_err(during("note a part"))?;
    Ok(())
}
