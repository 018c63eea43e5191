//! Checks every promise that a dataset makes, and names each violation: the file, the row, what
//! is wrong. Memory grows with the number of rows only by a few bytes each, which the check for
//! doubled pages needs.

mod beside;
mod rows;

use std::collections::HashSet;

use quire_core::Fault;

use crate::area::Output;
use crate::error::{Error, Result};
use crate::object::{GroupReader, ParquetObject, decoded};
use crate::row::{DocumentRow, ErrorRow, PageRow};
use crate::schema::{SCHEMA_VERSION, SCHEMA_VERSION_KEY, TABLE_KEY, Table, TableRow};
use crate::seal::{Counted, FileSums, blocking};
use crate::split::SplitRule;
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
    let mut checker = Checker {
        report: VerifyReport {
            version: version.version,
            ..VerifyReport::default()
        },
        tallies: Tallies::default(),
        split: version.split.clone(),
        scratch: Vec::new(),
    };
    let mut sums = Vec::new();
    for file in &version.files {
        let (back, summed) = check_file(output, checker, &version, file).await?;
        checker = back;
        sums.extend(summed);
    }
    checker.tallies.check_documents(&mut checker.report);
    let mut report = checker.report;
    check_totals(&mut report, &version, &sums);
    beside::check(output, &version, &mut report).await?;
    Ok(report)
}

/// What is carried from file to file.
struct Checker {
    report: VerifyReport,
    tallies: Tallies,
    split: SplitRule,
    scratch: Vec<u8>,
}

async fn check_file(
    output: &Output,
    mut checker: Checker,
    version: &VersionFile,
    file: &FileEntry,
) -> Result<(Checker, Option<FileSums>)> {
    checker.report.files += 1;
    let report = &mut checker.report;
    let path = &file.path;
    let (bytes, sha256) = match output.place.hash(path).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() => {
            report.add(path, None, "is missing");
            return Ok((checker, None));
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
        return Ok((checker, None));
    }
    let object = match ParquetObject::open(&output.place, path).await {
        Ok(object) => object,
        Err(error) if error.fault() == Fault::Corrupt => {
            report.add(path, None, format!("cannot be opened: {}", chain(&error)));
            return Ok((checker, None));
        }
        Err(error) => return Err(error),
    };
    check_footer(report, version, file, &object);
    match file.table {
        Table::Pages => check_rows::<PageRow>(checker, file, &object).await,
        Table::Documents => check_rows::<DocumentRow>(checker, file, &object).await,
        Table::Errors => check_rows::<ErrorRow>(checker, file, &object).await,
        Table::Part => {
            checker
                .report
                .add(path, None, "is a part, which no version may list");
            Ok((checker, None))
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
    mut checker: Checker,
    file: &FileEntry,
    object: &ParquetObject,
) -> Result<(Checker, Option<FileSums>)> {
    let mut sums = FileSums::default();
    let mut first_row = 0;
    for idx in 0..object.n_row_groups() {
        let group = match object.row_group(idx, None).await {
            Ok(group) => group,
            Err(error) if error.fault() == Fault::Corrupt => {
                let what = format!("row group {idx} cannot be read: {}", chain(&error));
                checker.report.add(&file.path, None, what);
                return Ok((checker, None));
            }
            Err(error) => return Err(error),
        };
        let entry = file.clone();
        let is_whole;
        (checker, sums, is_whole) = blocking(move || {
            let is_whole = take_group::<R>(&mut checker, &mut sums, &entry, group, first_row);
            Ok((checker, sums, is_whole))
        })
        .await?;
        if !is_whole {
            return Ok((checker, None));
        }
        first_row += u64::try_from(object.row_group_metadata(idx).num_rows()).unwrap_or(0);
    }
    if sums.digest.to_hex() != file.rows_digest {
        let what = format!(
            "has rows_digest {}, not {}",
            sums.digest.to_hex(),
            file.rows_digest
        );
        checker.report.add(&file.path, None, what);
    }
    if sums.totals != file.totals || merged_engines(&sums.engines) != merged_engines(&file.engines)
    {
        checker.report.add(
            &file.path,
            None,
            "adds up to other totals than the version says",
        );
    }
    Ok((checker, Some(sums)))
}

/// Checks the rows of a group; false if some of them cannot be read, so that sums mean nothing.
fn take_group<R: CheckedRow + Counted + TableRow>(
    checker: &mut Checker,
    sums: &mut FileSums,
    file: &FileEntry,
    group: GroupReader,
    first_row: u64,
) -> bool {
    let mut at = first_row;
    let mut is_whole = true;
    for batch in group {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                checker
                    .report
                    .add(&file.path, Some(format!("#{at}")), chain(&error));
                return false;
            }
        };
        for row in decoded::<R>(&batch) {
            match row {
                Ok(row) => {
                    sums.add(&row, &mut checker.scratch);
                    row.check(
                        file,
                        &checker.split,
                        &mut checker.tallies,
                        &mut checker.report,
                    );
                }
                Err(problem) => {
                    checker
                        .report
                        .add(&file.path, Some(format!("#{at}")), problem.to_string());
                    is_whole = false;
                }
            }
            at += 1;
        }
    }
    is_whole
}

fn check_totals(report: &mut VerifyReport, version: &VersionFile, sums: &[FileSums]) {
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
    let mut digest = crate::digest::RowsDigest::default();
    sums.iter().for_each(|sums| digest.add(&sums.digest));
    report.content_digest = digest.to_hex();
}

/// An error with its sources, in one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
