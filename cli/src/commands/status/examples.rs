//! A fleet in the middle of its work, for the tests of what is shown.

use quire_proto::v1::{
    FailureCount, HeldLease, Job, JobState, LeaseStage, NodeStanding, RowCounts, ShardCounts,
    Worker, WorkerState,
};

use crate::fleet::Look;

const AT_MS: i64 = 1_800_000_000_000;

/// Four jobs in four states, and three workers on two nodes.
pub(crate) fn look() -> Look {
    Look {
        jobs: vec![running(), planning(), paused(), done()],
        workers: Ok(workers()),
        at_ms: AT_MS,
    }
}

fn base(job_id: &str, state: JobState, planned: u64, ok: u64, failed: u64) -> Job {
    Job {
        job_id: job_id.into(),
        state: state.into(),
        rows_planned: planned,
        documents_planned: planned / 12,
        rows_committed: Some(RowCounts {
            ok,
            failed,
            skipped: 0,
        }),
        out: format!("s3://datasets/{job_id}"),
        tenant: "default".into(),
        created_at_ms: AT_MS - 7_260_000,
        planned_at_ms: AT_MS - 7_200_000,
        ..Job::default()
    }
}

/// A job with failures, shards in every state and workers.
pub(crate) fn running() -> Job {
    let failure = |code: &str, count, example: &str| FailureCount {
        code: code.into(),
        count,
        example: example.into(),
    };
    Job {
        rows_in_flight: 420,
        rows_quarantined: 2,
        tenant: "vision".into(),
        priority: 5,
        workers: 3,
        ms_per_row: 500.0,
        last_manifest: 118,
        shards: Some(ShardCounts {
            pending: 3412,
            leased: 5,
            committed: 31,
            published: 3720,
            halved: 1,
            quarantined: 2,
        }),
        failures: vec![
            failure("encrypted", 201, "s3://scans/2024/a.pdf: needs a password"),
            failure("timeout", 109, "s3://scans/2024/plan.pdf page 7: took over 30s"),
        ],
        job_spec_json: r#"{"inputs":["s3://scans/2024"],"engine":{"name":"pp-ocr","version":"0.1.0","model_id":"ppocr-small","model_revision":"0123456789abcdef","mode":"small"}}"#.into(),
        ..base("j-5f0c1d2e3a4b", JobState::Running, 230_004, 119_679, 310)
    }
}

fn planning() -> Job {
    Job {
        planned_at_ms: 0,
        ..base("j-77aa01b2c3d4", JobState::Planning, 18_200, 0, 0)
    }
}

fn paused() -> Job {
    Job {
        state_reason: "12 of 10,000 pages killed their workers again and again, more than 0.1%"
            .into(),
        rows_quarantined: 12,
        ..base("j-0a1b2c3d4e5f", JobState::Paused, 10_000, 1488, 0)
    }
}

fn done() -> Job {
    Job {
        planned_at_ms: AT_MS - 200_000,
        finished_at_ms: AT_MS - 100_000,
        sealed_version: 3,
        ..base("j-c0ffee123456", JobState::Done, 5000, 4997, 3)
    }
}

fn lease(shard_idx: u64, stage: LeaseStage, rows_done: u32) -> HeldLease {
    HeldLease {
        lease_id: format!("l-{shard_idx}"),
        job_id: "j-5f0c1d2e3a4b".into(),
        shard_idx,
        epoch: 1,
        stage: stage.into(),
        rows_done,
        rows_failed: 1,
        n_rows: 2000,
        granted_at_ms: AT_MS - 61_000,
        is_copy: false,
    }
}

fn worker(name: &str, node: &str, leases: Vec<HeldLease>) -> Worker {
    Worker {
        session_id: format!("s-{name}"),
        worker_name: name.into(),
        node: node.into(),
        version: "0.1.0".into(),
        devices: vec!["cuda:0".into()],
        engines: vec!["pp-ocr".into()],
        state: WorkerState::Ready.into(),
        node_standing: NodeStanding::Open.into(),
        expires_at_ms: AT_MS + 30_000,
        leases,
        ..Worker::default()
    }
}

fn workers() -> Vec<Worker> {
    let leaving = Worker {
        state: WorkerState::Draining.into(),
        node_standing: NodeStanding::Draining.into(),
        node_reason: "new kernel".into(),
        ..worker(
            "node-2-811",
            "node-2",
            vec![lease(3807, LeaseStage::Uploading, 2000)],
        )
    };
    vec![
        worker(
            "node-1-4021",
            "node-1",
            vec![
                lease(3801, LeaseStage::Reading, 1204),
                lease(3802, LeaseStage::Reading, 388),
                lease(3811, LeaseStage::Queued, 0),
            ],
        ),
        worker(
            "node-1-4022",
            "node-1",
            vec![lease(3805, LeaseStage::Reading, 1999)],
        ),
        leaving,
    ]
}
