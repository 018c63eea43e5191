//! From chosen errors to lines of a plan: single pages of documents that are known, and whole
//! documents that could not be opened before and are opened again now.

use std::collections::{BTreeMap, HashMap, HashSet};

use quire_coordinator::Survey;
use quire_core::{DocId, PlannedDocument, PlannedWork, Stage, Trouble, TroubleCode};
use quire_corpus::{Entry, FoundDocument, Limits, Listed, Stores, Wanted};
use quire_dataset::{DocumentRow, ErrorRow};
use sha2::{Digest, Sha256};

/// What is known of the documents with errors.
pub(crate) type Documents = HashMap<DocId, DocumentRow>;

/// Opens sources again.
pub(crate) struct Sources<'a> {
    pub stores: &'a Stores,
    pub limits: Limits,
    pub survey: &'a dyn Survey,
}

/// Errors of one document.
#[derive(Debug)]
struct Chosen<'a> {
    /// The error of the document as a whole, which stands for all of its pages.
    whole: Option<&'a ErrorRow>,
    /// By page number.
    pages: BTreeMap<u32, &'a ErrorRow>,
}

impl Sources<'_> {
    /// Lines of the plan, in the order of the errors table; a source that is gone or has changed
    /// has none, and is logged.
    pub(crate) async fn lines(
        &self,
        errors: &[ErrorRow],
        documents: &Documents,
    ) -> Vec<PlannedDocument> {
        let mut lines = Vec::new();
        for (uri, of_source) in by_source(errors) {
            let Some(entry) = self.entry(uri).await else {
                continue;
            };
            let mut wanted = HashSet::new();
            for (doc_id, chosen) in &of_source {
                if let Some(error) = chosen.whole {
                    wanted.insert(error.source_member.clone());
                } else if let Some(document) = documents.get(*doc_id) {
                    lines.extend(page_lines(&entry, document, chosen));
                }
            }
            if !wanted.is_empty() {
                let attempts = attempts_by_member(&of_source);
                lines.extend(self.whole_lines(&entry, wanted, &attempts).await);
            }
        }
        lines
    }

    async fn entry(&self, uri: &str) -> Option<Entry> {
        let listed = quire_corpus::list(self.stores, &[uri.to_owned()]).await;
        let reason = match listed.map(|listed| listed.into_iter().next()) {
            Ok(Some(Listed::Entry(entry))) => return Some(entry),
            Ok(Some(Listed::Trouble { trouble, .. })) => trouble.message,
            Ok(None) => "nothing is there".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!("{uri} cannot be read again: {reason}");
        None
    }

    async fn whole_lines(
        &self,
        entry: &Entry,
        wanted: HashSet<Option<String>>,
        attempts: &HashMap<Option<String>, u32>,
    ) -> Vec<PlannedDocument> {
        let wanted_too = wanted.clone();
        let mut found =
            quire_corpus::documents(self.stores, entry, Wanted::Members(wanted), &self.limits);
        let mut lines = Vec::new();
        while let Some(document) = found.recv().await {
            // A container may tell of trouble with itself, which nobody asked for here.
            if wanted_too.contains(&document.member) {
                let earlier = attempts.get(&document.member).copied().unwrap_or(1);
                lines.push(self.whole_line(entry, document, earlier).await);
            }
        }
        lines
    }

    async fn whole_line(
        &self,
        entry: &Entry,
        found: FoundDocument,
        earlier_attempts: u32,
    ) -> PlannedDocument {
        let FoundDocument {
            member,
            media_type,
            content,
            offset,
            length,
        } = found;
        let mut line = PlannedDocument {
            doc_id: DocId::of(&entry.uri, member.as_deref()),
            source_uri: entry.uri.clone(),
            source_member: member,
            object_bytes: entry.bytes,
            object_etag: entry.etag.clone(),
            media_type,
            file_bytes: 0,
            content_sha256: String::new(),
            source_offset: offset,
            source_length: length,
            page_count: None,
            license: entry.license.clone(),
            whole_document: true,
            earlier_attempts,
            work: PlannedWork::Filtered {
                reason: String::new(),
            },
        };
        let counted = match content {
            Ok(content) => {
                line.file_bytes = content.len() as u64;
                line.content_sha256 = hex::encode(Sha256::digest(&content));
                self.survey.count_pages(content, &line.media_type).await
            }
            Err(trouble) => Err(trouble),
        };
        line.work = match counted {
            Ok(0) => {
                let message = "the document has no pages";
                let trouble = Trouble::new(Stage::Open, TroubleCode::Damaged, message);
                PlannedWork::Failed { trouble }
            }
            Ok(count) => {
                line.page_count = Some(count);
                PlannedWork::Read {
                    first_idx: 0,
                    count,
                }
            }
            Err(trouble) => PlannedWork::Failed { trouble },
        };
        line
    }
}

