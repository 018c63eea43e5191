//! The calls carried over gRPC: a client that implements every call trait.
//!
//! Deadlines, keepalive, message limits and quick retries live here, so that whoever calls sees
//! either an answer or one [`crate::CallError`]. How long to be patient with a coordinator that
//! stays away is the caller's to decide.

mod calls;
mod client;
mod endpoint;
mod retry;
mod watch;

pub use client::Client;
pub use endpoint::{ClientTls, Endpoint};

/// Longest message either side takes, in bytes; long lists belong in plan objects.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
