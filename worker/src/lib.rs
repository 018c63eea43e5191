//! The worker: leases shards from the coordinator, carries their pages through the pipeline and
//! commits the parts. It never names the coordinator: control comes through `quire-proto`.

mod config;
mod engine;
mod error;
mod lease;
pub mod pipeline;
pub mod signals;
mod worker;

pub use config::WorkerConfig;
pub use engine::EnginePool;
pub use error::{Error, Result};
pub use worker::{Shutdown, Worker};
