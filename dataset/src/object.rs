//! Parquet files in a store, read one row group at a time: memory is bounded by the largest row
//! group, which [`crate::writer`] keeps small, and on local disk by a few pages of it.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use bytes::{Buf, Bytes};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataPushDecoder, RowGroupMetaData,
};
use parquet::file::reader::{ChunkReader, Length};

use crate::cell::CellProblem;
use crate::error::{Error, Result};
use crate::place::Place;
use crate::schema::{Table, TableRow};

/// Footers nearly always fit into this much of a file's end.
const FOOTER_GUESS_BYTES: u64 = 64 << 10;
/// Rows decoded at a time, and how much they may take: images make rows large.
const BATCH_ROWS: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

/// An open Parquet file.
#[derive(Debug, Clone)]
pub(crate) struct ParquetObject {
    place: Place,
    key: String,
    /// The whole file, where it was small enough to be fetched at once.
    content: Option<Bytes>,
    size: u64,
    metadata: ArrowReaderMetadata,
}

impl ParquetObject {
    /// Reads the footer of a file in a store.
    pub(crate) async fn open(place: &Place, key: &str) -> Result<Self> {
        let path = place.path(key);
        let size = place
            .size(key)
            .await?
            .ok_or_else(|| Error::corrupt(key, "is missing"))?;
        let mut decoder = footer_decoder(size).map_err(Error::parquet("open", key))?;
        let tail = size.saturating_sub(FOOTER_GUESS_BYTES)..size;
        let mut wanted = vec![tail];
        let metadata = loop {
            let bytes = place.store().get_ranges(&path, &wanted).await;
            let bytes = bytes.map_err(Error::store("read", &path))?;
            decoder
                .push_ranges(wanted, bytes)
                .map_err(Error::parquet("open", key))?;
            match decoder.try_decode().map_err(Error::parquet("open", key))? {
                DecodeResult::Data(metadata) => break metadata,
                DecodeResult::NeedsData(ranges) => wanted = ranges,
                DecodeResult::Finished => return Err(Error::corrupt(key, "has no footer")),
            }
        };
        let metadata = reader_metadata(metadata).map_err(Error::parquet("open", key))?;
        Ok(Self {
            place: place.clone(),
            key: key.to_owned(),
            content: None,
            size,
            metadata,
        })
    }

    /// Opens a file that was fetched as a whole.
    pub(crate) fn fetched(place: &Place, key: &str, content: Bytes) -> Result<Self> {
        let size = content.len() as u64;
        let open = || {
            let mut decoder = footer_decoder(size)?;
            decoder.push_range(0..size, content.clone())?;
            match decoder.try_decode()? {
                DecodeResult::Data(metadata) => reader_metadata(metadata),
                _ => Err(ParquetError::General("the footer is cut short".to_owned())),
            }
        };
        let metadata = open().map_err(Error::parquet("open", key))?;
        let content = Some(content);
        Ok(Self {
            place: place.clone(),
            key: key.to_owned(),
            content,
            size,
            metadata,
        })
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The file's footer.
    pub(crate) fn metadata(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    /// The Arrow schema that the file was written with.
    pub(crate) fn schema(&self) -> &arrow_schema::Schema {
        self.metadata.schema()
    }

    pub(crate) fn n_row_groups(&self) -> usize {
        self.metadata().num_row_groups()
    }

    pub(crate) fn row_group_metadata(&self, idx: usize) -> &RowGroupMetaData {
        self.metadata().row_group(idx)
    }

    /// A row group, or only the columns named, for decoding.
    pub(crate) async fn row_group(
        &self,
        idx: usize,
        columns: Option<&[&str]>,
    ) -> Result<GroupReader> {
        let schema = self.metadata.parquet_schema();
        let mask = match columns {
            Some(names) => ProjectionMask::columns(schema, names.iter().copied()),
            None => ProjectionMask::all(),
        };
        let reader = match (&self.content, self.place.file(&self.key)) {
            // A file of this machine is read as rows are asked for.
            (None, Some(path)) => {
                let file = File::open(&path).map_err(Error::file("open", &path))?;
                self.reader(file, idx, mask)
            }
            _ => self.reader(self.fetch_group(idx, &mask).await?, idx, mask),
        };
        let reader = reader.map_err(Error::parquet("read", &self.key))?;
        Ok(GroupReader {
            key: self.key.clone(),
            reader,
        })
    }

    fn reader<F: ChunkReader + 'static>(
        &self,
        file: F,
        idx: usize,
        mask: ProjectionMask,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let batch_rows = batch_rows(self.row_group_metadata(idx), &mask);
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_row_groups(vec![idx])
            .with_batch_size(batch_rows)
            .with_projection(mask)
            .build()
    }

    async fn fetch_group(&self, idx: usize, mask: &ProjectionMask) -> Result<FetchedRanges> {
        let group = self.row_group_metadata(idx);
        let ranges = (0..group.num_columns())
            .filter(|&leaf| mask.leaf_included(leaf))
            .map(|leaf| group.column(leaf).byte_range())
            .map(|(start, length)| start..start.saturating_add(length))
            .collect();
        self.fetch(ranges).await
    }

    /// Fetches byte ranges of the file.
    pub(crate) async fn fetch(&self, ranges: Vec<Range<u64>>) -> Result<FetchedRanges> {
        if let Some(range) = ranges.iter().find(|range| range.end > self.size) {
            let what = format!("ends before byte {}, which its footer points at", range.end);
            return Err(Error::corrupt(&self.key, what));
        }
        let chunks = match &self.content {
            Some(content) => vec![(0, content.clone())],
            None => {
                let path = self.place.path(&self.key);
                let bytes = self.place.store().get_ranges(&path, &ranges).await;
                let bytes = bytes.map_err(Error::store("read", &path))?;
                ranges.iter().map(|range| range.start).zip(bytes).collect()
            }
        };
        Ok(FetchedRanges {
            size: self.size,
            chunks,
        })
    }
}

fn batch_rows(group: &RowGroupMetaData, mask: &ProjectionMask) -> usize {
    let bytes: i64 = (0..group.num_columns())
        .filter(|&leaf| mask.leaf_included(leaf))
        .map(|leaf| group.column(leaf).uncompressed_size())
        .sum();
    let row_bytes = usize::try_from(bytes / group.num_rows().max(1)).unwrap_or(0);
    (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS)
}

fn footer_decoder(size: u64) -> Result<ParquetMetaDataPushDecoder, ParquetError> {
    Ok(ParquetMetaDataPushDecoder::try_new(size)?.with_page_index_policy(PageIndexPolicy::Skip))
}

fn reader_metadata(metadata: ParquetMetaData) -> Result<ArrowReaderMetadata, ParquetError> {
    ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new())
}

