//! Opens every document once while planning: its bytes are hashed, its pages counted.
//! Several entries are open at a time; what comes out is in the order of the entries.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use quire_core::{DocId, PlannedDocument, PlannedWork, Stage, Trouble, TroubleCode};
use quire_corpus::{Entry, FoundDocument, Limits, Listed, Stores, Wanted, is_page_document};
use quire_proto::v1;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::known::KnownDocuments;
use crate::error::{Error, Result};

/// Documents of one entry that are counted at a time.
const DOCUMENTS_AT_ONCE: usize = 2;
/// Surveyed documents of an entry that may wait for those of the entries before it.
const WAITING: usize = 256;
/// More pages than this are refused: page numbers are 32 bits and printed with six digits, and
/// no real document comes near.
const MAX_PAGES: u32 = 999_999;
/// Media type of what could not be looked at.
const UNKNOWN: &str = "application/octet-stream";

/// What planning cannot know itself: page counts come from the sandboxed renderer.
#[async_trait]
pub trait Survey: Send + Sync {
    /// Opens a document and counts its pages.
    async fn count_pages(&self, content: Bytes, media_type: &str) -> Result<u32, Trouble>;
}

/// How far planning is; read while it goes on.
#[derive(Debug, Default)]
pub struct PlanProgress {
    entries_listed: AtomicU64,
    entries_surveyed: AtomicU64,
    documents_surveyed: AtomicU64,
    pages_surveyed: AtomicU64,
    documents_known: AtomicU64,
}

impl PlanProgress {
    pub(super) fn listed(&self, n_entries: usize) {
        self.entries_listed
            .store(n_entries as u64, Ordering::Relaxed);
    }

    fn entry_done(&self) {
        self.entries_surveyed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn known(&self, n_documents: u64) {
        self.documents_known
            .fetch_add(n_documents, Ordering::Relaxed);
    }

    fn surveyed(&self, line: &PlannedDocument) {
        self.documents_surveyed.fetch_add(1, Ordering::Relaxed);
        if let PlannedWork::Read { count, .. } = line.work {
            self.pages_surveyed
                .fetch_add(u64::from(count), Ordering::Relaxed);
        }
    }

    /// The state now, as a message.
    pub fn message(&self) -> v1::PlanProgress {
        v1::PlanProgress {
            entries_listed: self.entries_listed.load(Ordering::Relaxed),
            entries_surveyed: self.entries_surveyed.load(Ordering::Relaxed),
            documents_surveyed: self.documents_surveyed.load(Ordering::Relaxed),
            pages_surveyed: self.pages_surveyed.load(Ordering::Relaxed),
            documents_known: self.documents_known.load(Ordering::Relaxed),
        }
    }
}

/// A document that was opened, or why it was not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Surveyed {
    pub line: PlannedDocument,
}

/// Everything a survey of entries needs.
#[derive(Clone)]
pub(super) struct Surveyor {
    pub stores: Stores,
    pub survey: Arc<dyn Survey>,
    pub limits: Limits,
    pub known: Arc<KnownDocuments>,
    pub progress: Arc<PlanProgress>,
}

impl Surveyor {
    /// Surveys entries, `at_once` at a time.
    pub(super) fn survey(self, entries: Vec<Listed>, at_once: usize) -> Surveys {
        let entries = entries.into_iter();
        let (tasks, open) = (JoinSet::new(), VecDeque::new());
        Surveys {
            surveyor: self,
            entries,
            at_once,
            tasks,
            open,
        }
    }

    async fn survey_entry(self, listed: Listed, documents: mpsc::Sender<Surveyed>) {
        let entry = match listed {
            Listed::Entry(entry) => entry,
            Listed::Trouble { uri, trouble } => {
                let line = unread(&Entry::new(uri, 0, None), None, UNKNOWN, trouble);
                self.progress.surveyed(&line);
                // A closed channel means that planning was given up.
                drop(documents.send(Surveyed { line }).await);
                return;
            }
        };
        if let Some(n) = self
            .known
            .unchanged_entry(&entry.uri, entry.etag.as_deref())
        {
            self.progress.known(n);
            return;
        }
        let found = quire_corpus::documents(&self.stores, &entry, Wanted::All, &self.limits);
        let found = futures::stream::unfold(found, async |mut found| {
            found.recv().await.map(|document| (document, found))
        });
        let surveyed = found
            .map(|document| self.survey_document(&entry, document))
            .buffered(DOCUMENTS_AT_ONCE);
        let mut surveyed = std::pin::pin!(surveyed);
        while let Some(line) = surveyed.next().await {
            self.progress.surveyed(&line);
            if documents.send(Surveyed { line }).await.is_err() {
                return;
            }
        }
    }

