//! A worker that fills its rows in without reading a page, through the calls that any worker
//! uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quire_coordinator::CoordinatorHandle;
use quire_core::{Fault, JobId, JobSpec, LeaseId, PlannedDocument, shard_lines};
use quire_dataset::{Output, PartSummary, PartWriter};
use quire_proto::{CallError, WorkerCalls, v1};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rows::part_rows;

/// One registered worker.
#[derive(Clone)]
pub struct TestWorker {
    pub calls: Arc<dyn WorkerCalls>,
    pub output: Output,
    pub node: String,
    pub session_id: String,
}

impl TestWorker {
    pub async fn register(calls: Arc<dyn WorkerCalls>, output: Output, node: &str) -> Self {
        let request = v1::RegisterRequest {
            worker_name: format!("worker of {node}"),
            node: node.into(),
            engines: vec![(&super::engine()).into()],
            ..v1::RegisterRequest::default()
        };
        let registered = loop {
            match calls.register(request.clone()).await {
                Err(error) if error.fault == Fault::Unavailable => pause().await,
                registered => break registered,
            }
        };
        let session_id = registered.unwrap().session_id;
        Self {
            calls,
            output,
            node: node.to_owned(),
            session_id,
        }
    }

    pub async fn acquire(
        &self,
        max_leases: u32,
        wait_ms: u64,
    ) -> Result<Vec<v1::Lease>, CallError> {
        let session_id = self.session_id.clone();
        let request = v1::AcquireRequest {
            session_id,
            max_leases,
            want_rows: 0,
            wait_ms,
        };
        Ok(self.calls.acquire(request).await?.leases)
    }

    /// Takes one shard, which must be there.
    pub async fn one(&self) -> v1::Lease {
        self.acquire(1, 10_000)
            .await
            .unwrap()
            .pop()
            .expect("a shard waits")
    }

    /// Takes all shards that wait, keeps the first that is wanted and gives the others back.
    pub async fn pick(&self, is_wanted: impl Fn(&v1::Lease) -> bool) -> v1::Lease {
        let mut picked = None;
        for lease in self.acquire(64, 10_000).await.unwrap() {
            if picked.is_none() && is_wanted(&lease) {
                picked = Some(lease);
            } else {
                self.release(&lease).await;
            }
        }
        picked.expect("the wanted shard waits")
    }

    pub async fn lines(&self, lease: &v1::Lease) -> Vec<PlannedDocument> {
        let area = self.output.job_area(&JobId::new(&lease.job_id)).unwrap();
        let content = area.get(&lease.plan_key).await.unwrap();
        let all: Vec<PlannedDocument> = content
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let range = lease.line_start as usize..lease.line_end as usize;
        shard_lines(&all[range], lease.skip_rows, lease.n_rows)
    }

    /// Writes the part of a shard.
    pub async fn write(&self, lease: &v1::Lease) -> PartSummary {
        let spec: JobSpec = serde_json::from_str(&lease.job_spec_json).unwrap();
        let lines = self.lines(lease).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("part.parquet");
        let mut writer = PartWriter::create(std::fs::File::create(&file).unwrap()).unwrap();
        for row in part_rows(&lines, &spec, lease) {
            writer.write(row).unwrap();
        }
        let summary = writer.finish().unwrap();
        let area = self.output.job_area(&JobId::new(&lease.job_id)).unwrap();
        let lease_id = LeaseId::new(&lease.lease_id);
        let key = area
            .put_part(lease.shard_idx, &lease_id, &file)
            .await
            .unwrap();
        assert_eq!(key, lease.part_key);
        summary
    }

    pub fn commit_request(&self, lease: &v1::Lease, summary: &PartSummary) -> v1::CommitRequest {
        let (ok, failed, skipped) = (summary.ok, summary.failed, summary.skipped);
        let failures = match failed {
            0 => Vec::new(),
            count => {
                let (code, example) = ("damaged".into(), "broken.pdf".into());
                vec![v1::FailureCount {
                    code,
                    count,
                    example,
                }]
            }
        };
        v1::CommitRequest {
            lease_id: lease.lease_id.clone(),
            session_id: self.session_id.clone(),
            part: Some(v1::Part {
                key: lease.part_key.clone(),
                bytes: summary.bytes,
                checksum: summary.sha256.clone(),
                etag: String::new(),
            }),
            n_rows: u32::try_from(summary.rows).unwrap(),
            counts: Some(v1::RowCounts {
                ok,
                failed,
                skipped,
            }),
            timings: None,
            failures,
        }
    }

