//! What a fleet asks of every store: copies, nodes, tenants, duties.

use super::*;
use crate::store::PACE_RING;

const ACROSS: &str = "s-across";

fn across() -> SessionId {
    SessionId::new(ACROSS)
}

fn node(name: &str, standing: NodeStanding, is_automatic: bool) -> NodeRecord {
    NodeRecord {
        node: name.into(),
        standing,
        reason: "r".into(),
        is_automatic,
        since_ms: 0,
    }
}

impl Bench {
    async fn open(&self, session_id: &SessionId, worker_name: &str, node: &str) {
        let session = NewSession {
            session_id: session_id.clone(),
            worker_name: worker_name.into(),
            node: node.into(),
            version: "1.2".into(),
            engines_json: "[]".into(),
            devices: vec!["cpu".into(), "cuda:0".into()],
            ttl_ms: 100_000,
        };
        self.store.open_session(&session).await.unwrap();
    }

    /// A running job, a session on node `n`, and one on node `across`.
    async fn two_nodes(&self) {
        self.running().await;
        self.open(&across(), "w", "across").await;
    }

    async fn copy(&self, session_id: &SessionId, shard_idx: u64, n: u32) -> Grant {
        self.store
            .grant_copy(session_id, &job_id(), shard_idx, &lease(n))
            .await
            .unwrap()
    }

    async fn commit(&self, n: u32, rows: RowCounts) -> CommitResult {
        self.store.commit(&commit(n, rows)).await.unwrap()
    }

    /// Ends a lease with a charged death.
    async fn dies(&self, n: u32, deaths_seen: u32) {
        let ended = self
            .store
            .end_lease(&end(n, deaths_seen, true, retry()))
            .await;
        assert!(ended.unwrap());
    }

    /// Gives up the row of shard 2, the last one to be granted.
    async fn give_up(&self) {
        for n in 100..103 {
            self.grant(n).await.unwrap();
        }
        let verdict = Verdict::Quarantine {
            line: Box::new(document(0, 1)),
            message: "m".into(),
        };
        let ended = self.store.end_lease(&end(102, 0, true, verdict)).await;
        assert!(ended.unwrap());
        assert_eq!(self.shard(2).await.state, ShardState::Quarantined);
    }
}

pub(super) async fn sessions_are_listed_by_node_and_name(bench: Bench) {
    bench.open(&SessionId::new("s-3"), "a", "n-2").await;
    bench.open(&SessionId::new("s-2"), "b", "n-1").await;
    bench.open(&SessionId::new("s-1"), "a", "n-1").await;
    let sessions = bench.store.sessions().await.unwrap();
    let names: Vec<&str> = sessions
        .iter()
        .map(|session| session.session_id.as_str())
        .collect();
    assert_eq!(names, ["s-1", "s-2", "s-3"]);
    let kept = bench.store.session(&SessionId::new("s-3")).await.unwrap();
    assert_eq!(kept.as_ref(), sessions.last());
    let kept = kept.unwrap();
    assert_eq!(kept.version, "1.2");
    assert_eq!(kept.devices, ["cpu", "cuda:0"]);
    assert!(!kept.is_unhealthy);
    assert!(bench.store.close_session(&kept.session_id).await.unwrap());
    assert_eq!(bench.store.sessions().await.unwrap().len(), 2);
}

pub(super) async fn unhealthy_worker_gets_nothing_until_it_is_well(bench: Bench) {
    bench.running().await;
    let beat = |said| Beat {
        session_id: session_id(),
        said,
        ttl_ms: 1000,
        progress: Vec::new(),
        store_away: false,
    };
    let unwell = beat(v1::WorkerState::Unhealthy);
    bench.store.heartbeat(&unwell).await.unwrap().unwrap();
    let session = bench.store.session(&session_id()).await.unwrap().unwrap();
    assert!(session.is_unhealthy);
    let refused = bench.store.grant(&session_id(), &job_id(), &lease(1)).await;
    assert_eq!(refused.unwrap(), Grant::NoSession);
    let well = beat(v1::WorkerState::Ready);
    bench.store.heartbeat(&well).await.unwrap().unwrap();
    assert!(bench.grant(1).await.is_some());
}

pub(super) async fn priority_changes_until_the_job_ends(bench: Bench) {
    let store = &bench.store;
    let new = NewJob {
        priority: 3,
        ..new_job(JOB, 0)
    };
    store.create_job(&new).await.unwrap();
    let priority = async || store.job(&job_id()).await.unwrap().unwrap().priority;
    assert_eq!(priority().await, 3);
    assert!(store.set_priority(&job_id(), -2).await.unwrap());
    assert_eq!(priority().await, -2);
    assert!(store.finish_job(&job_id(), None).await.unwrap());
    assert!(!store.set_priority(&job_id(), 9).await.unwrap());
    assert!(!store.set_priority(&JobId::new("none"), 9).await.unwrap());
    assert_eq!(priority().await, -2);
}

