//! What may go: files of versions that were dropped, and parts whose rows a version holds.
//!
//! Two rules keep readers safe. A file that any version lists is never removed, and the newest
//! version is never dropped. A file that no version lists any more stays for a while, since
//! somebody may have opened its version just before: how long ago it was dropped is written down
//! when that happens, beside the dataset.
//!
//! Every step can be cut short and repeated. A version is dropped in this order: a record of it
//! is created in `OUT.quire`, its version file is removed, after a while its files, and at last
//! the record. Parts are removed by what manifests list, and a mark is left when all are gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use quire_core::JobId;
use serde::{Deserialize, Serialize};

use crate::area::{Areas, JobArea, Output};
use crate::error::{Error, Result};
use crate::manifest::{Closing, CommitLog, manifests};
use crate::paths::{self, in_job};
use crate::place::{Listed, Place};
use crate::version::VersionFile;

/// Removed at the same time.
const DELETES_AT_ONCE: usize = 16;

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Drop all versions but so many newest ones; `None` drops none.
    pub keep_versions: Option<usize>,
    /// Remove the parts of jobs whose rows a version holds.
    pub sealed_parts: bool,
    /// Nothing is removed before it was of no use for so long, milliseconds.
    pub min_age_ms: i64,
    /// The present, milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Only say what would go.
    pub is_dry_run: bool,
}

/// Some files and their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Amount {
    /// How many.
    pub files: u64,
    /// All of them together.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Versions that were dropped now.
    pub dropped: Vec<u64>,
    /// Files that no version lists.
    pub files: Amount,
    /// Such files that are too young.
    pub waiting: Amount,
    /// Parts whose rows a version holds.
    pub parts: Amount,
    /// Jobs whose parts they were.
    pub jobs: Vec<JobId>,
    /// Jobs whose parts are too young.
    pub waiting_jobs: Vec<JobId>,
}

/// The record of a dropped version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Dropped {
    dropped_at_ms: i64,
    version: VersionFile,
}

/// Left in a job's area when its parts are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PartsRemoved {
    removed_at_ms: i64,
    /// The version that holds their rows.
    version: u64,
}

/// Removes what `retention` allows.
///
/// # Errors
/// When there is no version yet, when the newest one misses a file, or the store fails. What was
/// removed until then is gone; another call goes on.
pub async fn prune(output: &Output, retention: &Retention) -> Result<Pruned> {
    let Some(newest) = output.newest_version().await? else {
        let message = format!("{} has no version yet", output.describe());
        return Err(Error::Config(message));
    };
    require_whole(output, &newest).await?;
    let areas = match &output.areas {
        Areas::At(place) => place.clone(),
        Areas::Folder(folder) => Place::create_local(folder)?,
    };
    let mut pruned = Pruned::default();
    drop_versions(output, &areas, retention, &mut pruned).await?;
    remove_files(output, &areas, &newest, retention, &mut pruned).await?;
    if retention.sealed_parts {
        remove_parts(output, &newest, retention, &mut pruned).await?;
    }
    Ok(pruned)
}

/// A dataset that has lost a file may need its parts, or an older version, to be mended.
async fn require_whole(output: &Output, newest: &VersionFile) -> Result<()> {
    for file in &newest.files {
        match output.place.size(&file.path).await? {
            Some(bytes) if bytes == file.bytes => {}
            Some(bytes) => {
                let what = format!(
                    "has {bytes} bytes and not {}: nothing is removed before it is mended",
                    file.bytes
                );
                return Err(Error::corrupt(&file.path, what));
            }
            None => {
                let what = "is missing: nothing is removed before it is mended";
                return Err(Error::corrupt(&file.path, what));
            }
        }
    }
    Ok(())
}

async fn drop_versions(
    output: &Output,
    areas: &Place,
    retention: &Retention,
    pruned: &mut Pruned,
) -> Result<()> {
    let Some(keep) = retention.keep_versions else {
        return Ok(());
    };
    let mut numbers = output.versions().await?;
    numbers.truncate(numbers.len().saturating_sub(keep.max(1)));
    for number in numbers {
        pruned.dropped.push(number);
        if retention.is_dry_run {
            continue;
        }
        let dropped = Dropped {
            dropped_at_ms: retention.now_ms,
            version: output.version(number).await?,
        };
        // One that is there is of a call that was cut short: its time counts.
        drop(
            areas
                .create(&paths::dropped(number), json(&dropped)?)
                .await?,
        );
        output.place.delete(&paths::version(number)).await?;
    }
    Ok(())
}

/// Records of dropped versions, by number.
async fn dropped_versions(areas: &Place) -> Result<BTreeMap<u64, Dropped>> {
    let mut records = BTreeMap::new();
    for object in areas.list(paths::DROPPED).await? {
        let Some(number) = paths::parse_dropped(&object.key) else {
            continue;
        };
        let content = areas.get(&object.key).await?;
        let record = serde_json::from_slice(&content)
            .map_err(|error| Error::corrupt(&object.key, format!("is no record: {error}")))?;
        records.insert(number, record);
    }
    Ok(records)
}

/// Files below `data/` that are only there because a version was dropped a while ago.
///
/// # Errors
/// When the store fails.
pub(crate) async fn files_of_dropped(output: &Output) -> Result<HashSet<String>> {
    let Some(areas) = output.areas()? else {
        return Ok(HashSet::new());
    };
    let records = dropped_versions(&areas).await?;
    let files = records
        .into_values()
        .flat_map(|record| record.version.files);
    Ok(files.map(|file| file.path).collect())
}

