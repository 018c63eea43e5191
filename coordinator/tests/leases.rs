//! Leases that end without a part: dead workers, late commits, halving down to the poison page,
//! quarantine; and commits that are refused.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use quire_coordinator::store::MemoryStore;
use quire_coordinator::{CoordinatorConfig, DeathPolicy};
use quire_core::{JobId, ManualClock, Stage};
use quire_dataset::verify;
use quire_proto::{JobCalls, Reason, v1};
use support::worker::TestWorker;
use support::{Bench, Running};

struct Cluster {
    bench: Bench,
    clock: Arc<ManualClock>,
    running: Running,
    job_id: JobId,
}

impl Cluster {
    /// A job over the corpus on a clock that moves only when told to.
    async fn start(bench: Bench, change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let clock = Arc::new(ManualClock::default());
        let mut config = bench.config();
        change(&mut config);
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
        let running = bench.start_with(config, store).await;
        let job_id = running
            .handle
            .submit(&bench.out(), &bench.spec())
            .await
            .unwrap()
            .job_id;
        Self {
            bench,
            clock,
            running,
            job_id,
        }
    }

    async fn worker(&self, node: &str) -> TestWorker {
        let calls = Arc::new(self.running.handle.clone());
        TestWorker::register(calls, self.bench.output(), node).await
    }

    /// Lets every session expire and waits until none of its leases is left.
    async fn silence(&self) {
        self.clock.advance(Duration::from_secs(3600));
        self.running
            .until(&self.job_id, |job| job.shards.unwrap().leased == 0)
            .await;
    }

