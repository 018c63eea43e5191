//! Which shard gets a second copy. Pure.
//!
//! A shard is slow when it takes several times what the job's median says for its size. While
//! nothing waits any more, workers that would stand idle also take a copy where it is likely to
//! be done before the first attempt. Copies go to another node, a shard has two attempts at
//! most, and copies take a small share of the job's time only: each one that loses is thrown
//! away.

use quire_core::ShardIdx;

use crate::config::StragglerPolicy;

/// With an empty queue a copy is worth it if the rest takes this much longer than a copy would.
const WORTH: f64 = 1.2;

/// A shard with one live attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    pub shard_idx: ShardIdx,
    pub node: String,
    pub n_rows: u32,
    pub rows_done: u32,
    /// It waits behind others on its worker.
    pub is_queued: bool,
    /// Since its pages began to be read, as far as that is known; for a queued one since it was
    /// granted.
    pub elapsed_ms: f64,
}

/// What is known of the job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct JobFacts {
    /// Median of recent shards.
    pub ms_per_row: f64,
    /// No shard of the job waits.
    pub queue_is_empty: bool,
    /// Time that all its shards took so far.
    pub total_ms: f64,
    /// Time of copies that were given out.
    pub copies_ms: f64,
    /// Copies that are live.
    pub live_copies: usize,
}

impl JobFacts {
    fn expected_ms(&self, n_rows: u32) -> f64 {
        self.ms_per_row * f64::from(n_rows)
    }

    /// Whether another copy may be made. One at a time always may: the share of a small job is
    /// less than a shard.
    fn affords(&self, policy: &StragglerPolicy, cost_ms: f64) -> bool {
        self.live_copies == 0 || self.copies_ms + cost_ms <= policy.fleet_share * self.total_ms
    }
}

/// How long this shard may take before it is looked at as slow.
pub(crate) fn soft_deadline_ms(policy: &StragglerPolicy, ms_per_row: f64, n_rows: u32) -> f64 {
    policy.slowdown * ms_per_row * f64::from(n_rows)
}

/// The slowest shard that is worth a copy on `node`.
pub(crate) fn pick<'a>(
    policy: &StragglerPolicy,
    job: &JobFacts,
    attempts: &'a [Attempt],
    node: &str,
) -> Option<&'a Attempt> {
    let slow = attempts.iter().filter(|attempt| {
        attempt.node != node
            && is_slow(policy, job, attempt)
            && job.affords(policy, job.expected_ms(attempt.n_rows))
    });
    slow.max_by(|a, b| {
        let late = |attempt: &Attempt| attempt.elapsed_ms / f64::from(attempt.n_rows.max(1));
        late(a)
            .total_cmp(&late(b))
            .then_with(|| b.shard_idx.cmp(&a.shard_idx))
    })
}

fn is_slow(policy: &StragglerPolicy, job: &JobFacts, attempt: &Attempt) -> bool {
    let expected_ms = job.expected_ms(attempt.n_rows);
    if expected_ms <= 0.0 {
        return false;
    }
    let deadline_ms = soft_deadline_ms(policy, job.ms_per_row, attempt.n_rows);
    if !attempt.is_queued && attempt.elapsed_ms > deadline_ms {
        return true;
    }
    job.queue_is_empty && rest_ms(attempt, expected_ms) > WORTH * expected_ms
}

