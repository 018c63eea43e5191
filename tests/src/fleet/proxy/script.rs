//! Which request fails, and how.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Requests that are remembered for tests to look at.
const REMEMBERED: usize = 20_000;

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503, and the store never sees the request.
    UnavailableBefore,
    /// 503 after the store has done what was asked.
    UnavailableAfter,
    /// The connection ends, and the store never sees the request.
    DropBefore,
    /// The connection ends after the store has done what was asked.
    DropAfter,
    /// 409 as for a race that was lost, and the store never sees the request.
    Conflict,
    /// The answer comes late.
    Slow(Duration),
    /// The connection ends in the middle of the answer.
    Truncated,
}

impl Fault {
    /// Every kind, for faults by chance.
    pub const ALL: &'static [Self] = &[
        Self::UnavailableBefore,
        Self::UnavailableAfter,
        Self::DropBefore,
        Self::DropAfter,
        Self::Conflict,
        Self::Slow(Duration::from_millis(700)),
        Self::Truncated,
    ];
}

/// Which requests fail, and how often.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Only of this method, if any.
    pub method: Option<&'static str>,
    /// Only whose path holds this.
    pub path: String,
    /// So many let pass first.
    pub skip: u32,
    /// So many then fail.
    pub times: u32,
    /// How.
    pub fault: Fault,
}

/// Requests fail by chance, the same for the same seed and order of requests.
#[derive(Debug, Clone)]
pub struct Chaos {
    /// Where the chance begins.
    pub seed: u64,
    /// Of a thousand requests, so many fail.
    pub per_mille: u32,
    /// In one of these ways.
    pub faults: Vec<Fault>,
}

/// A request that passed, or did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Such as `PUT`.
    pub method: String,
    /// Bucket and key.
    pub path: String,
    /// What was done to it.
    pub fault: Option<Fault>,
}

/// What is to happen, and what has.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) rules: Vec<Rule>,
    pub(super) is_away: bool,
    chaos: Option<(Chaos, StdRng)>,
    pub(super) seen: Vec<Seen>,
    pub(super) n_faults: u64,
}

impl Script {
    pub(super) fn set_chaos(&mut self, chaos: Option<Chaos>) {
        self.chaos = chaos.map(|chaos| {
            let rng = StdRng::seed_from_u64(chaos.seed);
            (chaos, rng)
        });
    }

    /// What becomes of the next request.
    pub(super) fn decide(&mut self, method: &str, path: &str) -> Option<Fault> {
        let fault = self.judge(method, path);
        self.n_faults += u64::from(fault.is_some());
        if self.seen.len() < REMEMBERED {
            self.seen.push(Seen {
                method: method.to_owned(),
                path: path.to_owned(),
                fault,
            });
        }
        fault
    }

    fn judge(&mut self, method: &str, path: &str) -> Option<Fault> {
        if self.is_away {
            return Some(Fault::UnavailableBefore);
        }
        let fits = |rule: &&mut Rule| {
            rule.times > 0
                && rule.method.is_none_or(|wanted| wanted == method)
                && path.contains(&rule.path)
        };
        if let Some(rule) = self.rules.iter_mut().find(fits) {
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            rule.times -= 1;
            return Some(rule.fault);
        }
        let (chaos, rng) = self.chaos.as_mut()?;
        if chaos.faults.is_empty() || rng.random_range(0..1000) >= chaos.per_mille {
            return None;
        }
        let which = rng.random_range(0..chaos.faults.len());
        Some(chaos.faults[which])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lets_some_pass_and_fails_so_many() {
        let mut script = Script::default();
        script.rules.push(Rule {
            method: Some("PUT"),
            path: "/manifest/".into(),
            skip: 1,
            times: 2,
            fault: Fault::Conflict,
        });
        let mut decide = |method, path| script.decide(method, path);
        assert_eq!(decide("GET", "/b/manifest/1"), None);
        assert_eq!(decide("PUT", "/b/parts/1"), None);
        assert_eq!(decide("PUT", "/b/manifest/1"), None);
        assert_eq!(decide("PUT", "/b/manifest/1"), Some(Fault::Conflict));
        assert_eq!(decide("PUT", "/b/manifest/2"), Some(Fault::Conflict));
        assert_eq!(decide("PUT", "/b/manifest/2"), None);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let faults = |seed| {
            let mut script = Script::default();
            script.set_chaos(Some(Chaos {
                seed,
                per_mille: 300,
                faults: Fault::ALL.to_vec(),
            }));
            (0..100)
                .map(|_| script.decide("GET", "/b/x"))
                .collect::<Vec<_>>()
        };
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
    }
}
