//! The version file: which files a version of the dataset has, and what they hold. The object
//! `versions/{v:06}.json` is created once, and its existence is the commit of the version.

use std::collections::{BTreeMap, BTreeSet};

use quire_core::{EngineInfo, JobId};
use serde::{Deserialize, Serialize};

use crate::area::Output;
use crate::digest::RowsDigest;
use crate::error::{Error, Result};
use crate::paths;
use crate::row::{PageRow, Split};
use crate::schema::Table;
use crate::split::SplitRule;

/// What a version of a dataset holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionFile {
    /// From 1; the highest number wins.
    pub version: u64,
    /// The version that it was made from.
    pub parent: Option<u64>,
    /// Of the tables.
    pub schema_version: String,
    /// Who wrote the files that this version added.
    pub writer: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// For the card.
    pub title: Option<String>,
    /// Of the dataset as a whole, as its maker gave it.
    pub license: Option<String>,
    /// Jobs whose rows are in it, oldest first.
    pub jobs: Vec<SealedJob>,
    /// Who read the pages, most pages first.
    pub engines: Vec<EngineUse>,
    /// Models whose tokenizers counted `text_tokens`, several with commas between; `None` if they
    /// were not counted.
    pub tokenizer: Option<String>,
    /// How pages became images, by the newest job.
    pub render: RenderNote,
    /// The rule of `split`; all versions of a dataset share it.
    pub split: SplitRule,
    /// Sums over all files.
    pub totals: Totals,
    /// All live files, those of earlier versions included, by table, split and path.
    pub files: Vec<FileEntry>,
}

/// How much of a job's commit log a version holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedJob {
    /// Which job.
    pub job_id: JobId,
    /// Number of its newest manifest that is in the version.
    pub last_manifest: u64,
    /// Of the job's specification as JSON, in hex.
    pub spec_sha256: String,
}

/// An engine and how many pages it read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineUse {
    /// Which engine.
    #[serde(flatten)]
    pub engine: EngineInfo,
    /// Rows of `pages`.
    pub pages: u64,
}

/// How pages became images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenderNote {
    /// Name of the renderer.
    pub renderer: String,
    /// Its version.
    pub version: String,
    /// Dots an inch for vector pages.
    pub dpi: f32,
    /// Longest edge; a larger page was made smaller.
    pub max_edge_px: u32,
    /// Largest area; a larger page was made smaller.
    pub max_area_px: u64,
}

/// What some files hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Rows of `documents`.
    pub documents: u64,
    /// Rows of `pages`.
    pub pages: u64,
    /// Rows of `errors`.
    pub errors: u64,
    /// Code points of all `text`.
    pub text_chars: u64,
    /// `None` if no tokenizer was loaded.
    pub text_tokens: Option<u64>,
    /// `None` if no engine counts them.
    pub vision_tokens: Option<u64>,
    /// Pages a split.
    pub by_split: BTreeMap<Split, u64>,
    /// Pages a language; pages of unknown language are not in it.
    pub by_language: BTreeMap<String, u64>,
}

impl Totals {
    pub(crate) fn add_page(&mut self, page: &PageRow) {
        self.pages += 1;
        self.text_chars += unsigned(page.text_chars);
        if let Some(tokens) = page.text_tokens {
            *self.text_tokens.get_or_insert(0) += unsigned(tokens);
        }
        if let Some(tokens) = page.vision_tokens {
            *self.vision_tokens.get_or_insert(0) += unsigned(tokens);
        }
        *self.by_split.entry(page.split).or_default() += 1;
        if let Some(language) = &page.language {
            *self.by_language.entry(language.clone()).or_default() += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.documents += other.documents;
        self.pages += other.pages;
        self.errors += other.errors;
        self.text_chars += other.text_chars;
        for (sum, more) in [
            (&mut self.text_tokens, other.text_tokens),
            (&mut self.vision_tokens, other.vision_tokens),
        ] {
            if let Some(more) = more {
                *sum.get_or_insert(0) += more;
            }
        }
        for (split, pages) in &other.by_split {
            *self.by_split.entry(*split).or_default() += pages;
        }
        for (language, pages) in &other.by_language {
            *self.by_language.entry(language.clone()).or_default() += pages;
        }
    }
}

fn unsigned(number: i32) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A live file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// What its rows are.
    pub table: Table,
    /// Of pages; the other tables have none.
    pub split: Option<Split>,
    /// Relative to the dataset.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Of the file, in hex.
    pub sha256: String,
    /// Rows.
    pub rows: u64,
    /// Row groups.
    pub row_groups: u32,
    /// See [`crate::digest`].
    pub rows_digest: String,
    /// What its rows add up to.
    pub totals: Totals,
    /// Who read its pages; empty for the other tables.
    pub engines: Vec<EngineUse>,
    /// Models whose tokenizers counted its `text_tokens`, by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tokenizers: BTreeSet<String>,
}

