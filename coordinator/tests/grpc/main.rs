//! The calls over real sockets: the same life of a lease as in one process, each refusal with its
//! reason, certificates, health, shutdown, several coordinators.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod life;
mod refusals;
mod serving;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod wire;
