//! The commit log of a job: numbered manifests that list the parts which count. A part is
//! committed when a manifest lists it; the database that hands out work only follows.
//! Before: [`crate::writer`] writes parts. Next: [`crate::seal`] makes a version of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use quire_core::{JobId, LeaseId, ShardIdx};
use serde::{Deserialize, Serialize};

use crate::area::JobArea;
use crate::create::Created;
use crate::error::{Error, Result};
use crate::paths::in_job;
use crate::writer::PartSummary;

/// Manifests read at the same time.
const READS_AT_ONCE: usize = 16;

/// A part that counts. Pages that were given up because they killed their workers are failed
/// rows of a part too, so that rows always add up to the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartEntry {
    /// Shard of the plan.
    pub shard_idx: ShardIdx,
    /// Lease under which it was written.
    pub lease_id: LeaseId,
    /// Relative to the job's area.
    pub key: String,
    /// Size.
    pub bytes: u64,
    /// In hex.
    pub sha256: String,
    /// All rows.
    pub rows: u64,
    /// Pages that were read.
    pub ok: u64,
    /// Pages and documents that could not be read.
    pub failed: u64,
    /// Documents left out.
    pub skipped: u64,
    /// Number of its first row in the plan, from 0. The coordinator sets it: halves of a shard
    /// have numbers that no plan knows, and after its database is lost only this says which
    /// rows they hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_row: Option<u64>,
}

impl PartEntry {
    /// The entry of a part as its writer summed it up.
    pub fn new(shard_idx: ShardIdx, lease_id: LeaseId, summary: &PartSummary) -> Self {
        Self {
            shard_idx,
            key: in_job::part(shard_idx, &lease_id),
            lease_id,
            bytes: summary.bytes,
            sha256: summary.sha256.clone(),
            rows: summary.rows,
            ok: summary.ok,
            failed: summary.failed,
            skipped: summary.skipped,
            first_row: None,
        }
    }
}

/// Why nothing is committed after a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// Every planned row is committed.
    Done,
    /// The job's owner gave it up.
    Canceled,
}

/// One entry of the commit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// From 1, without gaps.
    pub number: u64,
    /// Whose log it is.
    pub job_id: JobId,
    /// Random: tells this manifest from one of another publisher with equal parts.
    pub nonce: String,
    /// Parts that count from now on.
    pub parts: Vec<PartEntry>,
    /// Set in the last manifest.
    pub closing: Option<Closing>,
}

/// What came of an attempt to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The manifest of this number is ours.
    Done(u64),
    /// Somebody else took the number: catch up, compose anew, try again.
    Overtaken,
}

/// The log as read so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitLog {
    job_id: JobId,
    head: u64,
    closing: Option<Closing>,
    parts: BTreeMap<ShardIdx, PartEntry>,
    /// Rows of the plan that parts hold, as the end of each part by its first row.
    rows: BTreeMap<u64, u64>,
}

