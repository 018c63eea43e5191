//! The server and the client as such: health, self-description, shutdown, several coordinators.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use quire_coordinator::CoordinatorConfig;
use quire_coordinator::grpc::{GrpcConfig, GrpcLimits};
use quire_coordinator::store::MemoryStore;
use quire_core::{Fault, ManualClock};
use quire_proto::{JobCalls, Reason, WorkerCalls, v1};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::support::Bench;
use crate::support::fuse::AwayStore;
use crate::support::worker::{TestWorker, Workers};
use crate::wire::{Fleet, Place, Served, client};

/// Far more than anything here takes; only so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap()
}

#[tokio::test]
async fn health_is_told_of_every_service() {
    let fleet = Fleet::start().await;
    let mut health = HealthClient::new(fleet.served.channel());
    for service in ["", "quire.v1.WorkerService", "quire.v1.JobService"] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let mut statuses = health.watch(request).await.unwrap().into_inner();
        loop {
            let status = soon(statuses.message()).await.unwrap().unwrap().status();
            if status == ServingStatus::Serving {
                break;
            }
        }
    }
    fleet.stop().await;
}

#[tokio::test]
async fn health_turns_when_the_coordinator_leaves() {
    let fleet = Fleet::start().await;
    let mut health = HealthClient::new(fleet.served.channel());
    let request = HealthCheckRequest::default();
    let mut statuses = health.watch(request).await.unwrap().into_inner();
    fleet.served.shutdown.cancel();
    loop {
        let status = soon(statuses.message()).await.unwrap().unwrap().status();
        if status == ServingStatus::NotServing {
            break;
        }
    }
    drop((statuses, health));
    fleet.stop().await;
}

#[tokio::test]
async fn health_follows_the_database_and_the_coordinator_lives_on() {
    let bench = Bench::new();
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(AwayStore {
        inner: Arc::new(MemoryStore::new(clock)),
        is_away: AtomicBool::new(false),
    });
    let config = CoordinatorConfig {
        // As a fleet's coordinator: it bears with whatever is away.
        patience: None,
        ..bench.config()
    };
    let running = bench.start_with(config, Arc::clone(&store) as _).await;
    let served = Served::start(&running.handle, GrpcConfig::default()).await;
    let mut health = HealthClient::new(served.channel());
    let request = HealthCheckRequest {
        service: "quire.v1.WorkerService".into(),
    };
    let mut statuses = health.watch(request).await.unwrap().into_inner();
    let mut readiness = running.handle.readiness();
    for is_away in [false, true, false] {
        store.is_away.store(is_away, Ordering::SeqCst);
        let expected = match is_away {
            true => ServingStatus::NotServing,
            false => ServingStatus::Serving,
        };
        while soon(statuses.message()).await.unwrap().unwrap().status() != expected {}
        soon(readiness.wait_for(|is_ready| *is_ready != is_away))
            .await
            .unwrap();
    }
    drop((statuses, health));
    served.stop().await;
    assert!(!*running.handle.readiness().borrow());
    running.stop().await;
}

#[tokio::test]
async fn coordinator_describes_its_services() {
    let fleet = Fleet::start().await;
    let mut reflection = ServerReflectionClient::new(fleet.served.channel());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = futures::stream::iter([request]);
    let answers = reflection.server_reflection_info(requests).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<String> = list.service.into_iter().map(|it| it.name).collect();
    for service in ["Worker", "Job", "Dataset", "Admin"] {
        let name = format!("quire.v1.{service}Service");
        assert!(names.contains(&name), "{names:?}");
    }
    fleet.stop().await;
}

#[tokio::test]
async fn waiting_calls_and_watches_do_not_hold_a_shutdown_up() {
    let bench = Bench::new();
    let running = bench.start().await;
    let served = Served::start(&running.handle, GrpcConfig::default()).await;
    let client = served.client().await;
    let worker = TestWorker::register(Arc::new(client.clone()), bench.output(), "node-a").await;
    let waiting = worker.acquire(1, 20_000);
    let stop = async {
        // Not before the call waits.
        let request = v1::HeartbeatRequest {
            session_id: worker.session_id.clone(),
            state: v1::WorkerState::Ready.into(),
            store_ok: true,
            ..v1::HeartbeatRequest::default()
        };
        client.heartbeat(request).await.unwrap();
        served.stop().await;
    };
    let (answer, ()) = soon(async { tokio::join!(waiting, stop) }).await;
    let error = answer.unwrap_err();
    assert_eq!(error.fault, Fault::Unavailable, "{error}");
    running.stop().await;
}

