//! Parquet: documents in a binary column, plain or as `struct{bytes, path}` or in a list, the way
//! datasets of images and scans are published.
//!
//! Which columns hold documents is found by looking at their first values; text columns are no
//! candidates. A member is named by its row (from 0), by `row/column` if several columns hold
//! documents, with `/index` in lists. A null cell holds no document and is no error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::basic::{ConvertedType, Type};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;
use quire_core::{Stage, Trouble};

use super::parquet_pages::{CheckedPages, Chunks, ColumnShape};
use super::{Content, Names, Place, damaged, is_container, too_large, truncated, unsupported};
use crate::documents::{Session, Stop};
use crate::media::{HEAD_BYTES, is_page_document, media_type};
use crate::object::Object;
use crate::unreadable::{inner_trouble, trouble_of_io};

const MEDIA: &str = "application/vnd.apache.parquet";
const MAGIC: &[u8] = b"PAR1";
/// Largest footer that is parsed.
const FOOTER_BYTES: u64 = 32 << 20;
/// Values looked at to tell whether a column holds documents.
const SNIFFED_VALUES: usize = 32;

/// Reads the rows of a Parquet file.
pub(crate) fn read(session: &mut Session<'_>, object: &Object, place: &Place) -> Result<(), Stop> {
    match Table::open(session, object) {
        Ok(table) => table.read(session, place),
        Err(trouble) => session.sink.fail(&place.member, MEDIA, trouble),
    }
}

struct Table {
    chunks: Arc<Chunks>,
    metadata: Arc<ParquetMetaData>,
    /// Indexes of the leaf columns that hold documents.
    columns: Vec<usize>,
}

impl Table {
    fn open(session: &Session<'_>, object: &Object) -> Result<Self, Trouble> {
        check_footer(object)?;
        let reader = SerializedFileReader::new(Chunks::new(object.clone()))
            .map_err(|e| trouble_of_parquet(&e))?;
        let metadata = Arc::new(reader.metadata().clone());
        let chunks = Arc::new(Chunks::new(object.clone()));
        let mut table = Self {
            chunks,
            metadata,
            columns: Vec::new(),
        };
        let leaves = table.metadata.file_metadata().schema_descr().columns();
        let candidates: Vec<usize> = (0..leaves.len())
            .filter(|&leaf| is_candidate(&leaves[leaf]))
            .collect();
        let mut failed = None;
        for leaf in candidates {
            match table.holds_documents(session, leaf) {
                Ok(true) => table.columns.push(leaf),
                Ok(false) => {}
                Err(trouble) => failed = Some(trouble),
            }
        }
        match (table.columns.is_empty(), failed) {
            (true, Some(trouble)) => Err(trouble),
            (true, None) => Err(unsupported("no column holds images or documents")),
            (false, _) => Ok(table),
        }
    }

