//! When a call is tried again, where, and after which pause. Pure, so that it can be read.
//!
//! Tries are few and quick: they carry a call over a connection that just broke or to the next
//! coordinator. Callers that can wait longer repeat the whole call at their own pace.

use std::time::Duration;

/// Tries of a call when there is one coordinator; with several, each is asked twice.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Whoever asks for a longer pause is left to the caller.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a try came to, as far as trying again goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nobody answered, or somebody who cannot now.
    Unavailable { retry_after: Option<Duration> },
    /// The deadline passed; what became of the call is not known.
    Deadline { is_idempotent: bool },
    /// A limit is used up.
    Exhausted { retry_after: Option<Duration> },
    /// An answer, which another try would only repeat.
    Answered,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GiveUp,
    Again(Duration),
}

/// Decides after the try number `tried`, from 1. `jitter` is in `0..1`.
pub(super) fn next(outcome: Outcome, tried: u32, n_routes: u32, jitter: f64) -> Next {
    let n_routes = n_routes.max(1);
    if tried >= TRIES.max(2 * n_routes) {
        return Next::GiveUp;
    }
    match outcome {
        // Another coordinator that was not asked in this round is asked at once.
        Outcome::Unavailable { .. } if !tried.is_multiple_of(n_routes) => {
            Next::Again(Duration::ZERO)
        }
        Outcome::Unavailable { retry_after } => {
            let asked = retry_after.unwrap_or_default().min(LONGEST_PAUSE);
            Next::Again(pause(tried / n_routes, jitter).max(asked))
        }
        // Each try costs a whole deadline: one more, and the caller hears of it.
        Outcome::Deadline {
            is_idempotent: true,
        } if tried == 1 => Next::Again(Duration::ZERO),
        Outcome::Exhausted {
            retry_after: Some(asked),
        } if asked <= LONGEST_PAUSE => Next::Again(asked),
        Outcome::Deadline { .. } | Outcome::Exhausted { .. } | Outcome::Answered => Next::GiveUp,
    }
}

/// Doubles each round; half of it is by chance, so that those who lost the same coordinator do
/// not come back as one.
pub(super) fn pause(round: u32, jitter: f64) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(1 << round.saturating_sub(1).min(10))
        .min(LONGEST_PAUSE);
    whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY: Outcome = Outcome::Unavailable { retry_after: None };

    #[test]
    fn one_coordinator_is_asked_three_times_with_growing_pauses() {
        let pauses: Vec<Next> = (1..=3).map(|tried| next(AWAY, tried, 1, 1.0)).collect();
        assert_eq!(
            pauses,
            [
                Next::Again(Duration::from_millis(100)),
                Next::Again(Duration::from_millis(200)),
                Next::GiveUp
            ]
        );
    }

    #[test]
    fn the_next_coordinator_is_asked_at_once() {
        let pauses: Vec<Next> = (1..=4).map(|tried| next(AWAY, tried, 2, 0.0)).collect();
        assert_eq!(
            pauses,
            [
                Next::Again(Duration::ZERO),
                Next::Again(Duration::from_millis(50)),
                Next::Again(Duration::ZERO),
                Next::GiveUp
            ]
        );
    }

    #[test]
    fn a_passed_deadline_is_tried_once_more_if_that_is_safe() {
        let safe = Outcome::Deadline {
            is_idempotent: true,
        };
        assert_eq!(next(safe, 1, 1, 0.5), Next::Again(Duration::ZERO));
        assert_eq!(next(safe, 2, 1, 0.5), Next::GiveUp);
        let unsafe_ = Outcome::Deadline {
            is_idempotent: false,
        };
        assert_eq!(next(unsafe_, 1, 1, 0.5), Next::GiveUp);
    }

    #[test]
    fn limits_are_waited_for_only_as_told_and_not_for_long() {
        let exhausted = |retry_after| Outcome::Exhausted { retry_after };
        let second = Duration::from_secs(1);
        assert_eq!(
            next(exhausted(Some(second)), 1, 1, 0.5),
            Next::Again(second)
        );
        assert_eq!(next(exhausted(None), 1, 1, 0.5), Next::GiveUp);
        assert_eq!(
            next(exhausted(Some(Duration::from_secs(60))), 1, 1, 0.5),
            Next::GiveUp
        );
    }

    #[test]
    fn answers_are_final() {
        assert_eq!(next(Outcome::Answered, 1, 3, 0.5), Next::GiveUp);
    }

    #[test]
    fn pauses_stay_within_their_bounds() {
        for round in 0..100 {
            for jitter in [0.0, 0.3, 1.0, 7.0] {
                let pause = pause(round, jitter);
                assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE);
            }
        }
    }
}
