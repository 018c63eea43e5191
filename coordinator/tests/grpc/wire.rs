//! A coordinator that answers on a free port of this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use quire_coordinator::grpc::{GrpcConfig, serve};
use quire_coordinator::store::MemoryStore;
use quire_coordinator::{CoordinatorConfig, CoordinatorHandle};
use quire_core::{JobId, ManualClock};
use quire_proto::WorkerCalls;
use quire_proto::grpc::{Client, Endpoint};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::support::worker::TestWorker;
use crate::support::{Bench, Running};

/// An address of this machine that no other program gets, even while nobody listens there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    // Bound, and never told to listen.
    _kept: TcpSocket,
}

impl Place {
    pub(crate) fn keep() -> Self {
        let kept = Self::bound("127.0.0.1:0".parse().unwrap());
        Self {
            address: kept.local_addr().unwrap(),
            _kept: kept,
        }
    }

    pub(crate) fn listen(&self) -> TcpListener {
        Self::bound(self.address).listen(64).unwrap()
    }

    fn bound(address: SocketAddr) -> TcpSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        socket
    }
}

/// A server in front of a handle.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    server: JoinHandle<quire_coordinator::Result<()>>,
}

impl Served {
    pub(crate) async fn start(handle: &CoordinatorHandle, config: GrpcConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, handle, config)
    }

    #[allow(clippy::disallowed_methods, reason = "the task is awaited in `stop`")]
    pub(crate) fn start_on(
        listener: TcpListener,
        handle: &CoordinatorHandle,
        config: GrpcConfig,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, handle.clone(), config, shutdown.clone()));
        Self {
            address,
            shutdown,
            server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.url()).await
    }

    /// A channel without the limits of our client.
    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).unwrap().connect_lazy()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.unwrap().unwrap();
    }
}

pub(crate) async fn client(url: &str) -> Client {
    let endpoint = Endpoint {
        url: url.to_owned(),
        ..Endpoint::default()
    };
    Client::connect(&endpoint).await.unwrap()
}

/// A job over the usual corpus, its coordinator in this process and on the network.
pub(crate) struct Fleet {
    pub(crate) bench: Bench,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) running: Running,
    pub(crate) served: Served,
    pub(crate) client: Client,
    pub(crate) job_id: JobId,
}

impl Fleet {
    pub(crate) async fn start() -> Self {
        let bench = Bench::with_corpus();
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
        let config = CoordinatorConfig { ..bench.config() };
        let running = bench.start_with(config, store).await;
        let job_id = running
            .handle
            .submit(&bench.out(), &bench.spec())
            .await
            .unwrap()
            .job_id;
        let served = Served::start(&running.handle, GrpcConfig::default()).await;
        let client = served.client().await;
        Self {
            bench,
            clock,
            running,
            served,
            client,
            job_id,
        }
    }

    /// The way calls go: in this process, or over the network.
    pub(crate) fn calls(&self, over_network: bool) -> Arc<dyn WorkerCalls> {
        match over_network {
            true => Arc::new(self.client.clone()),
            false => Arc::new(self.running.handle.clone()),
        }
    }

    pub(crate) async fn worker(&self, over_network: bool, node: &str) -> TestWorker {
        TestWorker::register(self.calls(over_network), self.bench.output(), node).await
    }

    pub(crate) async fn stop(self) {
        self.served.stop().await;
        self.running.stop().await;
    }
}
