//! gRPC over the simulated network.

use std::io;
use std::time::Duration;

use futures::Stream;
use http::Uri;
use hyper_util::rt::TokioIo;
use quire_proto::grpc::Client;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};

use crate::world::{COORDINATORS, World};

pub(crate) const PORT: u16 = 7420;

/// Connections to a listener of this host.
pub(crate) fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> {
    futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    })
}

/// The client of a host; each asks another coordinator first.
pub(crate) fn client(world: &World, host: &str, nth: usize) -> Client {
    let mut hosts = COORDINATORS;
    hosts.rotate_left(nth % COORDINATORS.len());
    let seed = world.chance.number(&format!("client of {host}"));
    Client::with_channels(hosts.map(channel)).with_seed(seed)
}

/// As the real client's channels, over the other kind of socket.
fn channel(host: &'static str) -> Channel {
    Endpoint::from_static("http://coordinator")
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service_fn(move |_: Uri| async move {
            let stream = TcpStream::connect((host, PORT)).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }))
}