async fn remove_files(
    output: &Output,
    areas: &Place,
    newest: &VersionFile,
    retention: &Retention,
    pruned: &mut Pruned,
) -> Result<()> {
    let mut live = HashSet::new();
    for number in output.versions().await? {
        let would_go = retention.is_dry_run && pruned.dropped.contains(&number);
        if !would_go {
            let version = output.version(number).await?;
            live.extend(version.files.into_iter().map(|file| file.path));
        }
    }
    let records = dropped_versions(areas).await?;
    // When a file was last listed, as far as that was written down.
    let mut unlisted_since: HashMap<&str, i64> = HashMap::new();
    for record in records.values() {
        for file in &record.version.files {
            let since = unlisted_since.entry(&file.path).or_insert(i64::MIN);
            *since = (*since).max(record.dropped_at_ms);
        }
    }
    let due = |object: &Listed| {
        let since = unlisted_since.get(object.key.as_str()).copied();
        let since = since.unwrap_or(object.modified_at_ms);
        retention.now_ms.saturating_sub(since) >= retention.min_age_ms
    };
    let (mut removed, mut kept) = (Vec::new(), HashSet::new());
    for object in output.place.list(paths::DATA).await? {
        // A version that is being sealed is newer than the newest there is.
        let is_settled =
            paths::parse_version_data(&object.key).is_some_and(|of| of <= newest.version);
        if !is_settled || live.contains(&object.key) {
            continue;
        }
        if due(&object) {
            pruned.files.add(object.bytes);
            removed.push(object.key);
        } else {
            pruned.waiting.add(object.bytes);
            kept.insert(object.key);
        }
    }
    if retention.is_dry_run {
        return Ok(());
    }
    delete_all(&output.place, removed).await?;
    for (number, record) in records {
        let mut files = record.version.files.iter();
        if !files.any(|file| kept.contains(&file.path)) {
            areas.delete(&paths::dropped(number)).await?;
        }
    }
    Ok(())
}

async fn delete_all(place: &Place, keys: Vec<String>) -> Result<()> {
    let deletes = futures::stream::iter(keys).map(|key| async move { place.delete(&key).await });
    deletes
        .buffer_unordered(DELETES_AT_ONCE)
        .try_collect::<()>()
        .await
}

async fn remove_parts(
    output: &Output,
    newest: &VersionFile,
    retention: &Retention,
    pruned: &mut Pruned,
) -> Result<()> {
    for sealed in &newest.jobs {
        let area = output.job_area(&sealed.job_id)?;
        if area.place.size(in_job::PARTS_REMOVED).await?.is_some() {
            continue;
        }
        let log = CommitLog::read(&area).await?;
        let is_done = log.closing() == Some(Closing::Done) && sealed.last_manifest >= log.head();
        if !is_done {
            continue;
        }
        let Some(since_ms) = sealed_at_ms(output, &sealed.job_id, log.head()).await? else {
            continue;
        };
        if retention.now_ms.saturating_sub(since_ms) < retention.min_age_ms {
            pruned.waiting_jobs.push(sealed.job_id.clone());
            continue;
        }
        pruned.jobs.push(sealed.job_id.clone());
        remove_parts_of(&area, log.head(), retention, &mut pruned.parts).await?;
        if !retention.is_dry_run {
            let mark = PartsRemoved {
                removed_at_ms: retention.now_ms,
                version: newest.version,
            };
            area.place.put(in_job::PARTS_REMOVED, json(&mark)?).await?;
        }
    }
    Ok(())
}

/// When the oldest version that is left and holds all of a job was made.
async fn sealed_at_ms(output: &Output, job_id: &JobId, head: u64) -> Result<Option<i64>> {
    for number in output.versions().await? {
        let version = output.version(number).await?;
        if version.last_manifest(job_id) >= head {
            let created_at: jiff::Timestamp = version.created_at.parse().map_err(|error| {
                let what = format!("says it was made at no time: {error}");
                Error::corrupt(paths::version(number), what)
            })?;
            return Ok(Some(created_at.as_millisecond()));
        }
    }
    Ok(None)
}

/// Removes what the manifests list and is there. Parts that no manifest lists are the
/// coordinator's to sweep.
async fn remove_parts_of(
    area: &JobArea,
    head: u64,
    retention: &Retention,
    amount: &mut Amount,
) -> Result<()> {
    let mut manifests = pin!(manifests(area, 1..=head));
    while let Some(manifest) = manifests.try_next().await? {
        let present = futures::stream::iter(&manifest.parts)
            .map(|part| async move { (part, area.part_bytes(&part.key).await) })
            .buffer_unordered(DELETES_AT_ONCE);
        let mut present = pin!(present);
        while let Some((part, bytes)) = present.next().await {
            if let Some(bytes) = bytes? {
                amount.add(bytes);
                if !retention.is_dry_run {
                    area.delete_part(&part.key).await?;
                }
            }
        }
    }
    Ok(())
}

fn json<T: Serialize>(value: &T) -> Result<Bytes> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Bug(format!("a record is not JSON: {error}")))?;
    json.push(b'\n');
    Ok(Bytes::from(json))
}
