//! Rows to a part in the scratch folder. Comes after `recognize`, before `upload`.

use std::collections::BTreeMap;
use std::path::Path;

use quire_dataset::{PartRow, PartSummary, PartWriter};
use quire_proto::v1::FailureCount;
use tempfile::NamedTempFile;

use crate::error::{Error, Result, is_disk_full};

/// A finished part that only this machine has.
#[derive(Debug)]
pub(crate) struct WrittenPart {
    pub(crate) file: NamedTempFile,
    pub(crate) summary: PartSummary,
    pub(crate) failures: Vec<FailureCount>,
}

/// Writes all rows of a shard. Blocks.
///
/// # Errors
/// When the scratch folder does not take them.
pub(crate) fn write(rows: Vec<PartRow>, scratch: &Path, key: &str) -> Result<WrittenPart> {
    let path = || scratch.display().to_string();
    let on_scratch = |source: std::io::Error| {
        if is_disk_full(&source) {
            return Error::DiskFull {
                path: path(),
                source: source.into(),
            };
        }
        Error::Scratch {
            path: path(),
            source,
        }
    };
    let in_part = |source: quire_dataset::Error| {
        if is_disk_full(&source) {
            return Error::DiskFull {
                path: path(),
                source: source.into(),
            };
        }
        Error::Part {
            key: key.to_owned(),
            source: Box::new(source),
        }
    };
    let file = NamedTempFile::with_prefix_in("part-", scratch).map_err(on_scratch)?;
    let failures = count_failures(&rows);
    let mut writer = PartWriter::create(file.reopen().map_err(on_scratch)?).map_err(in_part)?;
    for row in rows {
        writer.write(row).map_err(in_part)?;
    }
    let summary = writer.finish().map_err(in_part)?;
    Ok(WrittenPart {
        file,
        summary,
        failures,
    })
}

/// Failed rows by code, each with one example.
fn count_failures(rows: &[PartRow]) -> Vec<FailureCount> {
    let mut counts: BTreeMap<&str, FailureCount> = BTreeMap::new();
    for row in rows {
        let PartRow::Failed { error, .. } = row else {
            continue;
        };
        let code = error.code.as_str();
        let count = counts.entry(code).or_insert_with(|| FailureCount {
            code: code.to_owned(),
            count: 0,
            example: example(error),
        });
        count.count += 1;
    }
    counts.into_values().collect()
}

fn example(error: &quire_dataset::ErrorRow) -> String {
    let mut example = error.source_uri.clone();
    if let Some(member) = &error.source_member {
        example.push_str(&format!(" » {member}"));
    }
    if let Some(page_number) = error.page_number {
        example.push_str(&format!(" p. {page_number}"));
    }
    format!("{example}: {}", error.message)
}
