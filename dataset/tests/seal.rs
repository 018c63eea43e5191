//! Sealing: parts in, versions out, whatever is cut short.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use quire_core::{Fault, JobId};
use quire_dataset::{
    Dataset, DocumentRow, DocumentStatus, ErrorRow, JobArea, Output, PageRow, Place, Table, seal,
    verify,
};
use support::faults::{Effect, FailingStore};
use support::{Fate, Made, commit, doc_id, request, shards, some_documents};

fn local(folder: &Path) -> Output {
    Output::create_local(&folder.join("out")).unwrap()
}

fn remote(store: &Arc<dyn ObjectStore>) -> Output {
    Output::remote(Arc::clone(store), ObjectPath::from("bucket/out"))
}

/// Every object of a store, or every file below a folder.
async fn objects(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, Vec<u8>> {
    let metas: Vec<_> = store.list(None).try_collect().await.unwrap();
    let mut found = BTreeMap::new();
    for meta in metas {
        let bytes = store
            .get(&meta.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        found.insert(meta.location.to_string(), bytes.to_vec());
    }
    found
}

async fn dataset_objects(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, Vec<u8>> {
    let mut found = objects(store).await;
    found.retain(|key, _| key.starts_with("bucket/out/"));
    found
}

async fn assert_sound(output: &Output) {
    let report = verify(output).await.unwrap();
    assert_eq!(report.violations, [], "{:?}", report.notes);
    assert_eq!(report.notes, [] as [String; 0]);
}

async fn documents(output: &Output) -> BTreeMap<String, DocumentRow> {
    let rows = Dataset::open(output)
        .await
        .unwrap()
        .rows::<DocumentRow>()
        .collect()
        .await
        .unwrap();
    rows.into_iter()
        .map(|row| (row.doc_id.to_string(), row))
        .collect()
}

#[tokio::test]
async fn every_row_is_in_the_version_once() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("job"), &some_documents(), 4, false);
    let (area, n_rows) = commit(&output, "job", &rows).await;

    let sealed = seal(&output, &area, request(folder.path(), Some(n_rows)))
        .await
        .unwrap();

    assert!(sealed.is_new);
    let totals = &sealed.version.totals;
    assert_eq!((totals.documents, totals.pages, totals.errors), (12, 29, 5));
    assert_eq!(n_rows, 29 + 5 + 2);
    let files: Vec<&str> = sealed
        .version
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(
        files,
        [
            "data/v000001/pages/train/train-00000-of-00001.parquet",
            "data/v000001/pages/validation/validation-00000-of-00001.parquet",
            "data/v000001/documents/documents-00000-of-00001.parquet",
            "data/v000001/errors/errors-00000-of-00001.parquet",
        ]
    );
    assert_eq!(
        sealed
            .version
            .files_of(Table::Pages)
            .map(|file| file.rows)
            .sum::<u64>(),
        29
    );
    assert_sound(&output).await;

    let documents = documents(&output).await;
    let of = |n: usize| &documents[doc_id(n).as_str()];
    assert_eq!(
        (of(0).status, of(0).pages_ok, of(0).pages_failed),
        (DocumentStatus::Complete, 3, 0)
    );
    assert_eq!(
        (of(1).status, of(1).pages_ok, of(1).pages_failed),
        (DocumentStatus::Partial, 7, 2)
    );
    assert_eq!(of(2).status, DocumentStatus::Failed);
    assert_eq!(of(2).status_reason.as_deref(), Some("encrypted"));
    assert_eq!(of(3).status, DocumentStatus::Duplicate);
    assert_eq!(of(5).status, DocumentStatus::Filtered);
    assert_eq!(of(6).status, DocumentStatus::Failed);
    assert_eq!(of(1).language.as_deref(), Some("deu_Latn"));
    assert!(of(1).text_chars > 100);
}

#[tokio::test]
async fn pages_stand_in_plan_order_and_come_back_by_id() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("job"), &some_documents(), 4, true);
    let (area, _) = commit(&output, "job", &rows).await;
    seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();

    let dataset = Dataset::open(&output).await.unwrap();
    let pages: Vec<PageRow> = dataset.rows().collect().await.unwrap();
    let written: Vec<PageRow> = rows
        .iter()
        .flatten()
        .filter_map(|row| row.page().cloned())
        .collect();
    assert_eq!(pages.len(), written.len());
    for page in &written {
        assert!(pages.contains(page), "{}", page.page_id);
    }
    let numbers: Vec<i32> = pages
        .iter()
        .filter(|page| page.doc_id == doc_id(1))
        .map(|page| page.page_number)
        .collect();
    assert!(numbers.is_sorted() && numbers.len() == 7);
    let found = dataset.page(&written[5].page_id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&written[5]));
    assert_eq!(dataset.page("nothing-000001").await.unwrap(), None);
}

