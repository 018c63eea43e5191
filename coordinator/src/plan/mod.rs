//! Makes the plan of a job, once: inputs are listed, put in a seeded order, opened, hashed,
//! counted, cut into shards and written as objects. After this: `schedule` gives the shards out.
//!
//! Equal inputs and specifications give equal plans, whatever finishes first: entries are
//! surveyed side by side but taken in order.

mod cut;
mod index;
pub(crate) mod job;
mod known;
pub(crate) mod read;
mod survey;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use quire_core::{DocId, JobId, JobSpec, PlannedDocument, PlannedWork};
use quire_corpus::{Limits, Listed, Stores};
use quire_dataset::JobArea;
use sha2::{Digest, Sha256};

pub use cut::{Cutter, cut};
pub use index::{PlanGroup, PlanIndex};
pub use known::{KnownDocument, KnownDocuments};
pub use survey::{PlanProgress, Survey};
use survey::{Surveyed, Surveyor};
use write::PlanWriter;

use crate::error::{Error, Result};

/// What planning needs besides the job.
#[derive(Clone)]
pub(crate) struct Planner {
    pub stores: Stores,
    pub survey: Arc<dyn Survey>,
    pub limits: Limits,
    pub entries_at_once: usize,
}

/// The plan of a job, if it exists.
pub(crate) async fn existing(area: &JobArea) -> Result<Option<PlanIndex>> {
    let content = area.plan_index().await.map_err(|source| Error::Dataset {
        action: format!("read the plan of job {}", area.job_id()),
        source: Box::new(source),
    })?;
    content
        .map(|content| parse_index(area.job_id(), &content))
        .transpose()
}

fn parse_index(job_id: &JobId, content: &[u8]) -> Result<PlanIndex> {
    let index: PlanIndex = serde_json::from_slice(content).map_err(|source| Error::Stored {
        what: "the plan index".into(),
        job_id: job_id.clone(),
        source,
    })?;
    if index.form != index::INDEX_FORM || index.job_id != *job_id {
        let message = format!(
            "its plan has form {} and is of {}",
            index.form, index.job_id
        );
        return Err(Error::Contradiction {
            job_id: job_id.clone(),
            message,
        });
    }
    Ok(index)
}

/// Writes a plan whose lines are given, as for a retry.
pub(crate) async fn write_given(
    area: &JobArea,
    spec: &JobSpec,
    lines: Vec<PlannedDocument>,
) -> Result<PlanIndex> {
    let documents: HashSet<&DocId> = lines.iter().map(|line| &line.doc_id).collect();
    let n_documents = documents.len() as u64;
    let mut plan = PlanWriter::new(area);
    for shard in cut(lines, spec.shard_pages) {
        plan.write(&shard).await?;
    }
    plan.finish(n_documents, 0).await
}

impl Planner {
    /// Makes the plan. `excluded` are addresses that are no input, such as the output itself.
    pub(crate) async fn make(
        &self,
        area: &JobArea,
        spec: &JobSpec,
        excluded: &[String],
        known: Arc<KnownDocuments>,
        progress: Arc<PlanProgress>,
    ) -> Result<PlanIndex> {
        let mut entries = quire_corpus::list_except(&self.stores, &spec.inputs, excluded)
            .await
            .map_err(|source| Error::Corpus {
                action: "list the inputs".into(),
                source,
            })?;
        progress.listed(entries.len());
        shuffle(&mut entries, spec.shuffle_seed);
        let surveyor = Surveyor {
            stores: self.stores.clone(),
            survey: Arc::clone(&self.survey),
            limits: self.limits.clone(),
            known: Arc::clone(&known),
            progress: Arc::clone(&progress),
        };
        let mut drawing = Drawing {
            plan: PlanWriter::new(area),
            cutter: Cutter::new(spec.shard_pages),
            seen: Seen::new(known),
            progress: Arc::clone(&progress),
            n_documents: 0,
        };
        let mut surveys = surveyor.survey(entries, self.entries_at_once);
        while let Some(document) = surveys.next().await? {
            drawing.take(document).await?;
        }
        drawing.finish().await
    }
}

