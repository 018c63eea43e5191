//! Input objects of a shard that waits for its turn, copied to the scratch disk so that reading
//! can begin at once. Comes after the plan is read, before `unpack`. Nothing is opened here, and
//! nothing is decided: what is not fetched, or cannot be, is left to whoever opens it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use object_store::{GetOptions, ObjectStore};
use quire_core::{PlannedDocument, PlannedWork};
use quire_corpus::{Place, Stores};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::unpack::by_object;
use crate::lease::Backoff;
use crate::metrics;
use crate::storage::Storage;

/// Objects of one shard that are fetched at the same time.
const OBJECTS_AT_ONCE: usize = 4;
/// A container is fetched whole only if the shard's documents are at least this share of it:
/// other shards want the rest.
const LEAST_SHARE: u64 = 2;
/// Times that an object is tried while its store is away. The store's client tries for minutes
/// each time.
const TRIES: u32 = 5;

/// Copies of a shard's input objects; removed when dropped.
#[derive(Debug, Default)]
pub(crate) struct FetchedObjects {
    copies: HashMap<String, TempPath>,
    /// Time it took.
    pub(crate) spent: Duration,
}

impl FetchedObjects {
    /// The copy of an object, if there is one.
    pub(crate) fn copy_of(&self, uri: &str) -> Option<&Path> {
        self.copies.get(uri).map(AsRef::as_ref)
    }

    pub(crate) fn n_objects(&self) -> usize {
        self.copies.len()
    }
}

/// Where copies come from and go to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fetcher<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) scratch: &'a Path,
    pub(crate) storage: &'a Storage,
    /// What the copies of one shard may take.
    pub(crate) most_bytes: u64,
}

/// An object worth fetching.
struct Wanted<'a> {
    object: &'a PlannedDocument,
    store: std::sync::Arc<dyn ObjectStore>,
    path: object_store::path::Path,
}

/// Why an object is not copied.
enum NotCopied {
    /// Its store is away; another try may go better.
    Away(object_store::Error),
    /// Whoever opens it will find out why.
    Unfit,
    /// The scratch disk does not take it.
    Scratch(std::io::Error),
}

impl Fetcher<'_> {
    /// Copies what fits. Whoever drops this half-way keeps the copies that are complete.
    pub(crate) async fn fetch(&self, plan: &[PlannedDocument], fetched: &mut FetchedObjects) {
        let start = Instant::now();
        let mut copying = Vec::new();
        for wanted in self.wanted(plan) {
            copying.push(self.insist(wanted));
        }
        let mut copies = futures::stream::iter(copying).buffer_unordered(OBJECTS_AT_ONCE);
        while let Some((uri, copy)) = copies.next().await {
            match copy {
                Ok(copy) => {
                    fetched.copies.insert(uri, copy);
                }
                Err(NotCopied::Away(_) | NotCopied::Unfit) => {}
                Err(NotCopied::Scratch(error)) => {
                    tracing::warn!(%error, "the scratch folder takes no copies of inputs");
                    break;
                }
            }
            fetched.spent = start.elapsed();
        }
    }

    /// Objects of other machines that are to be read and fit, in plan order.
    fn wanted<'p>(&self, plan: &'p [PlannedDocument]) -> Vec<Wanted<'p>> {
        let mut left = self.most_bytes;
        let (mut wanted, mut seen) = (Vec::new(), HashSet::new());
        for run in by_object(plan) {
            let object = &plan[run.start];
            let to_read = plan[run.clone()]
                .iter()
                .filter(|line| matches!(line.work, PlannedWork::Read { .. }));
            let read_bytes: u64 = to_read.map(|line| line.file_bytes).sum();
            let is_worth_it = read_bytes.saturating_mul(LEAST_SHARE) >= object.object_bytes;
            if read_bytes == 0 || !is_worth_it || object.object_bytes > left {
                continue;
            }
            if !seen.insert(&object.source_uri) {
                continue;
            }
            let Ok(location) = self.stores.resolve(&object.source_uri) else {
                continue;
            };
            let Place::Remote { store, path } = location.place else {
                continue;
            };
            left -= object.object_bytes;
            wanted.push(Wanted {
                object,
                store,
                path,
            });
        }
        wanted
    }

    /// One object, with its name.
    async fn insist(&self, wanted: Wanted<'_>) -> (String, Result<TempPath, NotCopied>) {
        let uri = wanted.object.source_uri.clone();
        let mut backoff = Backoff::of_transfers(&uri);
        let mut failing = None;
        let mut tries = 1;
        loop {
            let start = Instant::now();
            match self.copy(&wanted).await {
                Err(NotCopied::Away(error)) if tries < TRIES => {
                    metrics::store_error("fetch");
                    tracing::debug!(uri, %error, "an input cannot be fetched, trying again");
                    failing.get_or_insert_with(|| self.storage.transfer_fails());
                    tokio::time::sleep(backoff.pause()).await;
                    tries += 1;
                }
                Ok(copy) => {
                    self.storage.answered();
                    metrics::stage("fetch", start.elapsed());
                    metrics::bytes("down", wanted.object.object_bytes);
                    return (uri, Ok(copy));
                }
                other => return (uri, other),
            }
        }
    }

    async fn copy(&self, wanted: &Wanted<'_>) -> Result<TempPath, NotCopied> {
        let options = GetOptions::default();
        let answer = wanted.store.get_opts(&wanted.path, options).await;
        let answer = answer.map_err(of_store)?;
        let planned = wanted.object;
        let is_same = answer.meta.size == planned.object_bytes
            && is_same_tag(planned.object_etag.as_deref(), answer.meta.e_tag.as_deref());
        if !is_same {
            return Err(NotCopied::Unfit);
        }
        let (file, copy) = NamedTempFile::with_prefix_in("input-", self.scratch)
            .map_err(NotCopied::Scratch)?
            .into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let mut stream = answer.into_stream();
        let mut n_bytes = 0;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(of_store)?;
            n_bytes += piece.len() as u64;
            file.write_all(&piece).await.map_err(NotCopied::Scratch)?;
        }
        file.flush().await.map_err(NotCopied::Scratch)?;
        if n_bytes == planned.object_bytes {
            Ok(copy)
        } else {
            Err(NotCopied::Unfit)
        }
    }
}

