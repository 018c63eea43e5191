//! A proxy for gRPC that adds fields from the future to every message it carries.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_LENGTH;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Flag and length before each message.
const PREFIX: usize = 5;
/// Field 2000, a number: 7.
const NUMBER: &[u8] = &[0x80, 0x7d, 0x07];
/// Field 2001, text.
const TEXT: &[u8] = &[0x8a, 0x7d, 0x06, b'f', b'u', b't', b'u', b'r', b'e'];

/// A running proxy; ends with its owner.
pub(crate) struct Newer {
    address: SocketAddr,
    changed: Arc<AtomicU64>,
    runtime: Option<Runtime>,
}

type Upstream = Client<HttpConnector, Full<Bytes>>;

impl Newer {
    /// A proxy before the coordinator at this port of the loopback interface.
    pub(crate) fn start(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let changed = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&changed);
        drop(runtime.spawn(serve(listener, port, counter)));
        Self {
            address,
            changed,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Messages that carried more than their sender wrote.
    pub(crate) fn n_changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }
}

impl Drop for Newer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(100));
        }
    }
}

async fn serve(listener: TcpListener, port: u16, changed: Arc<AtomicU64>) {
    let upstream: Upstream = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (upstream, changed) = (upstream.clone(), Arc::clone(&changed));
        connections.spawn(async move {
            let service = service_fn(move |request| {
                carry(upstream.clone(), port, Arc::clone(&changed), request)
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            let served = connection.serve_connection(TokioIo::new(stream), service);
            drop(served.await);
        });
    }
}

async fn carry(
    upstream: Upstream,
    port: u16,
    changed: Arc<AtomicU64>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, io::Error> {
    let (mut head, body) = request.into_parts();
    let uri = format!("http://127.0.0.1:{port}{}", head.uri.path());
    head.uri = uri.parse::<Uri>().map_err(io::Error::other)?;
    head.headers.remove(CONTENT_LENGTH);
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let body = enriched(&body, &changed);
    let request = Request::from_parts(head, Full::new(body));
    let response = upstream.request(request).await.map_err(io::Error::other)?;
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    let body = body.collect().await.map_err(io::Error::other)?;
    let trailers = body.trailers().cloned();
    let body = enriched(&body.to_bytes(), &changed);
    let mut frames = Vec::new();
    if !body.is_empty() {
        frames.push(Ok(Frame::data(body)));
    }
    frames.extend(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    let body = StreamBody::new(futures::stream::iter(frames)).boxed();
    Ok(Response::from_parts(head, body))
}

/// Every message with two fields more at its end.
fn enriched(body: &Bytes, changed: &AtomicU64) -> Bytes {
    let mut rest = &body[..];
    let mut out = BytesMut::new();
    while rest.len() >= PREFIX {
        let length = u32::from_be_bytes(rest[1..PREFIX].try_into().unwrap()) as usize;
        let message = &rest[PREFIX..PREFIX + length];
        assert_eq!(rest[0], 0, "nobody compresses here");
        out.put_u8(0);
        out.put_u32((length + NUMBER.len() + TEXT.len()).try_into().unwrap());
        out.extend_from_slice(message);
        out.extend_from_slice(NUMBER);
        out.extend_from_slice(TEXT);
        changed.fetch_add(1, Ordering::Relaxed);
        rest = &rest[PREFIX + length..];
    }
    out.freeze()
}
