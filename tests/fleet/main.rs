//! The fleet with real processes and real servers: what becomes of a job when its parts are
//! killed, stopped, cut off, of another version, or lied to.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

mod bad_input;
mod death;
mod happy;
mod health;
mod identity;
mod kills;
mod late;
mod leaving;
mod loss;
mod newer;
mod partition;
mod storage;
mod support;
mod versions;
