//! How long to wait before something is tried again.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// Waits that double up to a longest one, each shortened by up to a half, so that those who lost
/// the same thing at the same moment do not all come back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
    seed: u64,
}

impl Backoff {
    /// Starts at `first`; whoever has another `seed` waits otherwise.
    pub(crate) fn new(first: Duration, longest: Duration, seed: &str) -> Self {
        let seed = Sha256::digest(seed.as_bytes())
            .iter()
            .take(8)
            .fold(0, |sum, &byte| (sum << 8) | u64::from(byte));
        Self {
            next: first,
            longest,
            seed,
        }
    }

    /// For calls to the coordinator.
    pub(crate) fn of_calls(seed: &str) -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5), seed)
    }

    /// For transfers with object storage, whose client has tried for a while by then.
    pub(crate) fn of_transfers(seed: &str) -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(15), seed)
    }

    /// The next wait.
    pub(crate) fn pause(&mut self) -> Duration {
        // One step of xorshift is random enough to keep a fleet apart.
        self.seed |= 1;
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let shortened = (self.seed >> 11) as f64 / (1_u64 << 53) as f64 / 2.0;
        let pause = self.next.mul_f64(1.0 - shortened);
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_stay_bounded_and_differ_between_workers() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let waits = |seed| {
            let mut backoff = Backoff::new(first, longest, seed);
            (0..20).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        let (a, b) = (waits("a"), waits("b"));
        assert_ne!(a, b);
        assert_eq!(a, waits("a"));
        for (at, wait) in a.iter().enumerate() {
            let whole = (first * 2_u32.pow(at.min(10) as u32)).min(longest);
            assert!(*wait <= whole && *wait >= whole / 2, "{at}: {wait:?}");
        }
    }
}
