//! From what is known of a page to its row. Pure: bytes and clocks come in as arguments.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quire_core::{
    EngineInfo, Flag, ImageMode, JobId, JobSpec, Label, Line, PageImage, PlannedDocument,
    PlannedWork, Recognition, Rect, Rotation, ShardIdx, Stage, Trouble, TroubleCode, page_id,
};
use quire_dataset::{
    DocumentRow, DocumentStatus, EmbeddedImage, ErrorRow, PageRow, PartRow, split_of,
};

use super::embed;
use super::render::OpenedInfo;
use super::text_layer::{TextLayer, TextLayerKind};
use crate::signals;

/// Makes the rows of one line of a plan.
#[derive(Debug)]
pub(crate) struct RowMaker {
    planned: PlannedDocument,
    job_id: JobId,
    shard_idx: ShardIdx,
    spec: Arc<JobSpec>,
    engine: EngineInfo,
}

/// What is known of a page besides what was read on it.
#[derive(Debug)]
pub(crate) struct PageFacts {
    pub(crate) page_idx: u32,
    pub(crate) image: Arc<PageImage>,
    /// Turn that the renderer applied.
    pub(crate) rotation: Rotation,
    pub(crate) width_pt: Option<f32>,
    pub(crate) height_pt: Option<f32>,
    pub(crate) text_layer: Option<TextLayer>,
    /// The text was taken from the layer, not from pixels.
    pub(crate) from_layer: bool,
    pub(crate) render: Duration,
    pub(crate) start: Instant,
}

/// What is known of a document once its pages were drawn.
#[derive(Debug)]
pub(crate) struct DocumentFacts {
    pub(crate) info: Option<OpenedInfo>,
    pub(crate) layers: TextLayerKind,
}

impl RowMaker {
    pub(crate) fn new(
        planned: PlannedDocument,
        job_id: JobId,
        shard_idx: ShardIdx,
        spec: Arc<JobSpec>,
        engine: EngineInfo,
    ) -> Self {
        Self {
            planned,
            job_id,
            shard_idx,
            spec,
            engine,
        }
    }

    pub(crate) fn planned(&self) -> &PlannedDocument {
        &self.planned
    }

    /// Pages to read, from 0.
    pub(crate) fn page_indexes(&self) -> Range<u32> {
        match self.planned.work {
            PlannedWork::Read { first_idx, count } => first_idx..first_idx + count,
            _ => 0..0,
        }
    }

    /// The row of a line that needs no reading; `None` if it does.
    pub(crate) fn settled(&self) -> Option<PartRow> {
        let document = |status, reason: String| {
            let mut row = self.document(
                status,
                DocumentFacts {
                    info: None,
                    layers: TextLayerKind::None,
                },
            );
            row.status_reason = Some(reason);
            row
        };
        match &self.planned.work {
            PlannedWork::Read { .. } => None,
            PlannedWork::Failed { trouble } => {
                let row = document(DocumentStatus::Failed, trouble.message.clone());
                Some(PartRow::Failed {
                    error: Box::new(self.error(None, trouble, Duration::ZERO)),
                    document: Some(Box::new(row)),
                })
            }
            PlannedWork::Duplicate { of } => {
                let mut row = document(DocumentStatus::Duplicate, format!("same bytes as {of}"));
                row.duplicate_of = Some(of.clone());
                Some(PartRow::Skipped {
                    document: Box::new(row),
                })
            }
            PlannedWork::Filtered { reason } => Some(PartRow::Skipped {
                document: Box::new(document(DocumentStatus::Filtered, reason.clone())),
            }),
        }
    }

    /// One failed row for every page of the line.
    pub(crate) fn failed_run(&self, trouble: &Trouble) -> Vec<PartRow> {
        let mut rows: Vec<PartRow> = self
            .page_indexes()
            .map(|page_idx| self.failed_page(page_idx, trouble, Duration::ZERO))
            .collect();
        if self.planned.carries_document() {
            let facts = DocumentFacts {
                info: None,
                layers: TextLayerKind::None,
            };
            self.attach_document(&mut rows, facts);
        }
        rows
    }

