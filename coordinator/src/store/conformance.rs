//! The behavior that every store must show: one function each, run on every store.

mod fleet;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use quire_core::{DocId, JobId, LeaseId, ManualClock, SessionId};
use quire_proto::v1;

use fleet::*;

use super::records::*;
use super::{JobQuery, MemoryStore, QuarantineQuery, ShardQuery, SqliteStore, Store};
use crate::job::{JobState, LeaseEnd, ShardState};
use crate::plan::for_test::document;

/// More than any of these tests gives up.
pub(super) const ALL_GIVEN_UP: QuarantineQuery = QuarantineQuery {
    after: None,
    unlisted: false,
    limit: 1000,
};

/// A store under test, its clock, and what keeps its files.
pub(super) struct Bench {
    pub store: Arc<dyn Store>,
    pub clock: Arc<ManualClock>,
    /// Dropped after the store.
    pub _kept: Box<dyn Any + Send>,
}

async fn memory() -> Option<Bench> {
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
    Some(Bench {
        store,
        clock,
        _kept: Box::new(()),
    })
}

async fn sqlite() -> Option<Bench> {
    let clock = Arc::new(ManualClock::default());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let store = Arc::new(
        SqliteStore::open(&file, Arc::clone(&clock) as _)
            .await
            .unwrap(),
    );
    Some(Bench {
        store,
        clock,
        _kept: Box::new(folder),
    })
}

#[cfg(feature = "postgres")]
async fn postgres() -> Option<Bench> {
    let clock = Arc::new(ManualClock::default());
    let store = super::postgres::fresh_store(Arc::clone(&clock) as _).await?;
    Some(Bench {
        store: Arc::new(store),
        clock,
        _kept: Box::new(()),
    })
}

/// The list of behaviors, handed to the macro `$then` behind its own arguments.
macro_rules! behaviors {
    ($then:ident $(, $argument:tt)*) => {
        $then! {
            $($argument,)*
            one_unfinished_job_a_dataset,
            jobs_move_only_where_it_is_legal,
            shards_are_added_once_and_only_while_planning,
            shards_are_granted_in_plan_order_to_live_sessions_of_running_jobs,
            commit_counts_once_and_repeats_safely,
            late_commit_is_fenced,
            commit_is_refused_once_the_job_ends,
            paused_job_takes_commits_and_gives_nothing,
            retry_waits_and_remembers_whom_to_isolate,
            verdict_on_an_old_state_is_not_applied,
            halves_take_the_place_of_their_shard,
            quarantined_row_is_counted_and_listed,
            heartbeat_keeps_a_session_and_tells_what_ended,
            lease_that_only_waits_does_not_stall,
            lease_whose_page_is_being_written_does_not_stall,
            session_with_leases_stays,
            manifests_are_applied_in_order_and_once,
            manifest_wins_over_the_store,
            canceled_job_ends_its_leases,
            jobs_and_shards_are_listed_in_pages,
            failures_add_up_by_code,
            sessions_are_listed_by_node_and_name,
            unhealthy_worker_gets_nothing_until_it_is_well,
            priority_changes_until_the_job_ends,
            copy_goes_to_another_node_and_there_are_two_at_most,
            first_of_two_copies_wins_and_the_other_is_fenced,
            shard_stays_leased_while_a_copy_is_live,
            closed_nodes_get_nothing,
            node_that_a_person_closed_is_not_changed_automatically,
            given_up_rows_wait_again_unless_they_are_listed,
            deaths_tell_who_finished_the_shard,
            paces_are_of_the_newest_parts,
            tenants_are_known_by_their_jobs,
            use_is_charged_once_and_halves_with_time,
            duty_has_one_holder_until_it_lapses_or_is_dropped,
            announcing_work_is_harmless,
        }
    };
}

macro_rules! tests_of {
    ($module:ident, $open:ident, $($behavior:ident,)*) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $behavior() {
                    // A store that is not there was said to be skipped by its own function.
                    if let Some(bench) = super::$open().await {
                        super::$behavior(bench).await;
                    }
                }
            )*
        }
    };
}

