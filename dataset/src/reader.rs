//! Committed rows, and nothing else: the files of one version, as batches or rows, and single
//! pages by id. Before: [`crate::seal`] makes versions.

use std::marker::PhantomData;

use arrow_array::RecordBatch;
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use quire_core::DocId;

use crate::area::Output;
use crate::cell::columns;
use crate::error::{Error, Result};
use crate::object::{GroupReader, ParquetObject, decoded};
use crate::row::{PageRow, Split};
use crate::schema::{Table, TableRow};
use crate::strand::blocking;
use crate::version::VersionFile;

/// One version of a dataset.
#[derive(Debug, Clone)]
pub struct Dataset {
    output: Output,
    version: VersionFile,
}

impl Dataset {
    /// The newest version.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn open(output: &Output) -> Result<Self> {
        match output.newest_version().await? {
            Some(version) => Ok(Self {
                output: output.clone(),
                version,
            }),
            None => Err(Error::Config(format!(
                "{} has no version yet",
                output.describe()
            ))),
        }
    }

    /// A version by its number.
    ///
    /// # Errors
    /// When there is none of that number, or it cannot be read.
    pub async fn open_version(output: &Output, number: u64) -> Result<Self> {
        let version = output.version(number).await?;
        Ok(Self {
            output: output.clone(),
            version,
        })
    }

    /// What the version holds.
    pub fn version(&self) -> &VersionFile {
        &self.version
    }

    /// Where the files of a table lie, in order: absolute paths on local disk, else keys below
    /// the dataset. Only those of one split, if it is given.
    pub fn files(&self, table: Table, split: Option<Split>) -> Vec<String> {
        let location = |path: &String| match self.output.place.file(path) {
            Some(file) => file.display().to_string(),
            None => path.clone(),
        };
        self.version
            .files_of(table)
            .filter(|file| split.is_none() || file.split == split)
            .map(|file| location(&file.path))
            .collect()
    }

    /// The rows of a table as batches; with `columns`, only those (nested ones as `a.b`).
    pub fn batches(&self, table: Table, columns: Option<&[&str]>) -> Batches {
        let mut paths: Vec<String> = self
            .version
            .files_of(table)
            .map(|file| file.path.clone())
            .collect();
        paths.reverse();
        Batches {
            output: self.output.clone(),
            paths,
            columns: columns.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            open: None,
            group: None,
        }
    }

    /// The rows of a table.
    pub fn rows<R: TableRow>(&self) -> Rows<R> {
        let batches = self.batches(R::TABLE, None);
        Rows {
            batches,
            waiting: Vec::new().into_iter(),
            row: PhantomData,
        }
    }

    /// A page by its id; statistics and bloom filters pass over nearly all row groups that do
    /// not hold it.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn page(&self, page_id: &str) -> Result<Option<PageRow>> {
        for file in self.version.files_of(Table::Pages) {
            let object = ParquetObject::open(&self.output.place, &file.path).await?;
            for idx in 0..object.n_row_groups() {
                if !may_hold(&object, idx, page_id).await? {
                    continue;
                }
                let ids = object.row_group(idx, Some(&["page_id"])).await?;
                let page_id = page_id.to_owned();
                let at = blocking(move || position(ids, &page_id)).await?;
                if let Some(at) = at {
                    let group = object.row_group(idx, None).await?;
                    return blocking(move || group.rows().nth(at).transpose()).await;
                }
            }
        }
        Ok(None)
    }
}

columns! {
    /// The id of a page.
    pub(crate) struct PageKey {
        pub(crate) page_id: String,
    }
}

