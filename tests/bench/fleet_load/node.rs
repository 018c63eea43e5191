//! A node that reads nothing: everything else it does as the product's worker does it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use quire_core::{EngineInfo, Fault, JobId, LeaseId, PlannedDocument, shard_lines};
use quire_dataset::{Output, PartSummary, PartWriter};
use quire_proto::grpc::Client;
use quire_proto::{CallError, WorkerCalls, v1};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::measure::{Call, Load};
use crate::rows::part_rows;

/// Shards held beyond those that are read.
const PREFETCH: usize = 2;
/// How often pages that were read in the meantime are counted.
const TICK: Duration = Duration::from_secs(1);

/// How a node behaves.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    /// What it says it reads with: that of the job.
    pub(crate) engine: EngineInfo,
    /// Its place among all nodes, 0 to 1: they do not all start in the same moment.
    pub(crate) at: f64,
    pub(crate) gpus: u32,
    /// Of one device.
    pub(crate) pages_per_second: f64,
    pub(crate) shard_pages: u32,
}

/// How far a lease is.
#[derive(Debug, Clone, Copy)]
struct Progress {
    stage: v1::LeaseStage,
    rows_done: u32,
}

struct Node {
    plan: NodePlan,
    client: Client,
    output: Output,
    load: Arc<Load>,
    session_id: String,
    held: Mutex<BTreeMap<String, Progress>>,
    /// Free places for leases.
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

/// Registers and works until `stop`.
pub(crate) async fn run(
    plan: NodePlan,
    client: Client,
    output: Output,
    load: Arc<Load>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let request = v1::RegisterRequest {
        worker_name: format!("simulated-{}", plan.name),
        node: plan.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engines: vec![(&plan.engine).into()],
        devices: (0..plan.gpus).map(|gpu| format!("cuda:{gpu}")).collect(),
        pages_per_second_hint: plan.pages_per_second * f64::from(plan.gpus),
    };
    let registered = client.register(request).await.context("register")?;
    let period = Duration::from_millis(registered.heartbeat_period_ms);
    let gpus = plan.gpus as usize;
    let node = Arc::new(Node {
        plan,
        client,
        output,
        load,
        session_id: registered.session_id,
        held: Mutex::default(),
        places: Arc::new(Semaphore::new(gpus + PREFETCH)),
        stop,
    });
    let (sender, receiver) = mpsc::channel(gpus + PREFETCH);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&node).beat(period));
    tasks.spawn(Arc::clone(&node).acquire(sender));
    for gpu in 0..node.plan.gpus {
        tasks.spawn(Arc::clone(&node).read(gpu, Arc::clone(&receiver)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task of a node")??;
    }
    Ok(())
}

impl Node {
    async fn beat(self: Arc<Self>, period: Duration) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(period);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let request = v1::HeartbeatRequest {
                session_id: self.session_id.clone(),
                state: v1::WorkerState::Ready.into(),
                leases: self.progress(),
                store_ok: true,
            };
            let began = Instant::now();
            match self.client.heartbeat(request).await {
                Ok(_) => self.load.took(Call::Heartbeat, began.elapsed()),
                Err(error) => self.load.failed(&error),
            }
        }
    }

    fn progress(&self) -> Vec<v1::LeaseProgress> {
        let held = self.held.lock().expect("nobody panics with it");
        let told = |(lease_id, progress): (&String, &Progress)| v1::LeaseProgress {
            lease_id: lease_id.clone(),
            stage: progress.stage.into(),
            rows_done: progress.rows_done,
            rows_failed: 0,
            documents_in_flight: Vec::new(),
            engine_moved: false,
        };
        held.iter().map(told).collect()
    }

    /// Keeps as many leases as there are places.
    async fn acquire(self: Arc<Self>, sender: mpsc::Sender<v1::Lease>) -> anyhow::Result<()> {
        while !self.stop.is_cancelled() {
            let place = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                place = self.places.acquire() => place.context("places")?,
            };
            let free = 1 + self.places.available_permits();
            drop(place);
            let request = v1::AcquireRequest {
                session_id: self.session_id.clone(),
                max_leases: u32::try_from(free).unwrap_or(1),
                want_rows: 0,
                wait_ms: 5_000,
            };
            let began = Instant::now();
            let answer = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                answer = self.client.acquire(request) => answer,
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    self.load.failed(&error);
                    tokio::time::sleep(TICK).await;
                    continue;
                }
            };
            if !answer.leases.is_empty() {
                self.load.took(Call::Acquire, began.elapsed());
            }
            for lease in answer.leases {
                self.places.acquire().await.context("places")?.forget();
                self.note(&lease.lease_id, v1::LeaseStage::Queued, 0);
                sender.send(lease).await.context("devices")?;
            }
            tokio::time::sleep(Duration::from_millis(answer.retry_after_ms)).await;
        }
        Ok(())
    }

    /// One device: takes as long for each shard as its pages take, and begins the next while the
    /// part of the last is on its way.
    async fn read(
        self: Arc<Self>,
        gpu: u32,
        leases: Arc<tokio::sync::Mutex<mpsc::Receiver<v1::Lease>>>,
    ) -> anyhow::Result<()> {
        // Devices of a real fleet end their shards at all times.
        let shard = f64::from(self.plan.shard_pages) / self.plan.pages_per_second;
        let share = (self.plan.at + f64::from(gpu) / f64::from(self.plan.gpus)).fract();
        let mut due = tokio::time::Instant::now() + Duration::from_secs_f64(shard * share);
        let mut finishing = JoinSet::new();
        loop {
            let lease = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                lease = async { leases.lock().await.recv().await } => lease,
            };
            let Some(lease) = lease else { return Ok(()) };
            // Time lost while no shard was there is not made up for.
            let start = due.max(tokio::time::Instant::now());
            let pages = f64::from(lease.n_rows) / self.plan.pages_per_second;
            due = start + Duration::from_secs_f64(pages);
            while tokio::time::Instant::now() < due {
                let tick = (tokio::time::Instant::now() + TICK).min(due);
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep_until(tick) => {}
                }
                let read = tick.saturating_duration_since(start).as_secs_f64();
                let rows = (read * self.plan.pages_per_second) as u32;
                self.note(
                    &lease.lease_id,
                    v1::LeaseStage::Reading,
                    rows.min(lease.n_rows),
                );
            }
            self.note(&lease.lease_id, v1::LeaseStage::Uploading, lease.n_rows);
            while finishing.len() >= 2 {
                finished(finishing.join_next().await)?;
            }
            finishing.spawn(Arc::clone(&self).finish(lease));
        }
    }

    fn note(&self, lease_id: &str, stage: v1::LeaseStage, rows_done: u32) {
        let mut held = self.held.lock().expect("nobody panics with it");
        held.insert(lease_id.to_owned(), Progress { stage, rows_done });
    }

    /// Writes the part and commits it.
    async fn finish(self: Arc<Self>, lease: v1::Lease) -> anyhow::Result<()> {
        let summary = self.write(&lease).await.context("write a part")?;
        let request = v1::CommitRequest {
            lease_id: lease.lease_id.clone(),
            session_id: self.session_id.clone(),
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
            timings: None,
            failures: Vec::new(),
        };
        let began = Instant::now();
        loop {
            match self.client.commit(request.clone()).await {
                Ok(_) => {
                    self.load.took(Call::Commit, began.elapsed());
                    self.load.accepted(lease.n_rows);
                    break;
                }
                Err(error) => {
                    self.load.failed(&error);
                    if !is_passing(&error) {
                        break;
                    }
                    tokio::time::sleep(TICK).await;
                }
            }
        }
        let mut held = self.held.lock().expect("nobody panics with it");
        held.remove(&lease.lease_id);
        self.places.add_permits(1);
        Ok(())
    }

    async fn write(&self, lease: &v1::Lease) -> anyhow::Result<PartSummary> {
        let area = self.output.job_area(&JobId::new(&lease.job_id))?;
        let plan = area.get(&lease.plan_key).await?;
        let wanted = lease.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let skip = wanted.line_start as usize;
            let take = (wanted.line_end - wanted.line_start) as usize;
            let lines: Vec<PlannedDocument> = plan
                .split(|&byte| byte == b'\n')
                .filter(|line| !line.is_empty())
                .skip(skip)
                .take(take)
                .map(serde_json::from_slice)
                .collect::<Result<_, _>>()?;
            let lines = shard_lines(&lines, wanted.skip_rows, wanted.n_rows);
            let spec = serde_json::from_str(&wanted.job_spec_json)?;
            let file = tempfile::NamedTempFile::new()?;
            let mut writer = PartWriter::create(file.reopen()?)?;
            for row in part_rows(&lines, &spec, &wanted)? {
                writer.write(row)?;
            }
            anyhow::Ok((writer.finish()?, file.into_temp_path()))
        });
        let (summary, file) = writing.await??;
        let lease_id = LeaseId::new(&lease.lease_id);
        area.put_part(lease.shard_idx, &lease_id, &file).await?;
        Ok(summary)
    }
}

fn is_passing(error: &CallError) -> bool {
    error.fault == Fault::Unavailable
}

fn finished(
    ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>,
) -> anyhow::Result<()> {
    match ended {
        Some(ended) => ended.context("a part")?,
        None => Ok(()),
    }
}
