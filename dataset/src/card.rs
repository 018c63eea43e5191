//! What lies beside the rows for people and their tools: the card (`README.md`), `dataset.json`,
//! `SHA256SUMS` and `_SUCCESS`. All are pure functions of the newest version file, so any later
//! seal writes them again if a crash cut them short.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::json;

use crate::error::{Error, Result};
use crate::paths::{self, DataFile};
use crate::place::sha256;
use crate::row::Split;
use crate::schema::Table;
use crate::version::{FileEntry, VersionFile};

/// The files and their contents, in the order in which they are written.
pub(crate) fn derived(version: &VersionFile) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let readme = readme(version);
    let version_json = version.to_json()?;
    let dataset_json = dataset_json(version, &version_json)?;
    let mut sums = String::new();
    for file in &version.files {
        line(&mut sums, format_args!("{}  {}", file.sha256, file.path));
    }
    for (path, content) in [
        (paths::version(version.version), version_json.as_slice()),
        (paths::README.to_owned(), readme.as_bytes()),
        (paths::DATASET_JSON.to_owned(), &dataset_json),
    ] {
        line(&mut sums, format_args!("{}  {path}", sha256(content)));
    }
    Ok(vec![
        (paths::README, readme.into_bytes()),
        (paths::DATASET_JSON, dataset_json),
        (paths::SHA256SUMS, sums.into_bytes()),
        (
            paths::SUCCESS,
            format!("version {}\n", version.version).into_bytes(),
        ),
    ])
}