/// Puts entries in an order that only the seed and their names decide: a corpus that grows keeps
/// the order of what it had.
fn shuffle(entries: &mut [Listed], seed: u64) {
    entries.sort_by_cached_key(|entry| {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(entry.uri().as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        (digest, entry.uri().to_owned())
    });
}

/// A plan that is being drawn up.
struct Drawing<'a> {
    plan: PlanWriter<'a>,
    cutter: Cutter,
    seen: Seen,
    progress: Arc<PlanProgress>,
    n_documents: u64,
}

impl Drawing<'_> {
    async fn take(&mut self, document: Surveyed) -> Result<()> {
        match self.seen.judge(document) {
            Judged::New(line) => {
                self.n_documents += 1;
                for shard in self.cutter.push(*line) {
                    self.plan.write(&shard).await?;
                }
            }
            Judged::Known => self.progress.known(1),
            Judged::Repeated => {}
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<PlanIndex> {
        if let Some(shard) = self.cutter.finish() {
            self.plan.write(&shard).await?;
        }
        let known = self.progress.message().documents_known;
        self.plan.finish(self.n_documents, known).await
    }
}

/// Finds documents that are in the dataset already, and those with the bytes of earlier ones.
struct Seen {
    known: Arc<KnownDocuments>,
    documents: HashSet<DocId>,
    originals: HashMap<String, DocId>,
}

enum Judged {
    New(Box<PlannedDocument>),
    /// The newest version has it unchanged.
    Known,
    /// The same name a second time.
    Repeated,
}

impl Seen {
    fn new(known: Arc<KnownDocuments>) -> Self {
        Self {
            known,
            documents: HashSet::new(),
            originals: HashMap::new(),
        }
    }

    fn judge(&mut self, document: Surveyed) -> Judged {
        if !self.documents.insert(document.line.doc_id.clone()) {
            let (uri, member) = (&document.line.source_uri, &document.line.source_member);
            tracing::warn!(
                uri,
                ?member,
                "a second document of the same name is left out"
            );
            return Judged::Repeated;
        }
        if self.known.has(&document) {
            return Judged::Known;
        }
        let mut line = document.line;
        if matches!(line.work, PlannedWork::Read { .. }) {
            let sha256 = &line.content_sha256;
            let original = self
                .originals
                .get(sha256)
                .or_else(|| self.known.original(sha256));
            match original {
                Some(of) if *of != line.doc_id => {
                    line.work = PlannedWork::Duplicate { of: of.clone() };
                }
                _ => {
                    self.originals.insert(sha256.clone(), line.doc_id.clone());
                }
            }
        }
        Judged::New(Box::new(line))
    }
}

#[cfg(test)]
pub(crate) mod for_test {
    use super::*;

    /// A document of `n_pages` pages; `at` makes it unlike others.
    pub(crate) fn document(at: usize, n_pages: u32) -> PlannedDocument {
        let source_uri = format!("file:///corpus/{at}");
        PlannedDocument {
            doc_id: DocId::of(&source_uri, None),
            source_uri,
            source_member: None,
            object_bytes: 1,
            object_etag: None,
            media_type: "application/pdf".into(),
            file_bytes: 1,
            content_sha256: format!("{at:064x}"),
            source_offset: None,
            source_length: None,
            page_count: Some(n_pages),
            license: None,
            whole_document: true,
            earlier_attempts: 0,
            work: PlannedWork::Read {
                first_idx: 0,
                count: n_pages,
            },
        }
    }

    /// A document that is left out.
    pub(crate) fn skipped(at: usize) -> PlannedDocument {
        let work = PlannedWork::Filtered {
            reason: "test".into(),
        };
        PlannedDocument {
            work,
            ..document(at, 1)
        }
    }
}
