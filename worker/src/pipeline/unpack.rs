//! From a shard's plan to the bytes of its documents, one container opened once.
//! Comes after `fetch`, before `render`.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use quire_core::{PlannedDocument, PlannedWork, Stage, Trouble, TroubleCode};
use quire_corpus::{Entry, FoundDocument, Limits, Stores, Wanted};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::fetch::FetchedObjects;
use crate::metrics;

/// A planned document with its bytes, or why there are none.
#[derive(Debug)]
pub(crate) struct UnpackedDocument {
    /// Index of its line in the shard's plan.
    pub(crate) line: usize,
    pub(crate) content: Result<Bytes, Trouble>,
}

/// Runs of lines that one object holds.
pub(crate) fn by_object(plan: &[PlannedDocument]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, line) in plan.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if plan[run.start].source_uri == line.source_uri => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// Where documents come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objects<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) limits: &'a Limits,
    /// Copies of objects on this machine.
    pub(crate) fetched: &'a FetchedObjects,
}

impl Objects<'_> {
    fn documents(&self, object: &PlannedDocument, wanted: Wanted) -> Receiver<FoundDocument> {
        if let Some(copy) = self.fetched.copy_of(&object.source_uri) {
            return quire_corpus::documents_of_copy(copy, wanted, self.limits);
        }
        let entry = Entry::new(
            &object.source_uri,
            object.object_bytes,
            object.object_etag.clone(),
        );
        quire_corpus::documents(self.stores, &entry, wanted, self.limits)
    }
}

/// Hands on every line of `run` that is to be read, each once, in the order the object holds
/// them; stops early when `hand_on` says that nobody listens any more. Returns the time it waited
/// for documents.
pub(crate) async fn unpack<F>(
    objects: Objects<'_>,
    plan: &[PlannedDocument],
    run: Range<usize>,
    mut hand_on: impl FnMut(UnpackedDocument) -> F,
) -> Duration
where
    F: Future<Output = bool>,
{
    let mut waited = Duration::ZERO;
    let mut lines: HashMap<Option<String>, Vec<usize>> = HashMap::new();
    for at in run.clone() {
        if matches!(plan[at].work, PlannedWork::Read { .. }) {
            lines
                .entry(plan[at].source_member.clone())
                .or_default()
                .push(at);
        }
    }
    if lines.is_empty() {
        return waited;
    }
    let object = &plan[run.start];
    let is_copy = objects.fetched.copy_of(&object.source_uri).is_some();
    let wanted: HashSet<Option<String>> = lines.keys().cloned().collect();
    let mut found = objects.documents(object, Wanted::Members(wanted));
    let mut whole_object = None;
    loop {
        let start = Instant::now();
        let Some(document) = found.recv().await else {
            break;
        };
        let took = start.elapsed();
        waited += took;
        metrics::stage("fetch", took);
        if let (Ok(bytes), false) = (&document.content, is_copy) {
            metrics::bytes("down", bytes.len() as u64);
        }
        let Some(at_lines) = lines.remove(&document.member) else {
            // The object itself could not be opened: that is what became of all its members.
            if let Err(trouble) = document.content
                && document.member.is_none()
            {
                whole_object = Some(trouble);
            }
            continue;
        };
        for line in at_lines {
            let content = document
                .content
                .clone()
                .and_then(|bytes| unchanged(&plan[line], bytes));
            if !hand_on(UnpackedDocument { line, content }).await {
                return waited;
            }
        }
    }
    let mut missing: Vec<usize> = lines.into_values().flatten().collect();
    missing.sort_unstable();
    for line in missing {
        let trouble = whole_object.clone().unwrap_or_else(|| {
            let member = plan[line]
                .source_member
                .as_deref()
                .unwrap_or("the object itself");
            Trouble::new(
                Stage::Fetch,
                TroubleCode::NotFound,
                format!("{member} is no longer in {}", plan[line].source_uri),
            )
        });
        if !hand_on(UnpackedDocument {
            line,
            content: Err(trouble),
        })
        .await
        {
            return waited;
        }
    }
    waited
}

/// The bytes, if they are the ones that were planned: a silently changed document would give
/// rows that disagree with their `content_sha256`.
fn unchanged(planned: &PlannedDocument, bytes: Bytes) -> Result<Bytes, Trouble> {
    if hex::encode(Sha256::digest(&bytes)) == planned.content_sha256 {
        return Ok(bytes);
    }
    Err(Trouble::new(
        Stage::Fetch,
        TroubleCode::Other,
        format!(
            "{} has changed since the job was planned",
            planned.source_uri
        ),
    ))
}
