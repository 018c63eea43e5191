//! Rows of a part as an engine would have filled them, made of the plan alone.

use anyhow::Context;
use quire_core::{JobId, JobSpec, PlannedDocument, PlannedWork, page_id};
use quire_dataset::{DocumentRow, DocumentStatus, PageRow, PartRow, split_of};
use quire_proto::v1;

/// About what a page of a report holds.
const TEXT: &str = "The quick brown fox jumps over the lazy dog, and then it reads on.\n";
const LINES: usize = 30;

/// The rows of a shard. Every line of it must be a run of pages.
pub(crate) fn part_rows(
    lines: &[PlannedDocument],
    spec: &JobSpec,
    lease: &v1::Lease,
) -> anyhow::Result<Vec<PartRow>> {
    let mut rows = Vec::new();
    for line in lines {
        let PlannedWork::Read { first_idx, count } = line.work else {
            anyhow::bail!("a document that is not read: {line:?}");
        };
        for page_idx in first_idx..first_idx + count {
            let document = (page_idx == 0 && line.carries_document())
                .then(|| document(line, spec, lease))
                .transpose()?;
            rows.push(PartRow::Page {
                page: Box::new(page(line, page_idx, spec, lease)?),
                document: document.map(Box::new),
            });
        }
    }
    Ok(rows)
}

fn page(
    line: &PlannedDocument,
    page_idx: u32,
    spec: &JobSpec,
    lease: &v1::Lease,
) -> anyhow::Result<PageRow> {
    let text = TEXT.repeat(LINES);
    Ok(PageRow {
        page_id: page_id(&line.doc_id, page_idx + 1),
        doc_id: line.doc_id.clone(),
        content_sha256: line.content_sha256.clone(),
        source_uri: line.source_uri.clone(),
        source_member: line.source_member.clone(),
        media_type: line.media_type.clone(),
        page_number: i32::try_from(page_idx + 1).context("a page number")?,
        page_count: pages(line)?,
        split: split_of(&spec.split, &line.content_sha256),
        text_chars: i32::try_from(text.chars().count()).context("a length")?,
        text,
        layout: Vec::new(),
        lines: None,
        width_pt: Some(72.0),
        height_pt: Some(72.0),
        rotation: 0,
        image_width: Some(144),
        image_height: Some(144),
        render_dpi: Some(144.0),
        language: None,
        language_score: None,
        flags: Vec::new(),
        confidence: Some(0.9),
        confidence_p10: None,
        repetition: None,
        text_layer_agreement: None,
        quality: None,
        finish_reason: None,
        engine: spec.engine.name.clone(),
        engine_version: spec.engine.version.clone(),
        model_id: spec.engine.model_id.clone(),
        model_revision: spec.engine.model_revision.clone(),
        engine_mode: spec.engine.mode.clone(),
        fallback_from: None,
        attempt: 1,
        text_tokens: None,
        output_tokens: None,
        vision_tokens: None,
        compression_ratio: None,
        render_ms: None,
        infer_ms: None,
        total_ms: None,
        image_sha256: None,
        phash: None,
        job_id: JobId::new(&lease.job_id),
        shard_idx: i64::try_from(lease.shard_idx).context("a shard")?,
        image: None,
    })
}

fn document(
    line: &PlannedDocument,
    spec: &JobSpec,
    lease: &v1::Lease,
) -> anyhow::Result<DocumentRow> {
    Ok(DocumentRow {
        doc_id: line.doc_id.clone(),
        split: Some(split_of(&spec.split, &line.content_sha256)),
        content_sha256: Some(line.content_sha256.clone()),
        source_uri: line.source_uri.clone(),
        source_member: line.source_member.clone(),
        media_type: line.media_type.clone(),
        source_offset: None,
        source_length: None,
        source_etag: line.object_etag.clone(),
        file_bytes: i64::try_from(line.file_bytes).ok(),
        page_count: pages(line)?,
        pages_ok: 0,
        pages_failed: 0,
        status: DocumentStatus::Complete,
        status_reason: None,
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
        license: None,
        job_id: JobId::new(&lease.job_id),
    })
}

fn pages(line: &PlannedDocument) -> anyhow::Result<Option<i32>> {
    let count = line.page_count.map(i32::try_from).transpose();
    count.context("a page count")
}
