//! One cell of a row: its Arrow type, how a run of cells becomes an array, how one is read back,
//! and its canonical JSON. The [`columns!`] macro makes a row type of named cells, so that a
//! column is written down once and schema, writer, reader and digest cannot disagree.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float32Array, Int32Array, Int64Array, ListArray, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields};
use bytes::Bytes;
use quire_core::{DocId, Flag, JobId, Label, Stage, TroubleCode};
use sha2::{Digest, Sha256};

/// Name of the field inside every list, as the Parquet format asks for.
pub(crate) const LIST_FIELD: &str = "element";

/// A cell that does not hold what its column promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellProblem {
    /// Column, with the path inside nested ones: `layout.label`.
    pub column: String,
    /// What is wrong with it.
    pub what: String,
}

impl CellProblem {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            column: String::new(),
            what: what.into(),
        }
    }

    pub(crate) fn within(mut self, column: &str) -> Self {
        self.column = match self.column.is_empty() {
            true => column.to_owned(),
            false => format!("{column}.{}", self.column),
        };
        self
    }
}

impl std::fmt::Display for CellProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

/// A value of a column.
pub(crate) trait Cell: Sized {
    /// The column may hold nulls.
    const NULLABLE: bool = false;

    fn data_type() -> DataType;

    /// The cell of a column that an older minor version of the schema did not have.
    fn absent() -> Result<Self, CellProblem> {
        Err(CellProblem::new("is missing"))
    }

    /// An array of the cells; `None` is null.
    fn array<'a, I>(cells: I) -> ArrayRef
    where
        I: Iterator<Item = Option<&'a Self>>,
        Self: 'a;

    fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem>;

    /// Appends canonical JSON; false and nothing appended if the cell is null.
    fn json(&self, out: &mut Vec<u8>) -> bool;

    /// Bytes the cell takes in an uncompressed row group, roughly and never far below.
    fn n_bytes(&self) -> usize;
}

/// A struct of cells: a row of a table, or an element of a nested column.
pub(crate) trait Columns: Sized {
    /// Column names with whether the column may hold nulls, in schema order.
    const COLUMNS: &'static [(&'static str, bool)];

    fn fields() -> Vec<Field>;
    fn arrays(rows: &[Option<&Self>]) -> Vec<ArrayRef>;
    fn read(columns: &[ArrayRef], row: usize) -> Result<Self, CellProblem>;
    /// Appends the row as canonical JSON without the columns that `skip` names.
    fn json(&self, skip: fn(&str) -> bool, out: &mut Vec<u8>);
    fn n_bytes(&self) -> usize;
}