#[tokio::test]
async fn same_parts_give_the_same_bytes() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let scratch = tempfile::tempdir().unwrap();
        let output = remote(&store);
        let rows = shards(&JobId::new("job"), &some_documents(), 4, true);
        let (area, n_rows) = commit(&output, "job", &rows).await;
        seal(&output, &area, request(scratch.path(), Some(n_rows)))
            .await
            .unwrap();
        assert_sound(&output).await;
        seen.push(dataset_objects(&store).await);
    }
    assert!(seen[0] == seen[1]);
}

#[tokio::test]
async fn content_digest_does_not_depend_on_shards_or_job() {
    let mut digests = Vec::new();
    for (job, shard_rows) in [("one", 3), ("other", 100)] {
        let folder = tempfile::tempdir().unwrap();
        let output = local(folder.path());
        let rows = shards(&JobId::new(job), &some_documents(), shard_rows, false);
        let (area, _) = commit(&output, job, &rows).await;
        let sealed = seal(&output, &area, request(folder.path(), None))
            .await
            .unwrap();
        digests.push(sealed.version.content_digest().unwrap());
        assert_eq!(
            verify(&output).await.unwrap().content_digest,
            digests[0].to_hex(),
        );
    }
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn sealing_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("job"), &some_documents(), 4, false);
    let (area, _) = commit(&output, "job", &rows).await;
    let first = seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();
    std::fs::remove_file(folder.path().join("out/_SUCCESS")).unwrap();
    std::fs::write(folder.path().join("out/README.md"), "set back").unwrap();
    let again = seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();
    assert!(!again.is_new);
    assert_eq!(again.version, first.version);
    assert_sound(&output).await;
    let left: Vec<_> = std::fs::read_dir(folder.path().join("out.quire/jobs/job/seal"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["000001.json"]);
}

#[tokio::test]
async fn rows_that_do_not_add_up_to_the_plan_are_not_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("job"), &some_documents(), 4, false);
    let (area, n_rows) = commit(&output, "job", &rows).await;
    let error = seal(&output, &area, request(folder.path(), Some(n_rows + 1)))
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::Corrupt);
    assert_eq!(output.versions().await.unwrap(), [] as [u64; 0]);
}

#[tokio::test]
async fn part_that_changed_after_its_commit_is_not_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("job"), &some_documents(), 4, false);
    let (area, _) = commit(&output, "job", &rows).await;
    let parts = folder.path().join("out.quire/jobs/job/parts");
    let part = std::fs::read_dir(parts)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let error = seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap_err();
    assert_eq!(error.fault(), Fault::Corrupt);
    assert!(error.to_string().contains("parts/"), "{error}");
    assert!(!folder.path().join("out/data").exists());
}

#[tokio::test]
async fn job_without_rows_gives_an_empty_version() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let area = output.job_area(&JobId::new("job")).unwrap();
    let sealed = seal(&output, &area, request(folder.path(), Some(0)))
        .await
        .unwrap();
    assert_eq!(sealed.version.files, []);
    assert_sound(&output).await;
}

#[tokio::test]
async fn seal_cut_short_anywhere_ends_the_same_when_repeated() {
    let whole: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let scratch = tempfile::tempdir().unwrap();
    let rows = shards(&JobId::new("job"), &some_documents(), 9, false);
    let (area, _) = commit(&remote(&whole), "job", &rows).await;
    seal(&remote(&whole), &area, request(scratch.path(), None))
        .await
        .unwrap();
    let expected = dataset_objects(&whole).await;

    for effect in [Effect::Before, Effect::After] {
        for calls in 0.. {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            commit(&remote(&store), "job", &rows).await;
            let failing = FailingStore::crashing(Arc::clone(&store), calls, effect);
            let cut: Arc<dyn ObjectStore> = failing.clone();
            let output = remote(&cut);
            let area = output.job_area(&JobId::new("job")).unwrap();
            let first = seal(&output, &area, request(scratch.path(), None)).await;
            let is_through = !failing.has_failed();
            assert_eq!(first.is_ok(), is_through, "{effect:?} {calls}");
            // Before the version file there is no version, and after it a sound one.
            let seen = remote(&store);
            if !seen.versions().await.unwrap().is_empty() {
                assert_eq!(
                    verify(&seen).await.unwrap().violations,
                    [],
                    "{effect:?} {calls}"
                );
            }
            let area = seen.job_area(&JobId::new("job")).unwrap();
            seal(&seen, &area, request(scratch.path(), None))
                .await
                .unwrap();
            assert!(
                dataset_objects(&store).await == expected,
                "{effect:?} {calls}"
            );
            if is_through {
                break;
            }
        }
    }
}

