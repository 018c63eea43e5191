//! `quire files`: the exact list of a version's files, for readers that take a list.

use quire_dataset::{FileEntry, Split, Table, VersionFile};
use serde::Serialize;

use crate::args::FilesArgs;
use crate::context::{Context, Dataset};
use crate::failure::{Failure, Outcome};
use crate::output;

/// One file, as `--json` prints it.
#[derive(Debug, Serialize)]
struct FileLine<'a> {
    table: Table,
    split: Option<Split>,
    /// Path or URI of the file itself.
    path: String,
    rows: u64,
    bytes: u64,
    sha256: &'a str,
}

/// Prints the files of the newest version.
pub(crate) async fn execute(context: &Context, args: FilesArgs) -> Outcome<()> {
    let dataset = context.open_dataset(&args.out)?;
    let version = dataset.newest_version().await?;
    let chosen = choose(&version, &args)?;
    if context.json {
        let lines: Vec<_> = chosen
            .into_iter()
            .map(|file| line(&dataset, file))
            .collect();
        return output::print_json(&lines);
    }
    let paths = chosen
        .into_iter()
        .map(|file| dataset.address(&file.path) + "\n");
    output::print(&paths.collect::<String>())
}

fn choose<'a>(version: &'a VersionFile, args: &FilesArgs) -> Outcome<Vec<&'a FileEntry>> {
    let split = args.split.as_deref().map(|name| {
        Split::parse(name).ok_or_else(|| {
            let names = Split::ALL
                .iter()
                .map(|split| split.as_str())
                .collect::<Vec<_>>();
            Failure::usage(format!("--split must be one of {}", names.join(", ")))
        })
    });
    let split = split.transpose()?;
    let wanted = |file: &&FileEntry| {
        args.table
            .is_none_or(|table| file.table.as_str() == table.as_str())
            && split.is_none_or(|split| file.split == Some(split))
    };
    Ok(version.files.iter().filter(wanted).collect())
}

fn line<'a>(dataset: &Dataset, file: &'a FileEntry) -> FileLine<'a> {
    FileLine {
        table: file.table,
        split: file.split,
        path: dataset.address(&file.path),
        rows: file.rows,
        bytes: file.bytes,
        sha256: &file.sha256,
    }
}
