//! Checks every promise that a dataset makes, and names each violation: the file, the row, what
//! is wrong. Memory grows with the number of rows only by a few bytes each, which the check for
//! doubled pages needs.

mod beside;
mod rows;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quire_core::{Fault, chain};

use crate::area::Output;
use crate::digest::RowsDigest;
use crate::error::{Error, Result};
use crate::object::{GroupReader, ParquetObject, decoded};
use crate::row::{DocumentRow, ErrorRow, PageRow};
use crate::schema::{SCHEMA_VERSION, SCHEMA_VERSION_KEY, TABLE_KEY, Table, TableRow};
use crate::seal::{Counted, FileSums};
use crate::split::SplitRule;
use crate::strand::Strand;
use crate::version::{FileEntry, Totals, VersionFile, merged_engines};
use rows::{CheckedRow, Tallies};

/// Violations kept word for word; more are only counted, so that a ruined dataset of a billion
/// rows still gives a report.
const MAX_KEPT: usize = 1000;

/// A promise that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Relative to the dataset.
    pub file: String,
    /// The row's id, or its position from 0 where it has none.
    pub row: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.row {
            Some(row) => write!(f, "{}, row {row}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// The version that was checked.
    pub version: u64,
    /// Files of rows looked at.
    pub files: u64,
    /// Rows looked at.
    pub pages: u64,
    /// Rows looked at.
    pub documents: u64,
    /// Rows looked at.
    pub errors: u64,
    /// The digest of everything in the version, computed from the rows.
    pub content_digest: String,
    /// The first thousand.
    pub violations: Vec<Violation>,
    /// All of them.
    pub n_violations: u64,
    /// What is worth knowing and breaks no promise.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Whether every promise holds.
    pub fn is_sound(&self) -> bool {
        self.n_violations == 0
    }

    /// Adds what another report found.
    fn take(&mut self, other: Self) {
        self.pages += other.pages;
        self.documents += other.documents;
        self.errors += other.errors;
        self.n_violations += other.n_violations;
        let room = MAX_KEPT.saturating_sub(self.violations.len());
        self.violations
            .extend(other.violations.into_iter().take(room));
    }

    pub(crate) fn add(&mut self, file: &str, row: Option<String>, what: impl Into<String>) {
        self.n_violations += 1;
        if self.violations.len() < MAX_KEPT {
            self.violations.push(Violation {
                file: file.to_owned(),
                row,
                what: what.into(),
            });
        }
    }
}

/// Checks the newest version of a dataset.
///
/// # Errors
/// When there is no version, or the store gives no answer: then nothing is known. A file that is
/// missing or ruined is a violation, not an error.
pub async fn verify(output: &Output) -> Result<VerifyReport> {
    let Some(version) = output.newest_version().await? else {
        return Err(Error::Config(format!(
            "{} has no version yet",
            output.describe()
        )));
    };
    let mut report = VerifyReport {
        version: version.version,
        ..VerifyReport::default()
    };
    let checker = Strand::new(Checker::new(version.split.clone()));
    for file in &version.files {
        check_file(output, &checker, &version, file, &mut report).await?;
    }
    let mut checker = checker.finish().await?;
    checker.tallies.check_documents(&mut checker.report);
    report.content_digest = checker.digest.to_hex();
    report.take(checker.report);
    check_totals(&mut report, &version);
    beside::check(output, &version, &mut report).await?;
    Ok(report)
}

/// What is carried from file to file, on a thread of its own.
struct Checker {
    report: VerifyReport,
    tallies: Tallies,
    split: SplitRule,
    /// Of the file that is being read.
    sums: FileSums,
    rows: u64,
    /// Of all files that were read whole.
    digest: RowsDigest,
    scratch: Vec<u8>,
}

async fn check_file(
    output: &Output,
    checker: &Strand<Checker>,
    version: &VersionFile,
    file: &FileEntry,
    report: &mut VerifyReport,
) -> Result<()> {
    report.files += 1;
    let path = &file.path;
    let (bytes, sha256) = match output.place.hash(path).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => {
            report.add(path, None, "is missing");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if bytes != file.bytes {
        report.add(path, None, format!("has {bytes} bytes, not {}", file.bytes));
    }
    if sha256 != file.sha256 {
        // Its rows are anybody's guess: looking on would only bury this line.
        report.add(
            path,
            None,
            format!("has SHA-256 {sha256}, not {}", file.sha256),
        );
        return Ok(());
    }
    let object = match ParquetObject::open(&output.place, path).await {
        Ok(object) => object,
        Err(error) if error.fault() == Fault::Corrupt => {
            report.add(path, None, format!("cannot be opened: {}", chain(&error)));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    check_footer(report, version, file, &object);
    match file.table {
        Table::Pages => check_rows::<PageRow>(checker, file, &object, report).await,
        Table::Documents => check_rows::<DocumentRow>(checker, file, &object, report).await,
        Table::Errors => check_rows::<ErrorRow>(checker, file, &object, report).await,
        Table::Part => {
            report.add(path, None, "is a part, which no version may list");
            Ok(())
        }
    }
}

fn check_footer(
    report: &mut VerifyReport,
    version: &VersionFile,
    file: &FileEntry,
    object: &ParquetObject,
) {
    let path = &file.path;
    let expected = file.table.schema();
    let is_current = version.schema_version == SCHEMA_VERSION;
    if is_current && object.schema().fields() != expected.fields() {
        report.add(
            path,
            None,
            format!("has other columns than table {}", file.table),
        );
    }
    let hint = expected.metadata().get("huggingface");
    if object.schema().metadata().get("huggingface") != hint {
        report.add(
            path,
            None,
            "does not say for the datasets library what its image column is",
        );
    }
    let metadata = object.metadata().file_metadata();
    let value_of = |key: &str| {
        let values = metadata.key_value_metadata()?;
        values.iter().find(|pair| pair.key == key)?.value.clone()
    };
    for (key, expected) in [
        (TABLE_KEY, file.table.as_str()),
        (SCHEMA_VERSION_KEY, &version.schema_version),
    ] {
        match value_of(key) {
            Some(found) if found == expected => {}
            found => report.add(
                path,
                None,
                format!("says {key} is {found:?}, not {expected}"),
            ),
        }
    }
    let rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
    if rows != file.rows {
        report.add(path, None, format!("has {rows} rows, not {}", file.rows));
    }
    if rows == 0 {
        report.add(path, None, "has no rows");
    }
    if object.n_row_groups() as u64 != u64::from(file.row_groups) {
        let found = object.n_row_groups();
        report.add(
            path,
            None,
            format!("has {found} row groups, not {}", file.row_groups),
        );
    }
}

async fn check_rows<R: CheckedRow + Counted + TableRow>(
    checker: &Strand<Checker>,
    file: &FileEntry,
    object: &ParquetObject,
    report: &mut VerifyReport,
) -> Result<()> {
    checker.run(Checker::begin_file).await?;
    let mut is_whole = true;
    for idx in 0..object.n_row_groups() {
        let group = match object.row_group(idx, None).await {
            Ok(group) => group,
            Err(error) if error.fault() == Fault::Corrupt => {
                let what = format!("row group {idx} cannot be read: {}", chain(&error));
                report.add(&file.path, None, what);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let entry = file.clone();
        is_whole &= checker
            .run(move |checker| checker.take_group::<R>(&entry, group))
            .await?;
    }
    // Sums of a file of which rows could not be read mean nothing.
    if is_whole {
        let entry = file.clone();
        checker.run(move |checker| checker.end_file(&entry)).await?;
    }
    Ok(())
}

impl Checker {
    fn new(split: SplitRule) -> Self {
        Self {
            report: VerifyReport::default(),
            tallies: Tallies::default(),
            split,
            sums: FileSums::default(),
            rows: 0,
            digest: RowsDigest::default(),
            scratch: Vec::new(),
        }
    }

    fn begin_file(&mut self) {
        self.sums = FileSums::default();
        self.rows = 0;
    }

    /// Checks the rows of a group; false if some of them cannot be read. Bytes that make the
    /// decoder panic are a violation like any other.
    fn take_group<R: CheckedRow + Counted + TableRow>(
        &mut self,
        file: &FileEntry,
        group: GroupReader,
    ) -> bool {
        let take = AssertUnwindSafe(|| self.take_batches::<R>(file, group));
        match catch_unwind(take) {
            Ok(is_whole) => is_whole,
            Err(_) => {
                let row = Some(format!("#{}", self.rows));
                self.report.add(&file.path, row, "cannot be decoded at all");
                false
            }
        }
    }

    fn take_batches<R: CheckedRow + Counted + TableRow>(
        &mut self,
        file: &FileEntry,
        group: GroupReader,
    ) -> bool {
        let mut is_whole = true;
        for batch in group {
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => {
                    let row = Some(format!("#{}", self.rows));
                    self.report.add(&file.path, row, chain(&error));
                    return false;
                }
            };
            for row in decoded::<R>(&batch) {
                match row {
                    Ok(row) => {
                        self.sums.add(&row, &mut self.scratch);
                        row.check(file, &self.split, &mut self.tallies, &mut self.report);
                    }
                    Err(problem) => {
                        let row = Some(format!("#{}", self.rows));
                        self.report.add(&file.path, row, problem.to_string());
                        is_whole = false;
                    }
                }
                self.rows += 1;
            }
        }
        is_whole
    }

    fn end_file(&mut self, file: &FileEntry) {
        let FileSums {
            totals,
            engines,
            tokenizers,
            digest,
        } = &self.sums;
        if digest.to_hex() != file.rows_digest {
            let what = format!(
                "has rows_digest {}, not {}",
                digest.to_hex(),
                file.rows_digest
            );
            self.report.add(&file.path, None, what);
        }
        // Files of earlier writers do not name them.
        let names_others = !file.tokenizers.is_empty() && *tokenizers != file.tokenizers;
        if *totals != file.totals
            || merged_engines(engines) != merged_engines(&file.engines)
            || names_others
        {
            let what = "adds up to other totals than the version says";
            self.report.add(&file.path, None, what);
        }
        self.digest.add(digest);
    }
}

fn check_totals(report: &mut VerifyReport, version: &VersionFile) {
    let key = crate::paths::version(version.version);
    let mut totals = Totals::default();
    version
        .files
        .iter()
        .for_each(|file| totals.add(&file.totals));
    if totals != version.totals {
        report.add(&key, None, "has totals that its files do not add up to");
    }
    let engines = merged_engines(version.files.iter().flat_map(|file| &file.engines));
    if engines != version.engines {
        report.add(&key, None, "names other engines than its files");
    }
    let mut paths = HashSet::new();
    for file in &version.files {
        if !paths.insert(&file.path) {
            report.add(&key, None, format!("lists {} twice", file.path));
        }
    }
}
