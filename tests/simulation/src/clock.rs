//! The database's clock: simulated time, and the jumps that it was made to take.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use quire_core::Clock;

/// When every simulation starts: 2020-01-01.
pub(crate) const START_MS: i64 = 1_577_836_800_000;

/// The database's clock.
#[derive(Debug, Default)]
pub(crate) struct SimulatedClock {
    jumped_ms: AtomicI64,
}

impl SimulatedClock {
    /// Puts the clock forward, or back.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.jumped_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for SimulatedClock {
    fn unix_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.monotonic().as_millis()).unwrap();
        START_MS + elapsed + self.jumped_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }
}