impl VersionFile {
    /// The live files of a table.
    pub fn files_of(&self, table: Table) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(move |file| file.table == table)
    }

    /// The digest of all rows of a table: equal digests mean equal content, whatever the run.
    ///
    /// # Errors
    /// When the version file holds something that is no digest.
    pub fn rows_digest(&self, table: Table) -> Result<RowsDigest> {
        let mut sum = RowsDigest::default();
        for file in self.files_of(table) {
            let digest = RowsDigest::parse(&file.rows_digest).ok_or_else(|| {
                Error::corrupt(
                    paths::version(self.version),
                    "holds a rows_digest that is none",
                )
            })?;
            sum.add(&digest);
        }
        Ok(sum)
    }

    /// The digest of everything in the version.
    ///
    /// # Errors
    /// When the version file holds something that is no digest.
    pub fn content_digest(&self) -> Result<RowsDigest> {
        let mut sum = RowsDigest::default();
        for table in Table::SEALED {
            sum.add(&self.rows_digest(table)?);
        }
        Ok(sum)
    }

    /// How much of a job is in the version: the number of its newest manifest, 0 if nothing is.
    pub fn last_manifest(&self, job_id: &JobId) -> u64 {
        self.jobs
            .iter()
            .find(|job| job.job_id == *job_id)
            .map_or(0, |job| job.last_manifest)
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::Bug(format!("a version file is not JSON: {error}")))?;
        json.push(b'\n');
        Ok(json)
    }

    pub(crate) fn parse(key: &str, json: &[u8]) -> Result<Self> {
        let version: Self = serde_json::from_slice(json)
            .map_err(|error| Error::corrupt(key, format!("is not a version file: {error}")))?;
        match paths::version(version.version) == key {
            true => Ok(version),
            false => Err(Error::corrupt(
                key,
                format!("says it is version {}", version.version),
            )),
        }
    }
}

/// Sums engines over files; most pages first, then by name.
pub(crate) fn merged_engines<'a>(uses: impl IntoIterator<Item = &'a EngineUse>) -> Vec<EngineUse> {
    let mut merged: Vec<EngineUse> = Vec::new();
    for one in uses {
        match merged.iter_mut().find(|known| known.engine == one.engine) {
            Some(known) => known.pages += one.pages,
            None => merged.push(one.clone()),
        }
    }
    let name = |one: &EngineUse| {
        let engine = &one.engine;
        let (name, version) = (engine.name.clone(), engine.version.clone());
        (
            name,
            version,
            engine.model_revision.clone(),
            engine.mode.clone(),
        )
    };
    merged.sort_by(|a, b| b.pages.cmp(&a.pages).then_with(|| name(a).cmp(&name(b))));
    merged
}

impl Output {
    /// Numbers of all versions, ascending.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn versions(&self) -> Result<Vec<u64>> {
        let objects = self.place.list(paths::VERSIONS).await?;
        let mut numbers: Vec<u64> = objects
            .iter()
            .filter_map(|object| paths::parse_version(&object.key))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A version that exists.
    ///
    /// # Errors
    /// When it cannot be read, or is not a version file.
    pub async fn version(&self, number: u64) -> Result<VersionFile> {
        let key = paths::version(number);
        VersionFile::parse(&key, &self.place.get(&key).await?)
    }

    /// The newest version, if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or is not a version file.
    pub async fn newest_version(&self) -> Result<Option<VersionFile>> {
        match self.versions().await?.last() {
            Some(&number) => self.version(number).await.map(Some),
            None => Ok(None),
        }
    }
}
