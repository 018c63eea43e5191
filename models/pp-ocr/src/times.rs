//! Where the time of a page goes, for whoever profiles the engine.
//!
//! Times are noted by the thread that reads, and only while somebody records: stages nest nowhere,
//! so what a page takes beside their sum is neither.

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// A stage of reading a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Detect,
    Crop,
    Classify,
    Recognize,
    Layout,
    Compose,
}

impl Stage {
    /// In the order of a page's way.
    pub const ALL: [Self; 6] = [
        Self::Detect,
        Self::Crop,
        Self::Classify,
        Self::Recognize,
        Self::Layout,
        Self::Compose,
    ];

    /// One word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Crop => "crop",
            Self::Classify => "classify",
            Self::Recognize => "recognize",
            Self::Layout => "layout",
            Self::Compose => "compose",
        }
    }
}

/// What a stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTime {
    /// All of it.
    pub whole: Duration,
    /// Of it, the stage's network.
    pub network: Duration,
    /// What the network multiplied and added.
    pub multiply_adds: u64,
}

/// What each stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times([StageTime; Stage::ALL.len()]);

impl Times {
    /// What a stage took.
    pub fn of(&self, stage: Stage) -> StageTime {
        self.0[stage as usize]
    }

    /// Adds what was taken elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            own.whole += other.whole;
            own.network += other.network;
            own.multiply_adds += other.multiply_adds;
        }
    }
}

thread_local! {
    static RECORDED: RefCell<Option<Times>> = const { RefCell::new(None) };
}

/// Whether somebody records on this thread.
pub(crate) fn is_recorded() -> bool {
    RECORDED.with_borrow(Option::is_some)
}

/// Notes what was recorded on another thread.
pub(crate) fn add(others: &Times) {
    RECORDED.with_borrow_mut(|recorded| {
        if let Some(times) = recorded {
            times.add(others);
        }
    });
}

/// Runs `work` and tells where its time on this thread went.
pub(crate) fn recorded<T>(work: impl FnOnce() -> T) -> (T, Times) {
    RECORDED.set(Some(Times::default()));
    let result = work();
    (result, RECORDED.take().unwrap_or_default())
}

/// Runs a stage, or a part of it.
pub(crate) fn stage<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    timed(work, |time| note(stage, |noted| noted.whole += time))
}

/// Runs the network of a stage; `multiply_adds` is asked only if somebody records.
pub(crate) fn network<T>(
    stage: Stage,
    multiply_adds: impl FnOnce() -> u64,
    work: impl FnOnce() -> T,
) -> T {
    timed(work, |time| {
        note(stage, |noted| {
            noted.network += time;
            noted.multiply_adds += multiply_adds();
        });
    })
}

fn timed<T>(work: impl FnOnce() -> T, then: impl FnOnce(Duration)) -> T {
    let start = Instant::now();
    let result = work();
    then(start.elapsed());
    result
}

fn note(stage: Stage, change: impl FnOnce(&mut StageTime)) {
    RECORDED.with_borrow_mut(|recorded| {
        if let Some(times) = recorded {
            change(&mut times.0[stage as usize]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_recorded_is_noted() {
        network(Stage::Detect, || unreachable!("nobody records"), || ());
        let ((), times) = recorded(|| {
            stage(Stage::Detect, || network(Stage::Detect, || 7, || ()));
            network(Stage::Detect, || 5, || ());
        });
        assert_eq!(times.of(Stage::Detect).multiply_adds, 12);
        assert_eq!(times.of(Stage::Layout), StageTime::default());
    }
}