fn dataset_json(version: &VersionFile, version_json: &[u8]) -> Result<Vec<u8>> {
    let mut digests = BTreeMap::new();
    for table in Table::SEALED {
        digests.insert(table.as_str(), version.rows_digest(table)?.to_hex());
    }
    let content = json!({
        "version": version.version,
        "version_file": paths::version(version.version),
        "version_sha256": sha256(version_json),
        "schema_version": version.schema_version,
        "totals": version.totals,
        "rows_digest": digests,
        "content_digest": version.content_digest()?.to_hex(),
    });
    let mut bytes = serde_json::to_vec_pretty(&content)
        .map_err(|error| Error::Bug(format!("dataset.json is not JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Appends a line. Writing to a string cannot fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a string takes all that is written to it");
}

macro_rules! line {
    ($text:expr, $($argument:tt)*) => { line($text, format_args!($($argument)*)) };
}

fn readme(version: &VersionFile) -> String {
    let mut text = String::from("---\n");
    write_header(&mut text, version);
    text.push_str("---\n\n");
    let title = version
        .title
        .as_deref()
        .unwrap_or("Documents read by Quire");
    line!(&mut text, "# {title}\n");
    write_counts(&mut text, version);
    write_loading(&mut text, version);
    write_engines(&mut text, version);
    text.push_str(CONVENTIONS);
    write_splits(&mut text, version);
    text.push_str(LIMITS);
    write_verifying(&mut text, version);
    text
}

fn write_header(text: &mut String, version: &VersionFile) {
    let license = version.license.as_deref().unwrap_or("other");
    line!(text, "license: {}", scalar(license));
    if let Some(title) = &version.title {
        line!(text, "pretty_name: {}", scalar(title));
    }
    let mut languages: Vec<&str> = version
        .totals
        .by_language
        .keys()
        .filter_map(|language| language.split('_').next())
        .collect();
    languages.dedup();
    if !languages.is_empty() {
        line!(text, "language:");
        for language in languages {
            line!(text, "- {}", scalar(language));
        }
    }
    line!(
        text,
        "size_categories:\n- {}",
        size_category(version.totals.pages)
    );
    line!(text, "task_categories:\n- image-to-text\n- text-generation");
    write_configs(text, version);
}

fn write_configs(text: &mut String, version: &VersionFile) {
    let tables: Vec<Table> = Table::SEALED
        .into_iter()
        .filter(|&table| version.files_of(table).next().is_some())
        .collect();
    if tables.is_empty() {
        return;
    }
    line!(text, "configs:");
    for (at, table) in tables.into_iter().enumerate() {
        line!(text, "- config_name: {table}");
        if at == 0 {
            line!(text, "  default: true");
        }
        line!(text, "  data_files:");
        let splits: &[Option<Split>] = match table {
            Table::Pages => &[Some(Split::Train), Some(Split::Validation)],
            _ => &[None],
        };
        for &split in splits {
            let paths = patterns(version, table, split);
            if paths.is_empty() {
                continue;
            }
            line!(text, "  - split: {}", split.unwrap_or(Split::Train));
            line!(text, "    path:");
            for path in paths {
                line!(text, "    - {path}");
            }
        }
    }
}

/// One glob a version that is whole, and explicit paths where some of its files were replaced.
fn patterns(version: &VersionFile, table: Table, split: Option<Split>) -> Vec<String> {
    let mut folders: BTreeMap<String, (u32, Vec<&FileEntry>)> = BTreeMap::new();
    for file in version.files_of(table).filter(|file| file.split == split) {
        let (folder, count) = match DataFile::parse(&file.path) {
            Some(parsed) => (parsed.folder(), parsed.count),
            None => (file.path.clone(), u32::MAX),
        };
        folders
            .entry(folder)
            .or_insert((count, Vec::new()))
            .1
            .push(file);
    }
    let mut patterns = Vec::new();
    for (folder, (count, files)) in folders {
        match files.len() == count as usize {
            true => patterns.push(format!("{folder}*.parquet")),
            false => patterns.extend(files.iter().map(|file| file.path.clone())),
        }
    }
    patterns
}

fn write_counts(text: &mut String, version: &VersionFile) {
    let totals = &version.totals;
    line!(
        text,
        "Pages of documents, read by machine into Markdown with layout, boxes and quality signals.\n\
         This is version {} of the dataset, made {} with [Quire](https://github.com/quire-data/quire).\n",
        version.version,
        version.created_at
    );
    line!(text, "| table | rows | one row is |\n|---|---:|---|");
    line!(
        text,
        "| `pages` | {} | a page: text, layout, lines, signals, lineage |",
        totals.pages
    );
    line!(
        text,
        "| `documents` | {} | a document, read or not |",
        totals.documents
    );
    line!(
        text,
        "| `errors` | {} | a page or document that could not be read, and why |\n",
        totals.errors
    );
    line!(text, "Text: {} code points.", totals.text_chars);
    if let (Some(tokens), Some(tokenizer)) = (totals.text_tokens, &version.tokenizer) {
        line!(text, "Tokens: {tokens} by `{tokenizer}`.");
    }
    if !totals.by_language.is_empty() {
        let mut languages: Vec<(&String, &u64)> = totals.by_language.iter().collect();
        languages.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let named: Vec<String> = languages
            .iter()
            .take(20)
            .map(|(name, pages)| format!("`{name}` {pages}"))
            .collect();
        line!(text, "Pages by language: {}.", named.join(", "));
    }
    text.push('\n');
}

fn write_loading(text: &mut String, version: &VersionFile) {
    line!(
        text,
        "## Loading\n\n`OUT` is the folder or repository that holds this file.\n"
    );
    let Some(table) = Table::SEALED
        .into_iter()
        .find(|&table| version.files_of(table).next().is_some())
    else {
        line!(text, "This version has no rows.\n");
        return;
    };
    let mut folders: Vec<String> = [None, Some(Split::Train), Some(Split::Validation)]
        .into_iter()
        .flat_map(|split| patterns(version, table, split))
        .collect();
    folders.dedup();
    let quoted: Vec<String> = folders
        .iter()
        .map(|path| format!("\"OUT/{path}\""))
        .collect();
    let sql: Vec<String> = folders.iter().map(|path| format!("'OUT/{path}'")).collect();
    line!(text, "```python");
    line!(text, "from datasets import load_dataset");
    line!(text, "{table} = load_dataset(\"OUT\", \"{table}\")\n");
    line!(text, "import polars");
    line!(
        text,
        "{table} = polars.scan_parquet([{}])\n",
        quoted.join(", ")
    );
    line!(text, "import duckdb");
    line!(
        text,
        "{table} = duckdb.sql(\"\"\"SELECT * FROM read_parquet([{}])\"\"\")",
        sql.join(", ")
    );
    line!(text, "```\n");
    line!(
        text,
        "`quire files OUT --table {table}` prints the exact list of files.\n\
         A glob over `data/**` may meet files of several versions: take the lists above, or those of the newest file in `versions/`.\n"
    );
}

fn write_engines(text: &mut String, version: &VersionFile) {
    if version.engines.is_empty() {
        return;
    }
    line!(text, "## How the pages were read\n");
    line!(
        text,
        "| engine | version | model | revision | mode | pages |\n|---|---|---|---|---|---:|"
    );
    for one in &version.engines {
        let engine = &one.engine;
        let revision: String = engine.model_revision.chars().take(12).collect();
        line!(
            text,
            "| {} | {} | {} | `{revision}` | {} | {} |",
            engine.name,
            engine.version,
            engine.model_id,
            engine.mode,
            one.pages
        );
    }
    let render = &version.render;
    line!(
        text,
        "\nVector pages were drawn at {} dpi by {} {}; no page image is longer than {} pixels or larger than {} pixels in all.\n",
        render.dpi,
        render.renderer,
        render.version,
        render.max_edge_px,
        render.max_area_px
    );
}

fn write_splits(text: &mut String, version: &VersionFile) {
    line!(
        text,
        "## Splits\n\n\
         A document is in `validation` if the first 64 bits of SHA-256(salt, `content_sha256`), divided by 2^64, are below {}; the salt is `{}`.\n\
         Pages of a document, and documents with equal bytes, are never on both sides, and none changes sides when the dataset grows.\n",
        version.split.fraction,
        version.split.salt
    );
    for (split, pages) in &version.totals.by_split {
        line!(text, "- `{split}`: {pages} pages");
    }
    text.push('\n');
}

fn write_verifying(text: &mut String, version: &VersionFile) {
    line!(
        text,
        "## Verifying\n\n\
         `quire verify OUT` checks every promise of this page; `sha256sum --check SHA256SUMS` checks the bytes.\n\
         `versions/{:06}.json` lists every file of this version with size, SHA-256, rows and a digest of its rows that does not depend on their order.",
        version.version
    );
}

const CONVENTIONS: &str = "\
## Conventions

- `text` is Markdown in reading order: headings, lists, `$…$` formulas, tables as HTML, a picture as `![](#K)` with K its index in `layout`. Page headers, footers and page numbers are left out; they are in `layout`.
- `layout` lists the blocks in reading order. `text_start` and `text_end` are a half-open range in `text`, in Unicode code points.
- Coordinates are fractions of the upright page image, 0 to 1, origin top left, x to the right, y down. Pixels are x · `image_width`, y · `image_height`; PDF points from the bottom left are x · `width_pt`, (1 − y) · `height_pt`.
- `doc_id` joins the three tables. Every document of the input is in `documents`; every page of it is in `pages` or in `errors`, once.

";

const LIMITS: &str = "\
## Known limits

- The text was read by machine and holds errors; `confidence`, `quality`, `flags` and `text_layer_agreement` help to choose pages.
- Reading order, headings and tables are found from the layout and can be wrong on unusual pages.
- `language` is a guess, and a poor one for short texts.
- Only documents with equal bytes are marked as duplicates.
- The documents keep the rights of their owners; `license` in `documents` is what the source said, where it said anything.

";

/// A YAML scalar: plain where that is safe, else quoted.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "no" | "yes" | "on" | "off" | "true" | "false" | "null" | "y" | "n"
        );
    match is_plain {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

fn size_category(pages: u64) -> &'static str {
    match pages {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        1_000_000_000..10_000_000_000 => "1B<n<10B",
        _ => "10B<n<100B",
    }
}
