//! What happened, in order: told when a run fails, and compared between runs of one seed.

use std::sync::Mutex;

use sha2::{Digest, Sha256};

/// What happened so far.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    events: Mutex<Vec<String>>,
}

impl Trace {
    /// Something happened now, in simulated time.
    pub(crate) fn note(&self, who: &str, what: impl AsRef<str>) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        self.note_at(now, who, what);
    }

    pub(crate) fn note_at(&self, now: std::time::Duration, who: &str, what: impl AsRef<str>) {
        let event = format!("{:9.3} {who:<13} {}", now.as_secs_f64(), what.as_ref());
        self.events.lock().unwrap().push(event);
    }

    /// Everything, a line each.
    pub(crate) fn told(&self) -> String {
        self.events.lock().unwrap().join("\n")
    }

    pub(crate) fn n_events(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    pub(crate) fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.told()))
    }
}
