//! What a fleet adds: several coordinators, tenants, nodes that come and go, second copies.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use quire_coordinator::store::{MemoryStore, Store};
use quire_coordinator::{
    Caller, Coordinator, CoordinatorConfig, CoordinatorHandle, DeathPolicy, QuarantinePause, Role,
    SickNodePolicy, StragglerPolicy, Survey,
};
use quire_core::{JobId, LeaseId, ManualClock, Trouble};
use quire_dataset::verify;
use quire_proto::{AdminCalls, DatasetCalls, JobCalls, Reason, WorkerCalls, v1};
use support::fuse::{Fuse, FusedStore};
use support::worker::{TestWorker, Workers};
use support::{Bench, Running, SaidPages};

struct Fleet {
    bench: Bench,
    clock: Arc<ManualClock>,
    store: Arc<MemoryStore>,
    /// Counts what the coordinator asks of the store.
    fuse: Arc<Fuse>,
    running: Running,
}

/// A store that counts what it is asked.
fn counted(store: &Arc<MemoryStore>) -> (Arc<dyn Store>, Arc<Fuse>) {
    let fuse = Fuse::that_holds();
    let counted = FusedStore {
        inner: Arc::clone(store) as _,
        fuse: Arc::clone(&fuse),
    };
    (Arc::new(counted), fuse)
}

/// Documents of 6 pages: one shard each.
fn bench(n_documents: usize) -> Bench {
    let bench = Bench::new();
    for at in 0..n_documents {
        bench.add(&format!("d{at}"), 6);
    }
    bench
}

fn config(bench: &Bench) -> CoordinatorConfig {
    let one = bench.config();
    CoordinatorConfig {
        reap_period: one.reap_period,
        publish_period: one.publish_period,
        // The clock of these tests jumps; what a fleet waits for at its start does not.
        session_ttl: Duration::from_millis(40),
        heartbeat_period: Duration::from_millis(10),
        probe_outputs: false,
        ..CoordinatorConfig::fleet(one.seal)
    }
}

impl Fleet {
    async fn start(bench: Bench, change: impl FnOnce(&mut CoordinatorConfig)) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
        let mut config = config(&bench);
        change(&mut config);
        let (counted, fuse) = counted(&store);
        let running = bench.start_with(config, counted).await;
        Self {
            bench,
            clock,
            store,
            fuse,
            running,
        }
    }

    fn handle(&self) -> &CoordinatorHandle {
        &self.running.handle
    }

    async fn submit(&self) -> JobId {
        let submitted = self
            .handle()
            .submit(&self.bench.out(), &self.bench.spec())
            .await
            .unwrap();
        self.running
            .in_state(&submitted.job_id, v1::JobState::Running)
            .await;
        submitted.job_id
    }

    async fn worker(&self, node: &str) -> TestWorker {
        let calls = Arc::new(self.handle().clone());
        TestWorker::register(calls, self.bench.output(), node).await
    }

    /// Has the coordinator look at jobs and nodes anew, which it remembers for a second.
    async fn look_anew(&self, job_id: &JobId) {
        let request = v1::UpdateJobRequest {
            job_id: job_id.to_string(),
            priority: Some(1),
        };
        self.handle().update_job(request).await.unwrap();
    }

    /// Commits and says that the shard took so long.
    async fn finish_in(&self, worker: &TestWorker, lease: &v1::Lease, total_ms: u64) {
        let summary = worker.write(lease).await;
        let request = v1::CommitRequest {
            timings: Some(v1::ShardTimings {
                total_ms,
                ..v1::ShardTimings::default()
            }),
            ..worker.commit_request(lease, &summary)
        };
        worker.calls.commit(request).await.unwrap();
    }

    async fn workers(&self) -> Vec<v1::Worker> {
        let listed = self.handle().list_workers(v1::ListWorkersRequest {}).await;
        listed.unwrap().workers
    }

    async fn done(&self, job_id: &JobId) -> v1::Job {
        let job = self.running.ended(job_id).await;
        assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
        let report = verify(&self.bench.output()).await.unwrap();
        assert!(report.violations.is_empty(), "{report:?}");
        job
    }
}

/// Waits until something holds; bounded, so that what never comes about fails.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    for _ in 0..60_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it did not come about: {what}");
}

