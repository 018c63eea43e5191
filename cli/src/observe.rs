//! `/metrics` for Prometheus, `/healthz` for probes that ask for readiness and `/livez` for those
//! that ask whether the process lives, on an address of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failure::{Failure, Outcome};

/// Times from a fast call to a shard that takes an hour, in seconds.
const BUCKETS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0, 600.0, 1800.0, 3600.0,
];
/// Samples of histograms are put into their buckets this often, so that they do not pile up
/// while nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What probes are told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health(Arc<AtomicBool>);

impl Health {
    /// Fit to take work, or not (any more).
    pub(crate) fn set(&self, is_fit: bool) {
        self.0.store(is_fit, Ordering::Relaxed);
    }

    fn is_fit(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone)]
struct Pages {
    metrics: PrometheusHandle,
    health: Health,
}

/// Counts from now on; to be called before anything is counted, and once a process.
pub(crate) fn install() -> Outcome<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets(BUCKETS)
        .map_err(|error| Failure::from(anyhow::Error::new(error)))?;
    let handle = builder.install_recorder().map_err(|error| {
        Failure::from(anyhow::Error::new(error)).context("cannot start counting for /metrics")
    })?;
    quire_coordinator::metrics::describe();
    quire_worker::metrics::describe();
    #[cfg(feature = "deepseek-ocr")]
    deepseek_ocr::generate::metrics::describe();
    Ok(handle)
}

/// Takes an address, for servers that start later; the real port is in the listener.
pub(crate) async fn bind(address: &str, key: &str) -> Outcome<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program has this port; port 0 takes any free one"
            }
            _ => "the address must be one of this machine, and the port free for this user",
        };
        Failure::from(error)
            .context(format!("cannot listen on {address} (`{key}`)"))
            .hint(hint)
    })
}

/// Serves both pages until `shutdown`; where, if anywhere.
pub(crate) async fn serve(
    tasks: &TaskTracker,
    address: Option<String>,
    key: &str,
    health: Health,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> Outcome<Option<SocketAddr>> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = bind(&address, key).await?;
    let local = listener.local_addr()?;
    let upkeep = metrics.clone();
    let stop = shutdown.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(UPKEEP) => upkeep.run_upkeep(),
            }
        }
    });
    let router = router(Pages { metrics, health });
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    tasks.spawn(async move {
        if let Err(error) = served.await {
            tracing::warn!("/metrics is served no more: {error}");
        }
    });
    Ok(Some(local))
}

fn router(pages: Pages) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(health_page))
        .route("/livez", get(async || "alive\n"))
        .with_state(pages)
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        pages.metrics.render(),
    )
}

async fn health_page(State(pages): State<Pages>) -> impl IntoResponse {
    if pages.health.is_fit() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not serving\n")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetched(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_and_prometheus_are_answered_until_the_end() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("quire_test_looks_total").increment(3);
        });
        let (tasks, stop, health) = (
            TaskTracker::new(),
            CancellationToken::new(),
            Health::default(),
        );
        let address = Some("127.0.0.1:0".to_owned());
        let served = serve(&tasks, address, "x", health.clone(), handle, stop.clone());
        let address = served.await.unwrap().unwrap();
        assert!(
            fetched(address, "/healthz")
                .await
                .starts_with("HTTP/1.1 503")
        );
        health.set(true);
        assert!(
            fetched(address, "/healthz")
                .await
                .starts_with("HTTP/1.1 200")
        );
        let metrics = fetched(address, "/metrics").await;
        assert!(metrics.contains("quire_test_looks_total 3"), "{metrics}");
        health.set(false);
        let (ready, alive) = (
            fetched(address, "/healthz").await,
            fetched(address, "/livez").await,
        );
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
        assert!(fetched(address, "/").await.starts_with("HTTP/1.1 404"));
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn port_that_is_taken_is_named_with_its_setting() {
        let taken = bind("127.0.0.1:0", "x").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let failure = bind(&address, "worker.metrics_listen").await.unwrap_err();
        let report = failure.report();
        assert!(report.contains(&address) && report.contains("`worker.metrics_listen`"));
        assert!(report.contains("port 0"), "{report}");
    }
}