    async fn shards(&self) -> Vec<v1::Shard> {
        let job_id = self.job_id.to_string();
        let request = v1::ListShardsRequest {
            job_id,
            ..v1::ListShardsRequest::default()
        };
        self.running
            .handle
            .list_shards(request)
            .await
            .unwrap()
            .shards
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_lease_goes_to_another_worker_and_its_late_commit_is_fenced() {
    let cluster = Cluster::start(Bench::with_corpus(), |_| {}).await;
    let slow = cluster.worker("a").await;
    let lease = slow.one().await;
    cluster.silence().await;
    let quick = cluster.worker("b").await;
    let again = quick.pick(|again| again.shard_idx == lease.shard_idx).await;
    assert_eq!((again.shard_idx, again.epoch), (lease.shard_idx, 2));
    assert_ne!(again.part_key, lease.part_key);
    let late = slow.finish(&lease).await.unwrap_err();
    assert_eq!(late.reason, Reason::LeaseFenced);
    assert_eq!(
        quick.finish(&again).await.unwrap(),
        v1::CommitOutcome::Committed
    );
    assert_eq!(
        quick.finish(&again).await.unwrap(),
        v1::CommitOutcome::AlreadyCommitted
    );
    assert_eq!(
        slow.finish(&lease).await.unwrap_err().reason,
        Reason::LeaseFenced
    );
    assert_eq!(
        slow.acquire(1, 0).await.unwrap_err().reason,
        Reason::SessionUnknown
    );
    assert_eq!(
        slow.beat(&lease, &[]).await.unwrap_err().reason,
        Reason::SessionUnknown
    );
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_that_does_not_fit_is_refused_and_loses_nothing() {
    let cluster = Cluster::start(Bench::with_corpus(), |_| {}).await;
    let worker = cluster.worker("a").await;
    let (lease, other) = (worker.one().await, worker.one().await);
    let summary = worker.write(&lease).await;
    let good = worker.commit_request(&lease, &summary);
    let changed = |change: fn(&mut v1::CommitRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let mut foreign = good.clone();
    foreign.part.as_mut().unwrap().key = other.part_key.clone();
    let short = changed(|request| {
        request.n_rows -= 1;
        let ok = u64::from(request.n_rows);
        request.counts = Some(v1::RowCounts {
            ok,
            failed: 0,
            skipped: 0,
        });
    });
    for (request, reason) in [
        (foreign, Reason::PartKeyForeign),
        (short, Reason::RowCountMismatch),
        (changed(|request| request.n_rows += 1), Reason::Malformed),
        (changed(|request| request.part = None), Reason::Malformed),
        (
            changed(|request| request.part.as_mut().unwrap().bytes += 1),
            Reason::PartMissing,
        ),
        (
            changed(|request| request.part.as_mut().unwrap().checksum.clear()),
            Reason::Malformed,
        ),
        (
            changed(|request| request.lease_id = "none".into()),
            Reason::LeaseFenced,
        ),
    ] {
        assert_eq!(
            worker.calls.commit(request).await.unwrap_err().reason,
            reason
        );
    }
    assert_eq!(
        worker.calls.commit(good.clone()).await.unwrap().outcome(),
        v1::CommitOutcome::Committed
    );
    // Uploaded nothing.
    let request = worker.commit_request(&other, &summary);
    let request = v1::CommitRequest {
        n_rows: other.n_rows,
        ..request
    };
    let counts = v1::RowCounts {
        ok: u64::from(other.n_rows),
        failed: 0,
        skipped: 0,
    };
    let request = v1::CommitRequest {
        counts: Some(counts),
        ..request
    };
    assert_eq!(
        worker.calls.commit(request).await.unwrap_err().reason,
        Reason::PartMissing
    );
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giving_back_is_no_death() {
    let cluster = Cluster::start(Bench::with_corpus(), |_| {}).await;
    let worker = cluster.worker("a").await;
    for epoch in 1..=6 {
        let lease = worker.one().await;
        assert_eq!((lease.shard_idx, lease.epoch), (0, epoch));
        worker.release(&lease).await;
    }
    let first = &cluster.shards().await[0];
    assert_eq!((first.deaths, first.epoch), (0, 6));
    let lease = worker.one().await;
    let request = v1::ReleaseRequest {
        session_id: worker.session_id.clone(),
        end_session: true,
        ..v1::ReleaseRequest::default()
    };
    worker.calls.release(request).await.unwrap();
    assert_eq!(
        worker.acquire(1, 0).await.unwrap_err().reason,
        Reason::SessionUnknown
    );
    assert_eq!(
        worker.finish(&lease).await.unwrap_err().reason,
        Reason::LeaseFenced
    );
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_worker_keeps_its_lease_and_gets_no_more() {
    let cluster = Cluster::start(Bench::with_corpus(), |_| {}).await;
    let worker = cluster.worker("a").await;
    let lease = worker.one().await;
    let request = v1::HeartbeatRequest {
        session_id: worker.session_id.clone(),
        state: v1::WorkerState::Draining.into(),
        leases: Vec::new(),
        store_ok: true,
    };
    worker.calls.heartbeat(request).await.unwrap();
    assert!(worker.acquire(1, 0).await.unwrap().is_empty());
    assert_eq!(
        worker.finish(&lease).await.unwrap(),
        v1::CommitOutcome::Committed
    );
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page_that_kills_its_workers_is_found_and_given_up_alone() {
    let bench = Bench::with_corpus();
    let cluster = Cluster::start(bench, |config| {
        config.deaths = DeathPolicy {
            to_halve: 3,
            to_quarantine: 3,
            min_nodes: 2,
        };
    })
    .await;
    // Page 12 of the long document.
    let poison = |line: &quire_core::PlannedDocument| {
        line.source_uri.ends_with("/c.pdf")
            && matches!(line.work, quire_core::PlannedWork::Read { first_idx, count }
                if (first_idx..first_idx + count).contains(&11))
    };
    let mut n_deaths = 0;
    let mut was_isolated = false;
    'job: loop {
        let worker = cluster.worker(["a", "b"][n_deaths % 2]).await;
        loop {
            let leases = worker.acquire(1, 50).await.unwrap();
            let Some(lease) = leases.into_iter().next() else {
                let job = cluster.running.job(&cluster.job_id).await;
                if job.state().is_final() {
                    break 'job;
                }
                continue;
            };
            let lines = worker.lines(&lease).await;
            if let Some(line) = lines.iter().find(|line| poison(line)) {
                let doc_id = line.doc_id.to_string();
                was_isolated |= lease.isolate_documents == [doc_id.clone()];
                worker.beat(&lease, &[&doc_id]).await.unwrap();
                n_deaths += 1;
                assert!(n_deaths < 60, "the page is never given up");
                cluster.silence().await;
                break;
            }
            worker.finish(&lease).await.unwrap();
        }
    }
    let job = cluster.running.job(&cluster.job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    assert!(was_isolated);
    assert_eq!(job.rows_quarantined, 1);
    let request = v1::ListQuarantineRequest {
        job_id: cluster.job_id.to_string(),
        ..Default::default()
    };
    let given_up = cluster
        .running
        .handle
        .list_quarantine(request)
        .await
        .unwrap()
        .rows;
    assert_eq!(
        (given_up.len(), given_up[0].page_number, given_up[0].deaths),
        (1, 12, 3)
    );
    let rows = cluster.bench.rows().await;
    let lost: Vec<_> = rows
        .errors
        .iter()
        .filter(|row| row.stage == Stage::Lost)
        .collect();
    assert_eq!((lost.len(), lost[0].page_number), (1, Some(12)));
    assert!(
        lost[0].message.contains("given up after 3"),
        "{}",
        lost[0].message
    );
    assert_eq!(
        (rows.pages.len(), rows.errors.len(), rows.documents.len()),
        (38, 3, 9)
    );
    let report = verify(&cluster.bench.output()).await.unwrap();
    assert!(report.violations.is_empty(), "{report:?}");
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn document_whose_first_page_is_given_up_keeps_its_row() {
    let bench = Bench::new();
    bench.add("poison", 1);
    bench.add("fine", 2);
    let cluster = Cluster::start(bench, |config| {
        config.deaths = DeathPolicy {
            to_halve: 1,
            to_quarantine: 1,
            min_nodes: 1,
        };
    })
    .await;
    while !cluster
        .running
        .job(&cluster.job_id)
        .await
        .state()
        .is_final()
    {
        let worker = cluster.worker("a").await;
        for lease in worker.acquire(1, 50).await.unwrap() {
            let lines = worker.lines(&lease).await;
            let kills = lines
                .iter()
                .any(|line| line.source_uri.ends_with("/poison.pdf"));
            if kills {
                cluster.silence().await;
            } else {
                worker.finish(&lease).await.unwrap();
            }
        }
    }
    let rows = cluster.bench.rows().await;
    assert_eq!(
        (rows.pages.len(), rows.errors.len(), rows.documents.len()),
        (2, 1, 2)
    );
    let lost = rows
        .documents
        .iter()
        .find(|row| row.source_uri.ends_with("/poison.pdf"))
        .unwrap();
    assert_eq!(
        (lost.pages_ok, lost.pages_failed, lost.page_count),
        (0, 1, Some(1))
    );
    assert!(
        verify(&cluster.bench.output())
            .await
            .unwrap()
            .violations
            .is_empty()
    );
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_without_progress_ends_though_its_worker_reports() {
    let cluster = Cluster::start(Bench::with_corpus(), |config| {
        config.session_ttl = Duration::from_secs(100_000);
        config.progress_timeout = Duration::from_secs(300);
    })
    .await;
    let worker = cluster.worker("a").await;
    let lease = worker.one().await;
    worker.beat(&lease, &["d"]).await.unwrap();
    cluster.clock.advance(Duration::from_secs(301));
    cluster
        .running
        .until(&cluster.job_id, |job| job.shards.unwrap().leased == 0)
        .await;
    let told = worker.beat(&lease, &["d"]).await.unwrap();
    assert_eq!(told.directives[0].action(), v1::DirectiveAction::Abandon);
    assert_eq!(cluster.shards().await[0].deaths, 1);
    let again = worker
        .pick(|again| again.shard_idx == lease.shard_idx)
        .await;
    assert_eq!(again.isolate_documents, ["d"]);
    cluster.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_that_its_worker_never_learned_of_is_given_to_another() {
    let cluster = Cluster::start(Bench::with_corpus(), |config| {
        config.progress_timeout = Duration::from_secs(100_000);
    })
    .await;
    let worker = cluster.worker("a").await;
    let (known, lost) = (worker.one().await, worker.one().await);
    worker.beat(&known, &[]).await.unwrap();
    assert_eq!(cluster.shards().await[1].state(), v1::ShardState::Leased);
    for _ in 0..3 {
        cluster.clock.advance(Duration::from_secs(40));
        worker.beat(&known, &[]).await.unwrap();
    }
    let shard = &cluster.shards().await[1];
    assert_eq!((shard.state(), shard.deaths), (v1::ShardState::Pending, 0));
    assert_eq!(worker.one().await.shard_idx, lost.shard_idx);
    cluster.running.stop().await;
}