pub(super) async fn copy_goes_to_another_node_and_there_are_two_at_most(bench: Bench) {
    bench.two_nodes().await;
    assert_eq!(bench.copy(&across(), 0, 9).await, Grant::Nothing);
    bench.grant(1).await.unwrap();
    let counters = bench.counters().await;
    let neighbor = SessionId::new("s-neighbor");
    bench.open(&neighbor, "w", "n").await;
    assert_eq!(bench.copy(&neighbor, 0, 9).await, Grant::Nothing);
    let nobody = SessionId::new("s-none");
    assert_eq!(bench.copy(&nobody, 0, 9).await, Grant::NoSession);
    let Grant::Granted(shard) = bench.copy(&across(), 0, 2).await else {
        panic!("no copy was granted")
    };
    assert_eq!((shard.shard_idx, shard.epoch), (0, 2));
    assert_eq!(bench.shard(0).await, *shard);
    assert_eq!(bench.counters().await, counters);
    let third = SessionId::new("s-third");
    bench.open(&third, "w", "third").await;
    assert_eq!(bench.copy(&third, 0, 3).await, Grant::Nothing);
    let leases = bench.store.leases_of_job(&job_id()).await.unwrap();
    assert_eq!(leases.len(), 2);
    let copy = leases
        .iter()
        .find(|held| held.lease_id == lease(2))
        .unwrap();
    assert_eq!((copy.node.as_str(), copy.epoch), ("across", 2));
}

pub(super) async fn first_of_two_copies_wins_and_the_other_is_fenced(bench: Bench) {
    bench.two_nodes().await;
    bench.grant(1).await.unwrap();
    bench.copy(&across(), 0, 2).await;
    assert_eq!(bench.commit(2, rows(10, 0)).await, CommitResult::Committed);
    assert_eq!(bench.commit(1, rows(10, 0)).await, CommitResult::Fenced);
    assert_eq!(bench.commit(2, rows(10, 0)).await, CommitResult::Already);
    let shard = bench.shard(0).await;
    assert_eq!(shard.winner, Some(lease(2)));
    assert_eq!(bench.counters().await.rows_ok, 10);
    assert_eq!(bench.store.leases_of_job(&job_id()).await.unwrap(), []);
}

pub(super) async fn shard_stays_leased_while_a_copy_is_live(bench: Bench) {
    bench.two_nodes().await;
    bench.grant(1).await.unwrap();
    bench.copy(&across(), 0, 2).await;
    bench.dies(1, 0).await;
    assert_eq!(bench.shard(0).await.state, ShardState::Leased);
    assert_eq!(bench.counters().await.leased, 1);
    bench.dies(2, 1).await;
    assert_eq!(bench.shard(0).await.state, ShardState::Pending);
    assert_eq!(bench.counters().await.leased, 0);
    assert_eq!(bench.shard(0).await.deaths, 2);
}

pub(super) async fn closed_nodes_get_nothing(bench: Bench) {
    bench.two_nodes().await;
    bench.grant(1).await.unwrap();
    for standing in [NodeStanding::Cordoned, NodeStanding::Draining] {
        bench
            .store
            .set_node(&node("n", standing, false))
            .await
            .unwrap();
        let refused = bench.store.grant(&session_id(), &job_id(), &lease(2)).await;
        assert_eq!(refused.unwrap(), Grant::Nothing);
    }
    bench
        .store
        .set_node(&node("across", NodeStanding::Cordoned, true))
        .await
        .unwrap();
    assert_eq!(bench.copy(&across(), 0, 3).await, Grant::Nothing);
    // What it holds goes on.
    assert_eq!(bench.commit(1, rows(10, 0)).await, CommitResult::Committed);
    let open = node("n", NodeStanding::Open, false);
    bench.store.set_node(&open).await.unwrap();
    assert!(bench.grant(4).await.is_some());
}

pub(super) async fn node_that_a_person_closed_is_not_changed_automatically(bench: Bench) {
    let store = &bench.store;
    assert_eq!(store.nodes().await.unwrap(), []);
    let kept = async || store.nodes().await.unwrap().remove(0);
    let cordoned = node("n", NodeStanding::Cordoned, true);
    store.set_node(&cordoned).await.unwrap();
    let first = kept().await;
    assert_eq!(
        first,
        NodeRecord {
            since_ms: first.since_ms,
            ..cordoned.clone()
        }
    );
    assert_eq!(first.since_ms, store.now_ms().await.unwrap());
    let by_person = node("n", NodeStanding::Draining, false);
    store.set_node(&by_person).await.unwrap();
    store.set_node(&cordoned).await.unwrap();
    assert_eq!(kept().await.standing, NodeStanding::Draining);
    assert!(!kept().await.is_automatic);
    bench.pass(50);
    store
        .set_node(&node("n", NodeStanding::Open, false))
        .await
        .unwrap();
    // It stays known when it was opened: what it did before is forgiven.
    let opened = kept().await;
    assert_eq!(opened.standing, NodeStanding::Open);
    assert!(opened.since_ms >= first.since_ms + 50);
    store.set_node(&cordoned).await.unwrap();
    assert_eq!(kept().await.standing, NodeStanding::Cordoned);
    assert_eq!(store.nodes().await.unwrap().len(), 1);
}