    /// Writes and commits.
    pub async fn finish(&self, lease: &v1::Lease) -> Result<v1::CommitOutcome, CallError> {
        let summary = self.write(lease).await;
        let request = self.commit_request(lease, &summary);
        Ok(self.calls.commit(request).await?.outcome())
    }

    pub async fn beat(
        &self,
        lease: &v1::Lease,
        in_flight: &[&str],
    ) -> Result<v1::HeartbeatResponse, CallError> {
        let progress = v1::LeaseProgress {
            lease_id: lease.lease_id.clone(),
            stage: v1::LeaseStage::Reading.into(),
            rows_done: 0,
            rows_failed: 0,
            documents_in_flight: in_flight.iter().map(ToString::to_string).collect(),
            engine_moved: false,
        };
        let request = v1::HeartbeatRequest {
            session_id: self.session_id.clone(),
            state: v1::WorkerState::Ready.into(),
            leases: vec![progress],
            store_ok: true,
        };
        self.calls.heartbeat(request).await
    }

    pub async fn release(&self, lease: &v1::Lease) {
        let request = v1::ReleaseRequest {
            session_id: self.session_id.clone(),
            lease_ids: vec![lease.lease_id.clone()],
            reason: "drain".into(),
            end_session: false,
        };
        self.calls.release(request).await.unwrap();
    }

    async fn work(mut self, stop: CancellationToken, n_rows: Arc<AtomicU64>) {
        while !stop.is_cancelled() {
            let leases = match self.acquire(2, 20).await {
                Ok(leases) => leases,
                // Whoever gives up here leaves shards that nobody reads: the test would wait.
                Err(error) if error.fault == Fault::Unavailable => {
                    pause().await;
                    continue;
                }
                // On a slow machine a session may end though its worker lives.
                Err(error) if error.fault == Fault::Fenced => {
                    let calls = Arc::clone(&self.calls);
                    self = Self::register(calls, self.output.clone(), &self.node).await;
                    continue;
                }
                Err(_) => return,
            };
            for lease in leases {
                // Only an answer ends a commit: else the shard would wait for the session's end.
                let ended = loop {
                    match self.finish(&lease).await {
                        Err(error) if error.fault == Fault::Unavailable && !stop.is_cancelled() => {
                            pause().await;
                        }
                        ended => break ended,
                    }
                };
                if ended.is_ok() {
                    n_rows.fetch_add(u64::from(lease.n_rows), Ordering::SeqCst);
                }
            }
        }
    }
}

/// Between two tries of a call that found nobody.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Workers that take what there is.
pub struct Workers {
    tasks: JoinSet<()>,
    stop: CancellationToken,
    n_rows: Arc<AtomicU64>,
}

impl Workers {
    pub fn start(handle: &CoordinatorHandle, output: Output, n: usize) -> Self {
        Self::start_calling(Arc::new(handle.clone()), output, n)
    }

    pub fn start_calling(calls: Arc<dyn WorkerCalls>, output: Output, n: usize) -> Self {
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        let n_rows = Arc::new(AtomicU64::new(0));
        for at in 0..n {
            let (calls, output) = (Arc::clone(&calls), output.clone());
            let (stop, n_rows) = (stop.clone(), Arc::clone(&n_rows));
            tasks.spawn(async move {
                let worker = TestWorker::register(calls, output, &format!("node-{at}")).await;
                worker.work(stop, n_rows).await;
            });
        }
        Self {
            tasks,
            stop,
            n_rows,
        }
    }

    /// Stops them; returns how many rows they committed.
    pub async fn stop(mut self) -> u64 {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.n_rows.load(Ordering::SeqCst)
    }
}