    /// Looks at the first values of a column.
    fn holds_documents(&self, session: &Session<'_>, leaf: usize) -> Result<bool, Trouble> {
        let mut seen = 0;
        for group in 0..self.metadata.num_row_groups() {
            let mut cells = self.cells(session, group, leaf)?;
            while let Some(cell) = cells.next().map_err(|e| trouble_of_parquet(&e))? {
                let Some(value) = cell.value else { continue };
                let head = &value.data()[..value.len().min(HEAD_BYTES)];
                let media = media_type(head);
                if is_page_document(media) || is_container(media) {
                    return Ok(true);
                }
                seen += 1;
                if seen == SNIFFED_VALUES {
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }

    fn cells(&self, session: &Session<'_>, group: usize, leaf: usize) -> Result<Cells, Trouble> {
        let group = self.metadata.row_group(group);
        let column = group.column(leaf);
        let descriptor = column.column_descr_ptr();
        let start = column
            .dictionary_page_offset()
            .unwrap_or(column.data_page_offset());
        let (Ok(at), Ok(len), Ok(rows)) = (
            u64::try_from(start),
            u64::try_from(column.compressed_size()),
            usize::try_from(group.num_rows()),
        ) else {
            return Err(damaged("a column states a negative position or size"));
        };
        let shape = ColumnShape {
            at,
            len,
            compression: column.compression(),
            max_rep_level: descriptor.max_rep_level(),
            max_def_level: descriptor.max_def_level(),
        };
        let pages = SerializedPageReader::new(self.chunks.clone(), column, rows, None)
            .map_err(|e| trouble_of_parquet(&e))?;
        let (limits, budget) = (session.limits, &session.budget);
        let pages = CheckedPages::new(Box::new(pages), self.chunks.clone(), &shape, limits, budget);
        Ok(Cells {
            reader: ColumnReaderImpl::new(descriptor.clone(), Box::new(pages)),
            max_def_level: shape.max_def_level,
            is_list: shape.max_rep_level > 0,
            is_in_struct: descriptor.path().parts().len() > 1 && shape.max_rep_level == 0,
            is_optional: descriptor.self_type().is_optional(),
            row: 0,
            ready: Vec::new(),
        })
    }

    fn read(&self, session: &mut Session<'_>, place: &Place) -> Result<(), Stop> {
        let mut names = Names::default();
        let mut failed: Option<Trouble> = None;
        let mut first_row = 0_u64;
        for group in 0..self.metadata.num_row_groups() {
            for &leaf in &self.columns {
                let position = Position {
                    first_row,
                    column: self.column_name(leaf),
                };
                let end = self.read_group(session, place, (group, leaf), &position, &mut names)?;
                if let Err(trouble) = end {
                    let message = format!("row group {group}: {}", trouble.message);
                    failed.get_or_insert(Trouble::new(trouble.stage, trouble.code, message));
                }
                if names.count >= session.limits.members {
                    failed = Some(too_large(names.count, session.limits.members));
                    break;
                }
            }
            let rows = self.metadata.row_group(group).num_rows();
            first_row = first_row.saturating_add(u64::try_from(rows).unwrap_or(0));
        }
        match failed {
            Some(trouble) => session.sink.fail(&place.member, MEDIA, trouble),
            None => session.end_of_container(place, MEDIA, &names),
        }
    }

    /// The column's path as members show it; `None` if there is only one such column.
    fn column_name(&self, leaf: usize) -> Option<String> {
        let column = &self.metadata.file_metadata().schema_descr().columns()[leaf];
        (self.columns.len() > 1).then(|| column.path().string())
    }

    /// Reads one column of one row group. The inner error ends the group.
    fn read_group(
        &self,
        session: &mut Session<'_>,
        place: &Place,
        (group, leaf): (usize, usize),
        position: &Position,
        names: &mut Names,
    ) -> Result<Result<(), Trouble>, Stop> {
        let mut cells = match self.cells(session, group, leaf) {
            Ok(cells) => cells,
            Err(trouble) => return Ok(Err(trouble)),
        };
        loop {
            let cell = match cells.next() {
                Ok(Some(cell)) => cell,
                Ok(None) => return Ok(Ok(())),
                Err(e) => {
                    let trouble = trouble_of_parquet(&e);
                    let row = position.first_row.saturating_add(cells.row);
                    let message = format!("from row {row} on: {}", trouble.message);
                    return Ok(Err(Trouble::new(trouble.stage, trouble.code, message)));
                }
            };
            if names.count >= session.limits.members {
                return Ok(Ok(()));
            }
            if let Err(trouble) = session.budget.check() {
                return Ok(Err(trouble));
            }
            if cell.value.is_none() && !cell.is_elsewhere {
                continue;
            }
            let name = names.give(position.name_of(&cell).as_bytes());
            session.member(place, &name, |session| {
                let Some(value) = cell.value else {
                    return Err(unsupported("the row names a file instead of holding it"));
                };
                let size = value.len() as u64;
                if size > session.limits.member_bytes {
                    return Err(too_large(size, session.limits.member_bytes));
                }
                // One value of a dictionary may stand in a million rows.
                session.budget.spend(size)?;
                let bytes = bytes::Bytes::copy_from_slice(value.data());
                Ok(Content {
                    bytes,
                    offset: None,
                })
            })?;
        }
    }
}

/// Where the cells of one column in one row group stand.
struct Position {
    first_row: u64,
    column: Option<String>,
}

impl Position {
    fn name_of(&self, cell: &Cell) -> String {
        let mut name = self.first_row.saturating_add(cell.row).to_string();
        if let Some(column) = &self.column {
            name = format!("{name}/{column}");
        }
        if let Some(index) = cell.index {
            name = format!("{name}/{index}");
        }
        name
    }
}

/// One value of a column, or its absence.
struct Cell {
    /// From the start of the row group.
    row: u64,
    /// Position in the row's list.
    index: Option<u64>,
    value: Option<ByteArray>,
    /// The cell's struct is there but holds no bytes: they lie in a file of their own.
    is_elsewhere: bool,
}

/// The cells of one column in one row group, in order. Memory: one row at a time.
struct Cells {
    reader: ColumnReaderImpl<ByteArrayType>,
    max_def_level: i16,
    is_list: bool,
    is_in_struct: bool,
    is_optional: bool,
    row: u64,
    /// Cells of the row just read, last one first.
    ready: Vec<Cell>,
}

impl Cells {
    fn next(&mut self) -> Result<Option<Cell>, ParquetError> {
        loop {
            if let Some(cell) = self.ready.pop() {
                return Ok(Some(cell));
            }
            if !self.read_row()? {
                return Ok(None);
            }
        }
    }

    fn read_row(&mut self) -> Result<bool, ParquetError> {
        let (mut def_levels, mut rep_levels, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let def = (self.max_def_level > 0).then_some(&mut def_levels);
        let rep = self.is_list.then_some(&mut rep_levels);
        // The library slices by lengths that a damaged delta encoding states, and panics where
        // they do not fit. The reader is not used again after an error.
        let reader = &mut self.reader;
        let read = AssertUnwindSafe(|| reader.read_records(1, def, rep, &mut values));
        let (records, _, levels) = catch_unwind(read).unwrap_or_else(|_| {
            Err(ParquetError::General(
                "the values of a page cannot be decoded".into(),
            ))
        })?;
        if records == 0 {
            return Ok(false);
        }
        let row = self.row;
        self.row += 1;
        let mut values = values.into_iter();
        let mut cells = Vec::with_capacity(levels);
        for level in 0..levels {
            let def_level = def_levels.get(level).copied().unwrap_or(self.max_def_level);
            let is_here = def_level == self.max_def_level;
            cells.push(Cell {
                row,
                index: self.is_list.then_some(level as u64),
                value: if is_here { values.next() } else { None },
                is_elsewhere: !is_here
                    && self.is_in_struct
                    && self.is_optional
                    && def_level == self.max_def_level - 1,
            });
        }
        cells.reverse();
        self.ready = cells;
        Ok(true)
    }
}

/// Bytes that are not said to be text or numbers.
fn is_candidate(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::BYTE_ARRAY
        && column.converted_type() == ConvertedType::NONE
        && column.logical_type_ref().is_none()
}

/// A file is whole only with its footer, which the magic at the start does not show.
fn check_footer(object: &Object) -> Result<(), Trouble> {
    let len = object.len();
    let Some(tail_at) = len.checked_sub(8).filter(|&at| at >= 4) else {
        return Err(truncated("the file is too short for a footer"));
    };
    let tail = object
        .read_at(tail_at, 8)
        .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
    if &tail[4..] == b"PARE" {
        let message = "the file's footer is encrypted";
        return Err(Trouble::new(
            Stage::Unpack,
            quire_core::TroubleCode::Encrypted,
            message,
        ));
    }
    if &tail[4..] != MAGIC {
        return Err(truncated("the file has no footer, as if it were cut"));
    }
    let footer = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if footer > FOOTER_BYTES {
        return Err(too_large(footer, FOOTER_BYTES));
    }
    if footer > tail_at - 4 {
        return Err(damaged("the footer is longer than the file"));
    }
    Ok(())
}

fn trouble_of_parquet(error: &ParquetError) -> Trouble {
    match inner_trouble(error) {
        Some(trouble) => trouble.clone(),
        None => damaged(error.to_string()),
    }
}