behaviors!(tests_of, on_memory, memory);
behaviors!(tests_of, on_sqlite, sqlite);
#[cfg(feature = "postgres")]
behaviors!(tests_of, on_postgres, postgres);

const JOB: &str = "j-1";

fn job_id() -> JobId {
    JobId::new(JOB)
}

fn session_id() -> SessionId {
    SessionId::new("s-1")
}

fn lease(n: u32) -> LeaseId {
    LeaseId::new(format!("l-{n}"))
}

fn new_job(job_id: &str, sequence: u64) -> NewJob {
    NewJob {
        job_id: JobId::new(job_id),
        out: "file:///out".into(),
        sequence,
        spec_json: "{}".into(),
        spec_sha256: "00".into(),
        tenant: "t".into(),
        priority: 0,
    }
}

fn shard(shard_idx: u64, first_row: u64, n_rows: u32) -> NewShard {
    let line = u32::try_from(shard_idx).unwrap();
    let span = Span {
        first_row,
        n_rows,
        group: 0,
        line_start: line,
        line_end: line + 1,
        skip_rows: 0,
    };
    NewShard {
        shard_idx,
        parent: None,
        span,
        isolate: Vec::new(),
    }
}

fn rows(ok: u64, failed: u64) -> RowCounts {
    RowCounts {
        ok,
        failed,
        skipped: 0,
    }
}

fn part(name: &str) -> PartRecord {
    PartRecord {
        key: name.into(),
        bytes: 7,
        sha256: "ab".into(),
        etag: None,
    }
}

fn commit(n: u32, rows: RowCounts) -> Commit {
    Commit {
        lease_id: lease(n),
        part: part(&format!("p-{n}")),
        rows,
        failures: Vec::new(),
        work_ms: 1000,
    }
}

fn end(n: u32, deaths_seen: u32, charged: bool, verdict: Verdict) -> EndLease {
    EndLease {
        lease_id: lease(n),
        end: LeaseEnd::Expired,
        deaths_seen,
        charged,
        message: "m".into(),
        suspects: vec![DocId::new("d")],
        verdict,
    }
}

fn retry() -> Verdict {
    Verdict::Retry {
        not_before_ms: 0,
        isolate: Vec::new(),
    }
}

impl Bench {
    /// A running job of three shards with 10, 10 and 1 rows.
    async fn running(&self) {
        let store = &self.store;
        assert_eq!(
            store.create_job(&new_job(JOB, 0)).await.unwrap(),
            CreateJob::Created
        );
        let shards = [shard(0, 0, 10), shard(1, 10, 10), shard(2, 20, 1)];
        store.add_shards(&job_id(), &shards).await.unwrap();
        let plan = PlanTotals {
            documents: 3,
            rows: 21,
        };
        assert!(store.start_job(&job_id(), &plan).await.unwrap());
        self.session().await;
    }

    async fn session(&self) {
        let session = NewSession {
            session_id: session_id(),
            worker_name: "w".into(),
            node: "n".into(),
            version: "1".into(),
            engines_json: "[]".into(),
            devices: vec!["cpu".into()],
            ttl_ms: 1000,
        };
        self.store.open_session(&session).await.unwrap();
    }

    async fn grant(&self, n: u32) -> Option<ShardRecord> {
        match self
            .store
            .grant(&session_id(), &job_id(), &lease(n))
            .await
            .unwrap()
        {
            Grant::Granted(shard) => Some(*shard),
            Grant::Nothing | Grant::NoSession => None,
        }
    }

    async fn counters(&self) -> Counters {
        self.store.job(&job_id()).await.unwrap().unwrap().counters
    }

    async fn shard(&self, shard_idx: u64) -> ShardRecord {
        let query = ShardQuery {
            after: shard_idx.checked_sub(1),
            state: None,
            limit: 1,
        };
        let shard = self
            .store
            .shards(&job_id(), &query)
            .await
            .unwrap()
            .pop()
            .unwrap();
        assert_eq!(shard.shard_idx, shard_idx);
        shard
    }