    /// The row of a page that could not be read.
    pub(crate) fn failed_page(
        &self,
        page_idx: u32,
        trouble: &Trouble,
        elapsed: Duration,
    ) -> PartRow {
        PartRow::Failed {
            error: Box::new(self.error(Some(page_idx + 1), trouble, elapsed)),
            document: None,
        }
    }

    /// Puts the document's own row on its first page.
    pub(crate) fn attach_document(&self, rows: &mut [PartRow], facts: DocumentFacts) {
        let status = DocumentStatus::Complete;
        let row = Box::new(self.document(status, facts));
        match rows.first_mut() {
            Some(PartRow::Page { document, .. } | PartRow::Failed { document, .. }) => {
                *document = Some(row);
            }
            Some(PartRow::Skipped { document }) => *document = row,
            None => {}
        }
    }

    fn error(&self, page_number: Option<u32>, trouble: &Trouble, elapsed: Duration) -> ErrorRow {
        let reached_engine = trouble.stage == Stage::Recognize;
        ErrorRow {
            doc_id: self.planned.doc_id.clone(),
            page_id: page_number.map(|number| page_id(&self.planned.doc_id, number)),
            page_number: page_number.map(int),
            source_uri: self.planned.source_uri.clone(),
            source_member: self.planned.source_member.clone(),
            media_type: self.planned.media_type.clone(),
            stage: trouble.stage,
            code: trouble.code,
            message: trouble.message.clone(),
            retryable: trouble.code.is_retryable(),
            attempts: int(self.planned.earlier_attempts + 1),
            engines_tried: if reached_engine {
                vec![self.engine.name.clone()]
            } else {
                vec![]
            },
            elapsed_ms: Some(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)),
            job_id: self.job_id.clone(),
            shard_idx: long(self.shard_idx),
        }
    }

    fn document(&self, status: DocumentStatus, facts: DocumentFacts) -> DocumentRow {
        let planned = &self.planned;
        let info = facts.info;
        let known_hash = Some(planned.content_sha256.clone()).filter(|digest| !digest.is_empty());
        let split = known_hash
            .as_ref()
            .map(|digest| split_of(&self.spec.split, digest));
        let is_pdf = info.is_some() && planned.media_type == "application/pdf";
        DocumentRow {
            doc_id: planned.doc_id.clone(),
            content_sha256: known_hash,
            source_uri: planned.source_uri.clone(),
            source_member: planned.source_member.clone(),
            media_type: planned.media_type.clone(),
            source_offset: planned.source_offset.map(long),
            source_length: planned.source_length.map(long),
            source_etag: planned.object_etag.clone(),
            file_bytes: Some(long(planned.file_bytes)),
            page_count: planned
                .page_count
                .or(info.as_ref().map(|info| info.n_pages))
                .map(int),
            pages_ok: 0,
            pages_failed: 0,
            status,
            status_reason: None,
            is_encrypted: info.as_ref().map(|info| info.is_encrypted),
            is_form: info.as_ref().map(|info| info.is_form),
            text_layer: is_pdf.then_some(match facts.layers {
                TextLayerKind::None => quire_dataset::TextLayerKind::None,
                TextLayerKind::Native => quire_dataset::TextLayerKind::Native,
                TextLayerKind::Hidden => quire_dataset::TextLayerKind::Hidden,
            }),
            pdf_version: info.as_ref().and_then(|info| info.pdf_version.clone()),
            pdf_producer: info.as_ref().and_then(|info| info.pdf_producer.clone()),
            pdf_title: info.as_ref().and_then(|info| info.pdf_title.clone()),
            language: None,
            text_chars: 0,
            text_tokens: None,
            duplicate_of: None,
            license: planned.license.clone(),
            split,
            job_id: self.job_id.clone(),
        }
    }

    /// The row of a page that was read. Hashes, encodes and compares: not for an async thread.
    pub(crate) fn page(&self, facts: PageFacts, recognition: Recognition) -> PartRow {
        let image = match recognition.rotation {
            Rotation::None => Arc::clone(&facts.image),
            turn => Arc::new(facts.image.rotated(turn)),
        };
        let embedded = match self.spec.image_mode {
            ImageMode::None => None,
            ImageMode::Embed => match embed::encode(&image) {
                Ok(encoded) => Some(encoded),
                Err(message) => {
                    let trouble = Trouble::new(Stage::Write, TroubleCode::TooLarge, message);
                    return self.failed_page(facts.page_idx, &trouble, facts.start.elapsed());
                }
            },
        };
        PartRow::Page {
            page: Box::new(self.page_row(facts, recognition, &image, embedded)),
            document: None,
        }
    }

    fn page_row(
        &self,
        facts: PageFacts,
        recognition: Recognition,
        image: &PageImage,
        embedded: Option<embed::EncodedImage>,
    ) -> PageRow {
        let planned = &self.planned;
        let page_id = page_id(&planned.doc_id, facts.page_idx + 1);
        let agreement = agreement(&facts, &recognition);
        let repetition = signals::repetition(&recognition.text);
        let language = signals::language(&recognition.text);
        let rotation = facts.rotation.then(recognition.rotation);
        let flags = flags(&recognition, image, agreement);
        let (width_pt, height_pt) = match recognition.rotation {
            Rotation::Quarter | Rotation::ThreeQuarters => (facts.height_pt, facts.width_pt),
            Rotation::None | Rotation::Half => (facts.width_pt, facts.height_pt),
        };
        let engine = match recognition.read_by.as_deref() {
            Some(other) => other.clone(),
            None => self.engine.clone(),
        };
        let compression_ratio = compression(recognition.text_tokens, recognition.vision_tokens);
        PageRow {
            doc_id: planned.doc_id.clone(),
            content_sha256: planned.content_sha256.clone(),
            source_uri: planned.source_uri.clone(),
            source_member: planned.source_member.clone(),
            media_type: planned.media_type.clone(),
            page_number: int(facts.page_idx + 1),
            page_count: planned.page_count.map(int),
            split: split_of(&self.spec.split, &planned.content_sha256),
            text_chars: i32::try_from(recognition.text.chars().count()).unwrap_or(i32::MAX),
            layout: recognition.blocks,
            lines: recognition.lines,
            width_pt,
            height_pt,
            rotation: rotation.degrees(),
            image_width: Some(int(image.width)),
            image_height: Some(int(image.height)),
            // An image file is read as it is, whatever resolution it states.
            render_dpi: image
                .dpi
                .filter(|_| planned.media_type == "application/pdf"),
            language_score: language.as_ref().map(|found| found.score),
            language: language.map(|found| found.code),
            flags,
            quality: signals::quality(recognition.confidence, repetition, agreement),
            confidence: recognition.confidence,
            confidence_p10: recognition.confidence_p10,
            repetition: Some(repetition),
            text_layer_agreement: agreement,
            finish_reason: recognition.finish_reason,
            // Text of a trusted layer was read by nobody's eyes: say so.
            engine: if facts.from_layer {
                "text-layer".to_owned()
            } else {
                engine.name
            },
            engine_version: engine.version,
            model_id: engine.model_id,
            model_revision: engine.model_revision,
            engine_mode: engine.mode,
            fallback_from: recognition.fallback_from,
            attempt: int(planned.earlier_attempts.saturating_add(recognition.attempt)),
            text_tokens: recognition.text_tokens.map(int),
            output_tokens: recognition.output_tokens.map(int),
            vision_tokens: recognition.vision_tokens.map(int),
            compression_ratio,
            render_ms: Some(millis(facts.render)),
            infer_ms: Some(millis(recognition.infer)),
            total_ms: Some(millis(facts.start.elapsed())),
            image_sha256: embedded.as_ref().map(|image| image.sha256.clone()),
            phash: signals::phash(image),
            job_id: self.job_id.clone(),
            shard_idx: long(self.shard_idx),
            image: embedded.map(|image| EmbeddedImage {
                bytes: image.bytes.into(),
                path: format!("{page_id}.jpg"),
            }),
            text: recognition.text,
            page_id,
        }
    }
}

