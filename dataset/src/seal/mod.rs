//! Committed parts to a version of the dataset, in steps that can be cut short anywhere:
//!
//! 1. The seal plan is created. It fixes everything that the version's bytes depend on.
//! 2. The version is claimed for the job, so that no other job writes files of its names.
//! 3. Files are written and checked.
//! 4. The version file is created: now the version exists.
//! 5. Card, checksums and marks are written, as pure functions of the version file.
//!
//! Whoever finds a version planned and claimed but not there goes on with that plan, even if it
//! is another job's: nobody has to wait for a process that may be dead.
//! Before: [`crate::manifest`]. Next: [`crate::reader`], [`crate::verify`].

mod build;
mod check;
mod cut;
mod documents;
mod folder;
mod parts;
mod place_files;
mod request;
mod survey;
mod work;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use quire_core::JobId;
use serde::de::DeserializeOwned;

pub(crate) use build::{Counted, FileSums};
pub use request::SealRequest;
pub(crate) use survey::{DocKey, doc_key};

use crate::area::{JobArea, Output};
use crate::card;
use crate::create::Created;
use crate::error::{Error, Result};
use crate::manifest::CommitLog;
use crate::paths::{self, in_job};
use crate::properties::WRITER;
use crate::schema::SCHEMA_VERSION;
use crate::split::SplitRule;
use crate::version::{FileEntry, SealedJob, Totals, VersionFile, merged_engines};
use build::BuiltFile;
use folder::BuildFolder;
use request::{Claim, SealPlan};
use survey::{Scope, Survey, survey, whole_documents};

/// A version that exists.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedVersion {
    /// What it holds.
    pub version: VersionFile,
    /// Whether this call made it; false if it was there already.
    pub is_new: bool,
}

/// Makes a version of everything that the job has committed, and is safe to repeat: after a
/// crash anywhere, or by two callers at once, the result is the same.
///
/// # Errors
/// When parts contradict their manifests or the plan, the version is being sealed by another
/// release, or disk or store fail. Nothing of the unfinished version is then visible.
pub async fn seal(output: &Output, area: &JobArea, request: SealRequest) -> Result<SealedVersion> {
    let log = CommitLog::read(area).await?;
    check_planned(&log, &request)?;
    let mut is_new = false;
    loop {
        let newest = output.newest_version().await?;
        if let Some(newest) = &newest
            && newest.last_manifest(area.job_id()) >= log.head()
            && newest.jobs.iter().any(|job| job.job_id == *area.job_id())
        {
            return finish_derived(output, newest.clone(), is_new).await;
        }
        let number = newest.as_ref().map_or(1, |newest| newest.version + 1);
        let (owner, plan, looked) =
            planned(output, area, &request, &log, newest.as_ref(), number).await?;
        is_new |= owner.job_id() == area.job_id();
        let made = make_version(
            output,
            &owner,
            &plan,
            looked,
            newest.as_ref(),
            &request.scratch,
        );
        // It is large, and callers would carry it all the time.
        Box::pin(made).await?;
    }
}

/// Writes card, checksums and marks of the newest version again where a crash or a late writer
/// left older ones.
///
/// # Errors
/// When there is no version, or the store fails.
pub async fn refresh(output: &Output) -> Result<VersionFile> {
    match output.newest_version().await? {
        Some(newest) => Ok(finish_derived(output, newest, false).await?.version),
        None => Err(Error::Config(format!(
            "{} has no version yet",
            output.describe()
        ))),
    }
}

fn check_planned(log: &CommitLog, request: &SealRequest) -> Result<()> {
    let committed = log.n_rows();
    match request.planned_rows {
        Some(planned) if planned != committed => Err(Error::corrupt(
            "the commit log",
            format!("lists {committed} rows of {planned} planned"),
        )),
        _ => Ok(()),
    }
}

