//! Workers that come back from the dead: what they bring is refused.

use quire_proto::grpc::Client;
use quire_proto::v1::{self, JobState};
use quire_proto::{Reason, WorkerCalls};
use quire_tests::fleet::{Fleet, Sign, Times, wait_for};

use super::support::{documents, expect_exact, node, small_fleet};

const BRIEF: Times = Times {
    heartbeat: 400,
    ttl: 2_000,
    ..Times::QUICK
};

#[test]
fn a_worker_that_slept_through_its_session_brings_nothing_twice() {
    let mut fleet = small_fleet(1, |options| options.times = Times::QUICK);
    fleet.close_gate(0);
    let known = documents(&fleet, &[10, 10, 10]);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    let held = fleet.wait_busy(0);
    fleet.workers[0].process.signal(Sign::Stop);
    fleet.open_gate();
    fleet.start_worker(&node(1));
    wait_for("the sleeper's shards to be done by another", || {
        let job = fleet.try_job(&job_id)?;
        (job.state() == JobState::Done).then_some(())
    });
    fleet.workers[0].process.signal(Sign::Continue);
    // It finishes its pages, is refused, and asks for work under a new name.
    wait_for("the sleeper's new session", || {
        let workers = fleet.known_workers();
        workers
            .into_iter()
            .find(|worker| worker.worker_name == "worker-0" && worker.session_id != held.session_id)
    });
    let again: Vec<_> = fleet
        .shards(&job_id)
        .into_iter()
        .filter(|shard| shard.epoch > 1)
        .collect();
    assert!(!again.is_empty(), "nothing was given out again");
    expect_exact(&fleet, &known, &out);
}

async fn register(client: &Client, node: &str) -> String {
    let request = v1::RegisterRequest {
        worker_name: format!("zombie on {node}"),
        node: node.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // One that names no engine takes anything.
        engines: Vec::new(),
        devices: Vec::new(),
        pages_per_second_hint: 0.0,
    };
    client.register(request).await.unwrap().session_id
}

/// Waits for a shard; `None` when the session ended before, as it may on a slow machine.
async fn first_lease(client: &Client, session_id: &str) -> Option<v1::Lease> {
    let is_over = |error: quire_proto::CallError| {
        assert_eq!(error.reason, Reason::SessionUnknown, "{error}");
    };
    loop {
        let request = v1::AcquireRequest {
            session_id: session_id.to_owned(),
            max_leases: 1,
            want_rows: 0,
            wait_ms: 500,
        };
        let answer = client.acquire(request).await.map_err(is_over).ok()?;
        if let Some(lease) = answer.leases.into_iter().next() {
            return Some(lease);
        }
        // Alive until there is something to die of.
        let beat = v1::HeartbeatRequest {
            session_id: session_id.to_owned(),
            state: v1::WorkerState::Ready.into(),
            leases: Vec::new(),
            store_ok: true,
        };
        client.heartbeat(beat).await.map_err(is_over).ok()?;
    }
}

/// Registers, takes one shard and is never heard of again, until it commits.
struct Zombie {
    client: Client,
    session_id: String,
    lease: v1::Lease,
}

impl Zombie {
    fn rise(fleet: &Fleet, node: &str) -> Self {
        let client = fleet.client();
        let (session_id, lease) = fleet.block_on(async {
            loop {
                let session_id = register(&client, node).await;
                if let Some(lease) = first_lease(&client, &session_id).await {
                    return (session_id, lease);
                }
            }
        });
        Self {
            client,
            session_id,
            lease,
        }
    }

    /// Commits a part that was uploaded as it should be, only too late.
    fn commit(&self, fleet: &Fleet, out: &str) -> quire_proto::CallError {
        let key = &self.lease.part_key;
        let area = format!("{out}.quire/jobs/{}", self.lease.job_id);
        let path = std::path::Path::new(&area).join(key);
        let bytes = b"what the zombie made".to_vec();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let rows = u64::from(self.lease.n_rows);
        let request = v1::CommitRequest {
            lease_id: self.lease.lease_id.clone(),
            session_id: self.session_id.clone(),
            part: Some(v1::Part {
                key: key.clone(),
                bytes: bytes.len() as u64,
                checksum: "0".repeat(64),
                etag: String::new(),
            }),
            n_rows: self.lease.n_rows,
            counts: Some(v1::RowCounts {
                ok: rows,
                failed: 0,
                skipped: 0,
            }),
            timings: None,
            failures: Vec::new(),
        };
        fleet.block_on(self.client.commit(request)).unwrap_err()
    }
}

#[test]
fn late_commits_of_a_shard_that_was_halved_meanwhile_are_fenced() {
    let mut fleet = small_fleet(0, |options| options.times = BRIEF);
    let known = documents(&fleet, &[3, 3, 4]);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    // One after another dies with the only shard in its hands, on machines of their own.
    let zombies: Vec<Zombie> = (0..3)
        .map(|number| Zombie::rise(&fleet, &format!("grave-{number}")))
        .collect();
    let halved = fleet.wait_job(&job_id, "a halved shard", |job| {
        job.shards.is_some_and(|shards| shards.halved > 0)
    });
    assert_eq!(halved.shards.unwrap().halved, 1);
    for zombie in &zombies {
        let error = zombie.commit(&fleet, &out);
        assert_eq!(error.reason, Reason::LeaseFenced, "{error:?}");
    }
    fleet.start_worker(&node(0));
    fleet.wait_state(&job_id, JobState::Done);
    for zombie in &zombies {
        let error = zombie.commit(&fleet, &out);
        assert_eq!(error.reason, Reason::LeaseFenced, "{error:?}");
    }
    expect_exact(&fleet, &known, &out);
}