/// Errors by source and document, each in the order of its first error.
fn by_source(errors: &[ErrorRow]) -> Vec<(&str, Vec<(&DocId, Chosen<'_>)>)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut sources: Vec<(&str, Vec<(&DocId, Chosen<'_>)>)> = Vec::new();
    for error in errors {
        let uri = error.source_uri.as_str();
        let at = *places.entry(uri).or_insert_with(|| {
            sources.push((uri, Vec::new()));
            sources.len() - 1
        });
        let documents = &mut sources[at].1;
        let known = documents
            .iter()
            .position(|(doc_id, _)| **doc_id == error.doc_id);
        let known = known.unwrap_or_else(|| {
            documents.push((
                &error.doc_id,
                Chosen {
                    whole: None,
                    pages: BTreeMap::new(),
                },
            ));
            documents.len() - 1
        });
        let chosen = &mut documents[known].1;
        match error
            .page_number
            .and_then(|number| u32::try_from(number).ok())
        {
            Some(number) if number > 0 => {
                chosen.pages.insert(number, error);
            }
            _ => chosen.whole = Some(error),
        }
    }
    sources
}

fn attempts_by_member(documents: &[(&DocId, Chosen<'_>)]) -> HashMap<Option<String>, u32> {
    let whole = documents.iter().filter_map(|(_, chosen)| chosen.whole);
    whole
        .map(|error| (error.source_member.clone(), error.attempts.unsigned_abs()))
        .collect()
}

/// One line for each run of neighboring pages that were tried equally often.
fn page_lines(entry: &Entry, document: &DocumentRow, chosen: &Chosen<'_>) -> Vec<PlannedDocument> {
    if document.source_etag.is_some() && document.source_etag != entry.etag {
        let uri = &entry.uri;
        tracing::warn!("{uri} has changed since it was read: `quire run` reads it as a whole");
        return Vec::new();
    }
    let mut lines: Vec<PlannedDocument> = Vec::new();
    for (number, error) in &chosen.pages {
        let page_idx = number - 1;
        let earlier_attempts = error.attempts.unsigned_abs();
        if let Some(last) = lines.last_mut()
            && last.earlier_attempts == earlier_attempts
            && let PlannedWork::Read { first_idx, count } = &mut last.work
            && *first_idx + *count == page_idx
        {
            *count += 1;
            continue;
        }
        lines.push(PlannedDocument {
            doc_id: document.doc_id.clone(),
            source_uri: entry.uri.clone(),
            source_member: document.source_member.clone(),
            object_bytes: entry.bytes,
            object_etag: entry.etag.clone(),
            media_type: document.media_type.clone(),
            file_bytes: document.file_bytes.map_or(0, i64::unsigned_abs),
            content_sha256: document.content_sha256.clone().unwrap_or_default(),
            source_offset: document.source_offset.map(i64::unsigned_abs),
            source_length: document.source_length.map(i64::unsigned_abs),
            page_count: document.page_count.map(i32::unsigned_abs),
            license: document.license.clone(),
            whole_document: false,
            earlier_attempts,
            work: PlannedWork::Read {
                first_idx: page_idx,
                count: 1,
            },
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use async_trait::async_trait;
    use bytes::Bytes;
    use quire_core::JobId;
    use quire_dataset::DocumentStatus;

    use super::*;

    /// Knows documents of three pages; the word `bad` makes them damaged.
    struct ThreePages;

    #[async_trait]
    impl Survey for ThreePages {
        async fn count_pages(&self, content: Bytes, _: &str) -> Result<u32, Trouble> {
            if content.windows(3).any(|word| word == b"bad") {
                return Err(Trouble::new(Stage::Open, TroubleCode::Damaged, "bad"));
            }
            Ok(3)
        }
    }

    fn uri(path: &Path) -> String {
        quire_corpus::Address::local(path).unwrap().uri()
    }

    fn error(uri: &str, page: Option<i32>, attempts: i32) -> ErrorRow {
        let doc_id = DocId::of(uri, None);
        ErrorRow {
            page_id: page.map(|page| quire_core::page_id(&doc_id, page.unsigned_abs())),
            doc_id,
            page_number: page,
            source_uri: uri.into(),
            source_member: None,
            media_type: "application/pdf".into(),
            stage: Stage::Render,
            code: TroubleCode::Timeout,
            message: String::new(),
            retryable: true,
            attempts,
            engines_tried: Vec::new(),
            elapsed_ms: None,
            job_id: JobId::new("j"),
            shard_idx: 0,
        }
    }

    fn document(uri: &str) -> DocumentRow {
        DocumentRow {
            doc_id: DocId::of(uri, None),
            content_sha256: Some("00".into()),
            source_uri: uri.into(),
            source_member: None,
            media_type: "application/pdf".into(),
            source_offset: None,
            source_length: None,
            source_etag: None,
            file_bytes: Some(8),
            page_count: Some(9),
            pages_ok: 5,
            pages_failed: 4,
            status: DocumentStatus::Partial,
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
            job_id: JobId::new("j"),
        }
    }

    async fn lines(errors: &[ErrorRow], documents: Vec<DocumentRow>) -> Vec<PlannedDocument> {
        let stores = Stores::open(&BTreeMap::new()).unwrap();
        let sources = Sources {
            stores: &stores,
            limits: Limits::default(),
            survey: &ThreePages,
        };
        let documents = documents
            .into_iter()
            .map(|document| (document.doc_id.clone(), document))
            .collect();
        sources.lines(errors, &documents).await
    }

    #[tokio::test]
    async fn failed_pages_become_runs_of_equal_attempts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pdf");
        std::fs::write(&path, "%PDF-1.7").unwrap();
        let uri = uri(&path);
        let errors = [(2, 1), (3, 1), (4, 2), (7, 2)]
            .map(|(page, attempts)| error(&uri, Some(page), attempts));
        let lines = lines(&errors, vec![document(&uri)]).await;
        let work: Vec<_> = lines
            .iter()
            .map(|line| (line.work.clone(), line.earlier_attempts))
            .collect();
        let read = |first_idx, count| PlannedWork::Read { first_idx, count };
        assert_eq!(work, [(read(1, 2), 1), (read(3, 1), 2), (read(6, 1), 2)]);
        assert!(
            lines
                .iter()
                .all(|line| !line.whole_document && line.page_count == Some(9))
        );
    }

    #[tokio::test]
    async fn document_that_failed_as_a_whole_is_opened_and_counted_again() {
        let folder = tempfile::tempdir().unwrap();
        let [good, bad] = ["good.pdf", "bad.pdf"].map(|name| folder.path().join(name));
        std::fs::write(&good, "%PDF-1.7 fine").unwrap();
        std::fs::write(&bad, "%PDF-1.7 bad").unwrap();
        let errors = [error(&uri(&good), None, 2), error(&uri(&bad), None, 1)];
        let lines = lines(&errors, Vec::new()).await;
        assert_eq!(
            lines[0].work,
            PlannedWork::Read {
                first_idx: 0,
                count: 3
            }
        );
        assert_eq!(
            (lines[0].earlier_attempts, lines[0].whole_document),
            (2, true)
        );
        assert_eq!(lines[0].content_sha256.len(), 64);
        assert!(matches!(lines[1].work, PlannedWork::Failed { .. }));
    }

    #[tokio::test]
    async fn source_that_is_gone_or_has_changed_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pdf");
        std::fs::write(&path, "%PDF-1.7").unwrap();
        let changed = DocumentRow {
            source_etag: Some("old".into()),
            ..document(&uri(&path))
        };
        let errors = [
            error(&uri(&path), Some(1), 1),
            error("file:///nowhere/b.pdf", Some(1), 1),
        ];
        assert_eq!(lines(&errors, vec![changed]).await, []);
    }
}