/// The plan to follow for a version, the area of the job that made it, and what was looked at
/// on the way.
async fn planned(
    output: &Output,
    area: &JobArea,
    request: &SealRequest,
    log: &CommitLog,
    parent: Option<&VersionFile>,
    number: u64,
) -> Result<(JobArea, SealPlan, Option<Survey>)> {
    let claim_key = paths::claim(number);
    if let Some(bytes) = area.areas.find(&claim_key).await? {
        return claimed(area, &claim_key, &bytes, number).await;
    }
    let plan_key = in_job::seal_plan(number);
    let (plan, looked) = match area.place.find(&plan_key).await? {
        Some(bytes) => (parsed(&plan_key, &bytes)?, None),
        None => {
            let (plan, survey) = make_plan(output, area, request, log, parent, number).await?;
            match area.place.create(&plan_key, json(&plan)?).await? {
                Created::Mine => (plan, Some(survey)),
                Created::Theirs(bytes) => (parsed(&plan_key, &bytes)?, None),
            }
        }
    };
    let claim = Claim {
        version: number,
        job_id: area.job_id().clone(),
    };
    match area.areas.create(&claim_key, json(&claim)?).await? {
        Created::Mine => Ok((area.clone(), plan, looked)),
        Created::Theirs(bytes) => claimed(area, &claim_key, &bytes, number).await,
    }
}

/// The plan of the job that claimed the version.
async fn claimed(
    area: &JobArea,
    claim_key: &str,
    claim: &[u8],
    number: u64,
) -> Result<(JobArea, SealPlan, Option<Survey>)> {
    let claim: Claim = parsed(claim_key, claim)?;
    let owner = area.of(&claim.job_id);
    let plan_key = in_job::seal_plan(number);
    let plan = parsed(&plan_key, &owner.place.get(&plan_key).await?)?;
    Ok((owner, plan, None))
}

async fn make_plan(
    output: &Output,
    area: &JobArea,
    request: &SealRequest,
    log: &CommitLog,
    parent: Option<&VersionFile>,
    number: u64,
) -> Result<(SealPlan, Survey)> {
    let whole_documents = match request.spec.retry_where {
        Some(_) => whole_documents(area).await?,
        None => None,
    };
    let scope = Scope {
        after_manifest: parent.map_or(0, |parent| parent.last_manifest(area.job_id())),
        last_manifest: log.head(),
        whole_documents,
        // One rule for all versions, or rows of kept files would be on the wrong side.
        split: parent.map_or_else(
            || SplitRule::from(&request.spec.split),
            |parent| parent.split.clone(),
        ),
    };
    let survey = survey(output, area, &scope, parent).await?;
    let plan = SealPlan {
        version: number,
        parent: parent.map(|parent| parent.version),
        job_id: area.job_id().clone(),
        writer: WRITER.to_owned(),
        schema_version: SCHEMA_VERSION.to_owned(),
        created_at: request.created_at()?,
        spec_sha256: request.spec_sha256()?,
        title: request
            .title
            .clone()
            .or_else(|| parent.and_then(|parent| parent.title.clone())),
        license: request
            .license
            .clone()
            .or_else(|| parent.and_then(|parent| parent.license.clone())),
        render: request.render_note(),
        split: scope.split,
        after_manifest: scope.after_manifest,
        last_manifest: scope.last_manifest,
        whole_documents: scope.whole_documents,
        rewritten: survey.rewritten.clone(),
        kept: survey.kept.clone(),
        files: cut::cut(number, &survey),
    };
    Ok((plan, survey))
}

/// Follows a plan to the end.
async fn make_version(
    output: &Output,
    owner: &JobArea,
    plan: &SealPlan,
    looked: Option<Survey>,
    parent: Option<&VersionFile>,
    scratch: &Path,
) -> Result<()> {
    if plan.writer != WRITER {
        return Err(Error::Config(format!(
            "version {} is being sealed by {}, this is {WRITER}: finish it with that release",
            plan.version, plan.writer
        )));
    }
    if plan.parent != parent.map(|parent| parent.version) {
        let what = format!("was made for a version after {:?}", plan.parent);
        return Err(Error::corrupt(in_job::seal_plan(plan.version), what));
    }
    let looked = match looked {
        Some(looked) => looked,
        None => {
            let scope = Scope {
                after_manifest: plan.after_manifest,
                last_manifest: plan.last_manifest,
                whole_documents: plan.whole_documents.clone(),
                split: plan.split.clone(),
            };
            survey(output, owner, &scope, parent).await?
        }
    };
    let build_folder = BuildFolder::make(output, owner, scratch)?;
    let files = work::write_files(output, owner, plan, looked, parent, &build_folder).await?;
    if build_folder.is_renamed {
        place_files::rename(output, plan.version, &build_folder.path(), &files).await?;
    }
    let version = version_file(plan, parent, files)?;
    let key = paths::version(plan.version);
    match output
        .place
        .create(&key, Bytes::from(version.to_json()?))
        .await?
    {
        Created::Mine => Ok(()),
        Created::Theirs(bytes) => {
            VersionFile::parse(&key, &bytes)?;
            let what = "was created with other content by somebody who had no claim to it";
            Err(Error::corrupt(key, what))
        }
    }
}

