//! The client against a scripted coordinator: what it tries again, and what it hands on.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use quire_core::Fault;
use quire_proto::grpc::Client;
use quire_proto::v1::dataset_service_server::{DatasetService, DatasetServiceServer};
use quire_proto::v1::{self};
use quire_proto::{CallError, DatasetCalls, Reason, TRACEPARENT, WorkerCalls, with_traceparent};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status};

type Answer = Result<v1::GetDatasetResponse, CallError>;

/// Answers with what it was told to, in order, and remembers what came.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    traces: Arc<Mutex<Vec<Option<String>>>>,
}

impl Script {
    fn of(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            traces: Arc::default(),
        }
    }

    fn n_calls(&self) -> usize {
        self.traces.lock().unwrap().len()
    }
}

#[tonic::async_trait]
impl DatasetService for Script {
    async fn get_dataset(
        &self,
        request: Request<v1::GetDatasetRequest>,
    ) -> Result<Response<v1::GetDatasetResponse>, Status> {
        let trace = request.metadata().get(TRACEPARENT);
        let trace = trace.map(|value| value.to_str().unwrap().to_owned());
        self.traces.lock().unwrap().push(trace);
        let answer = self.answers.lock().unwrap().pop_front().unwrap();
        Ok(Response::new(answer?))
    }

    async fn list_versions(
        &self,
        _: Request<v1::ListVersionsRequest>,
    ) -> Result<Response<v1::ListVersionsResponse>, Status> {
        Err(Status::unimplemented("from before there were versions"))
    }
}

/// Channels whose other ends come out of the receiver.
fn wire() -> (Channel, mpsc::Receiver<DuplexStream>) {
    let (ends, receiver) = mpsc::channel(16);
    let connect = tower::service_fn(move |_: Uri| {
        let ends = ends.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            match ends.send(theirs).await {
                Ok(()) => Ok(TokioIo::new(ours)),
                Err(_) => Err(std::io::Error::other("nobody listens")),
            }
        }
    });
    let endpoint = Endpoint::from_static("http://scripted");
    (endpoint.connect_with_connector_lazy(connect), receiver)
}

/// A client of a scripted coordinator, which lives as long as the set.
fn start(script: &Script) -> (Client, JoinSet<()>) {
    let (channel, mut ends) = wire();
    let server = Server::builder().add_service(DatasetServiceServer::new(script.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let incoming = futures::stream::poll_fn(move |cx| {
            ends.poll_recv(cx)
                .map(|end| end.map(Ok::<_, std::io::Error>))
        });
        server.serve_with_incoming(incoming).await.unwrap();
    });
    (Client::with_channel(channel).with_seed(7), tasks)
}

fn request() -> v1::GetDatasetRequest {
    v1::GetDatasetRequest {
        out: "s3://bucket/out".into(),
    }
}

fn error(reason: Reason) -> Answer {
    Err(CallError::new(reason, "as scripted"))
}

fn fine() -> Answer {
    Ok(v1::GetDatasetResponse::default())
}

#[tokio::test(start_paused = true)]
async fn coordinator_that_is_away_for_a_moment_is_asked_again() {
    let script = Script::of([
        error(Reason::Unavailable),
        error(Reason::Unavailable),
        fine(),
    ]);
    let (client, _tasks) = start(&script);
    client.get_dataset(request()).await.unwrap();
    assert_eq!(script.n_calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn tries_end_and_the_caller_decides() {
    let script = Script::of((0..10).map(|_| error(Reason::Unavailable)));
    let (client, _tasks) = start(&script);
    let error = client.get_dataset(request()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Unavailable);
    assert_eq!(script.n_calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn used_up_limit_is_waited_for_as_told() {
    let mut full = CallError::new(Reason::Quota, "full");
    full.retry_after = Some(Duration::from_secs(1));
    let script = Script::of([Err(full), fine()]);
    let (client, _tasks) = start(&script);
    let before = tokio::time::Instant::now();
    client.get_dataset(request()).await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn answers_are_not_asked_for_twice() {
    for reason in [
        Reason::LeaseFenced,
        Reason::JobUnknown,
        Reason::Malformed,
        Reason::RoleMissing,
        Reason::Corrupt,
        Reason::Internal,
    ] {
        let script = Script::of([error(reason)]);
        let (client, _tasks) = start(&script);
        let got = client.get_dataset(request()).await.unwrap_err();
        assert_eq!(
            (got.reason, got.message),
            (reason, "as scripted".to_owned())
        );
        assert_eq!(script.n_calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn call_that_nobody_answers_ends_at_its_deadline() {
    // Connections are taken and nothing is said on them, as behind a cut network.
    let (channel, mut ends) = wire();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut taken = Vec::new();
        while let Some(end) = ends.recv().await {
            taken.push(end);
        }
    });
    let client = Client::with_channel(channel);
    let before = tokio::time::Instant::now();
    let error = client.get_dataset(request()).await.unwrap_err();
    assert_eq!(error.fault, Fault::Unavailable, "{error}");
    // One repetition of a call that may take 30 s.
    assert_eq!(before.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn call_of_a_newer_client_is_told_the_version_is_old() {
    let script = Script::default();
    let (client, _tasks) = start(&script);
    let versions = client.list_versions(v1::ListVersionsRequest::default());
    let error = versions.await.unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::VersionTooOld, Fault::Config)
    );
}

#[tokio::test(start_paused = true)]
async fn trace_of_the_work_goes_with_the_call() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let script = Script::of([fine(), fine()]);
    let (client, _tasks) = start(&script);
    client.get_dataset(request()).await.unwrap();
    let traced = client.get_dataset(request());
    with_traceparent(trace, traced).await.unwrap();
    assert_eq!(
        *script.traces.lock().unwrap(),
        [None, Some(trace.to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn commit_is_sent_once_and_the_worker_counts() {
    let asked = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&asked);
    let connect = tower::service_fn(move |_: Uri| {
        *counted.lock().unwrap() += 1;
        async { Err::<TokioIo<DuplexStream>, _>(std::io::Error::other("nobody listens")) }
    });
    let channel = Endpoint::from_static("http://scripted").connect_with_connector_lazy(connect);
    let client = Client::with_channel(channel);
    let commit = client.commit(v1::CommitRequest::default());
    assert_eq!(commit.await.unwrap_err().fault, Fault::Unavailable);
    assert_eq!(*asked.lock().unwrap(), 1);
    let other = client.get_dataset(request());
    assert_eq!(other.await.unwrap_err().fault, Fault::Unavailable);
    assert_eq!(*asked.lock().unwrap(), 1 + 3);
}
