//! Rows of the three tables, a column a field. A field that is not an `Option` is never null in
//! a dataset that Quire wrote, although every column is nullable in the file's schema.

use bytes::Bytes;
use quire_core::{Block, DocId, Flag, JobId, Line, Stage, TroubleCode};

use crate::cell::{columns, struct_cell};

macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As written in rows.
            pub fn as_str(&self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value written as `text`, if the list has it.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// Which side of the held-out line a document is on.
    Split {
        /// For training.
        Train = "train",
        /// Held out.
        Validation = "validation",
    }
}

closed_list! {
    /// What became of a document.
    DocumentStatus {
        /// Every page is in `pages`.
        Complete = "complete",
        /// Some pages are in `pages`, some in `errors`.
        Partial = "partial",
        /// No page is in `pages`.
        Failed = "failed",
        /// The same bytes as an earlier document.
        Duplicate = "duplicate",
        /// Left out by a rule of the settings.
        Filtered = "filtered",
    }
}

closed_list! {
    /// What text a PDF carries.
    TextLayerKind {
        /// No text.
        None = "none",
        /// The document's own visible text.
        Native = "native",
        /// Invisible text over a picture: somebody's OCR, not truth.
        Hidden = "hidden",
    }
}

closed_list! {
    /// What a row of a part is.
    PartStatus {
        /// A page that was read.
        Ok = "ok",
        /// A page or document that could not be read.
        Failed = "failed",
        /// A document that is left out: a duplicate, or filtered.
        Skipped = "skipped",
    }
}

columns! {
    /// One page that was read: a row of `pages`.
    pub struct PageRow {
        /// `{doc_id}-{page_number:06}`; unique in a version.
        pub page_id: String,
        /// The join key to `documents` and `errors`.
        pub doc_id: DocId,
        /// Of the document's bytes, in hex.
        pub content_sha256: String,
        /// Canonical URI of the object, without credentials.
        pub source_uri: String,
        /// Path or record inside a container.
        pub source_member: Option<String>,
        /// Sniffed from the bytes.
        pub media_type: String,
        /// From 1.
        pub page_number: i32,
        /// Pages of the whole document.
        pub page_count: Option<i32>,
        /// By the document's content: see [`crate::split::split_of`].
        pub split: Split,
        /// Markdown in reading order, NFC, `\n`; empty for a blank page.
        pub text: String,
        /// The blocks in reading order, furniture included.
        pub layout: Vec<Block>,
        /// Text lines where the engine gives them.
        pub lines: Option<Vec<Line>>,
        /// Upright crop box, 1/72 inch.
        pub width_pt: Option<f32>,
        /// Upright crop box, 1/72 inch.
        pub height_pt: Option<f32>,
        /// Clockwise turn already applied: 0, 90, 180 or 270.
        pub rotation: i32,
        /// Pixels of the upright page image that was read.
        pub image_width: Option<i32>,
        /// Pixels of the upright page image that was read.
        pub image_height: Option<i32>,
        /// Of that image; `None` for image input.
        pub render_dpi: Option<f32>,
        /// ISO 639-3 and script: `deu_Latn`.
        pub language: Option<String>,
        /// 0 to 1.
        pub language_score: Option<f32>,
        /// What a reader should know about the page.
        pub flags: Vec<Flag>,
        /// Mean, 0 to 1.
        pub confidence: Option<f32>,
        /// 10th percentile, 0 to 1.
        pub confidence_p10: Option<f32>,
        /// Share of the text in its most repeated spans, 0 to 1.
        pub repetition: Option<f32>,
        /// 1 - normalized edit distance to the visible text layer.
        pub text_layer_agreement: Option<f32>,
        /// One number from the above, 0 to 1.
        pub quality: Option<f32>,
        /// `stop`, `length` or `repetition`; `None` for engines that do not generate.
        pub finish_reason: Option<String>,
        /// Who read the page.
        pub engine: String,
        /// Version of the engine's code.
        pub engine_version: String,
        /// Name of its weights.
        pub model_id: String,
        /// SHA-256 of its weights.
        pub model_revision: String,
        /// Such as `small`, `gundam`.
        pub engine_mode: String,
        /// Engine that gave up first.
        pub fallback_from: Option<String>,
        /// Tries of this page.
        pub attempt: i32,
        /// Code points of `text`.
        pub text_chars: i32,
        /// `text` in the tokenizer that the version file names.
        pub text_tokens: Option<i32>,
        /// Tokens generated.
        pub output_tokens: Option<i32>,
        /// Page image tokens that the decoder saw.
        pub vision_tokens: Option<i32>,
        /// `text_tokens / vision_tokens`.
        pub compression_ratio: Option<f32>,
        /// Time to make the page image.
        pub render_ms: Option<i32>,
        /// Time in the engine; in a batch, the page's share.
        pub infer_ms: Option<i32>,
        /// All of the page's own time.
        pub total_ms: Option<i32>,
        /// Of the encoded page image; `None` if none was made.
        pub image_sha256: Option<String>,
        /// 64-bit perceptual hash, in hex.
        pub phash: Option<String>,
        /// Who made the row.
        pub job_id: JobId,
        /// Shard of that job's plan.
        pub shard_idx: i64,
        /// The upright page image, if images are embedded.
        pub image: Option<EmbeddedImage>,
    }
}

columns! {
    /// An encoded page image, in the storage of the `datasets` library's Image feature.
    pub struct EmbeddedImage {
        /// JPEG or WebP, under 2 MB.
        pub bytes: Bytes,
        /// `{page_id}.jpg`.
        pub path: String,
    }
}
struct_cell!(EmbeddedImage);

