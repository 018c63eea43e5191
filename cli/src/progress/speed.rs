//! How fast pages are read and when they will be done.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back the recent rate looks: long enough to cover several shards, short enough to
/// follow a change of documents.
const WINDOW: Duration = Duration::from_secs(60);
/// Nothing is said of less: the first pages come in a burst.
const SETTLED: Duration = Duration::from_secs(5);

/// Rates of this run alone: what an earlier run did does not count.
#[derive(Debug)]
pub(crate) struct Speed {
    settled: Duration,
    first: Option<(Duration, u64)>,
    /// When a page was last done.
    last: Option<(Duration, u64)>,
    recent: VecDeque<(Duration, u64)>,
}

impl Default for Speed {
    fn default() -> Self {
        Self::settled_after(SETTLED)
    }
}

impl Speed {
    /// One that says nothing lately before looks lie so far apart.
    pub(crate) fn settled_after(settled: Duration) -> Self {
        Self {
            settled,
            first: None,
            last: None,
            recent: VecDeque::new(),
        }
    }

    /// Takes note of how many pages are done at a time since some fixed start.
    pub(crate) fn observe(&mut self, now: Duration, done: u64) {
        self.first.get_or_insert((now, done));
        if self.last.is_none_or(|(_, before)| done > before) {
            self.last = Some((now, done));
        }
        // A lost lease takes its pages back: a rate is then measured anew.
        if self.recent.back().is_some_and(|&(_, before)| done < before) {
            self.recent.clear();
        }
        self.recent.push_back((now, done));
        while self.recent.len() > 2 && now.saturating_sub(self.recent[1].0) >= WINDOW {
            self.recent.pop_front();
        }
    }

    /// Pages a second lately.
    pub(crate) fn recent(&self) -> Option<f64> {
        if self.span() < self.settled {
            return None;
        }
        rate(*self.recent.front()?, *self.recent.back()?)
    }

    /// How far the looks behind [`Self::recent`] lie apart.
    pub(crate) fn span(&self) -> Duration {
        match (self.recent.front(), self.recent.back()) {
            (Some(&(from, _)), Some(&(to, _))) => to.saturating_sub(from),
            _ => Duration::ZERO,
        }
    }

    /// Pages a second from when the first page of this run could be read until the last was.
    pub(crate) fn overall(&self) -> Option<f64> {
        rate(self.first?, self.last?)
    }

    /// How long pages were read: writing the dataset does not count.
    pub(crate) fn busy(&self) -> Duration {
        match (self.first, self.last) {
            (Some((from, _)), Some((to, _))) => to.saturating_sub(from),
            _ => Duration::ZERO,
        }
    }

    /// Time that `left` pages will take at the recent rate.
    pub(crate) fn eta(&self, left: u64) -> Option<Duration> {
        let rate = self
            .recent()
            .or_else(|| self.overall().filter(|_| self.busy() >= self.settled))
            .filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }
}

fn rate(from: (Duration, u64), to: (Duration, u64)) -> Option<f64> {
    let seconds = to.0.saturating_sub(from.0).as_secs_f64();
    (seconds > 0.0).then(|| to.1.saturating_sub(from.1) as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pages_of_an_earlier_run_do_not_count() {
        let mut speed = Speed::default();
        speed.observe(seconds(5), 1000);
        assert_eq!(speed.overall(), None);
        speed.observe(seconds(15), 1020);
        assert_eq!(speed.overall(), Some(2.0));
        assert_eq!(speed.busy(), seconds(10));
        assert_eq!(speed.eta(100), Some(seconds(50)));
    }

    #[test]
    fn first_pages_promise_nothing() {
        let mut speed = Speed::default();
        speed.observe(seconds(0), 0);
        speed.observe(seconds(1), 211);
        assert_eq!((speed.recent(), speed.eta(1000)), (None, None));
        speed.observe(seconds(10), 300);
        assert_eq!(speed.recent(), Some(30.0));
        let mut patient = Speed::settled_after(seconds(25));
        patient.observe(seconds(0), 0);
        patient.observe(seconds(10), 300);
        assert_eq!(patient.recent(), None);
    }

    #[test]
    fn recent_rate_forgets_what_is_long_ago() {
        let mut speed = Speed::default();
        for second in 0..=300 {
            let done = if second <= 200 {
                second
            } else {
                200 + (second - 200) * 10
            };
            speed.observe(seconds(second), done);
        }
        assert_eq!(speed.recent(), Some(10.0));
        assert!(speed.overall().is_some_and(|overall| overall < 5.0));
    }

    #[test]
    fn lost_pages_do_not_make_a_negative_rate() {
        let mut speed = Speed::default();
        speed.observe(seconds(0), 100);
        speed.observe(seconds(10), 90);
        assert_eq!(speed.recent(), None);
        speed.observe(seconds(20), 110);
        assert_eq!(speed.recent(), Some(2.0));
    }

    #[test]
    fn time_after_the_last_page_does_not_count() {
        let mut speed = Speed::default();
        for (second, done) in [(0, 0), (10, 20), (11, 20), (30, 20)] {
            speed.observe(seconds(second), done);
        }
        assert_eq!(speed.overall(), Some(2.0));
    }

    #[test]
    fn nothing_is_promised_while_nothing_moves() {
        let mut speed = Speed::default();
        assert_eq!(speed.eta(5), None);
        speed.observe(seconds(0), 7);
        speed.observe(seconds(9), 7);
        assert_eq!(speed.eta(5), None);
    }
}
