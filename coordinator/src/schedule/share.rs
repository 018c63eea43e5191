//! Whose job gets the next shard. Pure.
//!
//! The tenant that used least for its weight goes first; inside a tenant the job of the highest
//! priority, then the oldest. What was given out and is not done yet counts as used, so that a
//! tenant cannot take a whole fleet before its first shard is done. Nothing is ever taken back.

use std::cmp::{Ordering, Reverse};

/// What a tenant may and did use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TenantLoad {
    pub weight: f64,
    /// Rows read for it, decayed.
    pub used_rows: f64,
    /// Rows that are given out.
    pub rows_in_flight: f64,
}

impl TenantLoad {
    fn load(&self) -> f64 {
        (self.used_rows + self.rows_in_flight) / self.weight.max(f64::MIN_POSITIVE)
    }
}

/// A running job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct JobLoad {
    /// Place of its tenant among the loads.
    pub tenant: usize,
    pub priority: i32,
    /// Smaller is older.
    pub number: i64,
    /// Shards that wait.
    pub pending: i64,
}

/// The job that the next shard is taken from, among those that `may`.
pub(crate) fn next_job(
    tenants: &[TenantLoad],
    jobs: &[JobLoad],
    may: impl Fn(usize) -> bool,
) -> Option<usize> {
    let waiting = jobs.iter().enumerate();
    let waiting = waiting.filter(|(at, job)| job.pending > 0 && may(*at));
    waiting
        .min_by(|(_, a), (_, b)| compare(tenants, a, b))
        .map(|(at, _)| at)
}

fn compare(tenants: &[TenantLoad], a: &JobLoad, b: &JobLoad) -> Ordering {
    let inside = (Reverse(a.priority), a.number).cmp(&(Reverse(b.priority), b.number));
    if a.tenant == b.tenant {
        return inside;
    }
    let load = |job: &JobLoad| tenants.get(job.tenant).map_or(0.0, TenantLoad::load);
    // Of equally loaded tenants the same one goes first whatever its jobs are.
    load(a)
        .total_cmp(&load(b))
        .then_with(|| a.tenant.cmp(&b.tenant))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(weight: f64, used_rows: f64) -> TenantLoad {
        TenantLoad {
            weight,
            used_rows,
            rows_in_flight: 0.0,
        }
    }

    fn job(tenant: usize, priority: i32, number: i64, pending: i64) -> JobLoad {
        JobLoad {
            tenant,
            priority,
            number,
            pending,
        }
    }

    #[test]
    fn priority_goes_before_age_inside_a_tenant_only() {
        let tenants = [tenant(1.0, 5.0), tenant(1.0, 4.0)];
        let jobs = [
            job(0, 9, 1, 1),
            job(1, 0, 2, 1),
            job(1, 3, 4, 1),
            job(1, 3, 3, 1),
            job(1, 7, 5, 0),
        ];
        assert_eq!(next_job(&tenants, &jobs, |_| true), Some(3));
        assert_eq!(next_job(&tenants, &jobs, |at| at != 3), Some(2));
        assert_eq!(next_job(&tenants, &jobs, |at| at == 0), Some(0));
        assert_eq!(next_job(&tenants, &jobs, |_| false), None);
    }

    #[test]
    fn twice_the_weight_bears_twice_the_use() {
        let tenants = [tenant(2.0, 19.0), tenant(1.0, 10.0)];
        let jobs = [job(0, 0, 2, 1), job(1, 0, 1, 1)];
        assert_eq!(next_job(&tenants, &jobs, |_| true), Some(0));
    }

    proptest! {
        /// Over a long time each tenant that always has work gets its share, to a shard.
        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(1_u32..8, 1..6)) {
            const SHARDS: u32 = 4000;
            let mut tenants: Vec<TenantLoad> =
                weights.iter().map(|&weight| tenant(f64::from(weight), 0.0)).collect();
            let jobs: Vec<JobLoad> =
                (0..weights.len()).map(|at| job(at, 0, 1, 1)).collect();
            for _ in 0..SHARDS {
                let at = next_job(&tenants, &jobs, |_| true).unwrap();
                tenants[jobs[at].tenant].rows_in_flight += 1.0;
            }
            let sum: u32 = weights.iter().sum();
            for (load, weight) in tenants.iter().zip(&weights) {
                let fair = f64::from(SHARDS) * f64::from(*weight) / f64::from(sum);
                prop_assert!((load.rows_in_flight - fair).abs() <= weights.len() as f64 + 1.0);
            }
        }

        /// What is chosen waits, may be chosen, and nothing of its tenant would go before it.
        #[test]
        fn choice_is_allowed_and_the_first_of_its_tenant(
            used in prop::collection::vec(0.0_f64..1e9, 4),
            jobs in prop::collection::vec((0_usize..4, -2_i32..3, 0_i64..50, 0_i64..3), 0..12),
            allowed in any::<u16>(),
        ) {
            let tenants: Vec<TenantLoad> = used.iter().map(|&used| tenant(1.0, used)).collect();
            let jobs: Vec<JobLoad> = jobs
                .into_iter()
                .map(|(tenant, priority, number, pending)| job(tenant, priority, number, pending))
                .collect();
            let may = |at: usize| allowed & (1 << at) != 0;
            let candidates: Vec<usize> =
                (0..jobs.len()).filter(|&at| jobs[at].pending > 0 && may(at)).collect();
            match next_job(&tenants, &jobs, may) {
                None => prop_assert!(candidates.is_empty()),
                Some(at) => {
                    prop_assert!(candidates.contains(&at));
                    for &other in &candidates {
                        let (chosen, other) = (jobs[at], jobs[other]);
                        if chosen.tenant == other.tenant {
                            prop_assert!(
                                (Reverse(chosen.priority), chosen.number)
                                    <= (Reverse(other.priority), other.number)
                            );
                        } else {
                            prop_assert!(
                                tenants[chosen.tenant].used_rows
                                    <= tenants[other.tenant].used_rows
                            );
                        }
                    }
                }
            }
        }
    }
}
