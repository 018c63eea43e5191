#![doc = include_str!("../README.md")]

mod caller;
mod census;
mod commit;
mod config;
mod doctor;
mod duty;
mod error;
pub mod grpc;
mod handle;
mod job;
mod lock;
pub mod metrics;
mod plan;
mod progress;
mod schedule;
mod service;
mod shared;
mod state;
pub mod store;
mod submit;
mod version;

use std::sync::Arc;

use quire_corpus::Stores;

pub use caller::{Caller, DEFAULT_TENANT, Role};
pub use config::{
    CoordinatorConfig, DeathPolicy, QuarantinePause, SealSettings, SickNodePolicy, StragglerPolicy,
};
pub use doctor::{ProbeCheck, ProbeReport, probe};
pub use error::{Error, Result};
pub use handle::CoordinatorHandle;
pub use job::{JobState, LeaseEnd, SessionState, ShardState};
pub use lock::ExclusiveLock;
pub use plan::{
    Cutter, KnownDocument, KnownDocuments, PlanGroup, PlanIndex, PlanProgress, Survey, cut,
};
pub use service::CoordinatorService;
pub use state::RunState;
pub use submit::Submitted;

use shared::Shared;
use store::{MeteredStore, Store};

/// Who hands out work and publishes what is done.
#[derive(Debug)]
pub struct Coordinator;

impl Coordinator {
    /// Opens a coordinator over a store. The service does nothing until it is run; the handle
    /// answers calls at once.
    ///
    /// # Errors
    /// When the configuration makes no sense or the store fails.
    pub async fn open(
        config: CoordinatorConfig,
        store: Arc<dyn Store>,
        stores: Stores,
        survey: Arc<dyn Survey>,
    ) -> Result<(CoordinatorService, CoordinatorHandle)> {
        config.validate()?;
        if config.hosts_workers {
            store.expire_sessions().await?;
        }
        let store: Arc<dyn Store> = Arc::new(MeteredStore(store));
        let incarnation = store.incarnation().await?;
        let shared = Arc::new(Shared::new(config, store, incarnation, stores, survey));
        Ok((
            CoordinatorService::new(Arc::clone(&shared)),
            CoordinatorHandle {
                shared,
                caller: Caller::local(),
            },
        ))
    }
}