    async fn beat(&self, n: u32, stage: LeaseStage, rows_done: u32) -> Option<Vec<Standing>> {
        let in_flight = vec![DocId::new("d")];
        self.report(Progress {
            lease_id: lease(n),
            stage,
            rows_done,
            rows_failed: 0,
            in_flight,
            engine_moved: false,
        })
        .await
    }

    async fn report(&self, progress: Progress) -> Option<Vec<Standing>> {
        let beat = Beat {
            session_id: session_id(),
            said: v1::WorkerState::Ready,
            ttl_ms: 1000,
            progress: vec![progress],
            store_away: false,
        };
        self.store.heartbeat(&beat).await.unwrap()
    }

    /// Lets the store's time pass.
    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }
}

async fn one_unfinished_job_a_dataset(bench: Bench) {
    let store = &bench.store;
    assert_eq!(
        store.create_job(&new_job("j-1", 0)).await.unwrap(),
        CreateJob::Created
    );
    assert_eq!(
        store.create_job(&new_job("j-1", 0)).await.unwrap(),
        CreateJob::Known
    );
    assert_eq!(
        store.create_job(&new_job("j-2", 1)).await.unwrap(),
        CreateJob::Refused
    );
    let elsewhere = NewJob {
        out: "file:///other".into(),
        ..new_job("j-3", 0)
    };
    assert_eq!(
        store.create_job(&elsewhere).await.unwrap(),
        CreateJob::Created
    );
    assert!(store.finish_job(&job_id(), None).await.unwrap());
    assert!(!store.finish_job(&job_id(), None).await.unwrap());
    let job = store.job(&job_id()).await.unwrap().unwrap();
    assert!(job.already_complete && job.sealed_version.is_none());
    assert_eq!(
        store.create_job(&new_job("j-2", 0)).await.unwrap(),
        CreateJob::Refused
    );
    assert_eq!(
        store.create_job(&new_job("j-2", 1)).await.unwrap(),
        CreateJob::Created
    );
    let newest = store.newest_job("file:///out").await.unwrap().unwrap();
    assert_eq!(newest.job_id, JobId::new("j-2"));
    assert_eq!(store.newest_job("file:///none").await.unwrap(), None);
}

async fn jobs_move_only_where_it_is_legal(bench: Bench) {
    use JobState::{Done, Failed, Finishing, Paused, Planning, Running};
    bench.running().await;
    let store = &bench.store;
    let why = Why {
        reason: "r".into(),
        fault: Some(quire_core::Fault::Config),
    };
    assert!(
        !store
            .move_job(&job_id(), Paused, Running, None)
            .await
            .unwrap()
    );
    assert!(
        !store
            .move_job(&job_id(), Running, Done, None)
            .await
            .unwrap()
    );
    assert!(
        store
            .move_job(&job_id(), Running, Paused, Some(&why))
            .await
            .unwrap()
    );
    let job = store.job(&job_id()).await.unwrap().unwrap();
    assert_eq!((job.state, job.why), (Paused, Some(why.clone())));
    assert!(
        store
            .move_job(&job_id(), Paused, Running, None)
            .await
            .unwrap()
    );
    assert_eq!(store.job(&job_id()).await.unwrap().unwrap().why, None);
    assert!(
        store
            .move_job(&job_id(), Running, Finishing, None)
            .await
            .unwrap()
    );
    assert!(
        store
            .move_job(&job_id(), Finishing, Failed, Some(&why))
            .await
            .unwrap()
    );
    let job = store.job(&job_id()).await.unwrap().unwrap();
    assert!(job.finished_at_ms.is_some());
    assert!(
        store
            .move_job(&job_id(), Failed, Planning, None)
            .await
            .unwrap()
    );
    let job = store.job(&job_id()).await.unwrap().unwrap();
    assert_eq!((job.finished_at_ms, job.why), (None, None));
    assert!(store.finish_job(&job_id(), Some(4)).await.unwrap());
    let job = store.job(&job_id()).await.unwrap().unwrap();
    assert_eq!(
        (job.state, job.sealed_version, job.already_complete),
        (Done, Some(4), false)
    );
}

