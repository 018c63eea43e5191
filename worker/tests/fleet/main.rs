//! A worker in a fleet: what it does when the coordinator, the object storage or the worker
//! itself fails. The coordinator is the real one, over a store in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

#[path = "../documents/mod.rs"]
mod documents;
mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use quire_proto::{Reason, v1};
use quire_worker::{DrainedBy, WorkerHealth};
use support::{Bench, Setup, count_files, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_holds_no_more_than_its_slots_and_what_it_may_prefetch() {
    for (prefetch, max_prefetch, held) in [(0, 2, 1), (2, 2, 3), (2, 1, 2)] {
        let bench = Bench::start(Setup {
            n_shards: 6,
            prefetch,
            max_prefetch,
            ..Setup::default()
        })
        .await;
        let running = bench.work();
        until("every place is taken", || {
            bench.line.reports(held - 1, 1, 0)
        })
        .await;
        bench.gate.open();
        bench.is_done().await;
        let log = bench.line.log();
        let most = log.beats.iter().map(|beat| beat.leases.len()).max();
        assert_eq!(most, Some(held), "prefetch {prefetch} of {max_prefetch}");
        assert_eq!(log.registers[0].devices, ["test:0"]);
        assert_eq!(running.drain().await.n_committed, 6);
        assert_eq!(
            count_files(&bench.scratch()),
            0,
            "the scratch folder is left clean"
        );
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_shards_are_held_back_while_storage_is_away_and_no_more_are_taken() {
    let bench = Bench::start(Setup {
        n_shards: 8,
        slots: 3,
        ..Setup::default()
    })
    .await;
    bench.close_store(true);
    bench.gate.open();
    let running = bench.work();
    until("two are held back", || {
        running.status.borrow().n_held_back == 2
    })
    .await;
    until("the coordinator knows", || {
        let log = bench.line.log();
        log.beats.last().is_some_and(|beat| !beat.store_ok) && bench.line.reports(0, 0, 3)
    })
    .await;
    // The third is read, and waits for its turn to be written; two locks and two parts.
    let files = |name: &str| {
        let folder = std::fs::read_dir(bench.scratch()).unwrap().next().unwrap();
        let names = std::fs::read_dir(folder.unwrap().path()).unwrap();
        let is_so =
            |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with(name);
        names.flatten().filter(is_so).count()
    };
    assert_eq!(files("part-"), 2);
    assert_eq!(bench.line.log().leases.len(), 3);
    assert_eq!(bench.n_pending().await, 5);
    bench.close_store(false);
    bench.is_done().await;
    assert!(running.status.borrow().is_store_ok);
    let log = bench.line.log();
    assert_eq!(log.leases.len(), 8, "no shard was read twice");
    assert!(log.fails.is_empty());
    assert_eq!(running.drain().await.n_committed, 8);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_while_the_session_is_uncertain() {
    let ttl = Duration::from_millis(600);
    let bench = Bench::start(Setup {
        n_shards: 3,
        session_ttl: ttl,
        ..Setup::default()
    })
    .await;
    let running = bench.work();
    until("a shard is read", || bench.line.reports(0, 1, 0)).await;
    bench.line.cut(true);
    let lost_beats = || bench.line.lost_beats.load(Ordering::SeqCst);
    until("a heartbeat is lost", || lost_beats() > 0).await;
    let status = running.status.clone();
    until("the time to live is over", || {
        let silent = status.borrow().coordinator_silent_for();
        silent.is_some_and(|silent| silent > ttl)
    })
    .await;
    bench.gate.open();
    until("the part is stored all the same", || bench.n_parts() == 1).await;
    bench.clock.advance(2 * ttl);
    bench.pending(3).await;
    assert!(bench.line.log().commits.is_empty());
    bench.line.cut(false);
    bench.is_done().await;
    let log = bench.line.log();
    // Somebody else might have had the shard by then: the worker registered anew, and its part
    // did not count.
    assert_eq!(log.sessions.len(), 2);
    assert_eq!(log.commits[0].1, Err(Reason::LeaseFenced));
    assert_eq!(bench.n_parts(), 3, "the part that was fenced is removed");
    running.drain().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_absence_of_the_coordinator_costs_nothing() {
    let bench = Bench::start(Setup::default()).await;
    let running = bench.work();
    until("a shard is read", || bench.line.reports(0, 1, 0)).await;
    bench.line.cut(true);
    bench.gate.open();
    until("a finished shard is held back", || {
        running.status.borrow().n_held_back == 1
    })
    .await;
    bench.line.cut(false);
    bench.is_done().await;
    let log = bench.line.log();
    assert_eq!((log.sessions.len(), log.leases.len()), (1, 4));
    assert_eq!(running.drain().await.n_committed, 4);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_a_coordinator_that_is_not_there_yet() {
    let bench = Bench::start(Setup::default()).await;
    bench.gate.open();
    bench.line.cut(true);
    let running = bench.work();
    until("it is registering", || {
        running.status.borrow().health == WorkerHealth::Registering
    })
    .await;
    bench.line.cut(false);
    bench.is_done().await;
    assert!(running.status.borrow().is_ready());
    running.drain().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_reply_is_lost_counts_and_its_part_stays() {
    let bench = Bench::start(Setup::default()).await;
    bench.line.lost_commit_replies.store(1, Ordering::SeqCst);
    bench.gate.open();
    let running = bench.work();
    bench.is_done().await;
    let log = bench.line.log();
    assert_eq!(log.commits[0].1, Err(Reason::Unavailable));
    assert_eq!(log.commits[1].0, log.commits[0].0);
    assert_eq!(log.commits[1].1, Ok(v1::CommitOutcome::AlreadyCommitted));
    assert_eq!((bench.n_parts(), log.leases.len()), (4, 4));
    running.drain().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_part_of_a_fenced_lease_is_removed() {
    let bench = Bench::start(Setup {
        // The worker does not hear that its lease has ended before it commits.
        heartbeat_period: Duration::from_secs(600),
        session_ttl: Duration::from_secs(1800),
        ..Setup::default()
    })
    .await;
    let running = bench.work();
    until("a shard is taken", || bench.line.log().leases.len() == 1).await;
    let lease_id = bench.line.log().leases[0].lease_id.clone();
    bench.line.take_away(vec![lease_id.clone()], false).await;
    bench.gate.open();
    bench.is_done().await;
    let log = bench.line.log();
    assert_eq!(log.commits[0], (lease_id, Err(Reason::LeaseFenced)));
    assert_eq!((bench.n_parts(), log.leases.len()), (4, 5));
    assert_eq!(running.drain().await.n_committed, 4);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_session_ended_drops_its_shards_and_registers_anew() {
    let bench = Bench::start(Setup {
        prefetch: 1,
        ..Setup::default()
    })
    .await;
    let running = bench.work();
    until("shards are held", || bench.line.reports(1, 1, 0)).await;
    bench.line.take_away(Vec::new(), true).await;
    until("it registers anew", || bench.line.log().sessions.len() == 2).await;
    bench.gate.open();
    bench.is_done().await;
    assert_eq!(running.drain().await.n_committed, 4);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_finishes_what_is_read_and_gives_back_what_waits() {
    let bench = Bench::start(Setup {
        n_shards: 6,
        slots: 2,
        prefetch: 2,
        ..Setup::default()
    })
    .await;
    let running = bench.work();
    until("every place is taken", || bench.line.reports(2, 2, 0)).await;
    running.shutdown.drain.cancel();
    until("what waits is given back, and it says why", || {
        bench.line.reports(0, 2, 0) && bench.line.says(v1::WorkerState::Draining)
    })
    .await;
    bench.gate.open();
    let left = running.worker.await.unwrap().unwrap();
    assert_eq!(left.by, DrainedBy::Caller);
    assert_eq!((left.n_committed, left.n_given_back), (2, 2));
    assert_eq!(bench.n_pending().await, 4);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished_by_the_deadline_is_given_back() {
    let bench = Bench::start(Setup {
        slots: 2,
        drain_deadline: Duration::from_millis(50),
        ..Setup::default()
    })
    .await;
    let running = bench.work();
    until("shards are read", || bench.line.reports(0, 2, 0)).await;
    let left = running.drain().await;
    assert_eq!((left.n_committed, left.n_given_back), (0, 2));
    assert_eq!(bench.n_pending().await, 4);
    // Nothing of it counts against the shards.
    assert!(bench.line.log().fails.is_empty());
    bench.gate.open();
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coordinator_can_drain_a_worker() {
    let bench = Bench::start(Setup::default()).await;
    let running = bench.work();
    until("a shard is read", || bench.line.reports(0, 1, 0)).await;
    bench.line.drains.store(true, Ordering::SeqCst);
    until("it says so", || {
        running.status.borrow().health == WorkerHealth::Draining
    })
    .await;
    bench.gate.open();
    let left = running.worker.await.unwrap().unwrap();
    assert_eq!((left.by, left.n_committed), (DrainedBy::Directive, 1));
    assert!(!running.shutdown.drain.is_cancelled());
    assert_eq!(bench.n_pending().await, 3);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_stays_with_its_shard() {
    let bench = Bench::start(Setup {
        slots: 2,
        ..Setup::default()
    })
    .await;
    bench.line.panicking_commits.store(1, Ordering::SeqCst);
    bench.gate.open();
    let running = bench.work();
    bench.is_done().await;
    let log = bench.line.log();
    assert_eq!(log.fails.len(), 1);
    assert_eq!(log.fails[0].fault(), v1::Fault::Bug);
    assert_eq!(log.sessions.len(), 1);
    assert_eq!(running.drain().await.n_committed, 4);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_an_engine_gives_its_shard_back_and_says_why() {
    let bench = Bench::start(Setup {
        engine_breaks: true,
        ..Setup::default()
    })
    .await;
    bench.gate.open();
    let running = bench.work();
    let error = running.worker.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("the device is lost"), "{error}");
    let log = bench.line.log();
    // The shard is not to blame.
    assert_eq!(log.fails[0].fault(), v1::Fault::Unavailable);
    assert_eq!(bench.n_pending().await, 4);
    assert_eq!(bench.line.n_committed(), 0);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_under_suspicion_is_read_with_nothing_else_in_flight() {
    let bench = Bench::start(Setup {
        slots: 3,
        ..Setup::default()
    })
    .await;
    bench.line.suspects_all.store(true, Ordering::SeqCst);
    let running = bench.work();
    until("all shards are read, and one document", || {
        bench.line.reports(0, 3, 0) && bench.line.n_in_flight() == 1
    })
    .await;
    let seen = bench.line.log().beats.len();
    until("some heartbeats came", || {
        bench.line.log().beats.len() > seen + 5
    })
    .await;
    assert_eq!(bench.line.n_in_flight(), 1);
    bench.gate.open();
    bench.is_done().await;
    assert_eq!(running.drain().await.n_committed, 4);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_not_well_rests_and_tries_again() {
    let bench = Bench::start(Setup::default()).await;
    let running = bench.work();
    until("a shard is read", || bench.line.reports(0, 1, 0)).await;
    let scratch = std::fs::read_dir(bench.scratch()).unwrap().next();
    let scratch = scratch.unwrap().unwrap().path();
    std::fs::remove_dir_all(&scratch).unwrap();
    bench.gate.open();
    until("it says so", || bench.line.says(v1::WorkerState::Unhealthy)).await;
    assert_eq!(bench.line.log().fails[0].fault(), v1::Fault::Unavailable);
    std::fs::create_dir(&scratch).unwrap();
    // A shard that failed is given out again after a moment.
    bench.clock.advance(Duration::from_secs(10));
    bench.is_done().await;
    assert!(running.status.borrow().is_ready());
    assert_eq!(running.drain().await.n_committed, 4);
    bench.stop().await;
}