#[tokio::test]
async fn seal_on_disk_cut_short_anywhere_ends_the_same_when_repeated() {
    let rows = shards(&JobId::new("job"), &some_documents(), 100, false);
    let mut digests = Vec::new();
    for calls in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let output = local(folder.path());
        let (area, _) = commit(&output, "job", &rows).await;
        let out = Place::open_local(&folder.path().join("out")).unwrap();
        let areas = Place::open_local(&folder.path().join("out.quire")).unwrap();
        let failing = |folder: &str| {
            let inner = object_store::local::LocalFileSystem::new_with_prefix(folder).unwrap();
            FailingStore::crashing(Arc::new(inner), calls, Effect::Before)
        };
        let stores = [
            failing(out.folder().unwrap().to_str().unwrap()),
            failing(areas.folder().unwrap().to_str().unwrap()),
        ];
        let areas = areas.with_store(stores[1].clone());
        let cut = Output::at(out.with_store(stores[0].clone()), areas.clone());
        let first = seal(
            &cut,
            &JobArea::new(areas, JobId::new("job")),
            request(folder.path(), None),
        )
        .await;
        let is_through = stores.iter().all(|store| !store.has_failed());
        assert_eq!(first.is_ok(), is_through, "{calls}");
        let sealed = seal(&output, &area, request(folder.path(), None))
            .await
            .unwrap();
        assert_sound(&output).await;
        digests.push(sealed.version);
        if is_through {
            break;
        }
    }
    assert!(digests.len() > 5);
    assert!(digests.iter().all(|version| *version == digests[0]));
}

#[tokio::test]
async fn documents_that_come_again_replace_their_earlier_rows() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let mut all = some_documents();
    all.extend((20..50).map(|n| (n, Made::Pages(vec![Fate::Ok; 1 + n % 7]))));
    let rows = shards(&JobId::new("one"), &all, 7, false);
    let (area, _) = commit(&output, "one", &rows).await;
    seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();

    let again = [
        (1, Made::Pages(vec![Fate::Ok; 9])),
        (70, Made::Pages(vec![Fate::Ok; 3])),
    ];
    let rows = shards(&JobId::new("two"), &again, 7, false);
    let (area, n_rows) = commit(&output, "two", &rows).await;
    let sealed = seal(&output, &area, request(folder.path(), Some(n_rows)))
        .await
        .unwrap();

    assert_sound(&output).await;
    assert_eq!(sealed.version.parent, Some(1));
    assert_eq!(sealed.version.jobs.len(), 2);
    let documents = documents(&output).await;
    assert_eq!(
        documents[doc_id(1).as_str()].status,
        DocumentStatus::Complete
    );
    assert_eq!(documents[doc_id(70).as_str()].pages_ok, 3);
    let kept: Vec<&str> = sealed
        .version
        .files
        .iter()
        .map(|file| file.path.as_str())
        .filter(|path| path.starts_with("data/v000001/"))
        .collect();
    assert_eq!(
        kept,
        ["data/v000001/pages/validation/validation-00000-of-00001.parquet"]
    );
    let readme = std::fs::read_to_string(folder.path().join("out/README.md")).unwrap();
    assert!(
        readme.contains("    - data/v000001/pages/validation/*.parquet\n"),
        "{readme}"
    );
    assert!(
        readme.contains("    - data/v000002/pages/train/*.parquet\n"),
        "{readme}"
    );
}