/// Declares a row type whose fields are the columns of a table, in order.
macro_rules! columns {
    ($(#[$meta:meta])* $vis:vis struct $Row:ident {
        $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $Row { $($(#[$field_meta])* $field_vis $field: $ty,)* }

        impl $crate::cell::Columns for $Row {
            const COLUMNS: &'static [(&'static str, bool)] = &[
                $((stringify!($field), <$ty as $crate::cell::Cell>::NULLABLE),)*
            ];

            fn fields() -> Vec<arrow_schema::Field> {
                vec![$(arrow_schema::Field::new(
                    stringify!($field),
                    <$ty as $crate::cell::Cell>::data_type(),
                    true,
                ),)*]
            }

            fn arrays(rows: &[Option<&Self>]) -> Vec<arrow_array::ArrayRef> {
                vec![$(<$ty as $crate::cell::Cell>::array(
                    rows.iter().map(|row| row.map(|row| &row.$field)),
                ),)*]
            }

            fn read(
                columns: &[arrow_array::ArrayRef],
                row: usize,
            ) -> Result<Self, $crate::cell::CellProblem> {
                let mut columns = columns.iter();
                $(let $field = match columns.next() {
                    Some(column) => <$ty as $crate::cell::Cell>::read(column, row),
                    None => <$ty as $crate::cell::Cell>::absent(),
                }
                .map_err(|problem| problem.within(stringify!($field)))?;)*
                Ok(Self { $($field,)* })
            }

            fn json(&self, skip: fn(&str) -> bool, out: &mut Vec<u8>) {
                static ORDER: std::sync::OnceLock<Vec<$crate::cell::JsonCell<$Row>>> =
                    std::sync::OnceLock::new();
                let writers = ORDER.get_or_init(|| {
                    let mut writers: Vec<$crate::cell::JsonCell<$Row>> = vec![
                        $((stringify!($field), |row, out| {
                            $crate::cell::Cell::json(&row.$field, out)
                        }),)*
                    ];
                    writers.sort_by_key(|writer| writer.0);
                    writers
                });
                $crate::cell::json_object(self, writers, skip, out);
            }

            fn n_bytes(&self) -> usize {
                0 $(+ $crate::cell::Cell::n_bytes(&self.$field))*
            }
        }
    };
}
pub(crate) use columns;

/// A column's name, and what appends its cell of a row.
pub(crate) type JsonCell<Row> = (&'static str, fn(&Row, &mut Vec<u8>) -> bool);

/// Appends an object with its keys sorted and its null cells left out, so that a column which a
/// later schema adds does not change the digest of rows written before.
pub(crate) fn json_object<Row>(
    row: &Row,
    writers: &[JsonCell<Row>],
    skip: fn(&str) -> bool,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    let mut is_first = true;
    for (name, write) in writers {
        if skip(name) {
            continue;
        }
        let before = out.len();
        if !is_first {
            out.push(b',');
        }
        json_text(name, out);
        out.push(b':');
        if write(row, out) {
            is_first = false;
        } else {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

/// Appends a JSON string: quotes, backslash and control characters escaped, all else as it is.
fn json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x00..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A struct array of rows; `None` is null.
pub(crate) fn struct_array<C: Columns>(rows: &[Option<&C>]) -> ArrayRef {
    let fields = Fields::from(C::fields());
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    Arc::new(StructArray::new(fields, C::arrays(rows), Some(nulls)))
}

/// A row out of a struct array.
pub(crate) fn read_struct<C: Columns>(array: &ArrayRef, row: usize) -> Result<C, CellProblem> {
    let array = array.as_struct_opt().ok_or_else(|| mistyped(array))?;
    if array.is_null(row) {
        return Err(CellProblem::new("is null"));
    }
    C::read(array.columns(), row)
}

fn mistyped(array: &ArrayRef) -> CellProblem {
    CellProblem::new(format!("has the type {}", array.data_type()))
}

macro_rules! number_cell {
    ($ty:ty, $array:ty, $arrow:ty, $variant:ident) => {
        impl Cell for $ty {
            fn data_type() -> DataType {
                DataType::$variant
            }

            fn array<'a, I>(cells: I) -> ArrayRef
            where
                I: Iterator<Item = Option<&'a Self>>,
            {
                Arc::new(<$array>::from_iter(cells.map(|cell| cell.copied())))
            }

            fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem> {
                let array = array
                    .as_primitive_opt::<$arrow>()
                    .ok_or_else(|| mistyped(array))?;
                match array.is_null(row) {
                    true => Err(CellProblem::new("is null")),
                    false => Ok(array.value(row)),
                }
            }

            fn json(&self, out: &mut Vec<u8>) -> bool {
                out.extend_from_slice(self.to_string().as_bytes());
                true
            }

            fn n_bytes(&self) -> usize {
                size_of::<Self>()
            }
        }
    };
}

number_cell!(i32, Int32Array, Int32Type, Int32);
number_cell!(i64, Int64Array, Int64Type, Int64);
number_cell!(f32, Float32Array, Float32Type, Float32);

impl Cell for bool {
    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn array<'a, I>(cells: I) -> ArrayRef
    where
        I: Iterator<Item = Option<&'a Self>>,
    {
        Arc::new(BooleanArray::from(
            cells.map(|cell| cell.copied()).collect::<Vec<_>>(),
        ))
    }

    fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem> {
        let array = array.as_boolean_opt().ok_or_else(|| mistyped(array))?;
        match array.is_null(row) {
            true => Err(CellProblem::new("is null")),
            false => Ok(array.value(row)),
        }
    }

    fn json(&self, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
        true
    }

    fn n_bytes(&self) -> usize {
        1
    }
}

fn text_array<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut builder = StringBuilder::new();
    for cell in cells {
        builder.append_option(cell);
    }
    Arc::new(builder.finish())
}

fn read_text(array: &ArrayRef, row: usize) -> Result<&str, CellProblem> {
    let array = array
        .as_string_opt::<i32>()
        .ok_or_else(|| mistyped(array))?;
    match array.is_null(row) {
        true => Err(CellProblem::new("is null")),
        false => Ok(array.value(row)),
    }
}

/// Types that are kept as text; `parse` is how they come back.
macro_rules! text_cell {
    ($ty:ty, $as_str:expr, $parse:expr) => {
        impl Cell for $ty {
            fn data_type() -> DataType {
                DataType::Utf8
            }

            fn array<'a, I>(cells: I) -> ArrayRef
            where
                I: Iterator<Item = Option<&'a Self>>,
            {
                let as_str: fn(&$ty) -> &str = $as_str;
                text_array(cells.map(|cell| cell.map(as_str)))
            }

            fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem> {
                let text = read_text(array, row)?;
                let parse: fn(&str) -> Option<$ty> = $parse;
                parse(text).ok_or_else(|| CellProblem::new(format!("holds {text:?}")))
            }

            fn json(&self, out: &mut Vec<u8>) -> bool {
                let as_str: fn(&$ty) -> &str = $as_str;
                json_text(as_str(self), out);
                true
            }

            fn n_bytes(&self) -> usize {
                let as_str: fn(&$ty) -> &str = $as_str;
                as_str(self).len() + 4
            }
        }
    };
}

text_cell!(String, |cell| cell, |text| Some(text.to_owned()));
text_cell!(DocId, |cell| cell.as_str(), |text| Some(DocId::new(text)));
text_cell!(JobId, |cell| cell.as_str(), |text| Some(JobId::new(text)));
text_cell!(Label, |cell| cell.as_str(), Label::parse);
text_cell!(Flag, |cell| cell.as_str(), Flag::parse);
text_cell!(Stage, |cell| cell.as_str(), Stage::parse);
text_cell!(TroubleCode, |cell| cell.as_str(), TroubleCode::parse);
text_cell!(
    crate::row::Split,
    |cell| cell.as_str(),
    crate::row::Split::parse
);
text_cell!(
    crate::row::DocumentStatus,
    |cell| cell.as_str(),
    crate::row::DocumentStatus::parse
);
text_cell!(
    crate::row::TextLayerKind,
    |cell| cell.as_str(),
    crate::row::TextLayerKind::parse
);
text_cell!(
    crate::row::PartStatus,
    |cell| cell.as_str(),
    crate::row::PartStatus::parse
);

impl Cell for Bytes {
    fn data_type() -> DataType {
        DataType::Binary
    }

    fn array<'a, I>(cells: I) -> ArrayRef
    where
        I: Iterator<Item = Option<&'a Self>>,
    {
        let mut builder = BinaryBuilder::new();
        for cell in cells {
            builder.append_option(cell);
        }
        Arc::new(builder.finish())
    }

    fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem> {
        let array = array
            .as_binary_opt::<i32>()
            .ok_or_else(|| mistyped(array))?;
        match array.is_null(row) {
            true => Err(CellProblem::new("is null")),
            false => Ok(Self::copy_from_slice(array.value(row))),
        }
    }

    /// The SHA-256 of the bytes in hex.
    fn json(&self, out: &mut Vec<u8>) -> bool {
        json_text(&hex::encode(Sha256::digest(self)), out);
        true
    }

    fn n_bytes(&self) -> usize {
        self.len() + 4
    }
}

impl<T: Cell> Cell for Option<T> {
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn absent() -> Result<Self, CellProblem> {
        Ok(None)
    }

    fn array<'a, I>(cells: I) -> ArrayRef
    where
        I: Iterator<Item = Option<&'a Self>>,
        Self: 'a,
    {
        T::array(cells.map(|cell| cell.and_then(Option::as_ref)))
    }

    fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem> {
        match array.is_null(row) {
            true => Ok(None),
            false => T::read(array, row).map(Some),
        }
    }

    fn json(&self, out: &mut Vec<u8>) -> bool {
        self.as_ref().is_some_and(|cell| cell.json(out))
    }

    fn n_bytes(&self) -> usize {
        self.as_ref().map_or(1, Cell::n_bytes)
    }
}

impl<T: Cell> Cell for Vec<T> {
    fn data_type() -> DataType {
        DataType::List(list_field::<T>())
    }

    fn array<'a, I>(cells: I) -> ArrayRef
    where
        I: Iterator<Item = Option<&'a Self>>,
        Self: 'a,
    {
        let cells: Vec<Option<&Self>> = cells.collect();
        let lengths = cells.iter().map(|cell| cell.map_or(0, Vec::len));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = NullBuffer::from_iter(cells.iter().map(Option::is_some));
        let values = T::array(
            cells
                .iter()
                .flatten()
                .flat_map(|cell| cell.iter())
                .map(Some),
        );
        Arc::new(ListArray::new(
            list_field::<T>(),
            offsets,
            values,
            Some(nulls),
        ))
    }

    fn read(array: &ArrayRef, row: usize) -> Result<Self, CellProblem> {
        let array = array.as_list_opt::<i32>().ok_or_else(|| mistyped(array))?;
        if array.is_null(row) {
            return Err(CellProblem::new("is null"));
        }
        let offsets = array.value_offsets();
        let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
        (start..end).map(|at| T::read(array.values(), at)).collect()
    }

    fn json(&self, out: &mut Vec<u8>) -> bool {
        out.push(b'[');
        for (at, cell) in self.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            if !cell.json(out) {
                out.extend_from_slice(b"null");
            }
        }
        out.push(b']');
        true
    }

    fn n_bytes(&self) -> usize {
        4 + self.iter().map(Cell::n_bytes).sum::<usize>()
    }
}

fn list_field<T: Cell>() -> Arc<Field> {
    Arc::new(Field::new(LIST_FIELD, T::data_type(), true))
}

/// Makes a cell type of a row type: a struct column.
macro_rules! struct_cell {
    ($ty:ty) => {
        impl $crate::cell::Cell for $ty {
            fn data_type() -> arrow_schema::DataType {
                arrow_schema::DataType::Struct(<$ty as $crate::cell::Columns>::fields().into())
            }

            fn array<'a, I>(cells: I) -> arrow_array::ArrayRef
            where
                I: Iterator<Item = Option<&'a Self>>,
            {
                $crate::cell::struct_array(&cells.collect::<Vec<_>>())
            }

            fn read(
                array: &arrow_array::ArrayRef,
                row: usize,
            ) -> Result<Self, $crate::cell::CellProblem> {
                $crate::cell::read_struct(array, row)
            }

            fn json(&self, out: &mut Vec<u8>) -> bool {
                $crate::cell::Columns::json(self, |_| false, out);
                true
            }

            fn n_bytes(&self) -> usize {
                $crate::cell::Columns::n_bytes(self)
            }
        }
    };
}
pub(crate) use struct_cell;