fn position(ids: GroupReader, page_id: &str) -> Result<Option<usize>> {
    for (at, key) in ids.glances::<PageKey>().enumerate() {
        if key?.page_id == page_id {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Whether a row group can hold a page, as far as its footer and bloom filter tell.
async fn may_hold(object: &ParquetObject, idx: usize, page_id: &str) -> Result<bool> {
    let group = object.row_group_metadata(idx);
    let Some(column) = column_of(group, "page_id") else {
        return Ok(false);
    };
    if let Some(statistics) = column.statistics()
        && let (Some(min), Some(max)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt())
        && (page_id.as_bytes() < min || page_id.as_bytes() > max)
    {
        return Ok(false);
    }
    let range = column
        .bloom_filter_offset()
        .zip(column.bloom_filter_length());
    let Some((offset, length)) = range else {
        return Ok(true);
    };
    let (Ok(start), Ok(length)) = (u64::try_from(offset), u64::try_from(length)) else {
        return Ok(true);
    };
    let range = start..start.saturating_add(length);
    let fetched = object.fetch(Vec::from([range])).await?;
    let filter = Sbbf::read_from_column_chunk(column, &fetched)
        .map_err(Error::parquet("read", object.key()))?;
    Ok(filter.is_none_or(|filter| filter.check(page_id)))
}

fn column_of<'a>(group: &'a RowGroupMetaData, name: &str) -> Option<&'a ColumnChunkMetaData> {
    group
        .columns()
        .iter()
        .find(|column| column.column_path().parts() == [name])
}

/// Batches of a table, file by file, a row group in memory at a time.
pub struct Batches {
    output: Output,
    /// Files to come, the next one last.
    paths: Vec<String>,
    columns: Option<Vec<String>>,
    /// The open file and its next row group.
    open: Option<(ParquetObject, usize)>,
    group: Option<GroupReader>,
}

impl Batches {
    /// The next batch; `None` after the last.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(mut group) = self.group.take() {
                let (group, batch) = blocking(move || {
                    let batch = group.next().transpose()?;
                    Ok((group, batch))
                })
                .await?;
                if batch.is_some() {
                    self.group = Some(group);
                    return Ok(batch);
                }
            }
            if !self.next_group().await? {
                return Ok(None);
            }
        }
    }

    async fn next_group(&mut self) -> Result<bool> {
        loop {
            if let Some((object, idx)) = &mut self.open
                && *idx < object.n_row_groups()
            {
                let names: Option<Vec<&str>> = self
                    .columns
                    .as_ref()
                    .map(|names| names.iter().map(String::as_str).collect());
                self.group = Some(object.row_group(*idx, names.as_deref()).await?);
                *idx += 1;
                return Ok(true);
            }
            let Some(path) = self.paths.pop() else {
                return Ok(false);
            };
            self.open = Some((ParquetObject::open(&self.output.place, &path).await?, 0));
        }
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches")
            .field("files_to_come", &self.paths)
            .finish_non_exhaustive()
    }
}

/// Rows of a table.
#[derive(Debug)]
pub struct Rows<R> {
    batches: Batches,
    waiting: std::vec::IntoIter<R>,
    row: PhantomData<R>,
}

impl<R: TableRow> Rows<R> {
    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// When a file cannot be read, or a row is not whole.
    pub async fn next(&mut self) -> Result<Option<R>> {
        loop {
            if let Some(row) = self.waiting.next() {
                return Ok(Some(row));
            }
            let Some(batch) = self.batches.next().await? else {
                return Ok(None);
            };
            let rows: Result<Vec<R>, _> = decoded(&batch).into_iter().collect();
            let rows = rows.map_err(|problem| {
                Error::corrupt(R::TABLE, format!("has a row whose {problem}"))
            })?;
            self.waiting = rows.into_iter();
        }
    }

    /// All rows that are left. Only for tables known to be small.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn collect(mut self) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        while let Some(row) = self.next().await? {
            rows.push(row);
        }
        Ok(rows)
    }
}

/// The document that a page id names.
pub fn doc_id_of_page(page_id: &str) -> Option<DocId> {
    let (doc_id, number) = page_id.rsplit_once('-')?;
    let is_number = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| DocId::new(doc_id))
}
