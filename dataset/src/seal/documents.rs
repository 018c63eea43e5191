//! One row a document, summed up from its rows: a shard sees only its own pages, so what it
//! says of the whole document does not count.

use quire_core::JobId;

use crate::row::{DocumentRow, DocumentStatus, ErrorRow, PageRow};
use crate::split::SplitRule;

/// What is known of a document so far.
#[derive(Debug, Default)]
pub(crate) struct DocumentSum {
    /// The row that came with the document's first page, or that an earlier version has.
    row: Option<DocumentRow>,
    /// Stands in for a row that nobody wrote.
    stand_in: Option<DocumentRow>,
    pages_ok: i32,
    pages_failed: i32,
    /// Code of a failure of the whole document.
    failure: Option<&'static str>,
    text_chars: i64,
    text_tokens: Option<i64>,
    /// Code points a language.
    languages: Vec<(String, i64)>,
}

impl DocumentSum {
    /// Takes the document's own row; a later one replaces an earlier one.
    pub(crate) fn take_row(&mut self, row: DocumentRow) {
        self.row = Some(row);
    }

    pub(crate) fn add_page(&mut self, page: &PageRow) {
        self.stand_in.get_or_insert_with(|| from_page(page));
        self.add_read(page.language.as_deref(), page.text_chars, page.text_tokens);
    }

    /// Adds a page that was read, of which only these columns are at hand.
    pub(crate) fn add_read(
        &mut self,
        language: Option<&str>,
        text_chars: i32,
        text_tokens: Option<i32>,
    ) {
        self.pages_ok += 1;
        self.text_chars += i64::from(text_chars);
        if let Some(tokens) = text_tokens {
            *self.text_tokens.get_or_insert(0) += i64::from(tokens);
        }
        let Some(language) = language else { return };
        match self
            .languages
            .iter_mut()
            .find(|(known, _)| known == language)
        {
            Some((_, chars)) => *chars += i64::from(text_chars),
            None => self
                .languages
                .push((language.to_owned(), i64::from(text_chars))),
        }
    }

    pub(crate) fn add_error(&mut self, error: &ErrorRow) {
        self.stand_in.get_or_insert_with(|| from_error(error));
        match error.page_number {
            Some(_) => self.pages_failed += 1,
            None => self.failure = Some(error.code.as_str()),
        }
    }

    /// The document's row; `None` if nothing was ever said of it.
    pub(crate) fn finish(self, job_id: &JobId, split: &SplitRule) -> Option<DocumentRow> {
        let has_rows = self.pages_ok > 0 || self.pages_failed > 0 || self.failure.is_some();
        let mut row = self.row.or(self.stand_in)?;
        let said = row.status;
        row.pages_ok = self.pages_ok;
        row.pages_failed = self.pages_failed;
        row.text_chars = self.text_chars;
        row.text_tokens = self.text_tokens;
        row.job_id = job_id.clone();
        row.split = row
            .content_sha256
            .as_deref()
            .filter(|content| !content.is_empty())
            .map(|content| split.side(content));
        // The most characters win; of equals the first by name, so that order plays no part.
        let most = self
            .languages
            .into_iter()
            .max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0)));
        row.language = most.map(|(language, _)| language);
        let is_left_out = matches!(said, DocumentStatus::Duplicate | DocumentStatus::Filtered);
        if !is_left_out || has_rows {
            row.status = match (self.pages_ok, self.pages_failed, self.failure) {
                (0, _, _) => DocumentStatus::Failed,
                (_, 0, None) => DocumentStatus::Complete,
                _ => DocumentStatus::Partial,
            };
            if row.status != said {
                row.status_reason = None;
            }
            if row.status != DocumentStatus::Complete && row.status_reason.is_none() {
                row.status_reason = self.failure.map(str::to_owned);
            }
        }
        Some(row)
    }
}

fn from_page(page: &PageRow) -> DocumentRow {
    DocumentRow {
        content_sha256: Some(page.content_sha256.clone()),
        page_count: page.page_count,
        split: Some(page.split),
        ..bare(
            &page.doc_id,
            &page.source_uri,
            &page.source_member,
            &page.media_type,
            &page.job_id,
        )
    }
}

fn from_error(error: &ErrorRow) -> DocumentRow {
    bare(
        &error.doc_id,
        &error.source_uri,
        &error.source_member,
        &error.media_type,
        &error.job_id,
    )
}

fn bare(
    doc_id: &quire_core::DocId,
    source_uri: &str,
    source_member: &Option<String>,
    media_type: &str,
    job_id: &JobId,
) -> DocumentRow {
    DocumentRow {
        doc_id: doc_id.clone(),
        content_sha256: None,
        source_uri: source_uri.to_owned(),
        source_member: source_member.clone(),
        media_type: media_type.to_owned(),
        source_offset: None,
        source_length: None,
        source_etag: None,
        file_bytes: None,
        page_count: None,
        pages_ok: 0,
        pages_failed: 0,
        status: DocumentStatus::Failed,
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
        split: None,
        job_id: job_id.clone(),
    }
}
