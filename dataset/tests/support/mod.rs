//! Made-up documents and jobs for tests and the example: deterministic, and with every column
//! filled somewhere.

#![allow(dead_code, unreachable_pub, reason = "each user takes what it needs")]
#![allow(clippy::unwrap_used, reason = "only tests and the example use it")]

pub mod faults;

use std::path::Path;

use bytes::Bytes;
use quire_core::{
    Block, DocId, EngineInfo, Flag, ImageMode, JobId, JobSpec, Label, LeaseId, Line,
    PlannedDocument, PlannedWork, Quad, Rect, RenderSpec, SplitSpec, Stage, TextLayerMode,
    TroubleCode, page_id,
};
use quire_dataset::{
    CommitLog, Created, DocumentRow, DocumentStatus, EmbeddedImage, ErrorRow, JobArea, Output,
    PageRow, PartEntry, PartRow, PartWriter, Published, SealRequest, TextLayerKind, split_of,
};
use sha2::{Digest, Sha256};

/// What happens to a page or document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Ok,
    Failed,
}

/// A made-up document.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    Pages(Vec<Fate>),
    Unreadable,
    Duplicate,
    Filtered,
}

pub fn engine() -> EngineInfo {
    EngineInfo {
        name: "pp-ocr".to_owned(),
        version: "0.1.0".to_owned(),
        model_id: "PP-OCRv6-small".to_owned(),
        model_revision: hex::encode(Sha256::digest("weights")),
        mode: "small".to_owned(),
    }
}

pub fn spec() -> JobSpec {
    JobSpec {
        inputs: vec!["file:///made-up".to_owned()],
        engine: engine(),
        image_mode: ImageMode::None,
        text_layer: TextLayerMode::Compare,
        render: RenderSpec {
            dpi: 144.0,
            max_edge_px: 3000,
            max_area_px: 6_000_000,
        },
        split: SplitSpec {
            salt: "quire".to_owned(),
            validation_fraction: 0.2,
        },
        shard_pages: 8,
        shuffle_seed: 1,
        retry_where: None,
    }
}

pub fn request(scratch: &Path, planned_rows: Option<u64>) -> SealRequest {
    SealRequest {
        spec: spec(),
        created_at_unix_ms: 1_700_000_000_000,
        planned_rows,
        title: Some("Made-up pages".to_owned()),
        license: None,
        renderer: "hayro".to_owned(),
        renderer_version: "0.9.0".to_owned(),
        scratch: scratch.to_owned(),
    }
}

pub fn uri(n: usize) -> String {
    format!("file:///made-up/{n:04}.pdf")
}

pub fn member(n: usize) -> Option<String> {
    (n % 5 == 4).then(|| format!("member/{n}"))
}

pub fn doc_id(n: usize) -> DocId {
    DocId::of(&uri(n), member(n).as_deref())
}

pub fn content(n: usize) -> String {
    hex::encode(Sha256::digest(uri(n)))
}

pub fn document(n: usize, job_id: &JobId, page_count: usize) -> DocumentRow {
    DocumentRow {
        doc_id: doc_id(n),
        content_sha256: Some(content(n)),
        source_uri: uri(n),
        source_member: member(n),
        media_type: "application/pdf".to_owned(),
        source_offset: None,
        source_length: None,
        source_etag: Some(format!("\"{n}\"")),
        file_bytes: Some(1000 + n as i64),
        page_count: Some(page_count as i32),
        pages_ok: 0,
        pages_failed: 0,
        status: DocumentStatus::Complete,
        status_reason: None,
        is_encrypted: Some(false),
        is_form: Some(n.is_multiple_of(3)),
        text_layer: Some(TextLayerKind::Native),
        pdf_version: Some("1.7".to_owned()),
        pdf_producer: Some("nobody".to_owned()),
        pdf_title: None,
        language: None,
        text_chars: 0,
        text_tokens: None,
        duplicate_of: None,
        license: Some("CC0-1.0".to_owned()),
        split: Some(split_of(&spec().split, &content(n))),
        job_id: job_id.clone(),
    }
}

fn layout() -> (String, Vec<Block>) {
    let blocks = [
        (Label::Title, "# ", "Über \"Größe\""),
        (Label::Text, "", "Ein Absatz.\tTab\u{1}"),
    ];
    let mut text = String::new();
    let mut layout = Vec::new();
    for (at, (label, mark, words)) in blocks.into_iter().enumerate() {
        if at > 0 {
            text.push_str("\n\n");
        }
        text.push_str(mark);
        let start = text.chars().count() as u32;
        text.push_str(words);
        let top = 0.1 + 0.2 * at as f32;
        layout.push(Block {
            label,
            label_raw: label.as_str().to_uppercase(),
            rect: Rect {
                x0: 0.1,
                y0: top,
                x1: 0.9,
                y1: top + 0.1,
            },
            quad: (at == 1).then(|| {
                Quad::from(Rect {
                    x0: 0.1,
                    y0: 0.3,
                    x1: 0.9,
                    y1: 0.4,
                })
            }),
            text: words.to_owned(),
            html: None,
            latex: None,
            text_range: Some(start..text.chars().count() as u32),
            parent: (at == 1).then_some(0),
            level: (at == 0).then_some(1),
            confidence: Some(0.9),
            parsed: None,
        });
    }
    layout.push(Block {
        label: Label::PageNumber,
        label_raw: "number".to_owned(),
        rect: Rect {
            x0: 0.5,
            y0: 0.95,
            x1: 0.55,
            y1: 0.97,
        },
        quad: None,
        text: "7".to_owned(),
        html: None,
        latex: None,
        text_range: None,
        parent: None,
        level: None,
        confidence: None,
        parsed: None,
    });
    (text, layout)
}

