//! From sockets to connections: accepts, shakes hands, refuses in words.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::FutureExt;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::config::GrpcLimits;
use super::connection::{Bounded, Connection};

/// Who takes longer than this to shake hands keeps a place from others.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the reason of a refusal may take to reach the caller.
const LINGER: Duration = Duration::from_secs(1);
/// After a failed accept, such as when no file is left: it would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a connection comes from, as far as the network tells.
pub(super) type Incoming<IO> = io::Result<(IO, Option<SocketAddr>)>;

/// Makes connections of sockets.
pub(super) struct Acceptor<IO> {
    /// Shakes hands, if TLS is on.
    pub(super) tls: Option<watch::Receiver<TlsAcceptor>>,
    pub(super) limits: GrpcLimits,
    /// No more connections.
    pub(super) shutdown: CancellationToken,
    /// The present ones end.
    pub(super) cut_off: CancellationToken,
    pub(super) ready: mpsc::Sender<io::Result<Connection<IO>>>,
}

impl<IO> Acceptor<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Accepts until shutdown, or until there are no more sockets.
    pub(super) async fn run(self, incoming: impl Stream<Item = Incoming<IO>>) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut handshakes = JoinSet::new();
        let mut incoming = std::pin::pin!(incoming);
        loop {
            let Some(place) = self.place(&places).await else {
                return;
            };
            let next = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return,
                Some(_) = handshakes.join_next(), if !handshakes.is_empty() => continue,
                next = incoming.next() => next,
            };
            match next {
                None => break,
                Some(Ok((io, from))) => {
                    metrics::counter!(super::metrics::CONNECTIONS).increment(1);
                    let bounded = Bounded::new(io, place, self.end());
                    let ready = self.ready.clone();
                    match &self.tls {
                        Some(tls) => {
                            let tls = tls.borrow().clone();
                            handshakes.spawn(shake_hands(tls, bounded, from, ready));
                        }
                        None => drop(ready.send(Ok(Connection::Plain(bounded))).await),
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        while handshakes.join_next().await.is_some() {}
    }

    async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            place = Arc::clone(places).acquire_owned() => place.ok(),
        }
    }

    /// Done when a connection made now must be gone.
    fn end(&self) -> futures::future::BoxFuture<'static, ()> {
        let oldest = self.limits.connection_age + self.limits.grace;
        let cut_off = self.cut_off.clone();
        async move {
            // A connection outlives its age only if something of it does not end.
            let _aged = tokio::time::timeout(oldest, cut_off.cancelled()).await;
        }
        .boxed()
    }
}

async fn shake_hands<IO>(
    tls: TlsAcceptor,
    io: Bounded<IO>,
    from: Option<SocketAddr>,
    ready: mpsc::Sender<io::Result<Connection<IO>>>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let accept = tls.accept(io).into_fallible();
    let (reason, refused) = match tokio::time::timeout(HANDSHAKE, accept).await {
        Ok(Ok(stream)) => {
            drop(ready.send(Ok(Connection::Tls(Box::new(stream)))).await);
            return;
        }
        Ok(Err((error, io))) => (error.to_string(), Some(io)),
        Err(_) => ("it took too long".to_owned(), None),
    };
    metrics::counter!(super::metrics::REFUSED).increment(1);
    let from = from.map(|from| from.to_string()).unwrap_or_default();
    tracing::warn!(from, reason, "a TLS handshake failed");
    if let Some(io) = refused {
        drop(tokio::time::timeout(LINGER, linger(io)).await);
    }
}

/// Reads what is still on its way. Closing on unread bytes resets the connection, and the caller
/// would not get to read the alert that says why.
async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) -> io::Result<()> {
    io.shutdown().await?;
    let mut rest = [0; 1024];
    while io.read(&mut rest).await? > 0 {}
    Ok(())
}
