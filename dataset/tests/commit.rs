//! The commit log: one winner a number, whatever the store says.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail the test that calls them"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use quire_core::{Fault, JobId, LeaseId};
use quire_dataset::{
    Closing, CommitLog, Created, JobArea, Output, PartEntry, PartSummary, Published,
};
use support::faults::{Effect, FailingStore};

fn area(store: Arc<dyn ObjectStore>) -> JobArea {
    Output::remote(store, Path::from("out"))
        .job_area(&JobId::new("job"))
        .unwrap()
}

fn part(shard_idx: u64) -> PartEntry {
    let summary = PartSummary {
        rows: 3,
        ok: 1,
        failed: 1,
        skipped: 1,
        bytes: 10,
        sha256: "0".repeat(64),
    };
    PartEntry::new(
        shard_idx,
        LeaseId::new(format!("lease-{shard_idx}")),
        &summary,
    )
}

fn nonce(n: u64) -> String {
    format!("nonce-{n}")
}

#[tokio::test]
async fn log_reads_back_what_was_published() {
    let area = area(Arc::new(InMemory::new()));
    let mut log = CommitLog::read(&area).await.unwrap();
    assert_eq!(log.head(), 0);
    for n in 0..40 {
        let published = log
            .publish(&area, nonce(n), vec![part(n)], None)
            .await
            .unwrap();
        assert_eq!(published, Published::Done(n + 1));
        assert_eq!(CommitLog::read(&area).await.unwrap(), log);
    }
    assert_eq!(log.n_parts(), 40);
    log.publish(&area, nonce(40), Vec::new(), Some(Closing::Done))
        .await
        .unwrap();
    assert_eq!(
        CommitLog::read(&area).await.unwrap().closing(),
        Some(Closing::Done)
    );
    let error = log
        .publish(&area, nonce(41), vec![part(41)], None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("follows the closing manifest"),
        "{error}"
    );
}

#[tokio::test]
async fn shard_is_never_listed_twice() {
    let area = area(Arc::new(InMemory::new()));
    let mut log = CommitLog::read(&area).await.unwrap();
    log.publish(&area, nonce(0), vec![part(0), part(1)], None)
        .await
        .unwrap();
    for wrong in [vec![part(1)], vec![part(2), part(2)]] {
        let error = log.publish(&area, nonce(1), wrong, None).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Corrupt);
        assert!(error.to_string().contains("a second time"), "{error}");
    }
    let mut foreign = part(3);
    foreign.key = part(4).key;
    assert!(
        log.publish(&area, nonce(1), vec![foreign], None)
            .await
            .is_err()
    );
    let mut short = part(3);
    short.rows = 7;
    assert!(
        log.publish(&area, nonce(1), vec![short], None)
            .await
            .is_err()
    );
    assert_eq!(CommitLog::read(&area).await.unwrap().head(), 1);
}

/// Halves have numbers of their own: rows tell what a manifest holds already.
#[tokio::test]
async fn row_is_never_listed_twice_be_it_in_a_half_or_in_the_whole() {
    let at = |shard_idx, first_row| PartEntry {
        first_row: Some(first_row),
        ..part(shard_idx)
    };
    let area = area(Arc::new(InMemory::new()));
    let mut log = CommitLog::read(&area).await.unwrap();
    log.publish(&area, nonce(0), vec![at(0, 0), at(2, 6)], None)
        .await
        .unwrap();
    let held = |first_row, n_rows| log.holds_rows(first_row, n_rows);
    assert!(held(0, 1) && held(2, 1) && held(2, 5) && held(8, 9));
    assert!(!held(3, 3) && !held(9, 100));
    for wrong in [vec![at(7, 2)], vec![at(7, 4)], vec![at(7, 9), at(8, 11)]] {
        let error = log.publish(&area, nonce(1), wrong, None).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Corrupt);
        assert!(error.to_string().contains("a second time"), "{error}");
    }
    log.publish(&area, nonce(1), vec![at(1, 3), at(7, 9)], None)
        .await
        .unwrap();
}

#[tokio::test]
async fn overtaken_publisher_catches_up_and_goes_on() {
    let area = area(Arc::new(InMemory::new()));
    let mut one = CommitLog::read(&area).await.unwrap();
    let mut other = one.clone();
    one.publish(&area, nonce(0), vec![part(0)], None)
        .await
        .unwrap();
    let overtaken = other
        .publish(&area, nonce(1), vec![part(1)], None)
        .await
        .unwrap();
    assert_eq!(overtaken, Published::Overtaken);
    let newest = other.newest(&area).await.unwrap();
    let news = other.read_some(&area, newest).await.unwrap();
    assert_eq!(news.len(), 1);
    assert_eq!(news[0].parts, [part(0)]);
    other
        .publish(&area, nonce(1), vec![part(1)], None)
        .await
        .unwrap();
    one.catch_up(&area).await.unwrap();
    assert_eq!(one, other);
}

#[tokio::test]
async fn answer_that_the_object_exists_is_not_believed() {
    for effect in [Effect::Before, Effect::After] {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let lying = area(FailingStore::lying(Arc::clone(&store), 0, effect));
        let mut log = CommitLog::empty(JobId::new("job"));
        let published = log
            .publish(&lying, nonce(0), vec![part(0)], None)
            .await
            .unwrap();
        assert_eq!(published, Published::Done(1), "{effect:?}");
        assert_eq!(CommitLog::read(&area(store)).await.unwrap(), log);
    }
}

#[tokio::test]
async fn equal_content_is_mine_and_other_content_is_theirs() {
    let area = area(Arc::new(InMemory::new()));
    let (mine, theirs) = (Bytes::from_static(b"mine"), Bytes::from_static(b"theirs"));
    assert_eq!(area.create_job(mine.clone()).await.unwrap(), Created::Mine);
    assert_eq!(area.create_job(mine.clone()).await.unwrap(), Created::Mine);
    assert_eq!(
        area.create_job(theirs).await.unwrap(),
        Created::Theirs(mine)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_publishers_never_share_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create_local(&folder.path().join("out")).unwrap();
    let area = output.job_area(&JobId::new("job")).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for publisher in 0..8_u64 {
        let area = area.clone();
        tasks.spawn(async move {
            let mut log = CommitLog::read(&area).await.unwrap();
            let mut numbers = Vec::new();
            for n in 0..5 {
                let shard_idx = publisher * 100 + n;
                loop {
                    let published = log
                        .publish(&area, nonce(shard_idx), vec![part(shard_idx)], None)
                        .await
                        .unwrap();
                    match published {
                        Published::Done(number) => break numbers.push(number),
                        Published::Overtaken => log.catch_up(&area).await.unwrap(),
                    }
                }
            }
            numbers
        });
    }
    let numbers: Vec<u64> = tasks.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!((numbers.len(), distinct.len()), (40, 40));
    let log = CommitLog::read(&area).await.unwrap();
    assert_eq!((log.head(), log.n_parts()), (40, 40));
}

#[tokio::test]
async fn manifest_that_is_not_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::create_local(&folder.path().join("out")).unwrap();
    let area = output.job_area(&JobId::new("job")).unwrap();
    let manifests = folder.path().join("out.quire/jobs/job/manifest");
    std::fs::create_dir_all(&manifests).unwrap();
    std::fs::write(manifests.join("00000000000000000001.json"), "{").unwrap();
    let error = CommitLog::read(&area).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Corrupt);
    assert!(
        error.to_string().contains("00000000000000000001.json"),
        "{error}"
    );
}
