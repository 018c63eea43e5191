//! Counts the rows of a version, reading only the columns that are counted.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use quire_dataset::reader::Dataset;
use quire_dataset::{DocumentRow, Table};

use super::report::{PageCounts, PageFacts, count};
use crate::failure::{Failure, Outcome};
use crate::summary::DocumentCounts;

const COLUMNS: [&str; 9] = [
    "split",
    "language",
    "flags",
    "quality",
    "engine",
    "engine_version",
    "engine_mode",
    "text_chars",
    // Small, and null exactly where there is no image.
    "image.path",
];

/// Documents by status and by media type.
pub(crate) async fn documents(
    dataset: &Dataset,
) -> Outcome<(DocumentCounts, BTreeMap<String, u64>)> {
    let (mut counts, mut media_types) = (DocumentCounts::default(), BTreeMap::new());
    let mut rows = dataset.rows::<DocumentRow>();
    while let Some(row) = rows.next().await.map_err(Failure::of)? {
        counts.add(row.status);
        count(&mut media_types, &row.media_type);
    }
    Ok((counts, media_types))
}

/// Counts over all pages.
pub(crate) async fn pages(dataset: &Dataset) -> Outcome<PageCounts> {
    let mut counts = PageCounts::default();
    let mut batches = dataset.batches(Table::Pages, Some(&COLUMNS));
    while let Some(batch) = batches.next().await.map_err(Failure::of)? {
        add_batch(&mut counts, &batch).ok_or_else(|| {
            Failure::failed("a file of pages lacks a column").hint("`quire verify` says which")
        })?;
    }
    Ok(counts)
}

fn add_batch(counts: &mut PageCounts, batch: &RecordBatch) -> Option<()> {
    let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (split, language) = (text("split")?, text("language")?);
    let (engine, engine_version, engine_mode) = (
        text("engine")?,
        text("engine_version")?,
        text("engine_mode")?,
    );
    let quality = batch
        .column_by_name("quality")?
        .as_primitive_opt::<Float32Type>()?;
    let text_chars = batch
        .column_by_name("text_chars")?
        .as_primitive_opt::<Int32Type>()?;
    let flags = batch.column_by_name("flags")?.as_list_opt::<i32>()?;
    let image = batch
        .column_by_name("image")?
        .as_struct_opt()?
        .column(0)
        .as_string_opt::<i32>()?;
    for row in 0..batch.num_rows() {
        let page_flags = (!flags.is_null(row)).then(|| flags.value(row));
        let page_flags = page_flags
            .as_ref()
            .and_then(|flags| flags.as_string_opt::<i32>());
        let page = PageFacts {
            split: split.value(row),
            text_chars: u64::from(text_chars.value(row).unsigned_abs()),
            language: language.is_valid(row).then(|| language.value(row)),
            quality: quality.is_valid(row).then(|| quality.value(row)),
            engine: engine.value(row),
            engine_version: engine_version.value(row),
            engine_mode: engine_mode.value(row),
            has_image: image.is_valid(row),
        };
        counts.add(
            page,
            page_flags
                .into_iter()
                .flat_map(|flags| flags.iter().flatten()),
        );
    }
    Some(())
}
