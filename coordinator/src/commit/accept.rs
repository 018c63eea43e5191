//! Accepts a part, or says why not. What can be checked outside the store is checked first; the
//! store then decides in one statement whether the lease is live.

use quire_core::LeaseId;
use quire_dataset::paths::in_job;

use crate::error::{Error, Result};
use crate::metrics;
use crate::shared::Shared;
use crate::store::{Commit, CommitResult, LeaseRecord, RowCounts, ShardRecord};

/// What became of a commit that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    Now,
    Before,
}

/// Accepts a part.
pub(crate) async fn accept(shared: &Shared, commit: &Commit) -> Result<Accepted> {
    // A reply may have been lost: what was accepted once is not looked at again.
    if shared.store.won_by(&commit.lease_id).await?.is_some() {
        metrics::committed_before();
        return Ok(Accepted::Before);
    }
    let Some((lease, shard)) = shared.store.lease(&commit.lease_id).await? else {
        return Err(fenced(&commit.lease_id));
    };
    check_key(commit, &lease)?;
    check_rows(commit, &shard)?;
    check_object(shared, commit, &lease).await?;
    match shared.store.commit(commit).await? {
        CommitResult::Committed => {
            report(commit, &lease);
            shared.watches.forget(&commit.lease_id);
            shared.tick.notify_one();
            Ok(Accepted::Now)
        }
        CommitResult::Already => {
            metrics::committed_before();
            Ok(Accepted::Before)
        }
        CommitResult::Fenced => Err(fenced(&commit.lease_id)),
        CommitResult::JobNotRunning(state) => Err(Error::JobNotRunning {
            job_id: lease.job_id,
            state,
        }),
    }
}

fn report(commit: &Commit, lease: &LeaseRecord) {
    metrics::committed(&commit.rows);
    let LeaseRecord {
        job_id,
        shard_idx,
        epoch,
        lease_id,
        node,
        ..
    } = lease;
    let RowCounts { ok, failed, .. } = commit.rows;
    tracing::debug!(%job_id, shard_idx, epoch, %lease_id, node, ok, failed, "part accepted");
}

fn fenced(lease_id: &LeaseId) -> Error {
    metrics::fenced();
    tracing::info!(%lease_id, "commit fenced");
    Error::LeaseFenced {
        lease_id: lease_id.clone(),
    }
}

/// A part lies under its own lease's key, or it could overwrite, or pass for, another's.
fn check_key(commit: &Commit, lease: &LeaseRecord) -> Result<()> {
    let expected = in_job::part(lease.shard_idx, &lease.lease_id);
    if commit.part.key == expected {
        return Ok(());
    }
    let said = commit.part.key.clone();
    Err(Error::PartKey {
        shard_idx: lease.shard_idx,
        expected,
        said,
    })
}

/// Rows out equal rows in.
fn check_rows(commit: &Commit, shard: &ShardRecord) -> Result<()> {
    let (planned, said) = (u64::from(shard.span.n_rows), commit.rows.total());
    if planned == said {
        return Ok(());
    }
    Err(Error::RowCount {
        shard_idx: shard.shard_idx,
        planned,
        said,
    })
}

/// The part is there, with the size that was reported. Its checksum goes into the manifest and is
/// compared when the part is read.
async fn check_object(shared: &Shared, commit: &Commit, lease: &LeaseRecord) -> Result<()> {
    let area = shared.area_of(&lease.job_id).await?;
    let key = &commit.part.key;
    let found = area
        .part_bytes(key)
        .await
        .map_err(|source| Error::Dataset {
            action: format!("look at part {key}"),
            source: Box::new(source),
        })?;
    match found {
        Some(bytes) if bytes == commit.part.bytes => Ok(()),
        Some(bytes) => {
            let found = format!("{bytes} bytes, reported were {}", commit.part.bytes);
            Err(Error::PartMissing {
                key: key.clone(),
                found,
            })
        }
        None => Err(Error::PartMissing {
            key: key.clone(),
            found: "no such object".into(),
        }),
    }
}
