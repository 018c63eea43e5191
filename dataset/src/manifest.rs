//! The commit log of a job: numbered manifests that list the parts which count. A part is
//! committed when a manifest lists it; the database that hands out work only follows.
//! Before: [`crate::writer`] writes parts. Next: [`crate::seal`] makes a version of them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::pin::pin;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use quire_core::{JobId, LeaseId, ShardIdx};
use serde::{Deserialize, Serialize};

use crate::area::JobArea;
use crate::create::Created;
use crate::error::{Error, Result};
use crate::paths::in_job;
use crate::runs::Runs;
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

/// The log as read so far. Of its parts it keeps only which shards and rows of the plan they
/// hold, as runs: shards are published nearly in order, so that a log of ten million parts takes
/// no more room than the gaps in it. What else a part's entry says is read again from its
/// manifest where it is needed ([`manifests`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitLog {
    job_id: JobId,
    head: u64,
    closing: Option<Closing>,
    n_parts: u64,
    n_rows: u64,
    shards: Runs,
    /// Rows of the plan that parts hold.
    rows: Runs,
}

/// Manifests of a job by their numbers, in order, with some read ahead. Each is checked to be
/// one, and not what came before it: that is what a [`CommitLog`] does.
pub fn manifests(
    area: &JobArea,
    numbers: RangeInclusive<u64>,
) -> impl Stream<Item = Result<Manifest>> + '_ {
    stream::iter(numbers)
        .map(|number| read_manifest(area, number))
        .buffered(READS_AT_ONCE)
}

impl CommitLog {
    /// A log of which nothing has been read.
    pub fn empty(job_id: JobId) -> Self {
        Self {
            job_id,
            head: 0,
            closing: None,
            n_parts: 0,
            n_rows: 0,
            shards: Runs::default(),
            rows: Runs::default(),
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
        log.read_to_end(area, last).await?;
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

    /// How many parts count.
    pub fn n_parts(&self) -> u64 {
        self.n_parts
    }

    /// Rows of all of them.
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// What is kept of the parts: one number pair for each gap-free run of shards and of rows.
    pub fn n_runs(&self) -> usize {
        self.shards.n_runs() + self.rows.n_runs()
    }

    /// Whether one of these rows of the plan is in a part that counts already, be it of the same
    /// shard, of a half of it or of the whole that it is a half of. A database may have forgotten.
    pub fn holds_rows(&self, first_row: u64, n_rows: u64) -> bool {
        self.rows.meets(first_row, first_row + n_rows)
    }

    /// Reads manifests that are new since the last call.
    ///
    /// # Errors
    /// When a manifest cannot be read or contradicts those before it.
    pub async fn catch_up(&mut self, area: &JobArea) -> Result<()> {
        let newest = self.newest(area).await?;
        self.read_to_end(area, newest).await
    }

    /// Number of the newest manifest that the store has, read or not.
    ///
    /// # Errors
    /// When the store gives no answer.
    pub async fn newest(&self, area: &JobArea) -> Result<u64> {
        find_head(area, self.head).await
    }

    /// Reads some of the manifests up to `last`, which is known to exist, and returns them; none
    /// when all of them are read.
    ///
    /// # Errors
    /// When a manifest cannot be read or contradicts those before it.
    pub async fn read_some(&mut self, area: &JobArea, last: u64) -> Result<Vec<Manifest>> {
        let some = last.min(self.head + READS_AT_ONCE as u64);
        let mut news = Vec::new();
        let mut stream = pin!(manifests(area, self.head + 1..=some));
        while let Some(manifest) = stream.try_next().await? {
            self.check_next(&manifest)?;
            self.apply(&manifest);
            news.push(manifest);
        }
        Ok(news)
    }

    async fn read_to_end(&mut self, area: &JobArea, last: u64) -> Result<()> {
        while !self.read_some(area, last).await?.is_empty() {}
        Ok(())
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
                self.apply(&manifest);
                Ok(Published::Done(manifest.number))
            }
            Created::Theirs(_) => Ok(Published::Overtaken),
        }
    }

    fn apply(&mut self, manifest: &Manifest) {
        self.head = manifest.number;
        self.closing = manifest.closing;
        for part in &manifest.parts {
            self.n_parts += 1;
            self.n_rows += part.rows;
            self.shards
                .insert(part.shard_idx, part.shard_idx.saturating_add(1));
            if let Some((first_row, end_row)) = rows_of(part) {
                self.rows.insert(first_row, end_row);
            }
        }
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
        let mut shards = BTreeSet::new();
        let mut rows = Runs::default();
        for part in &next.parts {
            let shard_idx = part.shard_idx;
            let is_listed = self.shards.meets(shard_idx, shard_idx.saturating_add(1));
            if is_listed || !shards.insert(shard_idx) {
                return wrong(format!("lists shard {shard_idx} a second time"));
            }
            if let Some((first_row, end_row)) = rows_of(part) {
                if self.rows.meets(first_row, end_row) || rows.meets(first_row, end_row) {
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
        .map(|first_row| (first_row, first_row.saturating_add(part.rows)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn part(shard_idx: ShardIdx) -> PartEntry {
        let summary = PartSummary {
            rows: 100,
            ok: 100,
            failed: 0,
            skipped: 0,
            bytes: 1 << 20,
            sha256: "0".repeat(64),
        };
        PartEntry {
            first_row: Some(shard_idx * 100),
            ..PartEntry::new(shard_idx, LeaseId::new("lease"), &summary)
        }
    }

    /// Shards come in nearly in order: some are late by ten manifests, as those of slow workers.
    #[test]
    fn log_of_a_million_parts_keeps_its_gaps_and_no_more() {
        const PARTS: u64 = 4096;
        const MANIFESTS: u64 = 250;
        let is_late = |shard_idx: u64| shard_idx % PARTS < 8;
        let mut log = CommitLog::empty(JobId::new("job"));
        let mut most = 0;
        for at in 0..MANIFESTS + 10 {
            let fresh = at * PARTS..(at + 1) * PARTS;
            let fresh = fresh.filter(|&shard_idx| at < MANIFESTS && !is_late(shard_idx));
            let late = at.checked_sub(10).map(|at| at * PARTS..(at + 1) * PARTS);
            let late = late.into_iter().flatten().filter(|&idx| is_late(idx));
            let manifest = Manifest {
                number: at + 1,
                job_id: JobId::new("job"),
                nonce: String::new(),
                parts: fresh.chain(late).map(part).collect(),
                closing: None,
            };
            log.check_next(&manifest).unwrap();
            log.apply(&manifest);
            most = most.max(log.n_runs());
        }
        assert_eq!(log.n_parts(), PARTS * MANIFESTS);
        assert_eq!(log.n_rows(), PARTS * MANIFESTS * 100);
        // One gap a manifest, for ten manifests, in shards and in rows.
        assert!(most <= 2 * 12, "{most} runs");
        assert_eq!(log.n_runs(), 2);
    }
}