pub(super) async fn given_up_rows_wait_again_unless_they_are_listed(bench: Bench) {
    bench.running().await;
    bench.give_up().await;
    let store = &bench.store;
    assert_eq!(bench.counters().await.rows_quarantined, 1);
    let others = store.requeue_quarantined(&job_id(), &[0, 1]).await.unwrap();
    assert_eq!(others, (0, 0));
    let mine = store.requeue_quarantined(&job_id(), &[2]).await.unwrap();
    assert_eq!(mine, (1, 0));
    let shard = bench.shard(2).await;
    assert_eq!(shard.state, ShardState::Pending);
    assert_eq!((shard.deaths, shard.setbacks), (0, 0));
    let counters = bench.counters().await;
    assert_eq!((counters.rows_quarantined, counters.quarantined), (0, 0));
    assert_eq!(counters.pending, 1);
    assert_eq!(
        store.quarantine(&job_id(), &ALL_GIVEN_UP).await.unwrap(),
        []
    );
    let list = AppliedManifest {
        number: 1,
        changes: vec![ShardChange::List {
            shard_idx: 2,
            part: part("lost"),
            lease_id: lease(99),
        }],
    };
    // A manifest that was made before is looked at anew.
    assert!(!store.apply_manifest(&job_id(), &list).await.unwrap());
    let job = store.job(&job_id()).await.unwrap().unwrap();
    assert_eq!(job.last_manifest, 0);
    // Given up again, and listed this time.
    assert_eq!(bench.grant(200).await.unwrap().shard_idx, 2);
    let verdict = Verdict::Quarantine {
        line: Box::new(document(0, 1)),
        message: "m".into(),
    };
    assert!(store.end_lease(&end(200, 0, true, verdict)).await.unwrap());
    assert!(store.apply_manifest(&job_id(), &list).await.unwrap());
    let listed = store.requeue_quarantined(&job_id(), &[]).await.unwrap();
    assert_eq!(listed, (0, 1));
    assert_eq!(bench.shard(2).await.state, ShardState::Quarantined);
}

pub(super) async fn deaths_tell_who_finished_the_shard(bench: Bench) {
    bench.two_nodes().await;
    bench.grant(1).await.unwrap();
    bench.dies(1, 0).await;
    // Shard 0 waits behind the others now.
    for n in [2, 3] {
        bench.grant(n).await.unwrap();
    }
    // An end that is not charged is no death.
    let released = end(2, 0, false, retry());
    assert!(bench.store.end_lease(&released).await.unwrap());
    let deaths = bench.store.deaths(0).await.unwrap();
    let [death] = deaths.as_slice() else {
        panic!("{deaths:?}")
    };
    assert_eq!((death.node.as_str(), death.shard_idx), ("n", 0));
    assert!(!death.is_finished_elsewhere);
    let after = death.ended_at_ms + 1;
    assert_eq!(bench.store.deaths(after).await.unwrap(), []);
    assert_eq!(bench.shard(0).await.state, ShardState::Pending);
    let mut n = 10;
    loop {
        let granted = bench
            .store
            .grant(&across(), &job_id(), &lease(n))
            .await
            .unwrap();
        let Grant::Granted(shard) = granted else {
            panic!("shard 0 was not granted")
        };
        if shard.shard_idx == 0 {
            break;
        }
        n += 1;
    }
    assert_eq!(bench.commit(n, rows(10, 0)).await, CommitResult::Committed);
    assert!(bench.store.deaths(0).await.unwrap()[0].is_finished_elsewhere);
    // Publishing it changes nothing about that.
    let publish = ShardChange::Publish {
        shard_idx: 0,
        part: part(&format!("p-{n}")),
        rows: rows(10, 0),
        lease_id: lease(n),
    };
    let manifest = AppliedManifest {
        number: 1,
        changes: vec![publish],
    };
    assert!(
        bench
            .store
            .apply_manifest(&job_id(), &manifest)
            .await
            .unwrap()
    );
    assert!(bench.store.deaths(0).await.unwrap()[0].is_finished_elsewhere);
}

