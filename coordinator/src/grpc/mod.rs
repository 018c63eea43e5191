//! The coordinator's services on the network: gRPC over TLS in front of a handle.
//!
//! This part knows sockets, certificates and messages. What a call does, and who may make it, is
//! the handle's: a connection's identity becomes a [`crate::Caller`], and that is all.

mod accept;
mod config;
mod connection;
mod desk;
mod fit;
mod health;
mod identity;
pub(crate) mod metrics;
mod services;
mod spec;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::{Stream, StreamExt};
use quire_proto::grpc::MAX_MESSAGE_BYTES;
use quire_proto::v1::admin_service_server::AdminServiceServer;
use quire_proto::v1::dataset_service_server::DatasetServiceServer;
use quire_proto::v1::job_service_server::JobServiceServer;
use quire_proto::v1::worker_service_server::WorkerServiceServer;
use quire_proto::{CallError, DESCRIPTORS, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Code, Request, Status};
use tonic_health::server::HealthReporter;
use tower::util::MapResponseLayer;

use crate::error::{Error, Result};
use crate::handle::CoordinatorHandle;
use accept::{Acceptor, Incoming};
use desk::Desk;

pub use config::{GrpcConfig, GrpcLimits, ServerTls};
pub use identity::IdentityMap;

const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls at work when the coordinator leaves have this long to be answered.
const FAREWELL: Duration = Duration::from_secs(10);
/// Longer than any caller waits: only forgotten calls meet it.
const LONGEST_CALL: Duration = Duration::from_secs(180);
/// Connections between the handshake and their first byte.
const READY: usize = 64;

/// Answers calls on `listener` until `shutdown`, then says goodbye: waiting calls and watches are
/// told to go elsewhere, calls at work are answered, connections close.
///
/// # Errors
/// When the listener could be reached from other machines without TLS and the configuration does
/// not allow that, or when a certificate cannot be used.
pub async fn serve(
    listener: TcpListener,
    handle: CoordinatorHandle,
    config: GrpcConfig,
    shutdown: CancellationToken,
) -> Result<()> {
    let address = listener.local_addr().map_err(|source| Error::Local {
        action: "listen on",
        path: "the coordinator's socket".into(),
        source,
    })?;
    config.check_listener(address)?;
    let incoming = futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await;
        let accepted = accepted.map(|(socket, from)| {
            // Calls are small: waiting to fill a packet only delays them.
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "a socket keeps its delay");
            }
            (socket, Some(from))
        });
        Some((accepted, listener))
    });
    serve_all(incoming, handle, config, shutdown).await
}

/// As [`serve`], over connections that the caller accepts, such as those of a simulated network.
///
/// # Errors
/// When a certificate cannot be used.
pub async fn serve_incoming<IO>(
    incoming: impl Stream<Item = io::Result<IO>>,
    handle: CoordinatorHandle,
    config: GrpcConfig,
    shutdown: CancellationToken,
) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let incoming = incoming.map(|io| io.map(|io| (io, None::<SocketAddr>)));
    serve_all(incoming, handle, config, shutdown).await
}

async fn serve_all<IO>(
    incoming: impl Stream<Item = Incoming<IO>>,
    handle: CoordinatorHandle,
    config: GrpcConfig,
    shutdown: CancellationToken,
) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = config.limits.clone();
    let (ready, mut connections) = mpsc::channel(READY);
    let cut_off = CancellationToken::new();
    let tls = config.acceptor()?;
    let acceptor = Acceptor {
        tls: tls.as_ref().map(watch::Sender::subscribe),
        limits: limits.clone(),
        shutdown: shutdown.clone(),
        cut_off: cut_off.clone(),
        ready,
    };
    if acceptor.tls.is_some() && config.identities.is_empty() {
        tracing::warn!("no identity is set: with TLS on, every call will be refused");
    }
    let desk = Desk::new(handle.clone(), config.identities, &limits, shutdown.clone());
    let (reporter, routes) = routes(&desk)?;
    let server = Server::builder()
        .layer(MapResponseLayer::new(named_oversize))
        .timeout(LONGEST_CALL)
        .max_concurrent_streams(limits.calls_per_connection)
        .max_connection_age(limits.connection_age)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            futures::stream::poll_fn(move |cx| connections.poll_recv(cx)),
            shutdown.clone().cancelled_owned(),
        );
    let farewell = async {
        shutdown.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
        cut_off.cancel();
        std::future::pending::<()>().await;
    };
    let serving = async {
        let (served, ()) = tokio::join!(server, acceptor.run(incoming));
        served
    };
    let tls_changes = config.tls_changes;
    let changes = async {
        if let Some(in_use) = &tls {
            config::follow_changes(tls_changes, in_use).await;
        }
        std::future::pending::<()>().await;
    };
    let served = tokio::select! {
        biased;
        served = async { tokio::join!(serving, health::report(reporter, handle, shutdown.clone())).0 } => served,
        () = farewell => Ok(()),
        () = changes => Ok(()),
    };
    desk.close(FAREWELL).await;
    served.map_err(|error| {
        tracing::error!(%error, "the coordinator's server ended");
        Error::TaskLost
    })
}

/// Every service that is answered here.
fn routes(desk: &Desk) -> Result<(HealthReporter, Routes)> {
    macro_rules! limited {
        ($server:ident) => {
            $server::new(desk.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES)
        };
    }
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| {
            // The descriptors are part of this binary, and a test serves them.
            tracing::error!(%error, "the coordinator cannot describe itself");
            Error::TaskLost
        })?;
    // Health is for load balancers that have no name; the rest is for those who have one.
    let known = desk.clone();
    let reflection = InterceptedService::new(reflection, move |request: Request<()>| {
        known.handle_for(&request)?;
        Ok::<_, Status>(request)
    });
    let mut routes = Routes::builder();
    routes
        .add_service(health)
        .add_service(reflection)
        .add_service(limited!(WorkerServiceServer))
        .add_service(limited!(JobServiceServer))
        .add_service(limited!(DatasetServiceServer))
        .add_service(limited!(AdminServiceServer));
    Ok((reporter, routes.routes()))
}

/// Gives the library's refusal of long messages the reason that callers know.
fn named_oversize(response: Response<Body>) -> Response<Body> {
    let refused = Status::from_header_map(response.headers())
        .filter(|status| status.code() == Code::OutOfRange)
        .filter(|status| status.message().contains("message length too large"));
    match refused {
        Some(status) => {
            Status::from(CallError::new(Reason::MessageTooLarge, status.message())).into_http()
        }
        None => response,
    }
}
