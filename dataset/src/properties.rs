//! How Parquet files are written: the same for every file of a table, so that equal rows give
//! equal bytes.

use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::schema::{SCHEMA_VERSION, SCHEMA_VERSION_KEY, TABLE_KEY, Table};

/// Who wrote a file. It changes whenever the same rows would give other bytes: a seal that one
/// writer began is never finished by another.
pub const WRITER: &str = "quire-dataset version 1.1.0 (build 1)";

/// Leaves whose values hardly repeat: a dictionary of them is a second copy, and the smallest
/// and largest text tell a reader nothing.
const BULKY: [&[&str]; 6] = [
    &["text"],
    &["layout", "list", "element", "text"],
    &["layout", "list", "element", "html"],
    &["layout", "list", "element", "parsed", "text"],
    &["lines", "list", "element", "text"],
    &["image", "bytes"],
];

/// Keys that readers look a row up by.
const LOOKED_UP: [&str; 2] = ["page_id", "doc_id"];

pub(crate) fn writer_properties(table: Table) -> WriterProperties {
    let level = ZstdLevel::try_new(3).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_created_by(WRITER.to_owned())
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(level))
        .set_data_page_size_limit(1 << 20)
        // Values of nested columns are held unencoded until their page ends: with more rows a
        // page, memory is several times that of the row group.
        .set_data_page_row_count_limit(500)
        .set_statistics_enabled(EnabledStatistics::Page)
        // Row groups are ended by `RowWriter`, which knows the size of rows.
        .set_max_row_group_row_count(None)
        .set_max_row_group_bytes(None)
        // Content-defined chunking writes empty data pages before large values, and some readers
        // then see no values at all.
        .set_content_defined_chunking(None)
        .set_key_value_metadata(Some(vec![
            KeyValue::new(TABLE_KEY.to_owned(), table.as_str().to_owned()),
            KeyValue::new(SCHEMA_VERSION_KEY.to_owned(), SCHEMA_VERSION.to_owned()),
        ]));
    if matches!(table, Table::Pages | Table::Part) {
        for path in BULKY {
            let path = ColumnPath::new(path.iter().map(|&name| name.to_owned()).collect());
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    for column in LOOKED_UP {
        let has_column = table.schema().column_with_name(column).is_some();
        // A part is only ever read from end to end.
        if has_column && table != Table::Part {
            builder = builder.set_column_bloom_filter_enabled(ColumnPath::from(column), true);
        }
    }
    builder.build()
}
