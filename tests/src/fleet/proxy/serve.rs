//! Takes requests, forwards them and spoils what the script says.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::script::{Fault, Script};

type Answer = Response<BoxBody<Bytes, io::Error>>;
type Upstream = Client<HttpConnector, Full<Bytes>>;

/// What every connection needs.
#[derive(Clone)]
struct Shared {
    upstream: Upstream,
    port: u16,
    script: Arc<Mutex<Script>>,
}

/// Serves until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    upstream_port: u16,
    script: Arc<Mutex<Script>>,
    shutdown: CancellationToken,
) {
    let upstream = Client::builder(TokioExecutor::new())
        // A store that is killed and started again leaves dead connections behind.
        .pool_idle_timeout(Duration::from_millis(200))
        .retry_canceled_requests(false)
        .build_http();
    let shared = Shared {
        upstream,
        port: upstream_port,
        script,
    };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else { continue };
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that is dropped on purpose ends with an error.
            drop(connection.await);
        });
    }
}

/// The error that makes the server end a connection without an answer.
fn cut() -> io::Error {
    io::Error::other("the connection is dropped on purpose")
}

async fn answer(shared: Shared, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let fault = {
        let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.decide(request.method().as_str(), request.uri().path())
    };
    match fault {
        Some(Fault::DropBefore) => return Err(cut()),
        Some(Fault::UnavailableBefore) => {
            return refused(request, StatusCode::SERVICE_UNAVAILABLE, "SlowDown").await;
        }
        Some(Fault::Conflict) => {
            let code = "ConditionalRequestConflict";
            return refused(request, StatusCode::CONFLICT, code).await;
        }
        Some(Fault::Slow(pause)) => tokio::time::sleep(pause).await,
        _ => {}
    }
    let is_head = request.method() == Method::HEAD;
    let (mut head, body) = forwarded(&shared, request).await?;
    match fault {
        Some(Fault::DropAfter) => return Err(cut()),
        Some(Fault::UnavailableAfter) => {
            return Ok(error_answer(
                StatusCode::SERVICE_UNAVAILABLE,
                "SlowDown",
                is_head,
            ));
        }
        Some(Fault::Truncated) if is_head || body.is_empty() => return Err(cut()),
        Some(Fault::Truncated) => return Ok(truncated(head, body)),
        _ => {}
    }
    if !is_head {
        head.headers.insert(CONTENT_LENGTH, body.len().into());
    }
    Ok(Response::from_parts(head, whole(body)))
}

/// Carries a request to the store and its whole answer back.
async fn forwarded(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<(hyper::http::response::Parts, Bytes), io::Error> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = format!("http://127.0.0.1:{}{path}", shared.port);
    head.uri = uri.parse::<Uri>().map_err(io::Error::other)?;
    remove_hop_by_hop(&mut head.headers);
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let request = Request::from_parts(head, Full::new(body));
    let response = shared.upstream.request(request).await;
    let (mut head, body) = response.map_err(io::Error::other)?.into_parts();
    remove_hop_by_hop(&mut head.headers);
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok((head, body))
}

fn remove_hop_by_hop(headers: &mut hyper::HeaderMap) {
    for name in [
        CONNECTION,
        TRANSFER_ENCODING,
        HeaderName::from_static("keep-alive"),
    ] {
        headers.remove(name);
    }
}

/// Reads the request to its end, as a server that refuses it does, and refuses it.
async fn refused(
    request: Request<Incoming>,
    status: StatusCode,
    code: &str,
) -> Result<Answer, io::Error> {
    let is_head = request.method() == Method::HEAD;
    drop(request.into_body().collect().await);
    Ok(error_answer(status, code, is_head))
}

fn error_answer(status: StatusCode, code: &str, is_head: bool) -> Answer {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Error><Code>{code}</Code><Message>made to fail by a test</Message></Error>"
    );
    let body = if is_head { Bytes::new() } else { text.into() };
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    answer
}

fn whole(body: Bytes) -> BoxBody<Bytes, io::Error> {
    let never = |error: Infallible| match error {};
    Full::new(body).map_err(never).boxed()
}

/// Promises the whole answer and gives half of it.
fn truncated(mut head: hyper::http::response::Parts, body: Bytes) -> Answer {
    head.headers.insert(CONTENT_LENGTH, body.len().into());
    let half = body.slice(..body.len() / 2);
    let frames = futures::stream::iter([Ok(Frame::data(half)), Err(cut())]);
    Response::from_parts(head, StreamBody::new(frames).boxed())
}