#[tokio::test]
async fn new_documents_leave_earlier_files_of_pages_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("one"), &some_documents(), 7, false);
    let (area, _) = commit(&output, "one", &rows).await;
    let first = seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();
    let rows = shards(
        &JobId::new("two"),
        &[(70, Made::Pages(vec![Fate::Ok; 3]))],
        7,
        false,
    );
    let (area, _) = commit(&output, "two", &rows).await;
    let second = seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();
    assert_sound(&output).await;
    for file in first.version.files_of(Table::Pages) {
        assert!(second.version.files.contains(file));
    }
    assert_eq!(second.version.totals.pages, first.version.totals.pages + 3);
    assert_eq!(
        second.version.totals.documents,
        first.version.totals.documents + 1
    );
}

#[tokio::test]
async fn retried_pages_replace_only_their_own_errors() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("one"), &some_documents(), 7, false);
    let (area, _) = commit(&output, "one", &rows).await;
    let first = seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();

    // Page 2 of document 1 is read now, page 7 fails again, document 2 opens now.
    let area = output.job_area(&JobId::new("retry")).unwrap();
    support::plan_single_pages(&area, &[(1, false), (1, false), (2, true)]).await;
    let job_id = JobId::new("retry");
    let page = |n, number| quire_dataset::PartRow::Page {
        page: Box::new(support::page(n, number, &job_id, 0, false)),
        document: (n == 2).then(|| Box::new(support::document(n, &job_id, 1))),
    };
    let error = quire_dataset::PartRow::Failed {
        error: Box::new(support::error(1, Some(7), &job_id, 0)),
        document: None,
    };
    let rows = vec![vec![page(1, 2), error, page(2, 1)]];
    let (area, n_rows) = commit(&output, "retry", &rows).await;
    let mut retry = request(folder.path(), Some(n_rows));
    retry.spec.retry_where = Some("retryable".to_owned());
    let second = seal(&output, &area, retry).await.unwrap();

    assert_sound(&output).await;
    assert_eq!(second.version.totals.pages, first.version.totals.pages + 2);
    assert_eq!(
        second.version.totals.errors,
        first.version.totals.errors - 2
    );
    assert_eq!(
        second.version.totals.documents,
        first.version.totals.documents
    );
    let documents = documents(&output).await;
    let of = |n: usize| &documents[doc_id(n).as_str()];
    assert_eq!(
        (of(1).status, of(1).pages_ok, of(1).pages_failed),
        (DocumentStatus::Partial, 8, 1)
    );
    assert_eq!(
        (of(2).status, of(2).status_reason.as_ref()),
        (DocumentStatus::Complete, None)
    );
    let errors: Vec<ErrorRow> = Dataset::open(&output)
        .await
        .unwrap()
        .rows()
        .collect()
        .await
        .unwrap();
    assert_eq!(errors.len(), 3);
    for file in first.version.files_of(Table::Pages) {
        assert!(
            second.version.files.contains(file),
            "{} was rewritten",
            file.path
        );
    }
}

#[tokio::test]
async fn job_sealed_while_it_runs_adds_its_later_shards() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let rows = shards(&JobId::new("job"), &some_documents(), 4, false);
    let (area, _) = commit(&output, "job", &rows[..4]).await;
    seal(&output, &area, request(folder.path(), None))
        .await
        .unwrap();
    let (area, n_rows) = commit(&output, "job", &rows[4..]).await;
    let sealed = seal(&output, &area, request(folder.path(), Some(n_rows)))
        .await
        .unwrap();
    assert_sound(&output).await;
    assert_eq!(sealed.version.version, 2);
    assert_eq!(sealed.version.totals.pages, 29);

    let at_once = tempfile::tempdir().unwrap();
    let other = local(at_once.path());
    let (area, _) = commit(&other, "job", &rows).await;
    let whole = seal(&other, &area, request(at_once.path(), None))
        .await
        .unwrap();
    assert_eq!(
        sealed.version.content_digest().unwrap(),
        whole.version.content_digest().unwrap()
    );
}

