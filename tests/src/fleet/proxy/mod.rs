//! A proxy before an object store that fails on demand: as a script says, by chance with a seed,
//! or altogether.
//!
//! Requests are forwarded with their own `Host`, which their signatures cover, so that the store
//! takes them for what they are.

mod script;
mod serve;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use script::Script;
pub use script::{Chaos, Fault, Rule, Seen};

/// A running proxy; ends with its owner.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    shutdown: CancellationToken,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// A proxy before the store that listens on this port of the loopback interface.
    ///
    /// # Panics
    /// When no socket is to be had.
    pub fn start(upstream_port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let script = Arc::new(Mutex::new(Script::default()));
        let shutdown = CancellationToken::new();
        let serving = serve::serve(
            listener,
            upstream_port,
            Arc::clone(&script),
            shutdown.clone(),
        );
        #[allow(
            clippy::disallowed_methods,
            reason = "the runtime is the proxy's own, and ends with it"
        )]
        drop(runtime.spawn(serving));
        Self {
            address,
            script,
            shutdown,
            runtime: Some(runtime),
        }
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule; the first one that fits a request decides.
    pub fn add(&self, rule: Rule) {
        self.script().rules.push(rule);
    }

    /// Lets requests fail by chance, or no longer.
    pub fn chaos(&self, chaos: Option<Chaos>) {
        self.script().set_chaos(chaos);
    }

    /// Lets every request fail with 503, or no longer.
    pub fn outage(&self, is_away: bool) {
        self.script().is_away = is_away;
    }

    /// Forgets every rule.
    pub fn clear(&self) {
        let mut script = self.script();
        script.rules.clear();
        script.set_chaos(None);
        script.is_away = false;
    }

    /// What has passed, and what became of it.
    pub fn seen(&self) -> Vec<Seen> {
        self.script().seen.clone()
    }

    /// Requests that were made to fail.
    pub fn n_faults(&self) -> u64 {
        self.script().n_faults
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}
