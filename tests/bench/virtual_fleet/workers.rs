//! Workers that finish a shard in no time and move the clock by what it would have taken.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use quire_coordinator::CoordinatorHandle;
use quire_core::{EngineInfo, Fault, ManualClock};
use quire_proto::{WorkerCalls, v1};
use tokio::task::JoinSet;

use crate::hollow::PART_BYTES;
use crate::report::Report;

/// Shards asked for at once.
const LEASES: u32 = 2;

/// What there is to do.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) handle: CoordinatorHandle,
    pub(crate) clock: Arc<ManualClock>,
    /// What the fleet needs for a page.
    pub(crate) page: Duration,
    pub(crate) shards: u64,
    pub(crate) engine: EngineInfo,
}

/// Accepted shards and how long each grant and commit took.
#[derive(Debug, Default)]
struct Done {
    shards: AtomicU64,
    times: Mutex<Vec<Duration>>,
}

/// Works until every shard is accepted; reports each tenth.
pub(crate) async fn run(work: Work, workers: u32, report: &mut Report) -> anyhow::Result<()> {
    let done = Arc::new(Done::default());
    let mut tasks = JoinSet::new();
    for at in 0..workers {
        tasks.spawn(one(work.clone(), at, Arc::clone(&done)));
    }
    let mut tenth = 1;
    let mut began = Instant::now();
    while !tasks.is_empty() {
        tokio::select! {
            Some(ended) = tasks.join_next() => ended.context("a worker")??,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        if done.shards.load(Ordering::Relaxed) * 10 >= work.shards * tenth {
            let times = std::mem::take(&mut *done.times.lock().expect("nobody panics with it"));
            report.tenth(tenth, times, began.elapsed());
            began = Instant::now();
            tenth += 1;
        }
    }
    Ok(())
}

async fn one(work: Work, at: u32, done: Arc<Done>) -> anyhow::Result<()> {
    let request = v1::RegisterRequest {
        worker_name: format!("virtual-{at}"),
        node: format!("node-{at}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        engines: vec![(&work.engine).into()],
        ..v1::RegisterRequest::default()
    };
    let session_id = work.handle.register(request).await?.session_id;
    let mut since_beat = 0_u32;
    while done.shards.load(Ordering::Relaxed) < work.shards {
        // The clock runs with the work: often enough for any number of pages a shard.
        since_beat += 1;
        if since_beat.is_multiple_of(16) {
            let request = v1::HeartbeatRequest {
                session_id: session_id.clone(),
                state: v1::WorkerState::Ready.into(),
                leases: Vec::new(),
                store_ok: true,
            };
            work.handle.heartbeat(request).await?;
        }
        let began = Instant::now();
        let request = v1::AcquireRequest {
            session_id: session_id.clone(),
            max_leases: LEASES,
            want_rows: 0,
            wait_ms: 100,
        };
        let leases = work.handle.acquire(request).await?.leases;
        let granted = began.elapsed() / u32::try_from(leases.len().max(1)).unwrap_or(1);
        for lease in leases {
            let began = Instant::now();
            commit(&work, &session_id, &lease).await?;
            let mut times = done.times.lock().expect("nobody panics with it");
            times.push(granted + began.elapsed());
            drop(times);
            work.clock.advance(work.page * lease.n_rows);
            done.shards.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

async fn commit(work: &Work, session_id: &str, lease: &v1::Lease) -> anyhow::Result<()> {
    let request = v1::CommitRequest {
        lease_id: lease.lease_id.clone(),
        session_id: session_id.to_owned(),
        part: Some(v1::Part {
            key: lease.part_key.clone(),
            bytes: PART_BYTES,
            checksum: "0".repeat(64),
            etag: String::new(),
        }),
        n_rows: lease.n_rows,
        counts: Some(v1::RowCounts {
            ok: u64::from(lease.n_rows),
            failed: 0,
            skipped: 0,
        }),
        timings: None,
        failures: Vec::new(),
    };
    match work.handle.commit(request).await {
        Ok(_) => Ok(()),
        Err(error) if error.fault == Fault::Fenced => {
            bail!("a lease ended too early: {error}")
        }
        Err(error) => Err(error.into()),
    }
}