fn of_store(error: object_store::Error) -> NotCopied {
    match error {
        object_store::Error::Generic { .. } | object_store::Error::JoinError { .. } => {
            NotCopied::Away(error)
        }
        _ => NotCopied::Unfit,
    }
}

/// Tags are compared without quotes: listings and single answers of one store differ in them.
fn is_same_tag(planned: Option<&str>, found: Option<&str>) -> bool {
    match (planned, found) {
        (Some(planned), Some(found)) => planned.trim_matches('"') == found.trim_matches('"'),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};
    use quire_core::DocId;

    use super::*;
    use crate::status::StatusBoard;

    fn planned(
        name: &str,
        member: Option<&str>,
        object_bytes: u64,
        file_bytes: u64,
    ) -> PlannedDocument {
        PlannedDocument {
            doc_id: DocId::new(name),
            source_uri: format!("s3://bucket/{name}"),
            source_member: member.map(str::to_owned),
            object_bytes,
            object_etag: None,
            media_type: "application/pdf".into(),
            file_bytes,
            content_sha256: String::new(),
            source_offset: None,
            source_length: None,
            page_count: Some(1),
            license: None,
            whole_document: true,
            earlier_attempts: 0,
            work: PlannedWork::Read {
                first_idx: 0,
                count: 1,
            },
        }
    }

    fn with_fetcher(most_bytes: u64, test: impl FnOnce(Fetcher<'_>)) {
        let scratch = tempfile::tempdir().unwrap();
        let stores = Stores::open(&std::collections::BTreeMap::new()).unwrap();
        let storage = Storage::new(StatusBoard::new());
        test(Fetcher {
            stores: &stores,
            scratch: scratch.path(),
            storage: &storage,
            most_bytes,
        });
    }

    #[test]
    fn what_is_fetched_is_bounded_and_worth_it() {
        let settled = PlannedDocument {
            work: PlannedWork::Filtered {
                reason: "small".into(),
            },
            ..planned("filtered", None, 10, 10)
        };
        let local = PlannedDocument {
            source_uri: "file:///local".into(),
            ..planned("local", None, 10, 10)
        };
        let plan = [
            planned("a", None, 60, 60),
            // Two members of a container that holds many more.
            planned("big.tar", Some("1"), 90, 10),
            planned("big.tar", Some("2"), 90, 10),
            planned("small.tar", Some("1"), 30, 20),
            settled,
            local,
            planned("too much by now", None, 20, 20),
            planned("b", None, 10, 10),
        ];
        with_fetcher(100, |fetcher| {
            let wanted = fetcher.wanted(&plan);
            let names: Vec<&str> = wanted.iter().map(|w| w.object.doc_id.as_str()).collect();
            assert_eq!(names, ["a", "small.tar", "b"]);
        });
    }

    #[tokio::test]
    async fn only_the_object_that_was_planned_is_copied() {
        let store = Arc::new(InMemory::new());
        let path = object_store::path::Path::from("a");
        let put = store.put(&path, PutPayload::from_static(b"bytes"));
        let tag = put.await.unwrap().e_tag.unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let stores = Stores::open(&std::collections::BTreeMap::new()).unwrap();
        let storage = Storage::new(StatusBoard::new());
        let fetcher = Fetcher {
            stores: &stores,
            scratch: scratch.path(),
            storage: &storage,
            most_bytes: 100,
        };
        let copy = async |name: &str, bytes: u64, tag: &str| {
            let object = PlannedDocument {
                object_etag: Some(tag.to_owned()),
                ..planned(name, None, bytes, bytes)
            };
            let wanted = Wanted {
                object: &object,
                store: Arc::clone(&store) as Arc<dyn ObjectStore>,
                path: object_store::path::Path::from(name),
            };
            fetcher.insist(wanted).await.1.ok()
        };
        let copied = copy("a", 5, &format!("\"{tag}\"")).await.unwrap();
        assert_eq!(std::fs::read(&copied).unwrap(), b"bytes");
        assert!(copy("a", 4, &tag).await.is_none());
        assert!(copy("a", 5, "another").await.is_none());
        assert!(copy("gone", 5, &tag).await.is_none());
        drop(copied);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        assert!(storage.is_ok());
    }
}
