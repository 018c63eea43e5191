//! Small archives made on the spot, and short ways to open them.

use std::collections::{BTreeMap, HashSet};
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, ListBuilder};
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use quire_core::TroubleCode;
use quire_corpus::{Entry, FoundDocument, Limits, Listed, Stores, Wanted, documents, list};
use zip::write::SimpleFileOptions;

/// The start of a PNG with `size` bytes in all: content is told by its start alone.
pub(crate) fn png(size: usize) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut state = size as u32 + 1;
    while bytes.len() < size.max(8) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push((state >> 24) as u8);
    }
    bytes
}

pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One WARC record; `fields` stand between type and length.
pub(crate) fn warc_record(kind: &str, id: &str, fields: &str, block: &[u8]) -> Vec<u8> {
    let mut record = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <{id}>\r\n{fields}Content-Length: {}\r\n\r\n",
        block.len()
    )
    .into_bytes();
    record.extend_from_slice(block);
    record.extend_from_slice(b"\r\n\r\n");
    record
}

pub(crate) fn parquet(columns: Vec<(&str, ArrayRef)>, properties: WriterProperties) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

pub(crate) fn binary(values: &[Option<&[u8]>]) -> ArrayRef {
    Arc::new(BinaryArray::from(values.to_vec()))
}

/// `struct{bytes, path}` as datasets of images have it.
pub(crate) fn image_struct(values: &[(Option<&[u8]>, Option<&str>)]) -> ArrayRef {
    let bytes: Vec<_> = values.iter().map(|value| value.0).collect();
    let paths: Vec<_> = values.iter().map(|value| value.1).collect();
    Arc::new(StructArray::from(vec![
        (
            Arc::new(Field::new("bytes", DataType::Binary, true)),
            binary(&bytes),
        ),
        (
            Arc::new(Field::new("path", DataType::Utf8, true)),
            Arc::new(StringArray::from(paths)) as ArrayRef,
        ),
    ]))
}

pub(crate) fn list_of_binary(rows: &[&[&[u8]]]) -> ArrayRef {
    let mut builder = ListBuilder::new(BinaryBuilder::new());
    for row in rows {
        for value in *row {
            builder.values().append_value(value);
        }
        builder.append(true);
    }
    Arc::new(builder.finish())
}

pub(crate) fn stores() -> Stores {
    Stores::open(&BTreeMap::new()).unwrap()
}

/// Everything in the file at `path`.
pub(crate) async fn open(path: &Path, limits: &Limits) -> Vec<FoundDocument> {
    read(path, Wanted::All, limits).await
}

pub(crate) async fn read(path: &Path, wanted: Wanted, limits: &Limits) -> Vec<FoundDocument> {
    let entry = Entry::new(path.to_str().unwrap(), 0, None);
    let mut receiver = documents(&stores(), &entry, wanted, limits);
    let mut found = Vec::new();
    while let Some(document) = receiver.recv().await {
        found.push(document);
    }
    found
}

/// Everything in an archive of these bytes.
pub(crate) async fn open_bytes(bytes: &[u8], limits: &Limits) -> Vec<FoundDocument> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    open(file.path(), limits).await
}

pub(crate) fn wanted(members: &[&str]) -> Wanted {
    let members: HashSet<_> = members
        .iter()
        .map(|name| Some((*name).to_owned()))
        .collect();
    Wanted::Members(members)
}

/// Name and outcome of each document, for comparing: bytes or code.
pub(crate) fn outcomes(found: &[FoundDocument]) -> Vec<(Option<&str>, Result<usize, TroubleCode>)> {
    let outcome = |document: &FoundDocument| match &document.content {
        Ok(bytes) => Ok(bytes.len()),
        Err(trouble) => Err(trouble.code),
    };
    found
        .iter()
        .map(|document| (document.member.as_deref(), outcome(document)))
        .collect()
}

/// Lists and keeps what follows the folder in each URI, with the code of troubles.
pub(crate) async fn names_listed(
    folder: &Path,
    inputs: &[&str],
) -> Vec<(String, Option<TroubleCode>)> {
    let inputs: Vec<String> = inputs.iter().map(|input| (*input).to_owned()).collect();
    let listed = list(&stores(), &inputs).await.unwrap();
    let folder = quire_corpus::Address::local(folder).unwrap().uri();
    let short = |listed: &Listed| {
        let name = listed
            .uri()
            .strip_prefix(&format!("{folder}/"))
            .unwrap_or(listed.uri());
        let code = match listed {
            Listed::Entry(_) => None,
            Listed::Trouble { trouble, .. } => Some(trouble.code),
        };
        (name.to_owned(), code)
    };
    listed.iter().map(short).collect()
}
