//! Rows to Parquet files, with memory bounded by one row group, and bytes that are a pure
//! function of the rows. Next: [`crate::manifest`] lists the parts that count.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::properties;
use crate::row::{PartRow, PartStatus};
use crate::schema::TableRow;

/// A row group holds at most this many bytes before encoding and compression: readers that
/// stream take whole groups into memory.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// With images the group is bounded in rows too: viewers refuse larger ones.
const ROW_GROUP_ROWS_WITH_IMAGES: usize = 500;
/// Rows of small tables also end in groups that a reader can skip.
const ROW_GROUP_ROWS: usize = 100_000;
/// Rows wait as values until they are this many bytes, then become arrays.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ROWS: usize = 1024;

/// A finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSummary {
    /// Rows.
    pub rows: u64,
    /// Row groups.
    pub row_groups: u32,
    /// Size.
    pub bytes: u64,
    /// In hex.
    pub sha256: String,
}

/// A finished part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSummary {
    /// All rows; equals what the plan says of the shard.
    pub rows: u64,
    /// Pages that were read.
    pub ok: u64,
    /// Pages and documents that could not be read.
    pub failed: u64,
    /// Documents left out.
    pub skipped: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Of the file, in hex.
    pub sha256: String,
}

/// Writes the rows of one shard, in plan order, to one file.
#[derive(Debug)]
pub struct PartWriter {
    rows: RowWriter<PartRow>,
    ok: u64,
    failed: u64,
    skipped: u64,
}

impl PartWriter {
    /// Starts a part in an empty file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(file: File) -> Result<Self> {
        Ok(Self {
            rows: RowWriter::create(file)?,
            ok: 0,
            failed: 0,
            skipped: 0,
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, row: PartRow) -> Result<()> {
        match row.status() {
            PartStatus::Ok => self.ok += 1,
            PartStatus::Failed => self.failed += 1,
            PartStatus::Skipped => self.skipped += 1,
        }
        let has_image = row.page().is_some_and(|page| page.image.is_some());
        self.rows.write(row, has_image)
    }

    /// Ends the file and syncs it to disk.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self) -> Result<PartSummary> {
        let Self {
            rows,
            ok,
            failed,
            skipped,
        } = self;
        let FileSummary {
            rows,
            bytes,
            sha256,
            ..
        } = rows.finish()?;
        Ok(PartSummary {
            rows,
            ok,
            failed,
            skipped,
            bytes,
            sha256,
        })
    }
}

/// Writes rows of one table to one file.
pub(crate) struct RowWriter<R: TableRow> {
    writer: ArrowWriter<HashingFile>,
    waiting: Vec<R>,
    waiting_bytes: usize,
    group_rows: usize,
    group_bytes: usize,
    group_has_images: bool,
    rows: u64,
}

impl<R: TableRow> RowWriter<R> {
    pub(crate) fn create(file: File) -> Result<Self> {
        let options =
            ArrowWriterOptions::new().with_properties(properties::writer_properties(R::TABLE));
        let writer =
            ArrowWriter::try_new_with_options(HashingFile::new(file), R::TABLE.schema(), options)
                .map_err(Error::parquet("start", R::TABLE))?;
        Ok(Self {
            writer,
            waiting: Vec::new(),
            waiting_bytes: 0,
            group_rows: 0,
            group_bytes: 0,
            group_has_images: false,
            rows: 0,
        })
    }

    pub(crate) fn write(&mut self, row: R, has_image: bool) -> Result<()> {
        let n_bytes = row.row_bytes();
        let has_images = self.group_has_images || has_image;
        let max_rows = if has_images {
            ROW_GROUP_ROWS_WITH_IMAGES
        } else {
            ROW_GROUP_ROWS
        };
        let is_full = self.group_rows >= max_rows || self.group_bytes + n_bytes > ROW_GROUP_BYTES;
        if is_full && self.group_rows > 0 {
            self.end_group()?;
        }
        self.group_has_images |= has_image;
        self.group_rows += 1;
        self.group_bytes += n_bytes;
        self.waiting_bytes += n_bytes;
        self.waiting.push(row);
        self.rows += 1;
        if self.waiting_bytes >= BATCH_BYTES || self.waiting.len() >= BATCH_ROWS {
            self.write_waiting()?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<FileSummary> {
        self.write_waiting()?;
        let metadata = self
            .writer
            .finish()
            .map_err(Error::parquet("finish", R::TABLE))?;
        let row_groups = u32::try_from(metadata.num_row_groups()).unwrap_or(u32::MAX);
        let (bytes, sha256) = self.writer.inner_mut().finish()?;
        Ok(FileSummary {
            rows: self.rows,
            row_groups,
            bytes,
            sha256,
        })
    }

    fn end_group(&mut self) -> Result<()> {
        self.write_waiting()?;
        self.writer
            .flush()
            .map_err(Error::parquet("write", R::TABLE))?;
        self.group_rows = 0;
        self.group_bytes = 0;
        self.group_has_images = false;
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let batch = R::batch(&self.waiting)?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.writer
            .write(&batch)
            .map_err(Error::parquet("write", R::TABLE))
    }
}

impl<R: TableRow> std::fmt::Debug for RowWriter<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowWriter")
            .field("table", &R::TABLE)
            .field("rows", &self.rows)
            .finish()
    }
}

/// A file that hashes and counts what is written to it.
struct HashingFile {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl HashingFile {
    fn new(file: File) -> Self {
        Self {
            file: BufWriter::with_capacity(256 << 10, file),
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    /// Size and SHA-256 of what was written, once it is on the disk.
    fn finish(&mut self) -> Result<(u64, String)> {
        let path = Path::new("the finished file");
        self.file.flush().map_err(Error::file("write", path))?;
        self.file
            .get_ref()
            .sync_all()
            .map_err(Error::file("sync", path))?;
        Ok((self.bytes, hex::encode(self.hash.finalize_reset())))
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n_written = self.file.write(bytes)?;
        self.hash.update(&bytes[..n_written]);
        self.bytes += n_written as u64;
        Ok(n_written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