/// How much longer the attempt is likely to take.
fn rest_ms(attempt: &Attempt, expected_ms: f64) -> f64 {
    if attempt.is_queued {
        // The longer it waited, the longer what is before it takes.
        return expected_ms + attempt.elapsed_ms;
    }
    if attempt.rows_done == 0 {
        return expected_ms.max(attempt.elapsed_ms);
    }
    let left = attempt.n_rows.saturating_sub(attempt.rows_done);
    attempt.elapsed_ms * f64::from(left) / f64::from(attempt.rows_done)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: StragglerPolicy = StragglerPolicy {
        slowdown: 3.0,
        fleet_share: 0.02,
    };

    fn job(queue_is_empty: bool) -> JobFacts {
        JobFacts {
            ms_per_row: 10.0,
            queue_is_empty,
            total_ms: 1e6,
            copies_ms: 0.0,
            live_copies: 0,
        }
    }

    /// 100 rows, which usually take a second.
    fn attempt(elapsed_ms: f64, rows_done: u32) -> Attempt {
        Attempt {
            shard_idx: 7,
            node: "slow".into(),
            n_rows: 100,
            rows_done,
            is_queued: false,
            elapsed_ms,
        }
    }

    fn check(job: &JobFacts, attempt: &Attempt, expected: bool) {
        let attempts = [attempt.clone()];
        let picked = pick(&POLICY, job, &attempts, "other").is_some();
        assert_eq!(picked, expected, "{attempt:?} of {job:?}");
    }

    #[test]
    fn three_times_the_median_gets_a_copy_whatever_waits() {
        check(&job(false), &attempt(2_900.0, 10), false);
        check(&job(false), &attempt(3_100.0, 10), true);
        check(&job(false), &attempt(3_100.0, 99), true);
    }

    #[test]
    fn empty_queue_gives_copies_of_what_would_end_later_than_a_copy() {
        check(&job(true), &attempt(0.0, 0), false);
        check(&job(true), &attempt(500.0, 50), false);
        check(&job(true), &attempt(1_500.0, 50), true);
        check(&job(true), &attempt(1_100.0, 0), false);
        check(&job(true), &attempt(1_300.0, 0), true);
        check(&job(true), &attempt(2_500.0, 90), false);
        let queued = Attempt {
            is_queued: true,
            ..attempt(400.0, 0)
        };
        check(&job(true), &queued, true);
        check(&job(false), &queued, false);
    }

    #[test]
    fn copies_take_two_hundredths_of_the_time_beyond_the_first() {
        let slow = attempt(9_000.0, 10);
        let spent = |copies_ms, live_copies| JobFacts {
            copies_ms,
            live_copies,
            ..job(false)
        };
        check(&spent(19_500.0, 1), &slow, false);
        check(&spent(18_500.0, 1), &slow, true);
        check(&spent(19_500.0, 0), &slow, true);
    }

    #[test]
    fn nothing_is_slow_while_no_pace_is_known() {
        let unknown = JobFacts {
            ms_per_row: 0.0,
            ..job(true)
        };
        check(&unknown, &attempt(1e9, 0), false);
    }

    proptest! {
        /// A copy is never put on the node that has the first attempt, and the slowest goes first.
        #[test]
        fn copy_is_on_another_node_and_of_the_slowest(
            attempts in prop::collection::vec((0_u8..3, 0.0_f64..1e5, 0_u32..100), 0..10),
            queue_is_empty in any::<bool>(),
            asker in 0_u8..3,
        ) {
            let attempts: Vec<Attempt> = attempts
                .into_iter()
                .enumerate()
                .map(|(at, (node, elapsed_ms, rows_done))| Attempt {
                    shard_idx: at as u64,
                    node: format!("n-{node}"),
                    ..attempt(elapsed_ms, rows_done)
                })
                .collect();
            let node = format!("n-{asker}");
            let facts = job(queue_is_empty);
            let overdue = |attempt: &&Attempt| attempt.node != node && attempt.elapsed_ms > 3_000.0;
            match pick(&POLICY, &facts, &attempts, &node) {
                Some(picked) => {
                    prop_assert_ne!(&picked.node, &node);
                    for other in attempts.iter().filter(overdue) {
                        prop_assert!(other.elapsed_ms <= picked.elapsed_ms);
                    }
                }
                None => prop_assert_eq!(attempts.iter().filter(overdue).count(), 0),
            }
        }
    }
}
