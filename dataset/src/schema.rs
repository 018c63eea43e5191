//! The frozen Arrow schemas of the tables and of parts, and rows as record batches.
//!
//! One schema for all files of a table and major version: an extra column in a later file makes
//! `datasets` fail. Every field is nullable, nested ones too, and only plain types are used:
//! Utf8, Binary, Boolean, Int32, Int64, Float32, List, Struct.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Schema, SchemaRef};

use crate::cell::{Cell, CellProblem, Columns, read_struct, struct_array};
use crate::error::{Error, Result};
use crate::row::{DocumentRow, ErrorRow, PageRow, PartRow, PartStatus, closed_list};

/// Version of the schemas, in each file's metadata and in version files. A new column is a new
/// minor version.
pub const SCHEMA_VERSION: &str = "1.1.0";

/// Key of a file's metadata that names its table.
pub const TABLE_KEY: &str = "quire.table";
/// Key of a file's metadata that names the schema version.
pub const SCHEMA_VERSION_KEY: &str = "quire.schema_version";

/// Tells the `datasets` library that `image` is an image; it infers all other columns.
const HUGGINGFACE: &str = r#"{"info": {"features": {"image": {"_type": "Image"}}}}"#;

closed_list! {
    /// What the rows of a file are.
    Table {
        /// One row a page that was read.
        Pages = "pages",
        /// One row a document.
        Documents = "documents",
        /// One row a failed page or document.
        Errors = "errors",
        /// What one shard wrote, before sealing.
        Part = "part",
    }
}

impl Table {
    /// The tables of a sealed version.
    pub const SEALED: [Self; 3] = [Self::Pages, Self::Documents, Self::Errors];

    /// The table's frozen schema.
    pub fn schema(self) -> SchemaRef {
        static PAGES: LazyLock<SchemaRef> = LazyLock::new(|| page_schema(PageRow::fields()));
        static DOCUMENTS: LazyLock<SchemaRef> =
            LazyLock::new(|| Arc::new(Schema::new(DocumentRow::fields())));
        static ERRORS: LazyLock<SchemaRef> =
            LazyLock::new(|| Arc::new(Schema::new(ErrorRow::fields())));
        static PART: LazyLock<SchemaRef> = LazyLock::new(part_schema);
        let schema = match self {
            Self::Pages => &PAGES,
            Self::Documents => &DOCUMENTS,
            Self::Errors => &ERRORS,
            Self::Part => &PART,
        };
        Arc::clone(schema)
    }
}

fn page_schema(fields: Vec<arrow_schema::Field>) -> SchemaRef {
    let metadata = HashMap::from([("huggingface".to_owned(), HUGGINGFACE.to_owned())]);
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

fn part_schema() -> SchemaRef {
    let mut fields = PageRow::fields();
    for (name, data_type) in [
        ("status", PartStatus::data_type()),
        ("error", ErrorRow::data_type()),
        ("document", DocumentRow::data_type()),
    ] {
        fields.push(arrow_schema::Field::new(name, data_type, true));
    }
    page_schema(fields)
}

/// A row that belongs to one table and knows its columns.
#[expect(
    private_bounds,
    reason = "rows are this crate's own; others only use them"
)]
pub trait TableRow: RowColumns + Sized + Send + 'static {
    /// Whose row it is.
    const TABLE: Table;

    /// Rows as a batch of the table's schema.
    fn batch(rows: &[Self]) -> Result<RecordBatch> {
        let arrays = Self::arrays_of(rows);
        RecordBatch::try_new(Self::TABLE.schema(), arrays)
            .map_err(|error| Error::Bug(format!("{} rows do not fit: {error}", Self::TABLE)))
    }

    /// Row `row` of a batch with the table's columns.
    fn from_batch(batch: &RecordBatch, row: usize) -> Result<Self, CellProblem> {
        Self::from_columns(batch.columns(), row)
    }
}

/// What a table's rows must be able to do; closed to this crate.
pub(crate) trait RowColumns: Sized {
    fn arrays_of(rows: &[Self]) -> Vec<ArrayRef>;
    fn from_columns(columns: &[ArrayRef], row: usize) -> Result<Self, CellProblem>;
    /// Bytes the row takes in an uncompressed row group, roughly.
    fn row_bytes(&self) -> usize;
}

macro_rules! table_row {
    ($row:ty, $table:expr) => {
        impl TableRow for $row {
            const TABLE: Table = $table;
        }

        impl RowColumns for $row {
            fn arrays_of(rows: &[Self]) -> Vec<ArrayRef> {
                Self::arrays(&rows.iter().map(Some).collect::<Vec<_>>())
            }

            fn from_columns(columns: &[ArrayRef], row: usize) -> Result<Self, CellProblem> {
                <Self as Columns>::read(columns, row)
            }

            fn row_bytes(&self) -> usize {
                Columns::n_bytes(self)
            }
        }
    };
}

table_row!(PageRow, Table::Pages);
table_row!(DocumentRow, Table::Documents);
table_row!(ErrorRow, Table::Errors);

impl TableRow for PartRow {
    const TABLE: Table = Table::Part;
}

impl RowColumns for PartRow {
    fn arrays_of(rows: &[Self]) -> Vec<ArrayRef> {
        let mut arrays = PageRow::arrays(&rows.iter().map(Self::page).collect::<Vec<_>>());
        let statuses: Vec<PartStatus> = rows.iter().map(Self::status).collect();
        arrays.push(PartStatus::array(statuses.iter().map(Some)));
        arrays.push(struct_array(
            &rows.iter().map(Self::error).collect::<Vec<_>>(),
        ));
        arrays.push(struct_array(
            &rows.iter().map(Self::document).collect::<Vec<_>>(),
        ));
        arrays
    }

    fn from_columns(columns: &[ArrayRef], row: usize) -> Result<Self, CellProblem> {
        let n_page = PageRow::COLUMNS.len();
        let [status, error, document] = columns.get(n_page..).unwrap_or_default() else {
            return Err(CellProblem::new("are not those of a part").within("all"));
        };
        let read_document = || {
            Option::<DocumentRow>::read(document, row)
                .map(|document| document.map(Box::new))
                .map_err(|problem| problem.within("document"))
        };
        let status = PartStatus::read(status, row).map_err(|problem| problem.within("status"))?;
        Ok(match status {
            PartStatus::Ok => Self::Page {
                page: Box::new(PageRow::read(&columns[..n_page], row)?),
                document: read_document()?,
            },
            PartStatus::Failed => Self::Failed {
                error: Box::new(
                    read_struct(error, row).map_err(|problem| problem.within("error"))?,
                ),
                document: read_document()?,
            },
            PartStatus::Skipped => Self::Skipped {
                document: Box::new(
                    read_struct(document, row).map_err(|problem| problem.within("document"))?,
                ),
            },
        })
    }

    fn row_bytes(&self) -> usize {
        // An absent page is a null in each of its columns.
        const ABSENT: usize = 64;
        self.page().map_or(ABSENT, Columns::n_bytes)
            + self.error().map_or(ABSENT, Columns::n_bytes)
            + self.document().map_or(ABSENT, Columns::n_bytes)
    }
}
