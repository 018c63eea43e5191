//! What the newest version of the dataset has already, so that a job reads only what is new.

use std::collections::HashMap;

use quire_core::DocId;
use quire_dataset::{Dataset, DocumentRow, DocumentStatus, Output};

use crate::error::{Error, Result};
use crate::plan::survey::Surveyed;

/// What the newest version has already.
#[derive(Debug, Clone, Default)]
pub struct KnownDocuments {
    by_document: HashMap<DocId, KnownDocument>,
    by_content: HashMap<String, DocId>,
    by_source: HashMap<String, KnownSource>,
}

/// A document of the newest version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDocument {
    pub doc_id: DocId,
    pub source_uri: String,
    /// `None` if it could not be fetched.
    pub content_sha256: Option<String>,
    pub source_etag: Option<String>,
    /// Its pages, or some of them, are in the dataset.
    pub has_pages: bool,
}

#[derive(Debug, Clone, Default)]
struct KnownSource {
    n_documents: u64,
    /// The one tag that all documents of the object have.
    etag: Option<String>,
    /// All were fetched.
    is_whole: bool,
}

impl KnownDocuments {
    /// Reads the documents of the newest version, if there is one.
    pub(crate) async fn load(output: &Output) -> Result<Self> {
        let unread = |source| Error::Dataset {
            action: "read the documents of the newest version".into(),
            source: Box::new(source),
        };
        let mut known = Self::default();
        if output.newest_version().await.map_err(unread)?.is_none() {
            return Ok(known);
        }
        let dataset = Dataset::open(output).await.map_err(unread)?;
        let mut documents = dataset.rows::<DocumentRow>();
        while let Some(row) = documents.next().await.map_err(unread)? {
            let has_pages = matches!(
                row.status,
                DocumentStatus::Complete | DocumentStatus::Partial
            );
            known.add(KnownDocument {
                doc_id: row.doc_id,
                source_uri: row.source_uri,
                content_sha256: row.content_sha256,
                source_etag: row.source_etag,
                has_pages,
            });
        }
        Ok(known)
    }

    /// Adds a document of the newest version.
    pub fn add(&mut self, document: KnownDocument) {
        let source = self
            .by_source
            .entry(document.source_uri.clone())
            .or_insert_with(|| KnownSource {
                n_documents: 0,
                etag: document.source_etag.clone(),
                is_whole: true,
            });
        source.n_documents += 1;
        source.is_whole &= document.content_sha256.is_some();
        if source.etag != document.source_etag {
            source.etag = None;
        }
        if let (true, Some(sha256)) = (document.has_pages, &document.content_sha256) {
            let first = self
                .by_content
                .entry(sha256.clone())
                .or_insert_with(|| document.doc_id.clone());
            // Whatever the order of the rows, the same document is the original.
            if document.doc_id < *first {
                first.clone_from(&document.doc_id);
            }
        }
        self.by_document.insert(document.doc_id.clone(), document);
    }

    /// How many documents of this object are known, if all of them were fetched from it as it
    /// is now: then it need not be opened.
    pub fn unchanged_entry(&self, uri: &str, etag: Option<&str>) -> Option<u64> {
        let source = self.by_source.get(uri)?;
        let same = source.etag.is_some() && source.etag.as_deref() == etag;
        (same && source.is_whole).then_some(source.n_documents)
    }

    /// Whether the dataset has this document with these bytes.
    pub(super) fn has(&self, document: &Surveyed) -> bool {
        let sha256 = &document.line.content_sha256;
        let sha256 = (!sha256.is_empty()).then_some(sha256);
        self.by_document
            .get(&document.line.doc_id)
            .is_some_and(|known| known.content_sha256.as_ref() == sha256)
    }

    /// The document whose pages in the dataset were read from these bytes.
    pub fn original(&self, sha256: &str) -> Option<&DocId> {
        self.by_content.get(sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(uri: &str, member: Option<&str>, etag: &str, sha256: Option<&str>) -> KnownDocument {
        KnownDocument {
            doc_id: DocId::of(uri, member),
            source_uri: uri.into(),
            content_sha256: sha256.map(Into::into),
            source_etag: Some(etag.into()),
            has_pages: true,
        }
    }

    #[test]
    fn object_is_passed_over_only_if_all_of_it_was_read_as_it_is() {
        let mut documents = KnownDocuments::default();
        documents.add(known("file:///a.zip", Some("1"), "e", Some("s1")));
        documents.add(known("file:///a.zip", Some("2"), "e", Some("s2")));
        documents.add(known("file:///b", None, "e", None));
        assert_eq!(
            documents.unchanged_entry("file:///a.zip", Some("e")),
            Some(2)
        );
        assert_eq!(documents.unchanged_entry("file:///a.zip", Some("f")), None);
        assert_eq!(documents.unchanged_entry("file:///a.zip", None), None);
        assert_eq!(documents.unchanged_entry("file:///b", Some("e")), None);
        assert_eq!(documents.unchanged_entry("file:///c", Some("e")), None);
        documents.add(known("file:///a.zip", Some("3"), "old", Some("s3")));
        assert_eq!(documents.unchanged_entry("file:///a.zip", Some("e")), None);
    }
}