async fn shards_are_added_once_and_only_while_planning(bench: Bench) {
    bench.running().await;
    assert_eq!(bench.counters().await.pending, 3);
    bench
        .store
        .add_shards(&job_id(), &[shard(3, 21, 5)])
        .await
        .unwrap();
    assert_eq!(bench.counters().await.pending, 3);
    assert_eq!(bench.store.next_shard_idx(&job_id()).await.unwrap(), 3);
    assert_eq!(
        bench
            .store
            .next_shard_idx(&JobId::new("none"))
            .await
            .unwrap(),
        0
    );
    assert!(
        !bench
            .store
            .start_job(&job_id(), &PlanTotals::default())
            .await
            .unwrap()
    );
    assert_eq!(
        bench.store.job(&job_id()).await.unwrap().unwrap().plan.rows,
        21
    );
}

async fn shards_are_granted_in_plan_order_to_live_sessions_of_running_jobs(bench: Bench) {
    let nobody = bench
        .store
        .grant(&session_id(), &job_id(), &lease(0))
        .await
        .unwrap();
    assert_eq!(nobody, Grant::NoSession);
    bench.running().await;
    let first = bench.grant(1).await.unwrap();
    assert_eq!(
        (first.shard_idx, first.epoch, first.state),
        (0, 1, ShardState::Leased)
    );
    assert_eq!(bench.grant(2).await.unwrap().shard_idx, 1);
    let unknown = JobId::new("none");
    let nothing = bench
        .store
        .grant(&session_id(), &unknown, &lease(3))
        .await
        .unwrap();
    assert_eq!(nothing, Grant::Nothing);
    bench.pass(1000);
    let expired = bench
        .store
        .grant(&session_id(), &job_id(), &lease(3))
        .await
        .unwrap();
    assert_eq!(expired, Grant::NoSession);
    assert_eq!(bench.store.expired_sessions().await.unwrap().len(), 1);
    let (lease, shard) = bench.store.lease(&lease(2)).await.unwrap().unwrap();
    assert_eq!(
        (lease.shard_idx, shard.shard_idx, lease.node.as_str()),
        (1, 1, "n")
    );
    let counters = bench.counters().await;
    assert_eq!((counters.pending, counters.leased), (1, 2));
}

async fn commit_counts_once_and_repeats_safely(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    let commit = commit(1, rows(9, 1));
    assert_eq!(
        bench.store.commit(&commit).await.unwrap(),
        CommitResult::Committed
    );
    assert_eq!(
        bench.store.commit(&commit).await.unwrap(),
        CommitResult::Already
    );
    let counters = bench.counters().await;
    assert_eq!((counters.leased, counters.committed), (0, 1));
    assert_eq!((counters.rows_ok, counters.rows_failed), (9, 1));
    let won = bench.store.won_by(&lease(1)).await.unwrap().unwrap();
    assert_eq!(
        (won.state, won.part),
        (ShardState::Committed, Some(part("p-1")))
    );
    assert_eq!(bench.store.lease(&lease(1)).await.unwrap(), None);
}

async fn late_commit_is_fenced(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    assert!(
        bench
            .store
            .end_lease(&end(1, 0, true, retry()))
            .await
            .unwrap()
    );
    let late = commit(1, rows(10, 0));
    assert_eq!(
        bench.store.commit(&late).await.unwrap(),
        CommitResult::Fenced
    );
    // Behind the others, since it killed a worker.
    for (n, shard_idx) in [(3, 1), (4, 2)] {
        assert_eq!(bench.grant(n).await.unwrap().shard_idx, shard_idx);
    }
    let again = bench.grant(2).await.unwrap();
    assert_eq!((again.shard_idx, again.epoch, again.deaths), (0, 2, 1));
    assert_eq!(
        bench.store.commit(&late).await.unwrap(),
        CommitResult::Fenced
    );
    let ours = commit(2, rows(10, 0));
    assert_eq!(
        bench.store.commit(&ours).await.unwrap(),
        CommitResult::Committed
    );
    assert_eq!(
        bench.store.commit(&late).await.unwrap(),
        CommitResult::Fenced
    );
    assert_eq!(bench.counters().await.rows_ok, 10);
    let unknown = commit(9, rows(10, 0));
    assert_eq!(
        bench.store.commit(&unknown).await.unwrap(),
        CommitResult::Fenced
    );
}

