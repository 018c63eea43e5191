//! Rows of a part, made of the plan alone: the same plan gives the same rows.

use quire_core::{JobSpec, PlannedDocument, PlannedWork, page_id};
use quire_dataset::{DocumentRow, DocumentStatus, ErrorRow, PageRow, PartRow, split_of};
use quire_proto::v1;

/// The rows of a shard.
pub fn part_rows(lines: &[PlannedDocument], spec: &JobSpec, lease: &v1::Lease) -> Vec<PartRow> {
    lines
        .iter()
        .flat_map(|line| line_rows(line, spec, lease))
        .collect()
}

fn line_rows(line: &PlannedDocument, spec: &JobSpec, lease: &v1::Lease) -> Vec<PartRow> {
    let document = || {
        line.carries_document()
            .then(|| Box::new(document(line, spec, lease)))
    };
    match &line.work {
        PlannedWork::Read { first_idx, count } => (*first_idx..first_idx + count)
            .map(|page_idx| PartRow::Page {
                page: Box::new(page(line, page_idx, spec, lease)),
                document: if page_idx == *first_idx {
                    document()
                } else {
                    None
                },
            })
            .collect(),
        PlannedWork::Failed { trouble } => {
            let error = ErrorRow {
                doc_id: line.doc_id.clone(),
                page_id: None,
                page_number: None,
                source_uri: line.source_uri.clone(),
                source_member: line.source_member.clone(),
                media_type: line.media_type.clone(),
                stage: trouble.stage,
                code: trouble.code,
                message: trouble.message.clone(),
                retryable: trouble.code.is_retryable(),
                attempts: 1,
                engines_tried: Vec::new(),
                elapsed_ms: None,
                job_id: quire_core::JobId::new(&lease.job_id),
                shard_idx: i64::try_from(lease.shard_idx).unwrap(),
            };
            vec![PartRow::Failed {
                error: Box::new(error),
                document: document(),
            }]
        }
        PlannedWork::Duplicate { .. } | PlannedWork::Filtered { .. } => document()
            .map(|document| PartRow::Skipped { document })
            .into_iter()
            .collect(),
    }
}

fn page(line: &PlannedDocument, page_idx: u32, spec: &JobSpec, lease: &v1::Lease) -> PageRow {
    let text = format!("{} page {}", line.content_sha256, page_idx + 1);
    PageRow {
        page_id: page_id(&line.doc_id, page_idx + 1),
        doc_id: line.doc_id.clone(),
        content_sha256: line.content_sha256.clone(),
        source_uri: line.source_uri.clone(),
        source_member: line.source_member.clone(),
        media_type: line.media_type.clone(),
        page_number: i32::try_from(page_idx + 1).unwrap(),
        page_count: line.page_count.map(|count| i32::try_from(count).unwrap()),
        split: split_of(&spec.split, &line.content_sha256),
        text_chars: i32::try_from(text.chars().count()).unwrap(),
        text,
        layout: Vec::new(),
        lines: None,
        width_pt: None,
        height_pt: None,
        rotation: 0,
        image_width: Some(100),
        image_height: Some(100),
        render_dpi: None,
        language: None,
        language_score: None,
        flags: Vec::new(),
        confidence: None,
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
        job_id: quire_core::JobId::new(&lease.job_id),
        shard_idx: i64::try_from(lease.shard_idx).unwrap(),
        image: None,
    }
}

fn document(line: &PlannedDocument, spec: &JobSpec, lease: &v1::Lease) -> DocumentRow {
    let status = match line.work {
        PlannedWork::Read { .. } => DocumentStatus::Complete,
        PlannedWork::Failed { .. } => DocumentStatus::Failed,
        PlannedWork::Duplicate { .. } => DocumentStatus::Duplicate,
        PlannedWork::Filtered { .. } => DocumentStatus::Filtered,
    };
    let duplicate_of = match &line.work {
        PlannedWork::Duplicate { of } => Some(of.clone()),
        _ => None,
    };
    let sha256 = Some(line.content_sha256.clone()).filter(|sha256| !sha256.is_empty());
    DocumentRow {
        doc_id: line.doc_id.clone(),
        split: sha256
            .as_deref()
            .map(|sha256| split_of(&spec.split, sha256)),
        content_sha256: sha256,
        source_uri: line.source_uri.clone(),
        source_member: line.source_member.clone(),
        media_type: line.media_type.clone(),
        source_offset: None,
        source_length: None,
        source_etag: line.object_etag.clone(),
        file_bytes: i64::try_from(line.file_bytes).ok(),
        page_count: line.page_count.map(|count| i32::try_from(count).unwrap()),
        pages_ok: 0,
        pages_failed: 0,
        status,
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
        duplicate_of,
        license: None,
        job_id: quire_core::JobId::new(&lease.job_id),
    }
}