/// A JPEG of one grey pixel square, 8 by 8.
pub const JPEG: &[u8] = include_bytes!("grey.jpg");

pub fn page(n: usize, number: usize, job_id: &JobId, shard_idx: u64, with_image: bool) -> PageRow {
    let (text, layout) = layout();
    let text = format!("{text}\n\nPage {number} of document {n}.");
    let page_id = page_id(&doc_id(n), number as u32);
    let engine = engine();
    PageRow {
        doc_id: doc_id(n),
        content_sha256: content(n),
        source_uri: uri(n),
        source_member: member(n),
        media_type: "application/pdf".to_owned(),
        page_number: number as i32,
        page_count: None,
        split: split_of(&spec().split, &content(n)),
        text_chars: text.chars().count() as i32,
        text,
        lines: Some(vec![Line {
            block: Some(0),
            text: "Über".to_owned(),
            rect: Rect {
                x0: 0.1,
                y0: 0.1,
                x1: 0.3,
                y1: 0.2,
            },
            quad: None,
            confidence: 0.87,
        }]),
        layout,
        width_pt: Some(595.0),
        height_pt: Some(842.0),
        rotation: 0,
        image_width: Some(8),
        image_height: Some(8),
        render_dpi: Some(144.0),
        language: Some(
            if n.is_multiple_of(4) {
                "eng_Latn"
            } else {
                "deu_Latn"
            }
            .to_owned(),
        ),
        language_score: Some(0.75),
        flags: if n.is_multiple_of(7) {
            vec![Flag::LowConfidence]
        } else {
            Vec::new()
        },
        confidence: Some(0.95),
        confidence_p10: Some(0.8),
        repetition: Some(0.0),
        text_layer_agreement: Some(0.99),
        quality: Some(0.9),
        finish_reason: None,
        engine: engine.name,
        engine_version: engine.version,
        model_id: engine.model_id,
        model_revision: engine.model_revision,
        engine_mode: engine.mode,
        fallback_from: None,
        attempt: 1,
        text_tokens: None,
        output_tokens: None,
        vision_tokens: None,
        compression_ratio: None,
        render_ms: Some(10),
        infer_ms: Some(20),
        total_ms: Some(31),
        image_sha256: with_image.then(|| hex::encode(Sha256::digest(JPEG))),
        phash: Some("00ff00ff00ff00ff".to_owned()),
        job_id: job_id.clone(),
        shard_idx: shard_idx as i64,
        image: with_image.then(|| EmbeddedImage {
            bytes: Bytes::from_static(JPEG),
            path: format!("{page_id}.jpg"),
        }),
        page_id,
    }
}

pub fn error(n: usize, number: Option<usize>, job_id: &JobId, shard_idx: u64) -> ErrorRow {
    ErrorRow {
        doc_id: doc_id(n),
        page_id: number.map(|number| page_id(&doc_id(n), number as u32)),
        page_number: number.map(|number| number as i32),
        source_uri: uri(n),
        source_member: member(n),
        media_type: "application/pdf".to_owned(),
        stage: if number.is_some() {
            Stage::Render
        } else {
            Stage::Open
        },
        code: if number.is_some() {
            TroubleCode::Timeout
        } else {
            TroubleCode::Encrypted
        },
        message: "it did not work".to_owned(),
        retryable: number.is_some(),
        attempts: 1,
        engines_tried: vec!["pp-ocr".to_owned()],
        elapsed_ms: Some(30_000),
        job_id: job_id.clone(),
        shard_idx: shard_idx as i64,
    }
}