/// The batches of one fetched row group.
pub(crate) struct GroupReader {
    key: String,
    reader: ParquetRecordBatchReader,
}

impl Iterator for GroupReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(batch.map_err(|error| Error::corrupt(&self.key, format!("cannot be read: {error}"))))
    }
}

impl GroupReader {
    /// The rows, each of which must be whole.
    pub(crate) fn rows<R: TableRow>(self) -> impl Iterator<Item = Result<R>> {
        let key = self.key.clone();
        self.flat_map(move |batch| match batch {
            Ok(batch) => decoded(&batch)
                .into_iter()
                .map(|row| {
                    row.map_err(|problem| {
                        Error::corrupt(&key, format!("has a row whose {problem}"))
                    })
                })
                .collect(),
            Err(error) => vec![Err(error)],
        })
    }

    /// Rows of a projection: `T` has exactly the fetched columns, in the file's order.
    pub(crate) fn glances<T: crate::cell::Columns>(self) -> impl Iterator<Item = Result<T>> {
        let key = self.key.clone();
        self.flat_map(move |batch| match batch {
            Ok(batch) => (0..batch.num_rows())
                .map(|row| {
                    T::read(batch.columns(), row).map_err(|problem| {
                        Error::corrupt(&key, format!("has a row whose {problem}"))
                    })
                })
                .collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

/// The rows of a batch that was read from a file of the table. A column that an older minor
/// version of the schema did not have is null.
pub(crate) fn decoded<R: TableRow>(batch: &RecordBatch) -> Vec<Result<R, CellProblem>> {
    let columns = aligned(batch, R::TABLE);
    (0..batch.num_rows())
        .map(|row| R::from_columns(&columns, row))
        .collect()
}

fn aligned(batch: &RecordBatch, table: Table) -> Vec<ArrayRef> {
    let schema = table.schema();
    let is_same = batch.num_columns() == schema.fields().len()
        && schema
            .fields()
            .iter()
            .zip(batch.schema_ref().fields())
            .all(|(a, b)| a.name() == b.name());
    if is_same {
        return batch.columns().to_vec();
    }
    let column = |field: &Arc<arrow_schema::Field>| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    schema.fields().iter().map(column).collect()
}

/// Parts of a file in memory, at their offsets.
pub(crate) struct FetchedRanges {
    size: u64,
    chunks: Vec<(u64, Bytes)>,
}

impl FetchedRanges {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let holds =
            |offset: u64, bytes: &Bytes| offset <= start && start - offset < bytes.len() as u64;
        self.chunks
            .iter()
            .find(|(offset, bytes)| holds(*offset, bytes))
            .map(|(offset, bytes)| bytes.slice((start - offset) as usize..))
            .ok_or_else(|| ParquetError::EOF(format!("byte {start} was not fetched")))
    }
}

impl Length for FetchedRanges {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for FetchedRanges {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        match bytes.len() >= length {
            true => Ok(bytes.slice(..length)),
            false => Err(ParquetError::EOF(format!(
                "{length} bytes at {start} were not fetched"
            ))),
        }
    }
}
