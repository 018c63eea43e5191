//! The words that coordinator, worker and the owners of jobs share: messages of package
//! `quire.v1`, and the two call seams that carry them in one process or over the network.
//!
//! The messages are generated from `proto/quire/v1/*.proto` and committed, so that a build needs
//! no protobuf compiler; a test compares them with the definitions. After a change run
//! `cargo run --release -p quire-proto --example generate`.

mod calls;
#[rustfmt::skip]
#[path = "generated/quire.v1.rs"]
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unused_qualifications,
    reason = "written by prost-build"
)]
pub mod v1;

mod convert;

pub use calls::{CallError, JobCalls, Reason, WorkerCalls};
