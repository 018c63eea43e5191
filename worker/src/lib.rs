//! The worker: leases shards from the coordinator, carries their pages through the pipeline and
//! commits the parts. It never names the coordinator: control comes through `quire-proto`.

mod config;
mod drain;
mod engine;
mod error;
mod lease;
pub mod metrics;
pub mod pipeline;
mod scratch;
pub mod signals;
mod status;
mod storage;
mod worker;

pub use config::{MOST_PREFETCHED, WorkerConfig};
pub use drain::{DrainedBy, Left, Shutdown};
pub use engine::{EnginePool, Ladder, Rung};
pub use error::{Error, Result};
pub use status::{WorkerHealth, WorkerStatus};
pub use worker::Worker;
