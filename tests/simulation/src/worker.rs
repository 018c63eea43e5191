//! A worker's host: the calls, leases and parts of a real worker over the real client, with rows
//! made of the plan and time passing where pages would be read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quire_core::{Fault, JobSpec, LeaseId, PlannedDocument, PlannedWork, shard_lines};
use quire_dataset::{JobArea, PartSummary, PartWriter};
use quire_proto::grpc::Client;
use quire_proto::{CallError, Reason, WorkerCalls, v1};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::corpus::engine;
use crate::network;
use crate::world::World;

// The coordinator's own tests make the same rows of a plan.
#[path = "../../../coordinator/tests/support/rows.rs"]
#[allow(unreachable_pub, reason = "it is written for crates of tests")]
mod rows;

const PAUSE: Duration = Duration::from_secs(1);
/// A process that died is started again after this long.
const RESTART: Duration = Duration::from_secs(3);

/// What runs on a worker's host, from one crash to the next.
pub(crate) async fn run(world: Arc<World>, host: &'static str, nth: usize) -> turmoil::Result {
    world.trace.note(host, "starts");
    loop {
        let client = network::client(&world, host, nth);
        let session = Session::open(Arc::clone(&world), host, client).await;
        if session.run().await == End::Died {
            // Its connections are closed with it, and nobody is told.
            tokio::time::sleep(RESTART).await;
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unknown,
    Died,
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Committed,
    Dropped,
    Died,
}

#[derive(Debug)]
struct Held {
    stage: v1::LeaseStage,
    rows_done: u32,
    in_flight: Vec<String>,
    abandoned: CancellationToken,
}

type Leases = Arc<Mutex<BTreeMap<String, Held>>>;

struct Session {
    world: Arc<World>,
    host: &'static str,
    client: Client,
    id: String,
    heartbeat_period: Duration,
    held: Leases,
    lost: CancellationToken,
}

impl Session {
    async fn open(world: Arc<World>, host: &'static str, client: Client) -> Self {
        let request = v1::RegisterRequest {
            worker_name: host.to_owned(),
            node: format!("node of {host}"),
            version: "0.1.0".into(),
            engines: vec![(&engine()).into()],
            ..v1::RegisterRequest::default()
        };
        let answer = loop {
            awake(&world, host).await;
            match client.register(request.clone()).await {
                Ok(answer) => break answer,
                Err(error) => expect_fault(&error, &[Fault::Unavailable]),
            }
            tokio::time::sleep(PAUSE).await;
        };
        let named = &answer.session_id[..8];
        world.trace.note(host, format!("registered as {named}"));
        Self {
            world,
            host,
            client,
            id: answer.session_id,
            heartbeat_period: Duration::from_millis(answer.heartbeat_period_ms),
            held: Leases::default(),
            lost: CancellationToken::new(),
        }
    }

    async fn run(self) -> End {
        // Ends with this future, whatever becomes of the session.
        let mut beats = JoinSet::new();
        beats.spawn(beat(
            Arc::clone(&self.world),
            self.host,
            self.client.clone(),
            self.id.clone(),
            self.heartbeat_period,
            Arc::clone(&self.held),
            self.lost.clone(),
        ));
        while !self.lost.is_cancelled() {
            awake(&self.world, self.host).await;
            let request = v1::AcquireRequest {
                session_id: self.id.clone(),
                max_leases: 2,
                want_rows: 0,
                wait_ms: 10_000,
            };
            match self.client.acquire(request).await {
                Ok(answer) => {
                    if self.work_on(answer.leases).await == Done::Died {
                        return End::Died;
                    }
                }
                Err(error) if error.fault == Fault::Fenced => break,
                Err(error) => expect_fault(&error, &[Fault::Unavailable]),
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.note("is not known any more");
        End::Unknown
    }

    async fn work_on(&self, leases: Vec<v1::Lease>) -> Done {
        for lease in &leases {
            let held = Held {
                stage: v1::LeaseStage::Queued,
                rows_done: 0,
                in_flight: Vec::new(),
                abandoned: CancellationToken::new(),
            };
            self.note(format!("has {}", told(lease)));
            self.held
                .lock()
                .unwrap()
                .insert(lease.lease_id.clone(), held);
        }
        for lease in &leases {
            let abandoned = self.held.lock().unwrap()[&lease.lease_id].abandoned.clone();
            let done = tokio::select! {
                biased;
                () = abandoned.cancelled() => Done::Dropped,
                () = self.lost.cancelled() => Done::Dropped,
                done = self.work(lease) => done,
            };
            self.held.lock().unwrap().remove(&lease.lease_id);
            if done != Done::Committed {
                self.note(format!("{done:?}: {}", told(lease)));
            }
            if done == Done::Died {
                return done;
            }
        }
        Done::Committed
    }

    /// One lease from grant to its end.
    async fn work(&self, lease: &v1::Lease) -> Done {
        let start = Instant::now();
        let output = self.world.output(self.host);
        let area = output.job_area(&self.world.job_id).unwrap();
        let lines = self.plan(lease, &area).await;
        for line in &lines {
            if self.read(lease, line).await == Done::Died {
                return Done::Died;
            }
        }
        let (content, summary) = write(&self.world.scratch, &lines, lease);
        self.progress(lease, |held| {
            held.stage = v1::LeaseStage::Uploading;
            held.in_flight.clear();
        });
        let lease_id = LeaseId::new(&lease.lease_id);
        loop {
            awake(&self.world, self.host).await;
            let put = area
                .put_part_bytes(lease.shard_idx, &lease_id, content.clone())
                .await;
            match put {
                Ok(key) if key == lease.part_key => break,
                Ok(key) => panic!("the part lies at {key}, not at {}", lease.part_key),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        self.commit(lease, &summary, start.elapsed()).await
    }

    async fn plan(&self, lease: &v1::Lease, area: &JobArea) -> Vec<PlannedDocument> {
        let content = loop {
            match area.get(&lease.plan_key).await {
                Ok(content) => break content,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        let all: Vec<PlannedDocument> = content
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let range = lease.line_start as usize..lease.line_end as usize;
        shard_lines(&all[range], lease.skip_rows, lease.n_rows)
    }

    async fn read(&self, lease: &v1::Lease, line: &PlannedDocument) -> Done {
        let pages = match line.work {
            PlannedWork::Read { first_idx, count } => first_idx..first_idx + count,
            _ => 0..1,
        };
        self.progress(lease, |held| {
            held.stage = v1::LeaseStage::Reading;
            held.in_flight = vec![line.doc_id.to_string()];
        });
        for page_idx in pages {
            awake(&self.world, self.host).await;
            let page = format!("{}/{page_idx}", line.doc_id);
            let chance = self.world.chance;
            let is_slow = chance.share(&format!("slow {}", self.host)) < 0.1;
            let most_ms = if is_slow { 20_000 } else { 4_000 };
            let pause = chance.within(&format!("{} reads {page}", self.host), 500..most_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if self.world.poison.contains(&page) {
                return Done::Died;
            }
            self.progress(lease, |held| held.rows_done += 1);
        }
        Done::Committed
    }

    async fn commit(&self, lease: &v1::Lease, summary: &PartSummary, took: Duration) -> Done {
        let request = commit_request(lease, &self.id, summary, took);
        loop {
            awake(&self.world, self.host).await;
            let answer = self.client.commit(request.clone()).await;
            match answer {
                Ok(answer) => {
                    let outcome = answer.outcome().as_str_name();
                    self.note(format!("{outcome}: {}", told(lease)));
                    return Done::Committed;
                }
                Err(error) if error.fault == Fault::Unavailable => {}
                Err(error) if error.reason == Reason::JobNotRunning => return Done::Dropped,
                Err(error) => {
                    expect_fault(&error, &[Fault::Fenced]);
                    self.note(format!("{}: {}", error.reason, told(lease)));
                    return Done::Dropped;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn progress(&self, lease: &v1::Lease, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held.lock().unwrap().get_mut(&lease.lease_id) {
            change(held);
        }
    }

    fn note(&self, what: impl AsRef<str>) {
        self.world.trace.note(self.host, what);
    }
}

/// A process that is stopped, as by SIGSTOP or a machine that swaps, goes on where it was.
async fn awake(world: &World, host: &str) {
    while world.weather.is_cut_off(host, "time") {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn beat(
    world: Arc<World>,
    host: &'static str,
    client: Client,
    session_id: String,
    period: Duration,
    held: Leases,
    lost: CancellationToken,
) {
    loop {
        tokio::time::sleep(period).await;
        awake(&world, host).await;
        let leases = held.lock().unwrap().iter().map(progress_of).collect();
        let request = v1::HeartbeatRequest {
            session_id: session_id.clone(),
            state: v1::WorkerState::Ready.into(),
            leases,
            store_ok: !world.weather.is_cut_off(host, "objects"),
        };
        match client.heartbeat(request).await {
            Ok(answer) => {
                let held = held.lock().unwrap();
                for directive in &answer.directives {
                    let is_over = directive.action() == v1::DirectiveAction::Abandon;
                    if let Some(held) = held.get(&directive.lease_id).filter(|_| is_over) {
                        held.abandoned.cancel();
                    }
                }
            }
            Err(error) if error.fault == Fault::Fenced => return lost.cancel(),
            Err(error) => expect_fault(&error, &[Fault::Unavailable]),
        }
    }
}

fn progress_of((lease_id, held): (&String, &Held)) -> v1::LeaseProgress {
    v1::LeaseProgress {
        lease_id: lease_id.clone(),
        stage: held.stage.into(),
        rows_done: held.rows_done,
        rows_failed: 0,
        documents_in_flight: held.in_flight.clone(),
        engine_moved: false,
    }
}

/// Writes the part of a shard, all at once: while a thread of tokio's pool did it, others could
/// go on in an order that no seed decides.
fn write(
    scratch: &std::path::Path,
    lines: &[PlannedDocument],
    lease: &v1::Lease,
) -> (Bytes, PartSummary) {
    let file = scratch.join(format!("{}.parquet", lease.lease_id));
    let spec: JobSpec = serde_json::from_str(&lease.job_spec_json).unwrap();
    let mut writer = PartWriter::create(std::fs::File::create(&file).unwrap()).unwrap();
    for row in rows::part_rows(lines, &spec, lease) {
        writer.write(row).unwrap();
    }
    let summary = writer.finish().unwrap();
    let content = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    (Bytes::from(content), summary)
}

fn commit_request(
    lease: &v1::Lease,
    session_id: &str,
    summary: &PartSummary,
    took: Duration,
) -> v1::CommitRequest {
    let failure = v1::FailureCount {
        code: "damaged".into(),
        count: summary.failed,
        example: "a document".into(),
    };
    v1::CommitRequest {
        lease_id: lease.lease_id.clone(),
        session_id: session_id.to_owned(),
        part: Some(v1::Part {
            key: lease.part_key.clone(),
            bytes: summary.bytes,
            checksum: summary.sha256.clone(),
            etag: String::new(),
        }),
        n_rows: lease.n_rows,
        counts: Some(v1::RowCounts {
            ok: summary.ok,
            failed: summary.failed,
            skipped: summary.skipped,
        }),
        timings: Some(v1::ShardTimings {
            total_ms: u64::try_from(took.as_millis()).unwrap(),
            ..v1::ShardTimings::default()
        }),
        failures: if summary.failed > 0 {
            vec![failure]
        } else {
            Vec::new()
        },
    }
}

fn told(lease: &v1::Lease) -> String {
    let v1::Lease {
        shard_idx,
        epoch,
        n_rows,
        ..
    } = lease;
    let lease_id = &lease.lease_id[..8];
    format!("shard {shard_idx}, {n_rows} rows, attempt {epoch}, lease {lease_id}")
}

/// Anything else than these faults is a bug of the coordinator.
fn expect_fault(error: &CallError, faults: &[Fault]) {
    assert!(
        faults.contains(&error.fault),
        "not to be expected: {error:?}"
    );
}
