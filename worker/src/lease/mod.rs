//! The worker's side of leases: ask for shards, keep them alive, deliver them or give them back.

mod acquire;
mod backoff;
mod complete;
mod deliver;
mod progress;
mod renew;
mod serve;
mod session;
mod work;

pub(crate) use complete::release;
pub(crate) use progress::{HeldLeases, ShardProgress};
pub(crate) use renew::Heart;
pub(crate) use serve::{Service, Tally};
pub(crate) use session::{Session, introduction};
pub(crate) use work::{Shared, words_of};

pub(crate) use backoff::Backoff;

use quire_core::Fault;
use quire_proto::{CallError, Reason};

/// Whether a refusal stands however often the worker asks: it is not let in, or speaks another
/// language. Everything else is trouble of the coordinator's own, which passes.
pub(crate) fn is_final(error: &CallError) -> bool {
    match error.reason {
        Reason::Quota | Reason::JobNotRunning | Reason::JobUnknown | Reason::JobUnfinished => false,
        _ => matches!(error.fault, Fault::Config | Fault::Input),
    }
}