async fn commit_is_refused_once_the_job_ends(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    let (running, canceling) = (JobState::Running, JobState::Canceling);
    assert!(
        bench
            .store
            .move_job(&job_id(), running, canceling, None)
            .await
            .unwrap()
    );
    let refused = bench.store.commit(&commit(1, rows(10, 0))).await.unwrap();
    assert_eq!(refused, CommitResult::JobNotRunning(canceling));
    assert_eq!(bench.shard(0).await.state, ShardState::Leased);
}

async fn paused_job_takes_commits_and_gives_nothing(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    let (running, paused) = (JobState::Running, JobState::Paused);
    assert!(
        bench
            .store
            .move_job(&job_id(), running, paused, None)
            .await
            .unwrap()
    );
    assert_eq!(bench.grant(2).await, None);
    let taken = bench.store.commit(&commit(1, rows(10, 0))).await.unwrap();
    assert_eq!(taken, CommitResult::Committed);
}

async fn retry_waits_and_remembers_whom_to_isolate(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    let isolate = vec![DocId::new("d")];
    let verdict = Verdict::Retry {
        not_before_ms: 500,
        isolate: isolate.clone(),
    };
    assert!(
        bench
            .store
            .end_lease(&end(1, 0, true, verdict))
            .await
            .unwrap()
    );
    assert_eq!(bench.grant(2).await.unwrap().shard_idx, 1);
    assert_eq!(bench.grant(3).await.unwrap().shard_idx, 2);
    assert_eq!(bench.grant(4).await, None);
    bench.pass(500);
    let again = bench.grant(4).await.unwrap();
    assert_eq!((again.shard_idx, again.isolate), (0, isolate.clone()));
    let attempts = bench.store.attempts(&job_id(), 0).await.unwrap();
    assert_eq!(attempts.len(), 1);
    let first = &attempts[0];
    assert_eq!(
        (first.end, first.charged, first.epoch),
        (LeaseEnd::Expired, true, 1)
    );
    assert_eq!((first.node.as_str(), &first.suspects), ("n", &isolate));
}

async fn verdict_on_an_old_state_is_not_applied(bench: Bench) {
    bench.running().await;
    for n in [1, 8, 9] {
        bench.grant(n).await.unwrap();
    }
    assert!(
        !bench
            .store
            .end_lease(&end(1, 1, true, retry()))
            .await
            .unwrap()
    );
    assert!(
        bench
            .store
            .end_lease(&end(1, 0, true, retry()))
            .await
            .unwrap()
    );
    assert!(
        !bench
            .store
            .end_lease(&end(1, 0, true, retry()))
            .await
            .unwrap()
    );
    assert_eq!(bench.shard(0).await.deaths, 1);
    bench.grant(2).await.unwrap();
    bench.store.commit(&commit(2, rows(10, 0))).await.unwrap();
    assert!(
        !bench
            .store
            .end_lease(&end(2, 1, true, retry()))
            .await
            .unwrap()
    );
    assert_eq!(bench.shard(0).await.state, ShardState::Committed);
}

