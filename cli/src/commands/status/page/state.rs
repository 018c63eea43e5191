//! What the page shows and what keys do to it.

use std::time::Duration;

use quire_proto::v1::{Job, JobState};

use super::input::Key;
use crate::fleet::{Look, Rates};

/// Lines of workers that a page key moves by.
const PAGE_LINES: usize = 8;

/// Something that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Pause(String),
    Resume(String),
}

/// What a key asks of the loop.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Leave,
    Change(Change),
}

/// The page.
#[derive(Debug)]
pub(super) struct Page {
    pub url: String,
    pub look: Look,
    pub rates: Rates,
    /// Identifier of the chosen job: its place changes when jobs come.
    chosen: Option<String>,
    /// First line of workers that is shown.
    pub scrolled: usize,
    /// Waits for yes or no.
    pub question: Option<Change>,
    /// What became of the last change.
    pub said: Option<String>,
    /// Why the last look failed; what is shown is older.
    pub lost: Option<String>,
}

impl Page {
    /// A page that has seen nothing.
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            look: Look {
                jobs: Vec::new(),
                workers: Ok(Vec::new()),
                at_ms: 0,
            },
            rates: Rates::default(),
            chosen: None,
            scrolled: 0,
            question: None,
            said: None,
            lost: None,
        }
    }

    /// Takes note of a look at a time since some fixed start.
    pub(super) fn see(&mut self, now: Duration, look: Look) {
        self.rates.observe(now, &look);
        self.look = look;
        self.lost = None;
        if self.chosen_job().is_none() {
            self.chosen = self.look.jobs.first().map(|job| job.job_id.clone());
        }
    }

    /// Takes note of a look that failed.
    pub(super) fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    /// Tells what became of a change.
    pub(super) fn say(&mut self, what: String) {
        self.said = Some(what);
    }

    /// Place of the chosen job in the list.
    pub(super) fn chosen_at(&self) -> Option<usize> {
        let chosen = self.chosen.as_deref()?;
        self.look.jobs.iter().position(|job| job.job_id == chosen)
    }

    /// The chosen job.
    pub(super) fn chosen_job(&self) -> Option<&Job> {
        self.look.jobs.get(self.chosen_at()?)
    }

    /// Does what a key says.
    pub(super) fn press(&mut self, key: Key) -> Action {
        if let Some(change) = self.question.take() {
            return match key {
                Key::Yes => Action::Change(change),
                Key::Quit => Action::Leave,
                Key::Resized => {
                    self.question = Some(change);
                    Action::None
                }
                _ => Action::None,
            };
        }
        if key != Key::Resized {
            self.said = None;
        }
        match key {
            Key::Quit => return Action::Leave,
            Key::Up => self.choose(|at| at.saturating_sub(1)),
            Key::Down => self.choose(|at| at + 1),
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE_LINES),
            Key::PageDown => self.scroll_down(),
            Key::Pause => self.ask(),
            Key::Yes | Key::No | Key::Resized => {}
        }
        Action::None
    }

    fn choose(&mut self, next: impl Fn(usize) -> usize) {
        let last = self.look.jobs.len().saturating_sub(1);
        let at = next(self.chosen_at().unwrap_or(0)).min(last);
        self.chosen = self.look.jobs.get(at).map(|job| job.job_id.clone());
    }

    fn scroll_down(&mut self) {
        let workers = self.look.workers().iter();
        let lines: usize = workers.map(|worker| worker.leases.len().max(1)).sum();
        self.scrolled = (self.scrolled + PAGE_LINES).min(lines.saturating_sub(1));
    }

    fn ask(&mut self) {
        let Some(job) = self.chosen_job() else { return };
        let job_id = job.job_id.clone();
        match job.state() {
            JobState::Running => self.question = Some(Change::Pause(job_id)),
            JobState::Paused | JobState::Failed => self.question = Some(Change::Resume(job_id)),
            _ => self.said = Some(format!("{job_id} neither runs nor is paused")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::examples;
    use super::*;

    fn page() -> Page {
        let mut page = Page::new("http://127.0.0.1:7420".into());
        page.see(Duration::ZERO, examples::look());
        page
    }

    #[test]
    fn chosen_job_stays_chosen_when_others_come_and_go() {
        let mut page = page();
        assert_eq!(page.chosen_at(), Some(0));
        page.press(Key::Down);
        page.press(Key::Down);
        let chosen = page.chosen_job().unwrap().job_id.clone();
        let mut look = examples::look();
        look.jobs.remove(0);
        page.see(Duration::from_secs(1), look);
        assert_eq!(page.chosen_job().unwrap().job_id, chosen);
        for _ in 0..9 {
            page.press(Key::Down);
        }
        assert_eq!(page.chosen_at(), Some(2));
        page.see(
            Duration::from_secs(2),
            Look {
                jobs: Vec::new(),
                ..examples::look()
            },
        );
        assert_eq!(page.chosen_at(), None);
        assert_eq!(page.press(Key::Pause), Action::None);
    }

    #[test]
    fn pausing_and_resuming_ask_first() {
        let mut page = page();
        page.press(Key::Pause);
        assert_eq!(page.press(Key::No), Action::None);
        assert_eq!(page.press(Key::Yes), Action::None);
        page.press(Key::Pause);
        let running = page.chosen_job().unwrap().job_id.clone();
        assert_eq!(page.press(Key::Yes), Action::Change(Change::Pause(running)));
        page.press(Key::Down);
        page.press(Key::Down);
        page.press(Key::Pause);
        page.press(Key::Resized);
        let paused = page.chosen_job().unwrap().job_id.clone();
        assert_eq!(page.press(Key::Yes), Action::Change(Change::Resume(paused)));
        page.press(Key::Down);
        page.press(Key::Pause);
        assert!(page.said.as_ref().unwrap().contains("neither runs"));
        assert_eq!(page.press(Key::Quit), Action::Leave);
    }

    #[test]
    fn workers_scroll_no_further_than_there_are_lines() {
        let mut page = page();
        page.press(Key::PageDown);
        assert_eq!(page.scrolled, 4);
        page.press(Key::PageUp);
        assert_eq!(page.scrolled, 0);
    }
}
