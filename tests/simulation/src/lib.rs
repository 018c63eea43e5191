//! A whole fleet in one thread: coordinators, workers and an owner on a simulated network, in
//! simulated time, with everything that goes wrong chosen by a seed. The same seed gives the
//! same run.
//!
//! What is real: the coordinator with its publisher and its gRPC services, the gRPC client, the
//! store in memory, parts, manifests, sealing. What is not: the network (turmoil's), the clock
//! ([`clock`]), chance ([`entropy`]), the object store behind its faults ([`objects`]), and the
//! worker, which makes rows of the plan instead of reading pages ([`worker`]): a real one needs
//! threads and child processes, which no simulated clock governs.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test: what does not hold ends the run with its seed"
)]

mod chance;
mod check;
mod clock;
mod coordinator;
mod corpus;
mod database;
mod entropy;
mod faults;
mod network;
mod objects;
mod owner;
mod run;
mod trace;
mod worker;
mod world;

pub use run::{Outcome, run};