#[tokio::test]
async fn job_finishes_the_version_that_another_began() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let scratch = tempfile::tempdir().unwrap();
    let output = remote(&store);
    let rows = shards(&JobId::new("one"), &some_documents(), 9, false);
    commit(&output, "one", &rows).await;
    let rows = shards(
        &JobId::new("two"),
        &[(70, Made::Pages(vec![Fate::Ok; 3]))],
        9,
        false,
    );
    let (two, _) = commit(&output, "two", &rows).await;
    // The first job gets as far as its first file.
    for calls in 0.. {
        let failing = FailingStore::crashing(Arc::clone(&store), calls, Effect::Before);
        let cut: Arc<dyn ObjectStore> = failing.clone();
        let area = remote(&cut).job_area(&JobId::new("one")).unwrap();
        assert!(
            seal(&remote(&cut), &area, request(scratch.path(), None))
                .await
                .is_err()
        );
        if objects(&store)
            .await
            .keys()
            .any(|key| key.starts_with("bucket/out/data/"))
        {
            break;
        }
    }
    let sealed = seal(&output, &two, request(scratch.path(), None))
        .await
        .unwrap();
    assert_eq!(sealed.version.version, 2);
    let jobs: Vec<&str> = sealed
        .version
        .jobs
        .iter()
        .map(|job| job.job_id.as_str())
        .collect();
    assert_eq!(jobs, ["one", "two"]);
    assert_sound(&output).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_seal_at_the_same_time_make_one_version_each() {
    let folder = tempfile::tempdir().unwrap();
    let output = local(folder.path());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let job = format!("job-{n}");
        let documents = [
            (n, Made::Pages(vec![Fate::Ok; 3])),
            (10 + n, Made::Unreadable),
        ];
        let rows = shards(&JobId::new(job.as_str()), &documents, 2, false);
        let (area, n_rows) = commit(&output, &job, &rows).await;
        let (output, request) = (output.clone(), request(folder.path(), Some(n_rows)));
        // Twice each, as two processes that both believe they have to.
        for _ in 0..2 {
            let (output, area, request) = (output.clone(), area.clone(), request.clone());
            tasks.spawn(async move { seal(&output, &area, request).await });
        }
    }
    for sealed in tasks.join_all().await {
        sealed.unwrap();
    }
    quire_dataset::refresh(&output).await.unwrap();
    assert_sound(&output).await;
    assert_eq!(output.versions().await.unwrap(), [1, 2, 3, 4]);
    assert_eq!(documents(&output).await.len(), 8);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn dataset_on_another_disk_than_its_jobs_is_copied_there() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        return println!("skipped: there is no /dev/shm to write to");
    };
    if folder.path().metadata().unwrap().dev() == other.path().metadata().unwrap().dev() {
        return println!("skipped: /dev/shm is not a disk of its own");
    }
    let out = Place::create_local(&other.path().join("out")).unwrap();
    let areas = Place::create_local(&folder.path().join("out.quire")).unwrap();
    let output = Output::at(out, areas);
    let rows = shards(&JobId::new("job"), &some_documents(), 4, false);
    let (area, n_rows) = commit(&output, "job", &rows).await;
    seal(&output, &area, request(folder.path(), Some(n_rows)))
        .await
        .unwrap();
    assert_sound(&output).await;
}

fn any_documents() -> impl Strategy<Value = Vec<(usize, Made)>> {
    let fate = prop_oneof![4 => Just(Fate::Ok), 1 => Just(Fate::Failed)];
    let made = prop_oneof![
        8 => prop::collection::vec(fate, 1..6).prop_map(Made::Pages),
        1 => Just(Made::Unreadable),
        1 => Just(Made::Filtered),
    ];
    prop::collection::btree_map(0_usize..40, made, 0..15)
        .prop_map(|documents| documents.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_two_jobs_give_sound_versions(
        first in any_documents(),
        second in any_documents(),
        shard_rows in 1_usize..9,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let scratch = tempfile::tempdir().unwrap();
            let output = remote(&store);
            for (job, made) in [("one", &first), ("two", &second)] {
                let rows = shards(&JobId::new(job), made, shard_rows, false);
                let (area, n_rows) = commit(&output, job, &rows).await;
                seal(&output, &area, request(scratch.path(), Some(n_rows))).await.unwrap();
                assert_sound(&output).await;
            }
            let mut expected: BTreeMap<usize, &Made> = BTreeMap::new();
            expected.extend(first.iter().chain(&second).map(|(n, made)| (*n, made)));
            let documents = documents(&output).await;
            assert_eq!(documents.len(), expected.len());
            for (n, made) in expected {
                let ok = match made {
                    Made::Pages(fates) => fates.iter().filter(|&&fate| fate == Fate::Ok).count(),
                    _ => 0,
                };
                assert_eq!(documents[doc_id(n).as_str()].pages_ok, ok as i32);
            }
        });
    }
}