    async fn survey_document(&self, entry: &Entry, found: FoundDocument) -> PlannedDocument {
        let FoundDocument {
            member,
            media_type,
            content,
            offset,
            length,
        } = found;
        let content = match content {
            Ok(content) => content,
            Err(trouble) => return unread(entry, member, &media_type, trouble),
        };
        let (n_bytes, sha256) = (content.len() as u64, sha256(content.clone()).await);
        let work = match self.count(content, &media_type).await {
            Ok(count) => PlannedWork::Read {
                first_idx: 0,
                count,
            },
            Err(trouble) => PlannedWork::Failed { trouble },
        };
        let page_count = match work {
            PlannedWork::Read { count, .. } => Some(count),
            _ => None,
        };
        PlannedDocument {
            media_type,
            file_bytes: n_bytes,
            content_sha256: sha256,
            source_offset: offset,
            source_length: length,
            page_count,
            ..base(entry, member, work)
        }
    }

    async fn count(&self, content: Bytes, media_type: &str) -> Result<u32, Trouble> {
        let refuse = |code, message: String| Err(Trouble::new(Stage::Open, code, message));
        if !is_page_document(media_type) {
            return refuse(
                TroubleCode::Unsupported,
                format!("{media_type} is not read"),
            );
        }
        match self.survey.count_pages(content, media_type).await? {
            0 => refuse(TroubleCode::Damaged, "the document has no pages".into()),
            n if n > MAX_PAGES => refuse(
                TroubleCode::TooLarge,
                format!("{n} pages, more than {MAX_PAGES}"),
            ),
            n => Ok(n),
        }
    }
}

/// Documents in the order of their entries, and as they stand inside them.
pub(super) struct Surveys {
    surveyor: Surveyor,
    entries: std::vec::IntoIter<Listed>,
    at_once: usize,
    tasks: JoinSet<()>,
    open: VecDeque<mpsc::Receiver<Surveyed>>,
}

impl Surveys {
    /// The next document; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Surveyed>> {
        loop {
            while self.open.len() < self.at_once {
                let Some(entry) = self.entries.next() else {
                    break;
                };
                let (sender, receiver) = mpsc::channel(WAITING);
                self.tasks
                    .spawn(self.surveyor.clone().survey_entry(entry, sender));
                self.open.push_back(receiver);
            }
            let Some(first) = self.open.front_mut() else {
                break;
            };
            if let Some(document) = first.recv().await {
                return Ok(Some(document));
            }
            self.open.pop_front();
            self.surveyor.progress.entry_done();
            while let Some(ended) = self.tasks.try_join_next() {
                ended.map_err(|_| Error::TaskLost)?;
            }
        }
        // A task that panicked closed its channel early: its documents would be missing.
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|_| Error::TaskLost)?;
        }
        Ok(None)
    }
}

/// Hashing a large document takes long enough to hold up other work.
async fn sha256(content: Bytes) -> String {
    let hash = move || hex::encode(Sha256::digest(&content));
    tokio::task::spawn_blocking(hash).await.unwrap_or_default()
}

fn unread(
    entry: &Entry,
    member: Option<String>,
    media_type: &str,
    trouble: Trouble,
) -> PlannedDocument {
    let file_bytes = if member.is_none() { entry.bytes } else { 0 };
    PlannedDocument {
        media_type: media_type.to_owned(),
        file_bytes,
        ..base(entry, member, PlannedWork::Failed { trouble })
    }
}

fn base(entry: &Entry, member: Option<String>, work: PlannedWork) -> PlannedDocument {
    PlannedDocument {
        doc_id: DocId::of(&entry.uri, member.as_deref()),
        source_uri: entry.uri.clone(),
        source_member: member,
        object_bytes: entry.bytes,
        object_etag: entry.etag.clone(),
        media_type: UNKNOWN.to_owned(),
        file_bytes: 0,
        content_sha256: String::new(),
        source_offset: None,
        source_length: None,
        page_count: None,
        license: entry.license.clone(),
        whole_document: true,
        earlier_attempts: 0,
        work,
    }
}
