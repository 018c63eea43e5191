//! Real servers and real processes for tests of the fleet: PostgreSQL, SeaweedFS, a proxy that
//! makes an object store fail, and `quire coordinator` and `quire worker` with signals of every
//! kind.
//!
//! Everything listens on the loopback interface, lies in one temporary folder and ends with the
//! test, however the test ends.

mod cluster;
mod keeper;
pub mod kills;
mod known;
mod process;
mod proxy;
mod seaweed;

pub use cluster::{Coordinator, Database, Fleet, FleetOptions, Place, Times, Worker};
pub use known::{Known, Tally, python};
pub use process::{Process, Sign};
pub use proxy::{Chaos, Fault, Proxy, Rule, Seen};
pub use seaweed::{ACCESS_KEY, SECRET_KEY, Seaweed};

use std::time::{Duration, Instant};

/// How long tests wait for what must happen: far longer than it takes, as machines that build at
/// the same time are slow.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// When nothing is found in [`PATIENCE`]; the message names `what`.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port of the loopback interface that nobody listens on.
///
/// # Panics
/// When the system has none.
pub fn free_port() -> u16 {
    crate::postgres::free_ports(1)[0]
}