columns! {
    /// One document: a row of `documents`. Sealing counts `pages_ok`, `pages_failed`, `status`
    /// of documents with pages, `language`, `text_chars` and `text_tokens` anew from the rows,
    /// because a shard sees only its own pages.
    pub struct DocumentRow {
        /// SHA-256 of source URI and member, 32 hex digits.
        pub doc_id: DocId,
        /// Of the document's bytes; `None` if they could not be fetched.
        pub content_sha256: Option<String>,
        /// Canonical URI of the object, without credentials.
        pub source_uri: String,
        /// Path or record inside a container.
        pub source_member: Option<String>,
        /// Sniffed from the bytes.
        pub media_type: String,
        /// Where the document starts inside its object, bytes.
        pub source_offset: Option<i64>,
        /// Bytes it takes inside its object.
        pub source_length: Option<i64>,
        /// Entity tag of the object.
        pub source_etag: Option<String>,
        /// Size of the document.
        pub file_bytes: Option<i64>,
        /// Pages of the whole document, as far as known.
        pub page_count: Option<i32>,
        /// Rows of `pages`.
        pub pages_ok: i32,
        /// Rows of `errors` with a page number.
        pub pages_failed: i32,
        /// What became of it.
        pub status: DocumentStatus,
        /// Why, where the status needs a reason.
        pub status_reason: Option<String>,
        /// Needs a password to be read in full.
        pub is_encrypted: Option<bool>,
        /// Holds form fields.
        pub is_form: Option<bool>,
        /// What text it carries.
        pub text_layer: Option<TextLayerKind>,
        /// As the file says.
        pub pdf_version: Option<String>,
        /// As the file says.
        pub pdf_producer: Option<String>,
        /// As the file says.
        pub pdf_title: Option<String>,
        /// Language of most characters.
        pub language: Option<String>,
        /// Code points of all its pages' `text`.
        pub text_chars: i64,
        /// Tokens of all its pages' `text`.
        pub text_tokens: Option<i64>,
        /// The earlier document with the same bytes.
        pub duplicate_of: Option<DocId>,
        /// From the source's own manifest.
        pub license: Option<String>,
        /// `None` if the content is unknown.
        pub split: Option<Split>,
        /// Who made the row.
        pub job_id: JobId,
    }
}
struct_cell!(DocumentRow);

columns! {
    /// One failed page or document: a row of `errors`.
    pub struct ErrorRow {
        /// The join key to `documents`.
        pub doc_id: DocId,
        /// `None`: the whole document.
        pub page_id: Option<String>,
        /// From 1; `None`: the whole document.
        pub page_number: Option<i32>,
        /// Canonical URI of the object, without credentials.
        pub source_uri: String,
        /// Path or record inside a container.
        pub source_member: Option<String>,
        /// Sniffed from the bytes.
        pub media_type: String,
        /// Where it failed.
        pub stage: Stage,
        /// What kind of failure it was.
        pub code: TroubleCode,
        /// 2 KiB at most, no credentials.
        pub message: String,
        /// Another attempt with the same settings may end differently.
        pub retryable: bool,
        /// Tries so far.
        pub attempts: i32,
        /// Engines that tried.
        pub engines_tried: Vec<String>,
        /// Time spent on it.
        pub elapsed_ms: Option<i64>,
        /// Who made the row.
        pub job_id: JobId,
        /// Shard of that job's plan.
        pub shard_idx: i64,
    }
}
struct_cell!(ErrorRow);

/// A row of a part, one for every planned page, failed ones and skipped documents included, so
/// that rows can be counted against the plan.
#[derive(Debug, Clone, PartialEq)]
pub enum PartRow {
    /// A page that was read.
    Page {
        /// The page.
        page: Box<PageRow>,
        /// On the document's first row only.
        document: Option<Box<DocumentRow>>,
    },
    /// A page, or a whole document, that could not be read.
    Failed {
        /// Why.
        error: Box<ErrorRow>,
        /// On the document's first row only.
        document: Option<Box<DocumentRow>>,
    },
    /// A duplicate or filtered document.
    Skipped {
        /// The document.
        document: Box<DocumentRow>,
    },
}

impl PartRow {
    /// What kind of row it is.
    pub fn status(&self) -> PartStatus {
        match self {
            Self::Page { .. } => PartStatus::Ok,
            Self::Failed { .. } => PartStatus::Failed,
            Self::Skipped { .. } => PartStatus::Skipped,
        }
    }

    /// The page, if it was read.
    pub fn page(&self) -> Option<&PageRow> {
        match self {
            Self::Page { page, .. } => Some(page),
            Self::Failed { .. } | Self::Skipped { .. } => None,
        }
    }

    /// The failure, if it is one.
    pub fn error(&self) -> Option<&ErrorRow> {
        match self {
            Self::Failed { error, .. } => Some(error),
            Self::Page { .. } | Self::Skipped { .. } => None,
        }
    }

    /// The document's row, if this row carries it.
    pub fn document(&self) -> Option<&DocumentRow> {
        match self {
            Self::Page { document, .. } | Self::Failed { document, .. } => document.as_deref(),
            Self::Skipped { document } => Some(document),
        }
    }

    /// The document that the row belongs to.
    pub fn doc_id(&self) -> &DocId {
        match self {
            Self::Page { page, .. } => &page.doc_id,
            Self::Failed { error, .. } => &error.doc_id,
            Self::Skipped { document } => &document.doc_id,
        }
    }
}
