//! Parts for rows that were given up: no worker survived to write them, so the coordinator does.
//! Each is one failed row of stage `lost`, listed in a manifest like any other part.

use quire_core::{JobId, LeaseId, PlannedDocument, PlannedWork, Stage, TroubleCode, page_id};
use quire_dataset::{
    DocumentRow, DocumentStatus, ErrorRow, JobArea, PartEntry, PartRow, PartWriter, split_of,
};

use crate::error::{Error, Result};
use crate::shared::spec_of;
use crate::store::{JobRecord, QuarantineRecord};

/// Writes the part of a row that was given up. Repeating it leaves an orphan behind, no more:
/// the key holds a new identifier each time, which no dead worker can write to.
pub(crate) async fn write_part(
    area: &JobArea,
    job: &JobRecord,
    record: &QuarantineRecord,
) -> Result<PartEntry> {
    let spec = spec_of(job)?;
    let split = Some(&record.line.content_sha256)
        .filter(|sha256| !sha256.is_empty())
        .map(|sha256| split_of(&spec.split, sha256));
    let error = error_row(&job.job_id, &spec.engine.name, record);
    let document = record.line.carries_document().then(|| {
        Box::new(document_row(
            &job.job_id,
            &record.line,
            split,
            &record.message,
        ))
    });
    let row = PartRow::Failed {
        error: Box::new(error),
        document,
    };
    let folder = tempfile::tempdir().map_err(|source| local("make a scratch folder", source))?;
    let file = folder.path().join("lost.parquet");
    let opened =
        std::fs::File::create(&file).map_err(|source| local("make a scratch file", source))?;
    let unwritten = |source| Error::Dataset {
        action: format!(
            "write the part of a row given up in shard {}",
            record.shard_idx
        ),
        source: Box::new(source),
    };
    let mut writer = PartWriter::create(opened).map_err(unwritten)?;
    writer.write(row).map_err(unwritten)?;
    let summary = writer.finish().map_err(unwritten)?;
    let lease_id = LeaseId::new(uuid::Uuid::new_v4().to_string());
    area.put_part(record.shard_idx, &lease_id, &file)
        .await
        .map_err(unwritten)?;
    Ok(PartEntry {
        first_row: Some(record.span.first_row),
        ..PartEntry::new(record.shard_idx, lease_id, &summary)
    })
}

fn local(action: &'static str, source: std::io::Error) -> Error {
    Error::Local {
        action,
        path: std::env::temp_dir(),
        source,
    }
}

fn error_row(job_id: &JobId, engine: &str, record: &QuarantineRecord) -> ErrorRow {
    let line = &record.line;
    let page_number = match line.work {
        PlannedWork::Read { first_idx, .. } => Some(first_idx + 1),
        _ => None,
    };
    ErrorRow {
        doc_id: line.doc_id.clone(),
        page_id: page_number.map(|number| page_id(&line.doc_id, number)),
        page_number: page_number.and_then(|number| i32::try_from(number).ok()),
        source_uri: line.source_uri.clone(),
        source_member: line.source_member.clone(),
        media_type: line.media_type.clone(),
        stage: Stage::Lost,
        code: TroubleCode::Crash,
        message: record.message.clone(),
        retryable: TroubleCode::Crash.is_retryable(),
        attempts: i32::try_from(line.earlier_attempts + record.deaths).unwrap_or(i32::MAX),
        engines_tried: vec![engine.to_owned()],
        elapsed_ms: None,
        job_id: job_id.clone(),
        shard_idx: i64::try_from(record.shard_idx).unwrap_or(i64::MAX),
    }
}

/// The document's own row, when the row given up is the one that carries it. Nothing is known of
/// the document but what planning saw; sealing counts its pages.
fn document_row(
    job_id: &JobId,
    line: &PlannedDocument,
    split: Option<quire_dataset::Split>,
    message: &str,
) -> DocumentRow {
    let sha256 = Some(line.content_sha256.clone()).filter(|sha256| !sha256.is_empty());
    DocumentRow {
        doc_id: line.doc_id.clone(),
        content_sha256: sha256,
        source_uri: line.source_uri.clone(),
        source_member: line.source_member.clone(),
        media_type: line.media_type.clone(),
        source_offset: signed(line.source_offset),
        source_length: signed(line.source_length),
        source_etag: line.object_etag.clone(),
        file_bytes: signed(Some(line.file_bytes)),
        page_count: line.page_count.and_then(|count| i32::try_from(count).ok()),
        pages_ok: 0,
        pages_failed: 1,
        status: DocumentStatus::Failed,
        status_reason: Some(message.to_owned()),
        is_encrypted: None,
        is_form: None,
        text_layer: None,
        pdf_version: None,
        pdf_producer: None,
        pdf_title: None,
        language: None,
        text_chars: 0,
        text_tokens: None,
        duplicate_of: None,
        license: line.license.clone(),
        split,
        job_id: job_id.clone(),
    }
}

fn signed(number: Option<u64>) -> Option<i64> {
    number.and_then(|number| i64::try_from(number).ok())
}
