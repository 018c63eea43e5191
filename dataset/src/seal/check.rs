//! Looks at a finished file as a stranger would, before anybody may read it: size, SHA-256,
//! footer, rows, and no data page without values.

use std::fs::File;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error::{Error, Result};
use crate::place::hash_file;
use crate::version::FileEntry;

/// Checks a file on this machine against what its writer says of it.
pub(crate) fn check_file(file: &Path, entry: &FileEntry) -> Result<()> {
    let (bytes, sha256) = hash_file(file)?;
    if (bytes, &sha256) != (entry.bytes, &entry.sha256) {
        return Err(Error::corrupt(&entry.path, "is not what was written"));
    }
    let opened = File::open(file).map_err(Error::file("open", file))?;
    let looked = look(opened).map_err(Error::parquet("check", &entry.path))?;
    if looked.rows != entry.rows || looked.row_groups != u64::from(entry.row_groups) {
        return Err(Error::corrupt(
            &entry.path,
            "has other rows than were written",
        ));
    }
    match looked.empty_page {
        Some(column) => Err(Error::corrupt(
            &entry.path,
            format!("has an empty data page in column {column}"),
        )),
        None => Ok(()),
    }
}

struct Looked {
    rows: u64,
    row_groups: u64,
    /// Column that has a data page without values: some readers then lose the column's values.
    empty_page: Option<String>,
}

fn look(file: File) -> Result<Looked, ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let metadata = reader.metadata();
    let mut looked = Looked {
        rows: u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0),
        row_groups: metadata.num_row_groups() as u64,
        empty_page: None,
    };
    for group in 0..metadata.num_row_groups() {
        let group = reader.get_row_group(group)?;
        for column in 0..group.num_columns() {
            let mut pages = group.get_column_page_reader(column)?;
            while let Some(page) = pages.peek_next_page()? {
                if !page.is_dict && (page.num_rows == Some(0) || page.num_levels == Some(0)) {
                    let path = group.metadata().column(column).column_path().string();
                    looked.empty_page = Some(path);
                }
                pages.skip_next_page()?;
            }
        }
    }
    Ok(looked)
}