#[tokio::test]
async fn coordinator_that_is_away_is_said_to_be_so() {
    let place = Place::keep();
    let url = format!("http://{}", place.address);
    let away = client(&url).await;
    let error = away
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.fault, error.reason),
        (Fault::Unavailable, Reason::Unavailable)
    );
    assert!(error.message.contains(&url), "{error}");
}

#[tokio::test]
async fn calls_go_on_at_the_next_coordinator() {
    let bench = Bench::with_corpus();
    let running = bench.start().await;
    let first = Served::start(&running.handle, GrpcConfig::default()).await;
    let second = Served::start(&running.handle, GrpcConfig::default()).await;
    let both = client(&format!("{},{}", first.url(), second.url())).await;
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    let request = v1::WatchJobRequest {
        job_id: job_id.to_string(),
        period_ms: 100,
    };
    let mut updates = both.watch_job(request).await.unwrap();
    updates.next().await.unwrap().unwrap();
    let calls = Arc::new(both.clone());
    let workers = Workers::start_calling(calls, bench.output(), 2);

    first.stop().await;
    both.list_jobs(v1::ListJobsRequest::default())
        .await
        .unwrap();
    let mut last = None;
    while let Some(update) = soon(updates.next()).await {
        last = update.unwrap().job;
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Done);
    workers.stop().await;
    second.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn watch_outlives_the_coordinator_it_began_with() {
    let bench = Bench::with_corpus();
    let running = bench.start().await;
    let place = Place::keep();
    let served = Served::start_on(place.listen(), &running.handle, GrpcConfig::default());
    let watcher = served.client().await;
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    let request = v1::WatchJobRequest {
        job_id: job_id.to_string(),
        period_ms: 100,
    };
    let mut updates = watcher.watch_job(request).await.unwrap();
    updates.next().await.unwrap().unwrap();
    served.stop().await;

    let served = Served::start_on(place.listen(), &running.handle, GrpcConfig::default());
    let workers = Workers::start(&running.handle, bench.output(), 2);
    let mut last = None;
    while let Some(update) = soon(updates.next()).await {
        last = update.unwrap().job;
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Done);
    workers.stop().await;
    served.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn work_goes_on_over_connections_that_grow_old() {
    let bench = Bench::with_corpus();
    let running = bench.start().await;
    let limits = GrpcLimits {
        connection_age: Duration::from_millis(20),
        // Calls at work must be able to end in it on a slow machine; those that fell between two
        // connections are cut off by it, and made again.
        grace: Duration::from_secs(3),
        ..GrpcLimits::default()
    };
    let config = GrpcConfig {
        limits,
        ..GrpcConfig::default()
    };
    let served = Served::start(&running.handle, config).await;
    let calls = Arc::new(served.client().await);
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    let workers = Workers::start_calling(calls, bench.output(), 2);
    let job = running.ended(&job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    workers.stop().await;
    served.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn watches_beyond_the_limit_are_told_to_come_back() {
    let bench = Bench::with_corpus();
    let running = bench.start().await;
    let limits = GrpcLimits {
        watches: 1,
        ..GrpcLimits::default()
    };
    let config = GrpcConfig {
        limits,
        ..GrpcConfig::default()
    };
    let served = Served::start(&running.handle, config).await;
    let client = served.client().await;
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    let request = v1::WatchJobRequest {
        job_id: job_id.to_string(),
        period_ms: 0,
    };
    let first = client.watch_job(request.clone()).await.unwrap();
    let error = client.watch_job(request.clone()).await.err().unwrap();
    assert_eq!(error.reason, Reason::Quota);
    assert!(error.retry_after.is_some());
    drop(first);
    // The place is free once the server has heard that its caller is gone.
    soon(async { while client.watch_job(request.clone()).await.is_err() {} }).await;
    served.stop().await;
    running.stop().await;
}
