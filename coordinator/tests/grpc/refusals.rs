//! Bad calls, each refused with its own reason, and nothing lost by it.

use std::sync::Arc;

use quire_core::{Fault, JobId};
use quire_proto::v1::job_service_client::JobServiceClient;
use quire_proto::{CallError, JobCalls, Reason, v1};
use serde_json::Value;
use tonic::Code;

use crate::support::Bench;
use crate::support::worker::{TestWorker, Workers};
use crate::wire::Fleet;

fn create(spec: String, out: String) -> v1::CreateJobRequest {
    v1::CreateJobRequest {
        request_id: "r".into(),
        job_spec_json: spec,
        out,
        priority: 0,
    }
}

#[tokio::test]
async fn unknown_field_of_a_job_is_refused_by_its_name() {
    let fleet = Fleet::start().await;
    let mut spec = serde_json::to_value(fleet.bench.spec()).unwrap();
    spec["render"]["colour"] = Value::from("sepia");
    let request = create(spec.to_string(), fleet.bench.out());
    let error = fleet.client.create_job(request).await.unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::Malformed, Fault::Input)
    );
    assert_eq!(error.field.as_deref(), Some("job_spec_json.render.colour"));
    assert!(error.message.contains("render.colour"), "{error}");
    fleet.stop().await;
}

#[tokio::test]
async fn field_that_is_missing_or_of_another_kind_is_refused() {
    let fleet = Fleet::start().await;
    let whole = serde_json::to_value(fleet.bench.spec()).unwrap();
    let mut missing = whole.clone();
    missing.as_object_mut().unwrap().remove("engine");
    let mut other = whole.clone();
    other["shard_pages"] = Value::from("many");
    for spec in [
        missing.to_string(),
        other.to_string(),
        "{".into(),
        String::new(),
    ] {
        let request = create(spec.clone(), fleet.bench.out());
        let error = fleet.client.create_job(request).await.unwrap_err();
        assert_eq!(error.reason, Reason::Malformed, "{spec}: {error}");
    }
    let request = create(whole.to_string(), String::new());
    let error = fleet.client.create_job(request).await.unwrap_err();
    assert_eq!(error.reason, Reason::Malformed);
    fleet.stop().await;
}

#[tokio::test]
async fn commit_that_does_not_fit_is_refused_with_its_reason() {
    let fleet = Fleet::start().await;
    let worker = fleet.worker(true, "node-a").await;
    let lease = worker.one().await;
    let summary = worker.write(&lease).await;
    let good = worker.commit_request(&lease, &summary);

    let mut foreign = good.clone();
    foreign.part.as_mut().unwrap().key = "parts/another.parquet".into();
    let mut short = good.clone();
    short.n_rows += 1;
    short.counts.as_mut().unwrap().ok += 1;
    let mut crooked = good.clone();
    crooked.counts.as_mut().unwrap().ok += 1;
    let mut absent = good.clone();
    absent.part.as_mut().unwrap().bytes += 1;
    let mut stale = good.clone();
    stale.lease_id = "0e5c9c9a-0000-4000-8000-000000000000".into();
    let nothing = v1::CommitRequest {
        part: None,
        ..good.clone()
    };
    for (request, expected) in [
        (foreign, Reason::PartKeyForeign),
        (short, Reason::RowCountMismatch),
        (crooked, Reason::Malformed),
        (absent, Reason::PartMissing),
        (stale, Reason::LeaseFenced),
        (nothing, Reason::Malformed),
    ] {
        let error = worker.calls.commit(request).await.unwrap_err();
        assert_eq!(error.reason, expected, "{error}");
        assert_eq!(error.fault, expected.fault());
    }
    let answer = worker.calls.commit(good).await.unwrap();
    assert_eq!(answer.outcome(), v1::CommitOutcome::Committed);
    fleet.stop().await;
}

#[tokio::test]
async fn session_that_nobody_opened_is_told_to_register() {
    let fleet = Fleet::start().await;
    let request = v1::AcquireRequest {
        session_id: "nobody".into(),
        max_leases: 1,
        ..v1::AcquireRequest::default()
    };
    let error = fleet.calls(true).acquire(request).await.unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::SessionUnknown, Fault::Fenced)
    );
    fleet.stop().await;
}

