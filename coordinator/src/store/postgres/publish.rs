//! What manifests do to shards, and lists for people.

use std::collections::HashMap;

use quire_core::{JobId, LeaseId, ShardIdx};

use super::{PostgresStore, Statement, Tx, jobs, rows};
use crate::error::Result;
use crate::job::ShardState;
use crate::store::records::{
    AppliedManifest, Counters, FailureCount, NewShard, PartRecord, QuarantineRecord, RowCounts,
    ShardChange, ShardRecord,
};
use crate::store::{QuarantineQuery, ShardQuery};

async fn list(store: &PostgresStore, statement: Statement<'_>) -> Result<Vec<ShardRecord>> {
    let found = store.all("read shards", statement).await?;
    found.iter().map(rows::shard).collect()
}

pub(super) async fn shards(
    store: &PostgresStore,
    job_id: &JobId,
    query: &ShardQuery,
) -> Result<Vec<ShardRecord>> {
    // The states that few shards are in are spelled out, so that an index of theirs serves: that
    // of the shards themselves would be walked from one end to the other.
    let statement = match query.state {
        None => sqlx::query(
            "SELECT * FROM shards WHERE job_id = $1 AND shard_idx > $2 ORDER BY shard_idx LIMIT $3",
        ),
        Some(ShardState::Committed) => sqlx::query(
            "SELECT * FROM shards WHERE job_id = $1 AND shard_idx > $2 AND state = 'committed' \
             ORDER BY shard_idx LIMIT $3",
        ),
        Some(ShardState::Leased) => sqlx::query(
            "SELECT * FROM shards WHERE job_id = $1 AND shard_idx > $2 AND state = 'leased' \
             AND shard_idx IN (SELECT shard_idx FROM leases WHERE job_id = $1) \
             ORDER BY shard_idx LIMIT $3",
        ),
        Some(ShardState::Halved) => sqlx::query(
            "SELECT * FROM shards WHERE job_id = $1 AND shard_idx > $2 AND state = 'halved' \
             AND state IN ('halved', 'quarantined') ORDER BY shard_idx LIMIT $3",
        ),
        Some(ShardState::Quarantined) => sqlx::query(
            "SELECT * FROM shards WHERE job_id = $1 AND shard_idx > $2 AND state = 'quarantined' \
             AND state IN ('halved', 'quarantined') ORDER BY shard_idx LIMIT $3",
        ),
        Some(ShardState::Pending) => sqlx::query(
            "SELECT * FROM shards WHERE job_id = $1 AND shard_idx > $2 AND state = 'pending' \
             ORDER BY shard_idx LIMIT $3",
        ),
        Some(ShardState::Published) => sqlx::query(
            "SELECT * FROM shards WHERE job_id = $1 AND shard_idx > $2 AND state = 'published' \
             ORDER BY shard_idx LIMIT $3",
        ),
    };
    let statement = statement
        .bind(job_id.as_str())
        .bind(query.after.map(rows::int).transpose()?.unwrap_or(-1))
        .bind(i64::from(query.limit));
    list(store, statement).await
}

pub(super) async fn overlapping(
    store: &PostgresStore,
    job_id: &JobId,
    first_row: u64,
    end_row: u64,
) -> Result<Vec<ShardRecord>> {
    // No shard is wider than the widest: the index is walked from there, not from the first row.
    let statement = sqlx::query(
        "SELECT * FROM shards WHERE job_id = $1 AND first_row < $3 \
         AND first_row > $2 - (SELECT widest FROM jobs WHERE job_id = $1) \
         AND first_row + n_rows > $2 AND state <> 'halved' ORDER BY first_row, shard_idx",
    )
    .bind(job_id.as_str())
    .bind(rows::int(first_row)?)
    .bind(rows::int(end_row)?);
    list(store, statement).await
}

pub(super) async fn next_shard_idx(store: &PostgresStore, job_id: &JobId) -> Result<ShardIdx> {
    let last = sqlx::query("SELECT max(shard_idx) FROM shards WHERE job_id = $1");
    let last = store
        .one("number a shard", last.bind(job_id.as_str()))
        .await?;
    jobs::next_number(last.as_ref())
}

pub(super) async fn quarantine(
    store: &PostgresStore,
    job_id: &JobId,
    query: &QuarantineQuery,
) -> Result<Vec<QuarantineRecord>> {
    let statement = sqlx::query(
        "SELECT * FROM quarantine WHERE job_id = $1 AND shard_idx > $2 \
         AND (manifest IS NULL OR NOT $3) ORDER BY shard_idx LIMIT $4",
    );
    let statement = statement
        .bind(job_id.as_str())
        .bind(query.after.map(rows::int).transpose()?.unwrap_or(-1))
        .bind(query.unlisted)
        .bind(i64::from(query.limit));
    let found = store.all("read the quarantine", statement).await?;
    found.iter().map(rows::quarantine).collect()
}

