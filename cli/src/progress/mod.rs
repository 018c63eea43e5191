//! What a person or a program sees while a job runs: a live bar on a terminal, log lines every
//! few seconds elsewhere, and events as JSON lines on standard output when asked for.

mod bar;
mod snapshot;
mod speed;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::events::{self, Event};
use crate::failure::Outcome;
use crate::logging::Screen;
use crate::output;
use crate::settings::Span;

use bar::Bar;
#[cfg(test)]
pub(crate) use snapshot::FailuresOfCode;
pub(crate) use snapshot::{Phase, Snapshot};
pub(crate) use speed::Speed;

/// Between log lines: rare enough for a log that is kept, often enough to see that it lives.
const LINE_PERIOD: Duration = Duration::from_secs(5);
/// Between progress events.
const EVENT_PERIOD: Duration = Duration::from_secs(1);

/// Who is shown progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audience {
    /// A person at a terminal: draw the bar.
    pub bar: bool,
    /// A program: events on standard output.
    pub json: bool,
}

/// Pages that a run read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PagesRead {
    pub pages: u64,
    pub per_second: Option<f64>,
    /// By earlier runs of the same job.
    pub before: u64,
}

/// Shows a job's progress; fed with snapshots.
#[derive(Debug)]
pub(crate) struct Progress {
    audience: Audience,
    bar: Option<Bar>,
    screen: Screen,
    speed: Speed,
    phase: Option<Phase>,
    /// An earlier run had begun the job.
    resumed: bool,
    announced_plan: bool,
    /// Pages read before this run.
    read_before: u64,
    read: u64,
    failures: BTreeMap<String, u64>,
    last_line: Option<Duration>,
    last_event: Option<Duration>,
}

impl Progress {
    /// Shows nothing yet. What is done when the job is first seen was done by an earlier run if
    /// it is resumed, else by this one: small jobs are quick.
    pub(crate) fn new(audience: Audience, screen: &Screen, resumed: bool) -> Self {
        let bar = audience.bar.then(|| Bar::start(screen));
        Self {
            audience,
            bar,
            screen: screen.clone(),
            speed: Speed::default(),
            phase: None,
            resumed,
            announced_plan: false,
            read_before: 0,
            read: 0,
            failures: BTreeMap::new(),
            last_line: None,
            last_event: None,
        }
    }

    /// Shows where the job stands at a time since some fixed start.
    pub(crate) fn update(&mut self, now: Duration, snapshot: &Snapshot) -> Outcome<()> {
        let changed_phase = self.phase.replace(snapshot.phase) != Some(snapshot.phase);
        if !matches!(snapshot.phase, Phase::Planning | Phase::Stopped) {
            self.announce_plan(snapshot)?;
            self.speed.observe(now, snapshot.pages_done);
            self.read = snapshot.pages_read;
        }
        self.announce_failures(snapshot)?;
        if let Some(bar) = &self.bar {
            bar.show(snapshot, &self.speed);
        }
        if changed_phase || due(self.last_event, now, EVENT_PERIOD) {
            self.last_event = Some(now);
            self.event(&events::progress(snapshot, &self.speed))?;
        }
        if self.bar.is_none() && (changed_phase || due(self.last_line, now, LINE_PERIOD)) {
            self.last_line = Some(now);
            tracing::info!("{}", line(snapshot, &self.speed));
        }
        Ok(())
    }

    /// Takes the bar away and says what this run read. Rows of documents that could not even be
    /// opened cost no time and are no pages: counting them would flatter the rate.
    pub(crate) fn finish(&mut self) -> PagesRead {
        if let Some(bar) = self.bar.take() {
            bar.clear();
            self.screen.hide_bars();
        }
        let pages = self.read.saturating_sub(self.read_before);
        let seconds = self.speed.busy().as_secs_f64();
        let per_second = (pages > 0 && seconds > 0.0).then(|| pages as f64 / seconds);
        PagesRead {
            pages,
            per_second,
            before: self.read_before,
        }
    }

    /// Sends an event to programs.
    pub(crate) fn event(&self, event: &Event) -> Outcome<()> {
        if self.audience.json {
            output::print_json(event)
        } else {
            Ok(())
        }
    }

    fn announce_plan(&mut self, snapshot: &Snapshot) -> Outcome<()> {
        if self.announced_plan {
            return Ok(());
        }
        self.announced_plan = true;
        let done_before = if self.resumed { snapshot.pages_safe } else { 0 };
        self.read_before = if self.resumed { snapshot.pages_read } else { 0 };
        tracing::info!("{}", plan_line(snapshot, done_before));
        self.event(&Event::Planned {
            documents: snapshot.documents_planned,
            documents_known: snapshot.documents_known,
            pages: snapshot.pages_planned,
            pages_done_before: done_before,
        })
    }