#[tokio::test]
async fn message_that_is_too_long_is_refused_on_either_side() {
    let fleet = Fleet::start().await;
    let request = create("x".repeat(5 << 20), fleet.bench.out());
    let error = fleet.client.create_job(request.clone()).await.unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::MessageTooLarge, Fault::Config),
        "{error}"
    );

    let mut unlimited = JobServiceClient::new(fleet.served.channel());
    let status = unlimited.create_job(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(CallError::from(status).reason, Reason::MessageTooLarge);

    // Short enough for a message, too long to be sent with every lease.
    let request = create("x".repeat(2 << 20), fleet.bench.out());
    let error = fleet.client.create_job(request).await.unwrap_err();
    assert_eq!(error.reason, Reason::MessageTooLarge);
    fleet.stop().await;
}

#[tokio::test]
async fn job_and_page_that_are_not_there_are_refused() {
    let fleet = Fleet::start().await;
    let request = v1::GetJobRequest {
        job_id: "j-000000000000".into(),
    };
    let error = fleet.client.get_job(request).await.unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::JobUnknown, Fault::Config)
    );
    let request = v1::ListJobsRequest {
        page_size: 1,
        page_token: "yesterday".into(),
    };
    let error = fleet.client.list_jobs(request).await.unwrap_err();
    assert_eq!(error.reason, Reason::Malformed);
    fleet.stop().await;
}

#[tokio::test]
async fn list_that_would_not_fit_comes_in_shorter_pages() {
    let fleet = Fleet::start().await;
    // Each job carries its specification, which is nearly as long as is allowed.
    let mut n_jobs = 1;
    for n in 0..5 {
        let mut spec = fleet.bench.spec();
        spec.inputs = vec![format!("file:///nowhere/{n}/{}", "x".repeat(1_000_000))];
        let out = format!("{}-{n}", fleet.bench.out());
        let request = create(serde_json::to_string(&spec).unwrap(), out);
        fleet.client.create_job(request).await.unwrap();
        n_jobs += 1;
    }
    let (mut found, mut page_token) = (0, String::new());
    loop {
        let request = v1::ListJobsRequest {
            page_size: 0,
            page_token,
        };
        let page = fleet.client.list_jobs(request).await.unwrap();
        found += page.jobs.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, n_jobs);
    fleet.stop().await;
}

#[tokio::test]
async fn leases_that_do_not_fit_into_one_message_go_back_and_come_again() {
    let fleet = Fleet::start().await;
    let mut spec = fleet.bench.spec();
    // Nearly as long as is allowed, and in every lease.
    spec.split.salt = "s".repeat(1_000_000);
    let bench = Bench::with_corpus();
    spec.inputs = vec![format!("file://{}", bench.input().display())];
    let request = create(serde_json::to_string(&spec).unwrap(), bench.out());
    let created = fleet.client.create_job(request).await.unwrap();
    let job_id = JobId::new(created.job_id);
    fleet.running.in_state(&job_id, v1::JobState::Running).await;
    let cancel = v1::CancelJobRequest {
        job_id: fleet.job_id.to_string(),
        reason: "the other one is looked at".into(),
    };
    fleet.client.cancel_job(cancel).await.unwrap();
    fleet.running.ended(&fleet.job_id).await;

    let calls = fleet.calls(true);
    let worker = TestWorker::register(Arc::clone(&calls), bench.output(), "node-a").await;
    let leases = worker.acquire(64, 10_000).await.unwrap();
    let shards = fleet.running.job(&job_id).await.shards.unwrap();
    assert!((1..=4).contains(&leases.len()), "{}", leases.len());
    assert_eq!(shards.leased, leases.len() as u64);
    assert!(shards.pending > 0);
    for lease in &leases {
        worker.finish(lease).await.unwrap();
    }
    let workers = Workers::start_calling(calls, bench.output(), 2);
    let job = fleet.running.ended(&job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    workers.stop().await;
    fleet.stop().await;
}