async fn halves_take_the_place_of_their_shard(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    let whole = bench.shard(0).await.span;
    let spans = crate::schedule::halve::split(&whole, &[10], 4);
    let verdict = Verdict::Halve {
        spans,
        isolate: vec![DocId::new("d")],
    };
    assert!(
        bench
            .store
            .end_lease(&end(1, 0, true, verdict))
            .await
            .unwrap()
    );
    assert_eq!(bench.shard(0).await.state, ShardState::Halved);
    let counters = bench.counters().await;
    assert_eq!(
        (counters.pending, counters.leased, counters.halved),
        (4, 0, 1)
    );
    // Behind the others, in their own order.
    for (n, shard_idx) in [(4, 1), (5, 2)] {
        assert_eq!(bench.grant(n).await.unwrap().shard_idx, shard_idx);
    }
    let first = bench.grant(2).await.unwrap();
    let second = bench.grant(3).await.unwrap();
    assert_eq!((first.shard_idx, second.shard_idx), (3, 4));
    assert_eq!((first.setbacks, second.setbacks), (1, 1));
    assert_eq!(
        (first.parent, first.span, second.span),
        (Some(0), spans[0], spans[1])
    );
    assert_eq!((first.epoch, first.deaths, first.isolate.len()), (1, 0, 1));
    let here = bench.store.overlapping(&job_id(), 3, 11).await.unwrap();
    let here: Vec<u64> = here.iter().map(|shard| shard.shard_idx).collect();
    assert_eq!(here, [3, 4, 1]);
}

async fn quarantined_row_is_counted_and_listed(bench: Bench) {
    bench.running().await;
    for n in 1..=3 {
        bench.grant(n).await.unwrap();
    }
    let line = Box::new(document(7, 1));
    let verdict = Verdict::Quarantine {
        line: line.clone(),
        message: "kills".into(),
    };
    assert!(
        bench
            .store
            .end_lease(&end(3, 0, true, verdict))
            .await
            .unwrap()
    );
    let counters = bench.counters().await;
    assert_eq!((counters.quarantined, counters.rows_quarantined), (1, 1));
    let kept = bench
        .store
        .quarantine(&job_id(), &ALL_GIVEN_UP)
        .await
        .unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].shard_idx, &kept[0].line, kept[0].deaths),
        (2, &*line, 1)
    );
    assert_eq!(kept[0].manifest, None);
    let n_given_up = async |query: QuarantineQuery| {
        let records = bench.store.quarantine(&job_id(), &query).await.unwrap();
        records.len()
    };
    let unlisted = QuarantineQuery {
        unlisted: true,
        ..ALL_GIVEN_UP
    };
    let after = |after| QuarantineQuery {
        after: Some(after),
        limit: 1,
        ..ALL_GIVEN_UP
    };
    assert_eq!(n_given_up(unlisted).await, 1);
    assert_eq!(
        (n_given_up(after(1)).await, n_given_up(after(2)).await),
        (1, 0)
    );
    let list = ShardChange::List {
        shard_idx: 2,
        part: part("lost"),
        lease_id: lease(9),
    };
    let manifest = AppliedManifest {
        number: 1,
        changes: vec![list],
    };
    assert!(
        bench
            .store
            .apply_manifest(&job_id(), &manifest)
            .await
            .unwrap()
    );
    assert_eq!(
        bench
            .store
            .quarantine(&job_id(), &ALL_GIVEN_UP)
            .await
            .unwrap()[0]
            .manifest,
        Some(1)
    );
    assert_eq!(n_given_up(unlisted).await, 0);
    assert_eq!(bench.counters().await.rows_published, 1);
    assert_eq!(bench.shard(2).await.state, ShardState::Quarantined);
}

async fn heartbeat_keeps_a_session_and_tells_what_ended(bench: Bench) {
    assert_eq!(bench.beat(1, LeaseStage::Reading, 0).await, None);
    bench.running().await;
    bench.grant(1).await.unwrap();
    bench.pass(900);
    let live = bench.beat(1, LeaseStage::Reading, 3).await;
    assert_eq!(live, Some(vec![Standing::Live]));
    bench.pass(900);
    assert!(bench.store.expired_sessions().await.unwrap().is_empty());
    let (kept, _) = bench.store.lease(&lease(1)).await.unwrap().unwrap();
    assert_eq!(
        (kept.rows_done, kept.in_flight.len(), kept.progressed_at_ms),
        (3, 1, 900)
    );
    assert_eq!(
        bench.beat(2, LeaseStage::Reading, 0).await,
        Some(vec![Standing::Fenced])
    );
    let (running, canceling) = (JobState::Running, JobState::Canceling);
    assert!(
        bench
            .store
            .move_job(&job_id(), running, canceling, None)
            .await
            .unwrap()
    );
    assert_eq!(
        bench.beat(1, LeaseStage::Reading, 3).await,
        Some(vec![Standing::JobEnded])
    );
}

