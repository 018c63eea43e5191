//! A coordinator's host: the real coordinator behind its real services.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quire_coordinator::grpc::{GrpcConfig, serve_incoming};
use quire_coordinator::{
    Coordinator, CoordinatorConfig, CoordinatorHandle, CoordinatorService, SealSettings, Survey,
};
use quire_core::Trouble;
use quire_corpus::Stores;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpListener;

use crate::database::Database;
use crate::network::{PORT, incoming};
use crate::world::{OUT, World};

/// Plans are made beforehand: nothing is ever opened.
#[derive(Debug)]
pub(crate) struct NothingOpened;

#[async_trait]
impl Survey for NothingOpened {
    async fn count_pages(&self, _: Bytes, _: &str) -> Result<u32, Trouble> {
        panic!("a simulation opens no documents");
    }
}

/// A fleet's coordinator with shorter times, so that more of them pass in a run.
pub(crate) fn config(scratch: PathBuf) -> CoordinatorConfig {
    let seal = SealSettings {
        title: None,
        license: None,
        renderer: "none".into(),
        renderer_version: "1".into(),
        scratch,
    };
    CoordinatorConfig {
        heartbeat_period: Duration::from_secs(4),
        session_ttl: Duration::from_secs(14),
        progress_timeout: Duration::from_secs(60),
        publish_period: Duration::from_secs(7),
        reap_period: Duration::from_secs(2),
        probe_outputs: false,
        // The address is of no store that there is.
        reach_stores: false,
        ..CoordinatorConfig::fleet(seal)
    }
}

/// What runs on a coordinator's host, from one crash to the next.
pub(crate) async fn run(world: Arc<World>, host: &'static str) -> turmoil::Result {
    world.trace.note(host, "starts");
    let (service, handle) = open(&world, host).await;
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let shutdown = CancellationToken::new();
    let served = serve_incoming(
        incoming(listener),
        handle,
        GrpcConfig::default(),
        shutdown.clone(),
    );
    // Neither ends unless something is broken.
    tokio::select! {
        biased;
        ended = service.run(shutdown) => panic!("the service of {host} ended: {ended:?}"),
        ended = served => panic!("the listener of {host} ended: {ended:?}"),
    }
}

/// Opens the coordinator as soon as the database answers, and makes the job known to a database
/// that has lost it, as an operator would.
async fn open(world: &Arc<World>, host: &str) -> (CoordinatorService, CoordinatorHandle) {
    let stores = Stores::open(&Default::default()).unwrap();
    let config = config(world.scratch.join(host));
    std::fs::create_dir_all(&config.seal.scratch).unwrap();
    loop {
        let database = Database::new(Arc::clone(world), host);
        let opened = Coordinator::open(
            config.clone(),
            Arc::new(database),
            stores.clone(),
            Arc::new(NothingOpened),
        );
        if let Ok((service, handle)) = opened.await {
            handle.use_output(OUT, world.output(host));
            match handle.recover(OUT).await {
                Ok(known) if known.is_empty() => return (service, handle),
                Ok(_) => {
                    world.trace.note(host, "made the job known again");
                    return (service, handle);
                }
                Err(error) => world.trace.note(host, format!("no recovery: {error}")),
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