impl CommitLog {
    /// A log of which nothing has been read.
    pub fn empty(job_id: JobId) -> Self {
        Self {
            job_id,
            head: 0,
            closing: None,
            parts: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Reads the whole log of a job.
    ///
    /// # Errors
    /// When a manifest cannot be read or contradicts those before it.
    pub async fn read(area: &JobArea) -> Result<Self> {
        let mut log = Self::empty(area.job_id().clone());
        log.catch_up(area).await?;
        Ok(log)
    }

    /// Reads the log up to a manifest that is known to exist.
    pub(crate) async fn read_to(area: &JobArea, last: u64) -> Result<Self> {
        let mut log = Self::empty(area.job_id().clone());
        log.apply_to(area, last).await?;
        Ok(log)
    }

    /// Number of the newest manifest read; 0 before the first.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Why the log ended, if it did.
    pub fn closing(&self) -> Option<Closing> {
        self.closing
    }

    /// Parts that count, by shard.
    pub fn parts(&self) -> &BTreeMap<ShardIdx, PartEntry> {
        &self.parts
    }

    /// Whether one of these rows of the plan is in a part that counts already, be it of the same
    /// shard, of a half of it or of the whole that it is a half of. A database may have forgotten.
    pub fn holds_rows(&self, first_row: u64, n_rows: u64) -> bool {
        overlaps(&self.rows, first_row, first_row + n_rows)
    }

    /// Reads manifests that are new since the last call, and returns them.
    ///
    /// # Errors
    /// When a manifest cannot be read or contradicts those before it.
    pub async fn catch_up(&mut self, area: &JobArea) -> Result<Vec<Manifest>> {
        let head = find_head(area, self.head).await?;
        self.apply_to(area, head).await
    }

    /// Adds a manifest after the head. The log is to be caught up before, and `nonce` random.
    ///
    /// # Errors
    /// When the parts contradict the log, or the store gives no answer.
    pub async fn publish(
        &mut self,
        area: &JobArea,
        nonce: String,
        parts: Vec<PartEntry>,
        closing: Option<Closing>,
    ) -> Result<Published> {
        let job_id = self.job_id.clone();
        let manifest = Manifest {
            number: self.head + 1,
            job_id,
            nonce,
            parts,
            closing,
        };
        self.check_next(&manifest)?;
        let content = serde_json::to_vec(&manifest)
            .map_err(|error| Error::Bug(format!("a manifest is not JSON: {error}")))?;
        let key = in_job::manifest(manifest.number);
        match area.place.create(&key, Bytes::from(content)).await? {
            Created::Mine => {
                let number = manifest.number;
                self.apply(manifest);
                Ok(Published::Done(number))
            }
            Created::Theirs(_) => Ok(Published::Overtaken),
        }
    }

    pub(crate) async fn apply_to(&mut self, area: &JobArea, last: u64) -> Result<Vec<Manifest>> {
        let manifests: Vec<Manifest> = stream::iter(self.head + 1..=last)
            .map(|number| read_manifest(area, number))
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await?;
        for manifest in &manifests {
            self.check_next(manifest)?;
            self.apply(manifest.clone());
        }
        Ok(manifests)
    }

    fn apply(&mut self, manifest: Manifest) {
        self.head = manifest.number;
        self.closing = manifest.closing;
        self.rows.extend(manifest.parts.iter().filter_map(rows_of));
        self.parts.extend(
            manifest
                .parts
                .into_iter()
                .map(|part| (part.shard_idx, part)),
        );
    }

    /// What must hold between the log and its next manifest. Without these a page could be
    /// published twice, or counted under a part that does not hold it.
    fn check_next(&self, next: &Manifest) -> Result<()> {
        let wrong = |what: String| Err(Error::corrupt(in_job::manifest(next.number), what));
        if next.number != self.head + 1 {
            return wrong(format!("follows number {}", self.head));
        }
        if next.job_id != self.job_id {
            return wrong(format!("belongs to job {}", next.job_id));
        }
        if self.closing.is_some() {
            return wrong("follows the closing manifest".to_owned());
        }
        let mut shards = std::collections::BTreeSet::new();
        let mut rows = BTreeMap::new();
        for part in &next.parts {
            let shard_idx = part.shard_idx;
            if self.parts.contains_key(&shard_idx) || !shards.insert(shard_idx) {
                return wrong(format!("lists shard {shard_idx} a second time"));
            }
            if let Some((first_row, end_row)) = rows_of(part) {
                if overlaps(&self.rows, first_row, end_row) || overlaps(&rows, first_row, end_row) {
                    let what = format!("lists rows {first_row} to {end_row} a second time");
                    return wrong(what);
                }
                rows.insert(first_row, end_row);
            }
            if part.key != in_job::part(shard_idx, &part.lease_id) {
                return wrong(format!("lists {} for shard {shard_idx}", part.key));
            }
            if part.ok + part.failed + part.skipped != part.rows {
                return wrong(format!(
                    "lists a part of shard {shard_idx} that does not add up"
                ));
            }
        }
        Ok(())
    }
}

/// Rows of the plan that a part holds: the first, and the one after the last.
fn rows_of(part: &PartEntry) -> Option<(u64, u64)> {
    part.first_row
        .map(|first_row| (first_row, first_row + part.rows))
}

/// Whether one of these runs of rows, which do not overlap, has a row of another.
fn overlaps(rows: &BTreeMap<u64, u64>, first_row: u64, end_row: u64) -> bool {
    rows.range(..end_row)
        .next_back()
        .is_some_and(|(_, &end)| end > first_row)
}

async fn read_manifest(area: &JobArea, number: u64) -> Result<Manifest> {
    let key = in_job::manifest(number);
    let bytes = area.place.get(&key).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::corrupt(key, format!("is not a manifest: {error}")))
}

/// The newest manifest, at or after `known`. Numbers have no gaps, so asking for single objects
/// finds the end in logarithmic time, without a listing that could lag behind.
async fn find_head(area: &JobArea, known: u64) -> Result<u64> {
    let exists = async |number: u64| {
        area.place
            .size(&in_job::manifest(number))
            .await
            .map(|size| size.is_some())
    };
    let mut low = known;
    let mut step = 1;
    while exists(low + step).await? {
        low += step;
        step *= 2;
    }
    // `low` exists (or is `known`), `low + step` does not.
    let mut high = low + step;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match exists(middle).await? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(low)
}