fn version_file(
    plan: &SealPlan,
    parent: Option<&VersionFile>,
    built: Vec<BuiltFile>,
) -> Result<VersionFile> {
    let mut files: Vec<_> = built.into_iter().map(|built| built.entry).collect();
    for path in &plan.kept {
        let kept = parent.and_then(|parent| parent.files.iter().find(|file| file.path == *path));
        files.push(
            kept.cloned()
                .ok_or_else(|| Error::corrupt(path, "is kept of no version"))?,
        );
    }
    files.sort_by(|a, b| (a.table, a.split, &a.path).cmp(&(b.table, b.split, &b.path)));
    let mut totals = Totals::default();
    files.iter().for_each(|file| totals.add(&file.totals));
    let job = SealedJob {
        job_id: plan.job_id.clone(),
        last_manifest: plan.last_manifest,
        spec_sha256: plan.spec_sha256.clone(),
    };
    let mut jobs = parent.map(|parent| parent.jobs.clone()).unwrap_or_default();
    jobs.retain(|known: &SealedJob| known.job_id != job.job_id);
    jobs.push(job);
    Ok(VersionFile {
        version: plan.version,
        parent: plan.parent,
        schema_version: plan.schema_version.clone(),
        writer: plan.writer.clone(),
        created_at: plan.created_at.clone(),
        title: plan.title.clone(),
        license: plan.license.clone(),
        jobs,
        engines: merged_engines(files.iter().flat_map(|file| &file.engines)),
        tokenizer: tokenizers(&files, parent),
        render: plan.render.clone(),
        split: plan.split.clone(),
        totals,
        files,
    })
}

/// Who counted the tokens of these files. Files of earlier writers do not say it; their version does.
fn tokenizers(files: &[FileEntry], parent: Option<&VersionFile>) -> Option<String> {
    let named: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| &file.tokenizers)
        .map(String::as_str)
        .collect();
    if named.is_empty() {
        return parent.and_then(|parent| parent.tokenizer.clone());
    }
    Some(named.into_iter().collect::<Vec<_>>().join(", "))
}

/// Writes what follows from the newest version, and again if a newer one came meanwhile.
async fn finish_derived(
    output: &Output,
    mut newest: VersionFile,
    is_new: bool,
) -> Result<SealedVersion> {
    loop {
        for (key, content) in card::derived(&newest)? {
            let content = Bytes::from(content);
            if output.place.find(key).await?.as_ref() != Some(&content) {
                output.place.put(key, content).await?;
            }
        }
        match output.newest_version().await? {
            Some(newer) if newer.version > newest.version => newest = newer,
            _ => {
                return Ok(SealedVersion {
                    version: newest,
                    is_new,
                });
            }
        }
    }
}

/// Which version is being sealed: claimed but not there.
pub(crate) async fn unfinished(output: &Output, newest: u64) -> Result<Option<(u64, JobId)>> {
    let Some(areas) = output.areas()? else {
        return Ok(None);
    };
    let key = paths::claim(newest + 1);
    match areas.find(&key).await? {
        Some(bytes) => {
            let claim: Claim = parsed(&key, &bytes)?;
            Ok(Some((claim.version, claim.job_id)))
        }
        None => Ok(None),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Bytes> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Bug(format!("a plan is not JSON: {error}")))?;
    json.push(b'\n');
    Ok(Bytes::from(json))
}

fn parsed<T: DeserializeOwned>(key: &str, json: &[u8]) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|error| Error::corrupt(key, format!("cannot be understood: {error}")))
}