async fn lease_that_only_waits_does_not_stall(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    bench.pass(600);
    bench.beat(1, LeaseStage::Queued, 0).await.unwrap();
    assert!(bench.store.stalled_leases(600).await.unwrap().is_empty());
    bench.beat(1, LeaseStage::Reading, 1).await.unwrap();
    bench.pass(600);
    bench.beat(1, LeaseStage::Reading, 1).await.unwrap();
    assert_eq!(bench.store.stalled_leases(700).await.unwrap().len(), 1);
    bench.beat(1, LeaseStage::Reading, 2).await.unwrap();
    assert!(bench.store.stalled_leases(700).await.unwrap().is_empty());
}

async fn lease_whose_page_is_being_written_does_not_stall(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    bench.beat(1, LeaseStage::Reading, 1).await.unwrap();
    for (engine_moved, n_stalled) in [(true, 0), (false, 1), (true, 0)] {
        bench.pass(600);
        let progress = Progress {
            lease_id: lease(1),
            stage: LeaseStage::Reading,
            rows_done: 1,
            rows_failed: 0,
            in_flight: Vec::new(),
            engine_moved,
        };
        bench.report(progress).await.unwrap();
        let before = bench.store.now_ms().await.unwrap() - 1;
        let stalled = bench.store.stalled_leases(before).await.unwrap();
        assert_eq!(stalled.len(), n_stalled, "engine_moved: {engine_moved}");
    }
}

async fn session_with_leases_stays(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    assert!(!bench.store.close_session(&session_id()).await.unwrap());
    bench.store.expire_sessions().await.unwrap();
    assert_eq!(bench.store.expired_sessions().await.unwrap().len(), 1);
    assert_eq!(
        bench
            .store
            .leases_of_session(&session_id())
            .await
            .unwrap()
            .len(),
        1
    );
    assert!(
        bench
            .store
            .end_lease(&end(1, 0, false, retry()))
            .await
            .unwrap()
    );
    assert!(bench.store.close_session(&session_id()).await.unwrap());
    assert_eq!(bench.store.session(&session_id()).await.unwrap(), None);
    assert_eq!(bench.shard(0).await.deaths, 0);
}

async fn manifests_are_applied_in_order_and_once(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    bench.store.commit(&commit(1, rows(10, 0))).await.unwrap();
    let publish = ShardChange::Publish {
        shard_idx: 0,
        part: part("p-1"),
        rows: rows(10, 0),
        lease_id: lease(1),
    };
    let manifest = |number| AppliedManifest {
        number,
        changes: vec![publish.clone()],
    };
    let apply = async |number| {
        bench
            .store
            .apply_manifest(&job_id(), &manifest(number))
            .await
            .unwrap()
    };
    assert!(!apply(2).await);
    assert!(apply(1).await);
    assert!(!apply(1).await);
    let counters = bench.counters().await;
    assert_eq!((counters.committed, counters.published), (0, 1));
    assert_eq!((counters.rows_ok, counters.rows_published), (10, 10));
    assert_eq!(
        bench
            .store
            .job(&job_id())
            .await
            .unwrap()
            .unwrap()
            .last_manifest,
        1
    );
    let already = bench.store.commit(&commit(1, rows(10, 0))).await.unwrap();
    assert_eq!(already, CommitResult::Already);
}

