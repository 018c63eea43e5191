//! What may go goes, what a reader needs stays, and a crash anywhere changes neither.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use quire_core::{Fault, JobId};
use quire_dataset::{
    Closing, CommitLog, Dataset, Output, PageRow, Retention, Table, prune, seal, verify,
};
use support::faults::{Effect, FailingStore};
use support::{Fate, Made, commit, request, shards, some_documents};

const DAY: i64 = 24 * 3600 * 1000;
/// When all versions of these tests say they were made.
const MADE_AT: i64 = 1_700_000_000_000;

fn remote(store: &Arc<dyn ObjectStore>) -> Output {
    Output::remote(Arc::clone(store), ObjectPath::from("bucket/out"))
}

/// Sizes of all objects.
async fn objects(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, u64> {
    let metas: Vec<_> = store.list(None).try_collect().await.unwrap();
    let sized = metas.into_iter();
    sized
        .map(|meta| (meta.location.to_string(), meta.size))
        .collect()
}

async fn copy_of(store: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let copy: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let metas: Vec<_> = store.list(None).try_collect().await.unwrap();
    for meta in metas {
        let got = store.get(&meta.location).await.unwrap();
        let bytes = got.bytes().await.unwrap();
        copy.put(&meta.location, bytes.into()).await.unwrap();
    }
    copy
}

/// Two versions; the second replaces some rows of the first, and adds some. A third job goes on.
async fn dataset() -> Arc<dyn ObjectStore> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let scratch = tempfile::tempdir().unwrap();
    let second = vec![
        (1, Made::Pages(vec![Fate::Ok; 9])),
        (40, Made::Pages(vec![Fate::Ok; 3])),
    ];
    for (job, documents) in [("first", some_documents()), ("second", second.clone())] {
        let rows = shards(&JobId::new(job), &documents, 4, false);
        let (area, n_rows) = commit(&remote(&store), job, &rows).await;
        let mut log = CommitLog::read(&area).await.unwrap();
        let closing = log.publish(&area, "end".into(), Vec::new(), Some(Closing::Done));
        closing.await.unwrap();
        let request = request(scratch.path(), Some(n_rows));
        seal(&remote(&store), &area, request).await.unwrap();
    }
    let rows = shards(&JobId::new("third"), &second, 4, false);
    commit(&remote(&store), "third", &rows).await;
    store
}

fn wish(now_ms: i64) -> Retention {
    Retention {
        keep_versions: Some(1),
        sealed_parts: true,
        min_age_ms: 7 * DAY,
        now_ms,
        is_dry_run: false,
    }
}

async fn assert_sound(output: &Output, n_notes: usize) {
    let report = verify(output).await.unwrap();
    assert_eq!(report.violations, [], "{:?}", report.notes);
    assert_eq!(report.notes.len(), n_notes, "{:?}", report.notes);
}

