//! Datasets that earlier releases wrote load for ever. `dataset/golden/v1/` was written by the
//! first release, with the example program:
//! `cargo run -p quire-dataset --example make -- dataset/golden/v1/out --golden`.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod support;

use std::path::{Path, PathBuf};

use quire_core::JobId;
use quire_dataset::{
    CommitLog, Dataset, DocumentRow, ErrorRow, Output, PageRow, WRITER, seal, verify,
};
use support::{Fate, Made, request};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

#[tokio::test]
async fn first_release_still_verifies() {
    let output = Output::open_local(&golden().join("out")).unwrap();
    let report = verify(&output).await.unwrap();
    assert_eq!((report.violations, report.notes), (Vec::new(), Vec::new()));
    assert_eq!((report.pages, report.documents, report.errors), (34, 13, 3));
    assert_eq!(report.version, 2);
}

#[tokio::test]
async fn rows_of_the_first_release_mean_what_they_meant() {
    let output = Output::open_local(&golden().join("out")).unwrap();
    let dataset = Dataset::open(&output).await.unwrap();
    let page = support::page(1, 2, &JobId::new("second"), 0, true);
    let read = dataset.page(&page.page_id).await.unwrap();
    assert_eq!(read, Some(page));
    let documents: Vec<DocumentRow> = dataset.rows().collect().await.unwrap();
    assert_eq!(documents.len(), 13);
    let errors: Vec<ErrorRow> = dataset.rows().collect().await.unwrap();
    assert_eq!(errors.len(), 3);
    let old = Dataset::open_version(&output, 1).await.unwrap();
    let pages: Vec<PageRow> = old.rows().collect().await.unwrap();
    assert_eq!(pages.len(), 29);
}

#[tokio::test]
async fn commit_logs_of_the_first_release_still_load() {
    let output = Output::open_local(&golden().join("out")).unwrap();
    assert_eq!(
        output.jobs().await.unwrap(),
        [JobId::new("first"), JobId::new("second")]
    );
    let area = output.job_area(&JobId::new("first")).unwrap();
    let log = CommitLog::read(&area).await.unwrap();
    assert_eq!((log.head(), log.n_parts()), (2, 4));
}

/// While the writer calls itself the same, it must give the same bytes: a seal that one release
/// began may be finished by the next.
#[tokio::test]
async fn parts_of_the_first_release_seal_to_the_same_bytes() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    copy(&golden.join("out.quire"), &folder.path().join("out.quire"));
    std::fs::remove_dir_all(folder.path().join("out.quire/claims")).unwrap();
    let output = Output::create_local(&folder.path().join("out")).unwrap();
    for job in ["first", "second"] {
        let seals = folder.path().join("out.quire/jobs").join(job).join("seal");
        std::fs::remove_dir_all(seals).unwrap();
        let area = output.job_area(&JobId::new(job)).unwrap();
        seal(&output, &area, request(folder.path(), None))
            .await
            .unwrap();
    }
    let expected = Output::open_local(&golden.join("out")).unwrap();
    for number in [1, 2] {
        let (old, new) = (
            expected.version(number).await.unwrap(),
            output.version(number).await.unwrap(),
        );
        assert_eq!(old.content_digest().unwrap(), new.content_digest().unwrap());
        if old.writer == WRITER {
            assert_eq!(old, new, "other bytes need another WRITER");
        }
    }
    let report = verify(&output).await.unwrap();
    assert_eq!(report.violations, []);
}

/// All files of a version have one schema, or readers that take them together fail: the first
/// version of a newer one writes what its parent held anew.
#[tokio::test]
async fn a_dataset_of_the_first_release_grows_into_one_schema() {
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    for part in ["out", "out.quire"] {
        copy(&golden.join(part), &folder.path().join(part));
    }
    let output = Output::open_local(&folder.path().join("out")).unwrap();
    let rows = async || -> Vec<PageRow> {
        let dataset = Dataset::open(&output).await.unwrap();
        dataset.rows().collect().await.unwrap()
    };
    let before = rows().await;
    let documents = [(200, Made::Pages(vec![Fate::Ok; 2]))];
    let shards = support::shards(&JobId::new("third"), &documents, 10, false);
    let (area, planned) = support::commit(&output, "third", &shards).await;
    let sealed = seal(&output, &area, request(folder.path(), Some(planned)));
    let version = sealed.await.unwrap().version;
    let old = version
        .files
        .iter()
        .filter(|file| !file.path.starts_with("data/v000003/"));
    assert_eq!(old.count(), 0);
    let report = verify(&output).await.unwrap();
    assert_eq!(report.violations, []);
    let after = rows().await;
    assert_eq!(after.len(), before.len() + 2);
    assert!(before.iter().all(|page| after.contains(page)));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), &target).unwrap()),
        }
    }
}