pub(super) async fn paces_are_of_the_newest_parts(bench: Bench) {
    let store = &bench.store;
    store.create_job(&new_job(JOB, 0)).await.unwrap();
    let n_shards = PACE_RING + 10;
    let shards: Vec<NewShard> = (0..n_shards).map(|at| shard(at, at, 1)).collect();
    store.add_shards(&job_id(), &shards).await.unwrap();
    let plan = PlanTotals {
        documents: n_shards,
        rows: n_shards,
    };
    store.start_job(&job_id(), &plan).await.unwrap();
    bench.session().await;
    assert_eq!(store.paces(&job_id(), 9).await.unwrap(), [0.0; 0]);
    for at in 0..n_shards {
        let n = u32::try_from(at).unwrap();
        bench.grant(n).await.unwrap();
        let commit = Commit {
            // The first says nothing.
            work_ms: at * 100,
            ..commit(n, rows(1, 0))
        };
        store.commit(&commit).await.unwrap();
        bench.pass(1);
    }
    let mut newest = store.paces(&job_id(), 3).await.unwrap();
    newest.sort_by(f64::total_cmp);
    let last = n_shards as f64 * 100.0;
    assert_eq!(newest, [last - 300.0, last - 200.0, last - 100.0]);
    let all = store.paces(&job_id(), u32::MAX).await.unwrap();
    assert!(all.len() as u64 <= PACE_RING && all.iter().all(|&pace| pace > 0.0));
    assert_eq!(store.paces(&JobId::new("none"), 9).await.unwrap(), [0.0; 0]);
}

pub(super) async fn tenants_are_known_by_their_jobs(bench: Bench) {
    let store = &bench.store;
    assert_eq!(store.tenants().await.unwrap(), []);
    store.create_job(&new_job(JOB, 0)).await.unwrap();
    assert_eq!(store.job(&job_id()).await.unwrap().unwrap().tenant, "t");
    store.set_tenant("a", 2.5).await.unwrap();
    let tenants = store.tenants().await.unwrap();
    let kept: Vec<(&str, f64)> = tenants
        .iter()
        .map(|tenant| (tenant.tenant.as_str(), tenant.weight))
        .collect();
    assert_eq!(kept, [("a", 2.5), ("t", 1.0)]);
    store.set_tenant("t", 0.5).await.unwrap();
    assert_eq!(store.tenants().await.unwrap()[1].weight, 0.5);
}

pub(super) async fn use_is_charged_once_and_halves_with_time(bench: Bench) {
    const HALF_LIFE_MS: i64 = 400;
    bench.running().await;
    let store = &bench.store;
    let used = async || {
        store.account(HALF_LIFE_MS).await.unwrap();
        store.tenants().await.unwrap()[0].used_rows
    };
    assert!(used().await.abs() < 1e-9);
    bench.grant(1).await.unwrap();
    bench.commit(1, rows(9, 1)).await;
    let first = used().await;
    assert!((9.0..=10.0).contains(&first), "{first}");
    bench.pass(400);
    let half = used().await;
    assert!(half <= first / 2.0 && half > 1.0, "{first} became {half}");
    // What a manifest takes over was charged when it was accepted.
    let publish = ShardChange::Publish {
        shard_idx: 0,
        part: part("p-1"),
        rows: rows(9, 1),
        lease_id: lease(1),
    };
    let manifest = AppliedManifest {
        number: 1,
        changes: vec![publish],
    };
    assert!(store.apply_manifest(&job_id(), &manifest).await.unwrap());
    assert!(used().await <= half);
}

pub(super) async fn duty_has_one_holder_until_it_lapses_or_is_dropped(bench: Bench) {
    let store = &bench.store;
    let (reap, publish) = (Duty::Reap, Duty::Publish(job_id()));
    let take = async |duty: &Duty, holder: &str| store.take_duty(duty, holder, 1000).await.unwrap();
    assert!(take(&reap, "a").await);
    assert!(!take(&reap, "b").await);
    assert!(take(&publish, "b").await);
    bench.pass(900);
    assert!(take(&reap, "a").await, "a holder keeps it");
    bench.pass(900);
    assert!(!take(&reap, "b").await);
    bench.pass(200);
    assert!(take(&reap, "b").await, "it lapsed");
    assert!(!take(&reap, "a").await);
    store.drop_duty(&reap, "a").await.unwrap();
    assert!(!take(&reap, "a").await, "only its holder drops it");
    store.drop_duty(&reap, "b").await.unwrap();
    assert!(take(&reap, "a").await);
}

pub(super) async fn announcing_work_is_harmless(bench: Bench) {
    bench.running().await;
    bench.store.announce_work().await.unwrap();
    bench.store.announce_work().await.unwrap();
    assert!(bench.grant(1).await.is_some());
}