    /// A kind of failure is logged when it is first met; events follow every change.
    fn announce_failures(&mut self, snapshot: &Snapshot) -> Outcome<()> {
        for failure in &snapshot.failures {
            let before = self.failures.insert(failure.code.clone(), failure.count);
            if before == Some(failure.count) {
                continue;
            }
            if before.is_none() {
                let (code, example) = (&failure.code, &failure.example);
                tracing::warn!("could not be read: {code}, such as {example}");
            }
            self.event(&Event::Failure {
                code: failure.code.clone(),
                count: failure.count,
                example: failure.example.clone(),
            })?;
        }
        Ok(())
    }
}

fn due(last: Option<Duration>, now: Duration, period: Duration) -> bool {
    last.is_none_or(|last| now.saturating_sub(last) >= period)
}

fn plan_line(snapshot: &Snapshot, done_before: u64) -> String {
    let documents = output::counted(snapshot.documents_planned, "document", "documents");
    let pages = output::counted(snapshot.pages_planned, "page", "pages");
    let mut text = format!("planned {documents}, {pages}");
    if snapshot.documents_known > 0 {
        let known = output::grouped(snapshot.documents_known);
        text.push_str(&format!("; {known} more are in the dataset already"));
    }
    if done_before > 0 {
        let done = output::grouped(done_before);
        text.push_str(&format!("; {done} of them were done by an earlier run"));
    }
    text
}

/// One line that says where a job stands.
pub(crate) fn line(snapshot: &Snapshot, speed: &Speed) -> String {
    match snapshot.phase {
        Phase::Planning if snapshot.entries_listed == 0 => {
            "planning: listing the inputs".to_owned()
        }
        Phase::Planning => format!(
            "planning: {} of {} inputs opened, {}, {} found",
            output::grouped(snapshot.entries_surveyed),
            output::grouped(snapshot.entries_listed),
            output::counted(snapshot.documents_found, "document", "documents"),
            output::counted(snapshot.pages_found, "page", "pages"),
        ),
        Phase::Reading => reading_line(snapshot, speed),
        Phase::Paused => format!("paused: {}", snapshot.reason),
        Phase::Sealing => "all pages are done, writing the dataset".to_owned(),
        Phase::Done => "done".to_owned(),
        Phase::Stopped => format!("stopped: {}", snapshot.reason),
    }
}

fn reading_line(snapshot: &Snapshot, speed: &Speed) -> String {
    let mut text = format!(
        "{} of {} pages",
        output::grouped(snapshot.pages_done),
        output::grouped(snapshot.pages_planned)
    );
    if let Some(rate) = speed.recent() {
        text.push_str(&format!(", {} pages/s", output::rate(rate)));
    }
    let left = snapshot.pages_planned.saturating_sub(snapshot.pages_done);
    if let Some(eta) = speed.eta(left) {
        text.push_str(&format!(", {} left", Span(eta)));
    }
    if snapshot.pages_failed > 0 {
        text.push_str(&format!(
            ", {} failed",
            output::grouped(snapshot.pages_failed)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_done_planned_rate_time_left_and_failed() {
        let mut speed = Speed::default();
        speed.observe(Duration::from_secs(0), 25);
        speed.observe(Duration::from_secs(10), 50);
        let snapshot = Snapshot::for_test();
        let expected = "50 of 100 pages, 2.50 pages/s, 20s left, 2 failed";
        assert_eq!(line(&snapshot, &speed), expected);
    }

    #[test]
    fn run_counts_the_pages_it_read_itself_while_it_read_them() {
        let mut progress = Progress::new(
            Audience {
                bar: false,
                json: false,
            },
            &Screen::new(),
            true,
        );
        for (second, pages_read, pages_done) in
            [(0, 10, 60), (5, 15, 65), (10, 30, 99), (20, 30, 99)]
        {
            let snapshot = Snapshot {
                pages_read,
                pages_done,
                ..Snapshot::for_test()
            };
            progress
                .update(Duration::from_secs(second), &snapshot)
                .unwrap();
        }
        let expected = PagesRead {
            pages: 20,
            per_second: Some(2.0),
            before: 10,
        };
        assert_eq!(progress.finish(), expected);
    }

    #[test]
    fn planning_says_what_is_found_so_far() {
        let snapshot = Snapshot {
            phase: Phase::Planning,
            entries_surveyed: 3,
            ..Snapshot::for_test()
        };
        let expected = "planning: 3 of 12 inputs opened, 20 documents, 100 pages found";
        assert_eq!(line(&snapshot, &Speed::default()), expected);
    }

    #[test]
    fn plan_of_a_resumed_job_says_what_was_done_before() {
        let snapshot = Snapshot {
            documents_known: 4,
            ..Snapshot::for_test()
        };
        let expected = "planned 20 documents, 100 pages; 4 more are in the dataset already; \
                        45 of them were done by an earlier run";
        assert_eq!(plan_line(&snapshot, 45), expected);
    }
}