/// The rows of documents `first..`, cut into shards of at most `shard_rows` rows.
pub fn shards(
    job_id: &JobId,
    documents: &[(usize, Made)],
    shard_rows: usize,
    with_images: bool,
) -> Vec<Vec<PartRow>> {
    let mut shards: Vec<Vec<PartRow>> = vec![Vec::new()];
    for (n, made) in documents {
        let n = *n;
        let n_rows = match made {
            Made::Pages(fates) => fates.len(),
            _ => 1,
        };
        for at in 0..n_rows {
            if shards.last().is_some_and(|shard| shard.len() >= shard_rows) {
                shards.push(Vec::new());
            }
            let shard_idx = shards.len() as u64 - 1;
            let mut row = document(n, job_id, n_rows);
            let mut own = |status, reason: Option<&str>| {
                row.status = status;
                row.status_reason = reason.map(str::to_owned);
                (at == 0).then(|| Box::new(row.clone()))
            };
            let part_row = match made {
                Made::Pages(fates) if fates[at] == Fate::Ok => PartRow::Page {
                    page: Box::new(page(n, at + 1, job_id, shard_idx, with_images)),
                    document: own(DocumentStatus::Complete, None),
                },
                Made::Pages(_) => PartRow::Failed {
                    error: Box::new(error(n, Some(at + 1), job_id, shard_idx)),
                    document: own(DocumentStatus::Complete, None),
                },
                Made::Unreadable => PartRow::Failed {
                    error: Box::new(error(n, None, job_id, shard_idx)),
                    document: own(DocumentStatus::Failed, Some("encrypted")),
                },
                Made::Duplicate => {
                    row.duplicate_of = Some(doc_id(0));
                    row.status = DocumentStatus::Duplicate;
                    PartRow::Skipped {
                        document: Box::new(row),
                    }
                }
                Made::Filtered => {
                    row.status = DocumentStatus::Filtered;
                    row.status_reason = Some("too many pages".to_owned());
                    PartRow::Skipped {
                        document: Box::new(row),
                    }
                }
            };
            shards.last_mut().unwrap().push(part_row);
        }
    }
    shards.retain(|shard| !shard.is_empty());
    shards
}

/// Writes and puts the part of a shard.
pub async fn write_part(
    area: &JobArea,
    shard_idx: u64,
    lease: &str,
    rows: &[PartRow],
) -> PartEntry {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("part.parquet");
    let mut writer = PartWriter::create(std::fs::File::create(&file).unwrap()).unwrap();
    for row in rows {
        writer.write(row.clone()).unwrap();
    }
    let summary = writer.finish().unwrap();
    let lease_id = LeaseId::new(lease);
    area.put_part(shard_idx, &lease_id, &file).await.unwrap();
    PartEntry::new(shard_idx, lease_id, &summary)
}

/// Commits shards, two a manifest, and returns the area and the rows committed.
pub async fn commit(output: &Output, job: &str, shards: &[Vec<PartRow>]) -> (JobArea, u64) {
    let area = output.job_area(&JobId::new(job)).unwrap();
    let mut log = CommitLog::read(&area).await.unwrap();
    let first = usize::try_from(log.n_parts()).unwrap();
    for (at, pair) in shards.chunks(2).enumerate() {
        let mut entries = Vec::new();
        for (offset, rows) in pair.iter().enumerate() {
            let shard_idx = (first + at * 2 + offset) as u64;
            entries.push(write_part(&area, shard_idx, &format!("lease-{shard_idx}"), rows).await);
        }
        let nonce = format!("nonce-{at}");
        let published = log.publish(&area, nonce, entries, None).await.unwrap();
        assert!(matches!(published, Published::Done(_)));
    }
    (area, log.n_rows())
}

/// A plan that reads single pages, as a retry makes it.
pub async fn plan_single_pages(area: &JobArea, documents: &[(usize, bool)]) {
    let mut lines = Vec::new();
    for &(n, whole_document) in documents {
        let line = PlannedDocument {
            doc_id: doc_id(n),
            source_uri: uri(n),
            source_member: member(n),
            object_bytes: 1,
            object_etag: None,
            media_type: "application/pdf".to_owned(),
            file_bytes: 1,
            content_sha256: content(n),
            source_offset: None,
            source_length: None,
            page_count: None,
            license: None,
            whole_document,
            earlier_attempts: 1,
            work: PlannedWork::Read {
                first_idx: 0,
                count: 1,
            },
        };
        serde_json::to_writer(&mut lines, &line).unwrap();
        lines.push(b'\n');
    }
    let created = area.create_plan_group(0, Bytes::from(lines)).await.unwrap();
    assert_eq!(created, Created::Mine);
}

/// A few documents of every kind.
pub fn some_documents() -> Vec<(usize, Made)> {
    use Fate::{Failed, Ok};
    let made = [
        Made::Pages(vec![Ok; 3]),
        Made::Pages(vec![Ok, Failed, Ok, Ok, Ok, Ok, Failed, Ok, Ok]),
        Made::Unreadable,
        Made::Duplicate,
        Made::Pages(vec![Ok]),
        Made::Filtered,
        Made::Pages(vec![Failed, Failed]),
        Made::Pages(vec![Ok; 5]),
        Made::Pages(vec![Ok; 2]),
        Made::Pages(vec![Ok; 4]),
        Made::Pages(vec![Ok; 1]),
        Made::Pages(vec![Ok; 6]),
    ];
    made.into_iter().enumerate().collect()
}