fn caller(tenant: &str, roles: &[Role]) -> Caller {
    Caller {
        tenant: Some(tenant.to_owned()),
        roles: roles.iter().copied().collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_tenants_are_checked_whichever_way_a_call_comes() {
    let fleet = Fleet::start(bench(2), |_| {}).await;
    let ours = fleet
        .handle()
        .on_behalf_of(caller("ours", &[Role::Submitter]));
    let job_id = ours
        .submit(&fleet.bench.out(), &fleet.bench.spec())
        .await
        .unwrap()
        .job_id;
    assert_eq!(ours.job(&job_id).await.unwrap().tenant, "ours");
    let get = || v1::GetJobRequest {
        job_id: job_id.to_string(),
    };
    let theirs = fleet
        .handle()
        .on_behalf_of(caller("theirs", &[Role::Submitter]));
    let refused = theirs.get_job(get()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TenantForeign);
    let listed = theirs.list_jobs(v1::ListJobsRequest::default()).await;
    assert_eq!(listed.unwrap().jobs, []);
    let listed = ours.list_jobs(v1::ListJobsRequest::default()).await;
    assert_eq!(listed.unwrap().jobs.len(), 1);
    let create = v1::CreateJobRequest {
        job_spec_json: serde_json::to_string(&fleet.bench.spec()).unwrap(),
        out: fleet.bench.out(),
        ..v1::CreateJobRequest::default()
    };
    let refused = theirs.create_job(create).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TenantForeign);
    let dataset = v1::GetDatasetRequest {
        out: fleet.bench.out(),
    };
    let refused = theirs.get_dataset(dataset.clone()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::TenantForeign);
    let seen = ours.get_dataset(dataset).await.unwrap();
    assert_eq!(seen.job_id, job_id.to_string());

    let worker = fleet.handle().on_behalf_of(Caller {
        tenant: None,
        roles: BTreeSet::from([Role::Worker]),
    });
    worker
        .register(v1::RegisterRequest::default())
        .await
        .unwrap();
    let refused = worker.get_job(get()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RoleMissing);
    let refused = ours
        .register(v1::RegisterRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::RoleMissing);
    let refused = ours
        .list_workers(v1::ListWorkersRequest {})
        .await
        .unwrap_err();
    assert_eq!(refused.reason, Reason::RoleMissing);
    fleet.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_code_and_sessions_of_another_database_are_told_so() {
    let fleet = Fleet::start(bench(1), |config| {
        config.oldest_worker = Some("0.2.0".into());
    })
    .await;
    let register = |version: &str| v1::RegisterRequest {
        version: version.into(),
        ..v1::RegisterRequest::default()
    };
    let refused = fleet.handle().register(register("0.1.9")).await;
    assert_eq!(refused.unwrap_err().reason, Reason::VersionTooOld);
    fleet.handle().register(register("0.2.0")).await.unwrap();

    let other = Fleet::start(bench(1), |_| {}).await;
    let job_id = other.submit().await;
    let worker = other.worker("a").await;
    let lease = worker.one().await;
    let moved = TestWorker {
        calls: Arc::new(fleet.handle().clone()),
        ..worker.clone()
    };
    let changed = Reason::IncarnationChanged;
    assert_eq!(moved.acquire(1, 0).await.unwrap_err().reason, changed);
    assert_eq!(moved.beat(&lease, &[]).await.unwrap_err().reason, changed);
    assert_eq!(moved.finish(&lease).await.unwrap_err().reason, changed);
    worker.finish(&lease).await.unwrap();
    other.done(&job_id).await;
    fleet.running.stop().await;
    other.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cordoned_node_keeps_what_it_has_and_draining_one_is_told_to_leave() {
    let fleet = Fleet::start(bench(3), |_| {}).await;
    let job_id = fleet.submit().await;
    let worker = fleet.worker("a").await;
    let lease = worker.one().await;
    let cordon = |uncordon| v1::CordonRequest {
        node: "a".into(),
        reason: "fan".into(),
        uncordon,
    };
    fleet.handle().cordon(cordon(false)).await.unwrap();
    assert_eq!(worker.acquire(1, 0).await.unwrap(), []);
    let listed = fleet.workers().await;
    assert_eq!(listed[0].node_standing(), v1::NodeStanding::Cordoned);
    assert_eq!(listed[0].node_reason, "fan");
    assert_eq!(listed[0].leases[0].lease_id, lease.lease_id);
    assert_eq!(listed[0].leases[0].n_rows, lease.n_rows);
    let answer = worker.beat(&lease, &[]).await.unwrap();
    assert!(!answer.drain);

    let drain = v1::DrainRequest {
        node: "a".into(),
        reason: "fan".into(),
    };
    assert_eq!(fleet.handle().drain(drain).await.unwrap().workers, 1);
    until("the worker is told to leave", async || {
        worker.beat(&lease, &[]).await.unwrap().drain
    })
    .await;
    assert_eq!(
        worker.finish(&lease).await.unwrap(),
        v1::CommitOutcome::Committed
    );
    fleet.handle().cordon(cordon(true)).await.unwrap();
    for _ in 0..2 {
        worker.finish(&worker.one().await).await.unwrap();
    }
    fleet.done(&job_id).await;
    fleet.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_shard_gets_a_copy_on_another_node_and_the_first_part_counts() {
    let fleet = Fleet::start(bench(4), |config| {
        config.session_ttl = Duration::from_secs(3600);
        config.stragglers = Some(StragglerPolicy {
            slowdown: 3.0,
            fleet_share: 0.02,
        });
    })
    .await;
    let job_id = fleet.submit().await;
    let (slow, quick) = (fleet.worker("a").await, fleet.worker("b").await);
    let stuck = slow.one().await;
    assert_eq!(stuck.soft_deadline_ms, 0, "nothing is known yet");
    for _ in 0..3 {
        let lease = quick.one().await;
        fleet.finish_in(&quick, &lease, 6_000).await;
    }
    // Nothing else waits, and the stuck one is far behind.
    fleet.clock.advance(Duration::from_secs(600));
    let copy = quick.one().await;
    assert_eq!((copy.shard_idx, copy.epoch), (stuck.shard_idx, 2));
    assert_ne!(copy.lease_id, stuck.lease_id);
    assert_ne!(copy.traceparent, stuck.traceparent);
    assert_eq!(
        copy.soft_deadline_ms, 18_000,
        "three times six rows of a second"
    );
    let listed = fleet.workers().await;
    let held = listed.iter().flat_map(|worker| &worker.leases);
    let copies: Vec<&str> = held
        .filter(|lease| lease.is_copy)
        .map(|lease| lease.lease_id.as_str())
        .collect();
    assert_eq!(copies, [copy.lease_id.as_str()]);
    // Its own node gets none, and two attempts are the most.
    assert_eq!(slow.acquire(1, 0).await.unwrap(), []);
    assert_eq!(fleet.worker("c").await.acquire(1, 0).await.unwrap(), []);
    quick.finish(&copy).await.unwrap();
    let answer = slow.beat(&stuck, &[]).await.unwrap();
    assert_eq!(
        answer.directives[0].action(),
        v1::DirectiveAction::Abandon,
        "{answer:?}"
    );
    assert_eq!(
        slow.finish(&stuck).await.unwrap_err().reason,
        Reason::LeaseFenced
    );
    fleet.done(&job_id).await;
    fleet.running.stop().await;
}

/// A copy of it would be the next victim, and put off what becomes of the shard.
#[tokio::test(flavor = "multi_thread")]
async fn shard_that_killed_a_worker_gets_no_copy() {
    let fleet = Fleet::start(bench(4), |config| {
        config.session_ttl = Duration::from_secs(3600);
        config.stragglers = Some(StragglerPolicy {
            slowdown: 3.0,
            fleet_share: 0.02,
        });
    })
    .await;
    let job_id = fleet.submit().await;
    let (slow, quick) = (fleet.worker("a").await, fleet.worker("b").await);
    let lethal = slow.one().await;
    for _ in 0..3 {
        let lease = quick.one().await;
        fleet.finish_in(&quick, &lease, 6_000).await;
    }
    let request = v1::FailRequest {
        lease_id: lethal.lease_id.clone(),
        session_id: slow.session_id.clone(),
        fault: v1::Fault::Bug.into(),
        message: "it broke".into(),
        ..v1::FailRequest::default()
    };
    fleet.handle().fail(request).await.unwrap();
    let again = slow.one().await;
    assert_eq!((again.shard_idx, again.epoch), (lethal.shard_idx, 2));
    fleet.clock.advance(Duration::from_secs(600));
    assert_eq!(quick.acquire(1, 0).await.unwrap(), []);
    slow.finish(&again).await.unwrap();
    fleet.done(&job_id).await;
    fleet.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_dies_on_what_others_finish_is_cordoned_and_condemns_nothing() {
    let fleet = Fleet::start(bench(4), |config| {
        config.sick_nodes = Some(SickNodePolicy {
            deaths: 3,
            within: Duration::from_secs(3600),
        });
        config.deaths = DeathPolicy {
            to_halve: 2,
            to_quarantine: 2,
            min_nodes: 2,
        };
    })
    .await;
    let job_id = fleet.submit().await;
    let fail = async |worker: &TestWorker, lease: &v1::Lease| {
        let request = v1::FailRequest {
            lease_id: lease.lease_id.clone(),
            session_id: worker.session_id.clone(),
            fault: v1::Fault::Bug.into(),
            message: "it broke".into(),
            ..v1::FailRequest::default()
        };
        worker.calls.fail(request).await.unwrap().disposition()
    };
    let bad = fleet.worker("bad").await;
    let leases = bad.acquire(4, 10_000).await.unwrap();
    for lease in &leases {
        assert_eq!(fail(&bad, lease).await, v1::Disposition::Retry);
    }
    let good = fleet.worker("good").await;
    for _ in 0..3 {
        good.finish(&good.one().await).await.unwrap();
    }
    until("the node is cordoned", async || {
        let nodes = fleet.store.nodes().await.unwrap();
        nodes
            .iter()
            .any(|node| node.node == "bad" && node.is_automatic)
    })
    .await;
    fleet.look_anew(&job_id).await;
    assert_eq!(bad.acquire(1, 0).await.unwrap(), []);
    // A second death would halve the shard, were the first not that of a sick node.
    let last = good.one().await;
    assert_eq!(fail(&good, &last).await, v1::Disposition::Retry);
    good.finish(&good.one().await).await.unwrap();
    let job = fleet.done(&job_id).await;
    assert_eq!((job.rows_quarantined, job.shards.unwrap().halved), (0, 0));
    fleet.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_get_shares_by_weight_and_priority_decides_inside_one() {
    let fleet = Fleet::start(bench(12), |_| {}).await;
    let spec = fleet.bench.spec();
    let mut jobs = Vec::new();
    for (tenant, name) in [("heavy", "one"), ("light", "two"), ("light", "three")] {
        let out = fleet.bench.folder.path().join(name);
        let handle = fleet
            .handle()
            .on_behalf_of(caller(tenant, &[Role::Submitter]));
        let submitted = handle.submit(out.to_str().unwrap(), &spec).await.unwrap();
        fleet
            .running
            .in_state(&submitted.job_id, v1::JobState::Running)
            .await;
        jobs.push(submitted.job_id.to_string());
    }
    let weight = v1::SetTenantRequest {
        tenant: "heavy".into(),
        weight: 3.0,
    };
    fleet.handle().set_tenant(weight).await.unwrap();
    let later = v1::UpdateJobRequest {
        job_id: jobs[2].clone(),
        priority: Some(5),
    };
    let updated = fleet.handle().update_job(later).await.unwrap();
    assert_eq!(updated.job.unwrap().priority, 5);
    let worker = fleet.worker("a").await;
    let granted = worker.acquire(8, 10_000).await.unwrap();
    let n_of = |job_id: &String| {
        granted
            .iter()
            .filter(|lease| lease.job_id == *job_id)
            .count()
    };
    assert_eq!((n_of(&jobs[0]), n_of(&jobs[1]), n_of(&jobs[2])), (6, 0, 2));
    let tenants = fleet.handle().list_tenants(v1::ListTenantsRequest {}).await;
    let tenants = tenants.unwrap().tenants;
    let heavy = tenants.iter().find(|tenant| tenant.tenant == "heavy");
    assert_eq!(
        heavy.map(|tenant| (tenant.weight, tenant.rows_waiting)),
        Some((3.0, 72))
    );
    fleet.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_rows_get_another_chance_before_they_are_listed() {
    let fleet = Fleet::start(bench(1), |config| {
        config.deaths = DeathPolicy {
            to_halve: 1,
            to_quarantine: 1,
            min_nodes: 1,
        };
        config.quarantine_pause = QuarantinePause {
            fraction: 0.1,
            min_rows: 1,
        };
        // Listed rows cannot be had back, so nothing is published meanwhile.
        config.publish_period = Duration::from_secs(3600);
    })
    .await;
    let job_id = fleet.submit().await;
    // Each coordinator looks once at the log of a job that it did not know.
    until("the first look at the log", async || {
        fleet.fuse.calls("shards") > 0
    })
    .await;
    let worker = fleet.worker("a").await;
    let paused = loop {
        let job = fleet.running.job(&job_id).await;
        if job.state() == v1::JobState::Paused {
            break job;
        }
        let Some(lease) = worker.acquire(1, 100).await.unwrap().pop() else {
            continue;
        };
        let request = v1::FailRequest {
            lease_id: lease.lease_id.clone(),
            session_id: worker.session_id.clone(),
            fault: v1::Fault::Bug.into(),
            ..v1::FailRequest::default()
        };
        worker.calls.fail(request).await.unwrap();
    };
    assert_eq!(paused.rows_quarantined, 1);
    assert!(paused.state_reason.contains("given up"), "{paused:?}");
    let request = v1::RequeueQuarantinedRequest {
        job_id: job_id.to_string(),
        shard_idxs: Vec::new(),
    };
    let requeued = fleet.handle().requeue_quarantined(request).await.unwrap();
    assert_eq!((requeued.rows, requeued.rows_listed), (1, 0));
    let resume = v1::ResumeJobRequest {
        job_id: job_id.to_string(),
    };
    fleet.handle().resume_job(resume).await.unwrap();
    let workers = Workers::start(fleet.handle(), fleet.bench.output(), 1);
    let job = fleet.done(&job_id).await;
    workers.stop().await;
    assert_eq!(job.rows_quarantined, 0);
    assert_eq!(job.rows_committed.unwrap().ok, 6);
    fleet.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_shows_every_change_and_ends_with_the_job() {
    let fleet = Fleet::start(bench(3), |_| {}).await;
    let job_id = fleet.submit().await;
    let request = v1::WatchJobRequest {
        job_id: job_id.to_string(),
        period_ms: 100,
    };
    let updates = fleet.handle().watch_job(request).await.unwrap();
    let workers = Workers::start(fleet.handle(), fleet.bench.output(), 1);
    let seen: Vec<v1::Job> = updates
        .map(|update| update.unwrap().job.unwrap())
        .collect()
        .await;
    workers.stop().await;
    assert_eq!(seen.last().unwrap().state(), v1::JobState::Done);
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    fleet.running.stop().await;
}

/// Never comes to an end.
#[derive(Debug)]
struct EndlessSurvey;

#[async_trait]
impl Survey for EndlessSurvey {
    async fn count_pages(&self, _: Bytes, _: &str) -> Result<u32, Trouble> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_of_a_coordinator_that_dies_is_made_by_another() {
    let bench = bench(3);
    let clock = Arc::new(ManualClock::default());
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
    let open = async |survey: Arc<dyn Survey>| {
        let opened = Coordinator::open(
            config(&bench),
            Arc::clone(&store),
            bench.stores.clone(),
            survey,
        );
        let (service, handle) = opened.await.unwrap();
        Running::start(service, handle)
    };
    let first = open(Arc::new(EndlessSurvey)).await;
    let submitted = first.handle.submit(&bench.out(), &bench.spec()).await;
    let job_id = submitted.unwrap().job_id;
    first
        .until(&job_id, |job| job.planning.unwrap().entries_listed == 3)
        .await;
    let second = open(Arc::new(SaidPages)).await;
    first.kill().await;
    // Until the duty of the dead one lapses, which may have been renewed with its last breath.
    until("another makes the plan", async || {
        clock.advance(Duration::from_secs(31));
        second.job(&job_id).await.state() != v1::JobState::Planning
    })
    .await;
    let workers = Workers::start(&second.handle, bench.output(), 1);
    let job = second.ended(&job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    assert_eq!(workers.stop().await, 18);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_outlive_a_coordinator_that_was_away_longer_than_their_sessions() {
    // Longer than the test takes: no coordinator ends anything before so long after its start.
    let ttl = Duration::from_secs(1800);
    let fleet = Fleet::start(bench(2), |config| config.session_ttl = ttl).await;
    let job_id = fleet.submit().await;
    let worker = fleet.worker("a").await;
    let lease = worker.one().await;
    fleet.running.kill().await;
    fleet.clock.advance(2 * ttl);
    let mut config = config(&fleet.bench);
    config.session_ttl = ttl;
    let (store, fuse) = counted(&fleet.store);
    let again = fleet.bench.start_with(config, store).await;
    // Often enough to have ended it, if it were to.
    until("the loop turned many times", async || {
        fuse.calls("jobs") > 20
    })
    .await;
    let moved = TestWorker {
        calls: Arc::new(again.handle.clone()),
        ..worker
    };
    let answer = moved.beat(&lease, &[]).await.unwrap();
    assert_eq!(answer.directives[0].action(), v1::DirectiveAction::Continue);
    moved.finish(&lease).await.unwrap();
    moved.finish(&moved.one().await).await.unwrap();
    assert_eq!(again.ended(&job_id).await.state(), v1::JobState::Done);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovered_jobs_go_on_and_old_leases_stay_unknown() {
    let fleet = Fleet::start(bench(4), |_| {}).await;
    let job_id = fleet.submit().await;
    let worker = fleet.worker("a").await;
    for _ in 0..2 {
        worker.finish(&worker.one().await).await.unwrap();
    }
    fleet
        .running
        .until(&job_id, |job| job.shards.unwrap().published == 2)
        .await;
    let held = worker.one().await;
    fleet.running.stop().await;

    // Another database, with nothing in it.
    let store = Arc::new(MemoryStore::new(Arc::clone(&fleet.clock) as _));
    let again = fleet.bench.start_with(config(&fleet.bench), store).await;
    let made_known = again.handle.recover(&fleet.bench.out()).await.unwrap();
    assert_eq!(made_known, std::slice::from_ref(&job_id));
    assert_eq!(again.handle.recover(&fleet.bench.out()).await.unwrap(), []);
    let job = again.in_state(&job_id, v1::JobState::Running).await;
    let shards = job.shards.unwrap();
    assert_eq!((shards.published, shards.pending), (2, 2));
    let moved = TestWorker {
        calls: Arc::new(again.handle.clone()),
        ..worker
    };
    assert_eq!(
        moved.finish(&held).await.unwrap_err().reason,
        Reason::IncarnationChanged
    );
    let workers = Workers::start(&again.handle, fleet.bench.output(), 1);
    let job = again.ended(&job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    assert_eq!(workers.stop().await, 12);
    again.stop().await;
    let report = verify(&fleet.bench.output()).await.unwrap();
    assert!(report.violations.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_parts_that_nothing_refers_to_are_removed_while_the_job_lives() {
    let fleet = Fleet::start(bench(3), |config| {
        config.session_ttl = Duration::from_secs(3600);
        config.sweep_period = Some(Duration::from_millis(20));
        config.orphan_age = Duration::ZERO;
        // What is accepted waits for its manifest.
        config.publish_period = Duration::from_secs(3600);
    })
    .await;
    // Files bear the time of this machine, which is long after the start of the test's clock.
    fleet
        .clock
        .advance(Duration::from_secs(100 * 366 * 24 * 3600));
    let job_id = fleet.submit().await;
    let worker = fleet.worker("a").await;
    let (accepted, held, orphan) = (worker.one().await, worker.one().await, worker.one().await);
    worker.finish(&accepted).await.unwrap();
    worker.write(&held).await;
    worker.write(&orphan).await;
    worker.release(&orphan).await;
    let area = fleet.bench.output().job_area(&job_id).unwrap();
    let parts = async || {
        let listed = area.list_parts().await.unwrap();
        listed
            .into_iter()
            .map(|part| part.key)
            .collect::<BTreeSet<_>>()
    };
    until("the orphan is removed", async || parts().await.len() == 2).await;
    let kept = parts().await;
    assert!(kept.contains(&accepted.part_key) && kept.contains(&held.part_key));
    let stays = LeaseId::new(&held.lease_id);
    assert!(fleet.store.lease(&stays).await.unwrap().is_some());
    worker.finish(&held).await.unwrap();
    worker.finish(&worker.one().await).await.unwrap();
    fleet.done(&job_id).await;
    fleet.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_is_probed_before_a_job_is_planned_and_on_request() {
    let fleet = Fleet::start(bench(1), |config| config.probe_outputs = true).await;
    let request = v1::ProbeStorageRequest {
        out: fleet.bench.out(),
    };
    let probed = fleet.handle().probe_storage(request).await.unwrap();
    assert!(probed.ok, "{probed:?}");
    assert!(probed.checks.len() >= 3);
    let job_id = fleet.submit().await;
    let workers = Workers::start(fleet.handle(), fleet.bench.output(), 1);
    fleet.done(&job_id).await;
    workers.stop().await;
    let out = fleet.bench.folder.path().join("out");
    let left = support::files(&out);
    assert!(
        left.keys()
            .all(|path| !path.to_string_lossy().contains("doctor"))
    );
    fleet.running.stop().await;
}
