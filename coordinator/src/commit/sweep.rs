//! Removes parts that no manifest lists: of workers that died, or whose commit was fenced.
//!
//! Parts that a manifest lists stay, also those of jobs that are done: a sealed version whose files
//! were damaged can be made again from them. Whoever does not want them any more says so
//! ([`quire_dataset::prune`]). Plans and manifests are never touched.

use std::collections::HashSet;
use std::pin::pin;

use futures::TryStreamExt;
use quire_core::{JobId, chain};
use quire_dataset::paths::in_job;
use quire_dataset::{CommitLog, JobArea, manifests};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::metrics;
use crate::shared::Shared;

/// Removes every part that does not count of a job that takes no more commits. What cannot be
/// removed only takes room.
pub(crate) async fn of_ended_job(area: &JobArea) {
    let swept = async {
        let listed = listed(area).await?;
        let mut n_orphans = 0;
        for part in area.list_parts().await? {
            if !listed.contains(&mark(&part.key)) {
                area.delete_part(&part.key).await?;
                n_orphans += 1;
            }
        }
        Ok::<u64, quire_dataset::Error>(n_orphans)
    };
    match swept.await {
        Ok(n_orphans) => report(area.job_id(), n_orphans),
        Err(error) => {
            let reason = chain(&error);
            tracing::warn!(job_id = %area.job_id(), reason, "orphans were not removed");
        }
    }
}

/// Removes old parts that do not count of a job that goes on. A part counts, or may come to
/// count, as long as a manifest lists it, its lease is live, or its commit was accepted.
pub(crate) async fn of_living_job(shared: &Shared, job_id: &JobId) -> Result<()> {
    let area = shared.area_of(job_id).await?;
    let failed = |source| Error::Dataset {
        action: format!("look for orphans of job {job_id}"),
        source: Box::new(source),
    };
    let age = i64::try_from(shared.config.orphan_age.as_millis()).unwrap_or(i64::MAX);
    let before_ms = shared.store.now_ms().await?.saturating_sub(age);
    let mut old = area.list_parts().await.map_err(failed)?;
    old.retain(|part| part.modified_at_ms < before_ms);
    if old.is_empty() {
        return Ok(());
    }
    // In this order: what is accepted after the log was read is known to the store.
    let listed = listed(&area).await.map_err(failed)?;
    let mut n_orphans = 0;
    for part in old {
        let Some((_, lease_id)) = in_job::parse_part(&part.key) else {
            continue;
        };
        if listed.contains(&mark(&part.key))
            || shared.store.lease(&lease_id).await?.is_some()
            || shared.store.won_by(&lease_id).await?.is_some()
        {
            continue;
        }
        area.delete_part(&part.key).await.map_err(failed)?;
        n_orphans += 1;
    }
    report(job_id, n_orphans);
    Ok(())
}

/// A key in a set of millions: half of its digest.
type Mark = [u8; 16];

fn mark(key: &str) -> Mark {
    let digest = Sha256::digest(key);
    let mut mark = Mark::default();
    mark.copy_from_slice(&digest[..size_of::<Mark>()]);
    mark
}

/// Every part that a manifest lists.
async fn listed(area: &JobArea) -> quire_dataset::Result<HashSet<Mark>> {
    let newest = CommitLog::empty(area.job_id().clone()).newest(area).await?;
    let mut listed = HashSet::new();
    let mut manifests = pin!(manifests(area, 1..=newest));
    while let Some(manifest) = manifests.try_next().await? {
        listed.extend(manifest.parts.iter().map(|part| mark(&part.key)));
    }
    Ok(listed)
}

fn report(job_id: &JobId, n_orphans: u64) {
    if n_orphans > 0 {
        metrics::orphans_removed(n_orphans);
        tracing::info!(%job_id, n_orphans, "orphans removed");
    }
}
