//! The life of a lease, the same through a handle in this process and over the network.

use std::time::Duration;

use futures::StreamExt;
use quire_dataset::verify;
use quire_proto::{AdminCalls, DatasetCalls, JobCalls, Reason, v1};

use crate::support::worker::Workers;
use crate::wire::Fleet;

/// Register, acquire, heartbeat, commit, commit again, fail, release, expire, commit too late.
async fn lives(over_network: bool) {
    let fleet = Fleet::start().await;
    let worker = fleet.worker(over_network, "node-a").await;

    let lease = worker.one().await;
    assert!(lease.n_rows > 0 && lease.job_id == fleet.job_id.to_string());
    let answer = worker.beat(&lease, &[]).await.unwrap();
    assert_eq!(answer.directives[0].action(), v1::DirectiveAction::Continue);
    let summary = worker.write(&lease).await;
    let request = worker.commit_request(&lease, &summary);
    let first = worker.calls.commit(request.clone()).await.unwrap();
    let again = worker.calls.commit(request).await.unwrap();
    assert_eq!(first.outcome(), v1::CommitOutcome::Committed);
    assert_eq!(again.outcome(), v1::CommitOutcome::AlreadyCommitted);

    let lease = worker.one().await;
    let request = v1::FailRequest {
        lease_id: lease.lease_id.clone(),
        session_id: worker.session_id.clone(),
        fault: v1::Fault::Unavailable.into(),
        message: "the input store is away".into(),
        ..v1::FailRequest::default()
    };
    let failed = worker.calls.fail(request).await.unwrap();
    assert_eq!(failed.disposition(), v1::Disposition::Retry);

    let lease = worker.one().await;
    worker.release(&lease).await;
    let error = worker.finish(&lease).await.unwrap_err();
    assert_eq!(error.reason, Reason::LeaseFenced);

    let lease = worker.one().await;
    let summary = worker.write(&lease).await;
    fleet.clock.advance(Duration::from_secs(3600));
    fleet
        .running
        .until(&fleet.job_id, |job| job.shards.unwrap().leased == 0)
        .await;
    let request = worker.commit_request(&lease, &summary);
    let error = worker.calls.commit(request).await.unwrap_err();
    assert_eq!(error.reason, Reason::LeaseFenced);
    let error = worker.acquire(1, 0).await.unwrap_err();
    assert_eq!(error.reason, Reason::SessionUnknown);

    let calls = fleet.calls(over_network);
    let workers = Workers::start_calling(calls, fleet.bench.output(), 2);
    let job = fleet.running.ended(&fleet.job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    workers.stop().await;
    let report = verify(&fleet.bench.output()).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
    fleet.stop().await;
}

#[tokio::test]
async fn lease_lives_in_one_process() {
    lives(false).await;
}

#[tokio::test]
async fn lease_lives_over_the_network() {
    lives(true).await;
}

#[tokio::test]
async fn every_call_of_an_owner_goes_over_the_network() {
    let fleet = Fleet::start().await;
    let client = fleet.client.clone();
    let job_id = fleet.job_id.to_string();
    fleet
        .running
        .in_state(&fleet.job_id, v1::JobState::Running)
        .await;

    let job = |job: Option<v1::Job>| job.unwrap();
    let request = v1::CreateJobRequest {
        request_id: "again".into(),
        job_spec_json: serde_json::to_string(&fleet.bench.spec()).unwrap(),
        out: fleet.bench.out(),
        priority: 0,
    };
    let created = client.create_job(request).await.unwrap();
    assert_eq!(created.job_id, job_id);
    assert_eq!(created.outcome(), v1::CreateJobOutcome::Resumed);

    let request = v1::GetJobRequest {
        job_id: job_id.clone(),
    };
    let got = job(client.get_job(request.clone()).await.unwrap().job);
    assert_eq!(got.job_id, job_id);
    let listed = client.list_jobs(v1::ListJobsRequest::default()).await;
    assert_eq!(listed.unwrap().jobs.len(), 1);

    let request = v1::UpdateJobRequest {
        job_id: job_id.clone(),
        priority: Some(7),
    };
    assert_eq!(
        job(client.update_job(request).await.unwrap().job).priority,
        7
    );

    let request = v1::PauseJobRequest {
        job_id: job_id.clone(),
        reason: "lunch".into(),
    };
    client.pause_job(request).await.unwrap();
    let request = v1::GetJobRequest {
        job_id: job_id.clone(),
    };
    let paused = job(client.get_job(request).await.unwrap().job);
    assert_eq!(
        (paused.state(), &*paused.state_reason),
        (v1::JobState::Paused, "lunch")
    );
    let request = v1::ResumeJobRequest {
        job_id: job_id.clone(),
    };
    client.resume_job(request).await.unwrap();

    let mut shards = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListShardsRequest {
            job_id: job_id.clone(),
            page_size: 2,
            page_token,
            state: 0,
        };
        let page = client.list_shards(request).await.unwrap();
        shards.extend(page.shards);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(shards.len() as u64, got.shards.unwrap().pending);

    let request = v1::ListQuarantineRequest {
        job_id: job_id.clone(),
        ..Default::default()
    };
    assert!(
        client
            .list_quarantine(request)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    let request = v1::RequeueQuarantinedRequest {
        job_id: job_id.clone(),
        shard_idxs: vec![],
    };
    assert_eq!(client.requeue_quarantined(request).await.unwrap().rows, 0);

    let request = v1::GetDatasetRequest {
        out: fleet.bench.out(),
    };
    let dataset = client.get_dataset(request).await.unwrap();
    assert_eq!((dataset.newest, dataset.job_id), (None, job_id.clone()));
    let request = v1::ListVersionsRequest {
        out: fleet.bench.out(),
        ..Default::default()
    };
    assert!(
        client
            .list_versions(request)
            .await
            .unwrap()
            .versions
            .is_empty()
    );

    let request = v1::CancelJobRequest {
        job_id: job_id.clone(),
        reason: "enough".into(),
    };
    client.cancel_job(request).await.unwrap();
    let job = fleet.running.ended(&fleet.job_id).await;
    assert_eq!(job.state(), v1::JobState::Canceled);
    fleet.stop().await;
}

#[tokio::test]
async fn every_call_of_an_operator_goes_over_the_network() {
    let fleet = Fleet::start().await;
    let client = fleet.client.clone();
    let worker = fleet.worker(true, "node-a").await;
    let lease = worker.one().await;

    let workers = client
        .list_workers(v1::ListWorkersRequest {})
        .await
        .unwrap();
    let known = &workers.workers[0];
    assert_eq!((&*known.node, known.leases.len()), ("node-a", 1));
    assert_eq!(known.leases[0].lease_id, lease.lease_id);

    let request = v1::CordonRequest {
        node: "node-a".into(),
        reason: "a broken fan".into(),
        uncordon: false,
    };
    client.cordon(request.clone()).await.unwrap();
    let cordoned = async { while !worker.acquire(1, 0).await.unwrap().is_empty() {} };
    tokio::time::timeout(Duration::from_secs(60), cordoned)
        .await
        .unwrap();
    let request = v1::CordonRequest {
        uncordon: true,
        ..request
    };
    client.cordon(request).await.unwrap();
    assert_eq!(worker.acquire(1, 10_000).await.unwrap().len(), 1);

    let request = v1::DrainRequest {
        node: "node-a".into(),
        reason: "moving".into(),
    };
    assert_eq!(client.drain(request).await.unwrap().workers, 1);
    // Each coordinator hears of it within a moment, not at once.
    let told = async { while !worker.beat(&lease, &[]).await.unwrap().drain {} };
    tokio::time::timeout(Duration::from_secs(60), told)
        .await
        .unwrap();

    let request = v1::SetTenantRequest {
        tenant: "science".into(),
        weight: 2.5,
    };
    client.set_tenant(request).await.unwrap();
    let tenants = client
        .list_tenants(v1::ListTenantsRequest {})
        .await
        .unwrap();
    let science = tenants.tenants.iter().find(|it| it.tenant == "science");
    assert!((science.unwrap().weight - 2.5).abs() < 1e-9);

    let request = v1::ProbeStorageRequest {
        out: fleet.bench.out(),
    };
    let probe = client.probe_storage(request).await.unwrap();
    assert!(probe.ok && !probe.checks.is_empty(), "{probe:?}");
    fleet.stop().await;
}

#[tokio::test]
async fn watch_ends_with_its_job() {
    let fleet = Fleet::start().await;
    let request = v1::WatchJobRequest {
        job_id: fleet.job_id.to_string(),
        period_ms: 100,
    };
    let mut updates = fleet.client.watch_job(request).await.unwrap();
    let first = updates.next().await.unwrap().unwrap();
    assert_eq!(first.job.unwrap().job_id, fleet.job_id.to_string());
    let workers = Workers::start_calling(fleet.calls(true), fleet.bench.output(), 2);
    let mut last = None;
    while let Some(update) = updates.next().await {
        last = update.unwrap().job;
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Done);
    workers.stop().await;

    let request = v1::WatchJobRequest {
        job_id: "j-000000000000".into(),
        period_ms: 0,
    };
    let opened = fleet.client.watch_job(request).await;
    let error = match opened {
        Err(error) => error,
        Ok(mut updates) => updates.next().await.unwrap().unwrap_err(),
    };
    assert_eq!(error.reason, Reason::JobUnknown);
    fleet.stop().await;
}