#[tokio::test]
async fn files_of_a_dropped_version_go_after_a_while_and_those_of_others_stay() {
    let store = dataset().await;
    let output = remote(&store);
    let old = output.version(1).await.unwrap();
    let new = output.version(2).await.unwrap();
    let is_gone = |path: &&str| !new.files.iter().any(|file| file.path == **path);
    let old_paths = || old.files.iter().map(|file| file.path.as_str());
    assert!(old_paths().filter(is_gone).count() >= 2, "{old:?}");
    // Nobody asked for it.
    let nothing = Retention {
        keep_versions: None,
        ..wish(MADE_AT)
    };
    let pruned = prune(&output, &nothing).await.unwrap();
    assert_eq!((pruned.files.files, pruned.waiting.files), (0, 0));
    assert_eq!(output.versions().await.unwrap(), [1, 2]);

    let dropped_at = MADE_AT + 30 * DAY;
    let keeps_parts = |now_ms| Retention {
        sealed_parts: false,
        ..wish(now_ms)
    };
    let pruned = prune(&output, &keeps_parts(dropped_at)).await.unwrap();
    assert_eq!(pruned.dropped, [1]);
    assert_eq!(pruned.files.files, 0);
    assert_eq!(
        pruned.waiting.files,
        old_paths().filter(is_gone).count() as u64
    );
    assert_eq!(output.versions().await.unwrap(), [2]);
    // Whoever opened it before can go on reading.
    for path in old_paths() {
        let object = ObjectPath::from(format!("bucket/out/{path}"));
        store.head(&object).await.unwrap();
    }
    assert_sound(&output, 1).await;

    let early = prune(&output, &keeps_parts(dropped_at + 7 * DAY - 1)).await;
    assert_eq!(early.unwrap().files.files, 0);
    let pruned = prune(&output, &keeps_parts(dropped_at + 7 * DAY)).await;
    let pruned = pruned.unwrap();
    assert_eq!(
        pruned.files.files,
        old_paths().filter(is_gone).count() as u64
    );
    let left = objects(&store).await;
    let data: Vec<&str> = left
        .keys()
        .filter_map(|key| key.strip_prefix("bucket/out/"))
        .filter(|key| key.starts_with("data/"))
        .collect();
    let mut listed: Vec<&str> = new.files.iter().map(|file| file.path.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(data, listed);
    assert!(!left.keys().any(|key| key.contains("/dropped/")));
    assert_sound(&output, 0).await;
    let rows: Vec<PageRow> = Dataset::open(&output)
        .await
        .unwrap()
        .rows()
        .collect()
        .await
        .unwrap();
    let n_pages: u64 = new.files_of(Table::Pages).map(|file| file.rows).sum();
    assert_eq!(rows.len() as u64, n_pages);
}

#[tokio::test]
async fn parts_go_when_a_version_has_held_their_rows_for_long_and_no_others() {
    let store = dataset().await;
    let output = remote(&store);
    let n_parts = async |job: &str| {
        let area = output.job_area(&JobId::new(job)).unwrap();
        area.list_parts().await.unwrap().len()
    };
    let keeps = |now_ms| Retention {
        keep_versions: None,
        ..wish(now_ms)
    };
    let before = (n_parts("first").await, n_parts("second").await);
    let third = n_parts("third").await;
    assert!(before.0 > 0 && before.1 > 0 && third > 0);
    let early = prune(&output, &keeps(MADE_AT + 7 * DAY - 1)).await.unwrap();
    assert_eq!((early.parts.files, early.waiting_jobs.len()), (0, 2));
    let dry = Retention {
        is_dry_run: true,
        ..keeps(MADE_AT + 7 * DAY)
    };
    let dry = prune(&output, &dry).await.unwrap();
    assert_eq!(dry.parts.files, (before.0 + before.1) as u64);
    assert_eq!((n_parts("first").await, n_parts("second").await), before);

    let pruned = prune(&output, &keeps(MADE_AT + 7 * DAY)).await.unwrap();
    assert_eq!(pruned.parts, dry.parts);
    assert_eq!(pruned.jobs, [JobId::new("first"), JobId::new("second")]);
    assert_eq!((n_parts("first").await, n_parts("second").await), (0, 0));
    // Its rows are in no version yet.
    assert_eq!(n_parts("third").await, third);
    assert_sound(&output, 0).await;
    let again = prune(&output, &keeps(MADE_AT + 9 * DAY)).await.unwrap();
    assert_eq!((again.parts.files, again.jobs.len()), (0, 0));

    // The job that goes on is sealed as ever, and the one that was sealed stays so.
    let scratch = tempfile::tempdir().unwrap();
    let area = output.job_area(&JobId::new("third")).unwrap();
    let sealed = seal(&output, &area, request(scratch.path(), None)).await;
    assert_eq!(sealed.unwrap().version.version, 3);
    let area = output.job_area(&JobId::new("first")).unwrap();
    let sealed = seal(&output, &area, request(scratch.path(), None)).await;
    assert!(!sealed.unwrap().is_new);
    assert_sound(&output, 0).await;
}

#[tokio::test]
async fn nothing_goes_while_the_newest_version_misses_a_file() {
    let store = dataset().await;
    let output = remote(&store);
    let version = output.version(2).await.unwrap();
    let lost = ObjectPath::from(format!("bucket/out/{}", version.files[0].path));
    store.delete(&lost).await.unwrap();
    let before = objects(&store).await;
    let error = prune(&output, &wish(MADE_AT + 99 * DAY)).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Corrupt);
    assert!(error.to_string().contains(&version.files[0].path));
    assert_eq!(objects(&store).await, before);
}

#[tokio::test]
async fn pruning_cut_short_anywhere_ends_the_same_when_repeated() {
    let whole = dataset().await;
    let at_once = Retention {
        min_age_ms: 0,
        ..wish(MADE_AT + 99 * DAY)
    };
    let expected = copy_of(&whole).await;
    prune(&remote(&expected), &at_once).await.unwrap();
    let expected = objects(&expected).await;
    for effect in [Effect::Before, Effect::After] {
        for calls in 0.. {
            let store = copy_of(&whole).await;
            let failing = FailingStore::crashing(Arc::clone(&store), calls, effect);
            let cut: Arc<dyn ObjectStore> = failing.clone();
            let first = prune(&remote(&cut), &at_once).await;
            let is_through = !failing.has_failed();
            assert_eq!(first.is_ok(), is_through, "{effect:?} {calls}");
            // Whatever is gone, the newest version is whole.
            let report = verify(&remote(&store)).await.unwrap();
            assert_eq!(report.violations, [], "{effect:?} {calls}");
            assert_eq!(report.version, 2);
            prune(&remote(&store), &at_once).await.unwrap();
            assert_eq!(objects(&store).await, expected, "{effect:?} {calls}");
            if is_through {
                break;
            }
        }
    }
}
