//! The words that coordinator, worker and the owners of jobs share: messages of package
//! `quire.v1`, and the call seams that carry them in one process or over the network.
//!
//! Messages, generated clients and servers come from `proto/quire/v1/*.proto` and are committed,
//! so that a build needs no protobuf compiler; a test compares them with the definitions. After a
//! change run `cargo run --release -p quire-proto --example generate`.

mod calls;
#[rustfmt::skip]
#[path = "generated/quire.v1.rs"]
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unused_qualifications,
    reason = "written by prost-build and tonic"
)]
pub mod v1;

mod convert;
pub mod grpc;
mod status;
mod trace;

/// The definitions of package `quire.v1` as an encoded `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/quire.v1.bin");

pub use calls::{AdminCalls, CallError, DatasetCalls, JobCalls, JobUpdates, Reason, WorkerCalls};
pub use status::ERROR_DOMAIN;
pub use trace::{TRACEPARENT, current_traceparent, is_traceparent, with_traceparent};
