//! How a worker leaves: told by whom, and with what given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take nothing more, finish and commit what is in hand.
    pub drain: CancellationToken,
    /// Leave at once, giving shards back undone.
    pub now: CancellationToken,
}

/// Who made a worker leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainedBy {
    /// Whoever started it.
    Caller,
    /// The coordinator: its node is drained.
    Directive,
}

/// How a worker that had nothing wrong with it left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Who told it to.
    pub by: DrainedBy,
    /// Shards it committed in its life.
    pub n_committed: u64,
    /// Shards it held and gave back undone when it left.
    pub n_given_back: u64,
}

/// Whether to leave, and who said so. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct DrainOrder {
    token: CancellationToken,
    is_directive: Arc<AtomicBool>,
}

impl DrainOrder {
    /// One that the caller gives by its own token.
    pub(crate) fn of(shutdown: &Shutdown) -> Self {
        Self {
            token: shutdown.drain.child_token(),
            is_directive: Arc::default(),
        }
    }

    /// The coordinator gives it; the caller's token stays as it is.
    pub(crate) fn direct(&self) {
        if !self.token.is_cancelled() {
            self.is_directive.store(true, Ordering::Relaxed);
            self.token.cancel();
        }
    }

    pub(crate) fn is_given(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(crate) async fn given(&self) {
        self.token.cancelled().await;
    }

    pub(crate) fn by(&self) -> DrainedBy {
        if self.is_directive.load(Ordering::Relaxed) {
            DrainedBy::Directive
        } else {
            DrainedBy::Caller
        }
    }
}

/// A shard in hand when the worker is told to leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct InHand {
    pub(crate) rows_done: u32,
    pub(crate) rows_left: u32,
    /// Time since its first page was begun.
    pub(crate) reading_for: Duration,
}

/// Shards that are measured for less than this say nothing of the pace.
const LEAST_MEASURED: Duration = Duration::from_secs(5);
/// A shard is given up early only if it would take this many times what is left: to give back
/// what could have been finished is worse than to wait in vain.
const DOUBT: f64 = 2.0;

/// Which of the shards in hand cannot be finished within `time`, by their index. Those nearest
/// to their end come first and have the engines for themselves as others are given back, and
/// another worker can begin with those at once.
pub(crate) fn hopeless(in_hand: &[InHand], time: Duration) -> Vec<usize> {
    let measured = in_hand
        .iter()
        .filter(|shard| shard.reading_for >= LEAST_MEASURED);
    let rows_per_second: f64 = measured
        .map(|shard| f64::from(shard.rows_done) / shard.reading_for.as_secs_f64())
        .sum();
    if rows_per_second <= 0.0 {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..in_hand.len()).collect();
    order.sort_by_key(|&at| in_hand[at].rows_left);
    let mut rows = 0.0;
    order.retain(|&at| {
        rows += f64::from(in_hand[at].rows_left);
        rows / rows_per_second > time.as_secs_f64() * DOUBT
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shards: &[(u32, u32, u64)], seconds: u64, expected: &[usize]) {
        let in_hand: Vec<InHand> = shards
            .iter()
            .map(|&(rows_done, rows_left, reading_for)| InHand {
                rows_done,
                rows_left,
                reading_for: Duration::from_secs(reading_for),
            })
            .collect();
        let found = hopeless(&in_hand, Duration::from_secs(seconds));
        assert_eq!(found, expected, "{shards:?} in {seconds} s");
    }

    #[test]
    fn shards_far_from_their_end_are_given_up_first() {
        // Two rows a second altogether.
        let two = [(10, 100, 10), (10, 500, 10)];
        check(&two, 300, &[]);
        check(&two, 149, &[1]);
        check(&two, 10, &[0, 1]);
        // The first alone would have the whole pace.
        check(&[(10, 500, 10), (10, 20, 10)], 20, &[0]);
    }

    #[test]
    fn without_a_pace_every_shard_gets_its_chance() {
        check(&[(0, 100, 60)], 1, &[]);
        check(&[(3, 100, 1)], 1, &[]);
        check(&[], 1, &[]);
    }
}