pub(super) async fn failures(store: &PostgresStore, job_id: &JobId) -> Result<Vec<FailureCount>> {
    let statement = sqlx::query(
        "SELECT code, sum(count)::bigint AS count, \
         (array_agg(example ORDER BY noted_at_ms, slot))[1] AS example \
         FROM failures WHERE job_id = $1 GROUP BY code ORDER BY sum(count) DESC, code",
    );
    let found = store
        .all("read failures", statement.bind(job_id.as_str()))
        .await?;
    found.iter().map(rows::failure).collect()
}

pub(super) async fn apply(
    store: &PostgresStore,
    job_id: &JobId,
    manifest: &AppliedManifest,
) -> Result<bool> {
    let number = rows::int(manifest.number)?;
    let mut tx = store.begin().await?;
    let next = sqlx::query(
        "UPDATE jobs SET last_manifest = $2 WHERE job_id = $1 AND last_manifest = $2 - 1",
    )
    .bind(job_id.as_str())
    .bind(number);
    if tx.run("apply a manifest", next).await? == 0 {
        tx.roll_back().await?;
        return Ok(false);
    }
    let mut counted = Counters::default();
    // Changes of one kind in a row go together: a manifest lists thousands of parts.
    let alike =
        |a: &ShardChange, b: &ShardChange| std::mem::discriminant(a) == std::mem::discriminant(b);
    for changes in manifest.changes.chunk_by(alike) {
        let Some(delta) = change_shards(&mut tx, job_id, number, changes).await? else {
            tx.roll_back().await?;
            return Ok(false);
        };
        counted.add(&delta);
    }
    tx.count(job_id, manifest.number, &counted).await?;
    tx.commit().await?;
    Ok(true)
}

/// Makes changes of one kind; `None` if one was decided on a state that its shard is not in any
/// more.
async fn change_shards(
    tx: &mut Tx,
    job_id: &JobId,
    number: i64,
    changes: &[ShardChange],
) -> Result<Option<Counters>> {
    let mut counted = Counters::default();
    let mut inserts: Vec<&NewShard> = Vec::new();
    let mut parts = Parts::default();
    for change in changes {
        match change {
            ShardChange::Insert(new) => inserts.push(new),
            ShardChange::Supersede { shard_idx } => parts.remove(*shard_idx)?,
            ShardChange::Publish {
                shard_idx,
                part,
                rows,
                lease_id,
            } => parts.add(*shard_idx, part, *rows, lease_id)?,
            ShardChange::List {
                shard_idx,
                part,
                lease_id,
            } => parts.add(*shard_idx, part, RowCounts::default(), lease_id)?,
        }
    }
    if !inserts.is_empty() {
        let added = jobs::insert_shards(tx, job_id, &inserts).await?;
        counted.shard(ShardState::Pending, added);
        return Ok(Some(counted));
    }
    let old = hold(tx, job_id, &parts.shard_idx).await?;
    match &changes[0] {
        ShardChange::Insert(_) => {}
        ShardChange::Supersede { .. } => {
            for (shard, _) in parts.counts(&old) {
                counted.rows(shard.rows, -1);
                counted.moved(shard.state, ShardState::Halved);
            }
            tx.fence_shards(job_id, &parts.shard_idx).await?;
            parts.set(tx, job_id, Some(ShardState::Halved)).await?;
        }
        ShardChange::Publish { .. } => {
            for (shard, rows) in parts.counts(&old) {
                counted.rows(shard.rows, -1);
                counted.rows(rows, 1);
                counted.moved(shard.state, ShardState::Published);
                counted.rows_published += i64::from(shard.span.n_rows);
            }
            tx.fence_shards(job_id, &parts.shard_idx).await?;
            parts.set(tx, job_id, Some(ShardState::Published)).await?;
        }
        ShardChange::List { .. } => {
            if old
                .values()
                .any(|shard| shard.state != ShardState::Quarantined)
            {
                return Ok(None);
            }
            for (shard, _) in parts.counts(&old) {
                counted.rows_published += i64::from(shard.span.n_rows);
            }
            let note = sqlx::query(
                "UPDATE quarantine SET manifest = $3 WHERE job_id = $1 AND shard_idx = ANY($2)",
            )
            .bind(job_id.as_str())
            .bind(&parts.shard_idx)
            .bind(number);
            tx.run("list quarantined rows", note).await?;
            parts.set(tx, job_id, None).await?;
        }
    }
    Ok(Some(counted))
}