async fn manifest_wins_over_the_store(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    bench.grant(2).await.unwrap();
    bench.store.commit(&commit(1, rows(8, 2))).await.unwrap();
    let changes = vec![
        // Committed here under another lease.
        ShardChange::Publish {
            shard_idx: 0,
            part: part("theirs"),
            rows: rows(10, 0),
            lease_id: lease(8),
        },
        // Leased here, published there after a halving.
        ShardChange::Supersede { shard_idx: 1 },
        ShardChange::Insert(shard(5, 10, 6)),
        ShardChange::Insert(shard(6, 16, 4)),
        ShardChange::Publish {
            shard_idx: 5,
            part: part("half"),
            rows: rows(6, 0),
            lease_id: lease(9),
        },
    ];
    let manifest = AppliedManifest { number: 1, changes };
    assert!(
        bench
            .store
            .apply_manifest(&job_id(), &manifest)
            .await
            .unwrap()
    );
    let counters = bench.counters().await;
    let expected = Counters {
        pending: 2,
        published: 2,
        halved: 1,
        rows_ok: 16,
        rows_published: 16,
        ..Counters::default()
    };
    assert_eq!(counters, expected);
    assert_eq!(
        bench.store.commit(&commit(2, rows(10, 0))).await.unwrap(),
        CommitResult::Fenced
    );
    assert_eq!(bench.shard(0).await.winner, Some(lease(8)));
    assert_eq!(bench.grant(3).await.unwrap().shard_idx, 6);
}

async fn canceled_job_ends_its_leases(bench: Bench) {
    bench.running().await;
    bench.grant(1).await.unwrap();
    assert_eq!(bench.store.fence_job(&job_id()).await.unwrap(), 0);
    let (running, canceling) = (JobState::Running, JobState::Canceling);
    assert!(
        bench
            .store
            .move_job(&job_id(), running, canceling, None)
            .await
            .unwrap()
    );
    assert_eq!(bench.store.fence_job(&job_id()).await.unwrap(), 1);
    assert_eq!(bench.store.leases_of_job(&job_id()).await.unwrap(), []);
    let counters = bench.counters().await;
    assert_eq!((counters.pending, counters.leased), (3, 0));
    let attempts = bench.store.attempts(&job_id(), 0).await.unwrap();
    assert_eq!(
        (attempts[0].end, attempts[0].charged),
        (LeaseEnd::Fenced, false)
    );
}

async fn jobs_and_shards_are_listed_in_pages(bench: Bench) {
    bench.running().await;
    let other = NewJob {
        out: "file:///other".into(),
        ..new_job("j-2", 0)
    };
    bench.store.create_job(&other).await.unwrap();
    bench
        .store
        .finish_job(&JobId::new("j-2"), None)
        .await
        .unwrap();
    let list = async |unfinished, before, limit| {
        let query = JobQuery {
            unfinished,
            before,
            limit,
        };
        let jobs = bench.store.jobs(&query).await.unwrap();
        jobs.into_iter()
            .map(|job| (job.number, job.job_id.to_string()))
            .collect::<Vec<_>>()
    };
    let newest = list(false, None, 1).await;
    assert_eq!(newest[0].1, "j-2");
    assert_eq!(list(false, Some(newest[0].0), 9).await[0].1, "j-1");
    assert_eq!(list(true, None, 9).await.len(), 1);
    let query = ShardQuery {
        after: Some(0),
        state: Some(ShardState::Pending),
        limit: 1,
    };
    let shards = bench.store.shards(&job_id(), &query).await.unwrap();
    assert_eq!(
        shards
            .iter()
            .map(|shard| shard.shard_idx)
            .collect::<Vec<_>>(),
        [1]
    );
}

async fn failures_add_up_by_code(bench: Bench) {
    bench.running().await;
    let failure = |code: &str, count, example: &str| FailureCount {
        code: code.into(),
        count,
        example: example.into(),
    };
    for (n, failures) in [
        (
            1,
            vec![failure("encrypted", 1, "a"), failure("damaged", 2, "b")],
        ),
        (2, vec![failure("encrypted", 3, "c")]),
    ] {
        bench.grant(n).await.unwrap();
        let commit = Commit {
            failures,
            ..commit(n, rows(6, 4))
        };
        bench.store.commit(&commit).await.unwrap();
    }
    let counted = bench.store.failures(&job_id()).await.unwrap();
    assert_eq!(
        counted,
        [failure("encrypted", 4, "a"), failure("damaged", 2, "b")]
    );
}