/// Tokens of text that each token of the page's image stands for.
fn compression(text_tokens: Option<u32>, vision_tokens: Option<u32>) -> Option<f32> {
    let vision = vision_tokens.filter(|&tokens| tokens > 0)?;
    Some(text_tokens? as f32 / vision as f32)
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A count as the columns hold it; the limits on inputs are far below `i32::MAX`.
fn int(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Agreement of what was read with a visible layer; nothing to compare if the layer was the text.
fn agreement(facts: &PageFacts, recognition: &Recognition) -> Option<f32> {
    let layer = facts.text_layer.as_ref().filter(|_| !facts.from_layer)?;
    if layer.kind() != TextLayerKind::Native {
        return None;
    }
    let read = recognition.lines.as_deref()?;
    if recognition.rotation == Rotation::None {
        return signals::agreement(read, &layer.lines);
    }
    let turned: Vec<Line> = layer
        .lines
        .iter()
        .map(|line| Line {
            rect: turn(&line.rect, recognition.rotation),
            ..line.clone()
        })
        .collect();
    signals::agreement(read, &turned)
}

/// A box of the page after a clockwise turn of the page.
fn turn(rect: &Rect, rotation: Rotation) -> Rect {
    let Rect { x0, y0, x1, y1 } = *rect;
    match rotation {
        Rotation::None => *rect,
        Rotation::Quarter => Rect {
            x0: 1.0 - y1,
            y0: x0,
            x1: 1.0 - y0,
            y1: x1,
        },
        Rotation::Half => Rect {
            x0: 1.0 - x1,
            y0: 1.0 - y1,
            x1: 1.0 - x0,
            y1: 1.0 - y0,
        },
        Rotation::ThreeQuarters => Rect {
            x0: y0,
            y0: 1.0 - x1,
            x1: y1,
            y1: 1.0 - x0,
        },
    }
}

fn flags(recognition: &Recognition, image: &PageImage, agreement: Option<f32>) -> Vec<Flag> {
    let mut flags = recognition.flags.clone();
    let has_picture = recognition
        .blocks
        .iter()
        .any(|block| block.label == Label::Picture);
    if recognition.text.is_empty() && !has_picture && signals::is_blank(image) {
        flags.push(Flag::Blank);
    }
    // The file's own flag is no news; what it left sideways is.
    if recognition.rotation != Rotation::None {
        flags.push(Flag::Rotated);
    }
    if recognition
        .confidence
        .is_some_and(|mean| mean < signals::LOW_CONFIDENCE)
    {
        flags.push(Flag::LowConfidence);
    }
    if agreement.is_some_and(|share| share < signals::LAYER_MISMATCH) {
        flags.push(Flag::TextLayerMismatch);
    }
    flags.sort_unstable();
    flags.dedup();
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_text_over_vision_where_both_are_counted() {
        assert_eq!(compression(Some(640), Some(64)), Some(10.0));
        assert_eq!(compression(Some(640), None), None);
        assert_eq!(compression(None, Some(64)), None);
        assert_eq!(compression(Some(640), Some(0)), None);
    }

    #[test]
    fn a_box_turns_with_its_page() {
        let rect = Rect {
            x0: 0.25,
            y0: 0.0,
            x1: 0.75,
            y1: 0.125,
        };
        let quarter = turn(&rect, Rotation::Quarter);
        assert_eq!(
            quarter,
            Rect {
                x0: 0.875,
                y0: 0.25,
                x1: 1.0,
                y1: 0.75
            }
        );
        assert_eq!(turn(&quarter, Rotation::ThreeQuarters), rect);
        assert_eq!(turn(&turn(&rect, Rotation::Half), Rotation::Half), rect);
    }
}