/// Takes the rows of these shards; those that are there.
async fn hold(
    tx: &mut Tx,
    job_id: &JobId,
    shard_idxs: &[i64],
) -> Result<HashMap<ShardIdx, ShardRecord>> {
    let statement = sqlx::query(
        "SELECT * FROM shards WHERE job_id = $1 AND shard_idx = ANY($2) \
         ORDER BY shard_idx FOR UPDATE",
    )
    .bind(job_id.as_str())
    .bind(shard_idxs);
    let found = tx.all("hold shards", statement).await?;
    let shards = found.iter().map(rows::shard);
    shards
        .map(|shard| shard.map(|shard| (shard.shard_idx, shard)))
        .collect()
}

/// Parts of shards, a list for each column; no key where a shard loses its part.
#[derive(Default)]
struct Parts {
    shard_idx: Vec<i64>,
    key: Vec<Option<String>>,
    bytes: Vec<Option<i64>>,
    sha256: Vec<Option<String>>,
    etag: Vec<Option<String>>,
    ok: Vec<i32>,
    failed: Vec<i32>,
    skipped: Vec<i32>,
    winner: Vec<Option<String>>,
    rows: Vec<RowCounts>,
}

impl Parts {
    fn add(
        &mut self,
        shard_idx: ShardIdx,
        part: &PartRecord,
        rows: RowCounts,
        lease_id: &LeaseId,
    ) -> Result<()> {
        let winner = Some(lease_id.as_str().to_owned());
        self.push(shard_idx, Some(part), rows, winner)
    }

    fn remove(&mut self, shard_idx: ShardIdx) -> Result<()> {
        self.push(shard_idx, None, RowCounts::default(), None)
    }

    fn push(
        &mut self,
        shard_idx: ShardIdx,
        part: Option<&PartRecord>,
        counts: RowCounts,
        winner: Option<String>,
    ) -> Result<()> {
        self.shard_idx.push(rows::int(shard_idx)?);
        self.key.push(part.map(|part| part.key.clone()));
        self.bytes
            .push(part.map(|part| rows::int(part.bytes)).transpose()?);
        self.sha256.push(part.map(|part| part.sha256.clone()));
        self.etag.push(part.and_then(|part| part.etag.clone()));
        self.ok.push(rows::small(counts.ok)?);
        self.failed.push(rows::small(counts.failed)?);
        self.skipped.push(rows::small(counts.skipped)?);
        self.winner.push(winner);
        self.rows.push(counts);
        Ok(())
    }

    /// The shards that are there, with their new counts.
    fn counts<'a>(
        &'a self,
        old: &'a HashMap<ShardIdx, ShardRecord>,
    ) -> impl Iterator<Item = (&'a ShardRecord, RowCounts)> {
        let of = |shard_idx: &i64| u64::try_from(*shard_idx).ok().and_then(|idx| old.get(&idx));
        self.shard_idx
            .iter()
            .zip(&self.rows)
            .filter_map(move |(shard_idx, rows)| Some((of(shard_idx)?, *rows)))
    }

    /// Writes the parts, and the state if there is one. Who brought a part is known as long as it
    /// is the part of the same lease.
    async fn set(self, tx: &mut Tx, job_id: &JobId, state: Option<ShardState>) -> Result<()> {
        let statement = sqlx::query(
            "UPDATE shards SET state = coalesce($2, state), part_key = p.key, \
             part_bytes = p.bytes, part_sha256 = p.sha256, part_etag = p.etag, \
             rows_ok = p.ok, rows_failed = p.failed, rows_skipped = p.skipped, \
             winner_node = CASE WHEN shards.winner IS NOT DISTINCT FROM p.winner \
                 THEN winner_node END, winner = p.winner \
             FROM unnest($3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], \
             $8::integer[], $9::integer[], $10::integer[], $11::text[]) \
             AS p (shard_idx, key, bytes, sha256, etag, ok, failed, skipped, winner) \
             WHERE shards.job_id = $1 AND shards.shard_idx = p.shard_idx",
        )
        .bind(job_id.as_str())
        .bind(state.map(ShardState::as_str))
        .bind(self.shard_idx)
        .bind(self.key)
        .bind(self.bytes)
        .bind(self.sha256)
        .bind(self.etag)
        .bind(self.ok)
        .bind(self.failed)
        .bind(self.skipped)
        .bind(self.winner);
        tx.run("note parts", statement).await?;
        Ok(())
    }
}
