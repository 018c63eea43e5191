//! The commit protocol as a finite model: two workers, two publishers, a database that may lose
//! its tail, an object store whose answers may be lost, two shards of which one may be halved.
//! Every order of their steps is explored, with up to a given number of faults in it.
//!
//! The model is written from the description of the protocol and shares no code with the
//! coordinator. Each safeguard of the protocol is a switch ([`Safeguards`]): with all of them on
//! no reachable state may break a property, and without any one of them some state must, or the
//! safeguard would be idle and the model blind.
//!
//! What is left out, and why nothing is lost by it:
//! - *Sessions.* A session matters because its end ends leases; here a lease ends by itself. A
//!   worker whose lease ended goes on not knowing it: that is the zombie.
//! - *Time.* Every step may come arbitrarily late, so no timeout has to be right.
//! - *A grant whose answer is lost* is a grant to a worker that dies at once.
//! - *A database lost for good* is one set back to its first state.
//! - *Rows that are given up* are published like parts, by a lease that nobody else has.
//! - *Identities of workers and publishers*: states that differ only by them are one
//!   ([`State::canonical`]).

mod database;
mod objects;
mod plan;
mod properties;
mod protocol;
mod publisher;
mod state;
mod steps;

pub use database::{Answer, Database, Shard};
pub use objects::{Closing, Manifest, Objects};
pub use plan::{ALL_PAGES, Lease, LeaseSet, Leases, Pages, ShardIdx};
pub use protocol::{Protocol, Safeguards};
pub use publisher::{Draft, Publisher};
pub use state::{State, Worker};
pub use steps::Step;
