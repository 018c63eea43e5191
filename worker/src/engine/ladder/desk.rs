//! Where the pages of a ladder are: which rung reads each, what came of the rungs before, and the
//! queues between them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use quire_core::{
    AnswerSink, EngineInfo, Flag, PageAnswer, PageRequest, PageSource, Recognition, Stage, Trouble,
    TroubleCode, TryNext,
};

use crate::{metrics, signals};

const LOST: &str = "the engine of the fallback cannot go on";

/// A rung, the first engine included, as the desk sees it.
#[derive(Debug)]
pub(super) struct Station {
    info: Arc<EngineInfo>,
    takes_known_lines: bool,
    /// The mode that the first engine, which takes the pages from the desk, reads them in.
    mode: Option<String>,
    queue: Mutex<Queue>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<PageRequest>,
    /// Nothing will come any more.
    is_closed: bool,
    /// Its engine cannot go on.
    is_lost: bool,
}

impl Station {
    /// An engine.
    pub(super) fn new(info: EngineInfo, takes_known_lines: bool) -> Self {
        Self {
            info: Arc::new(info),
            takes_known_lines,
            mode: None,
            queue: Mutex::default(),
            ready: Condvar::new(),
        }
    }

    /// The first engine in another mode.
    pub(super) fn mode(info: EngineInfo, mode: &str) -> Self {
        Self {
            mode: Some(mode.to_owned()),
            ..Self::new(info, false)
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }
}

/// A page between its arrival and its answer.
#[derive(Debug)]
struct Journey {
    request: PageRequest,
    /// The rung whose page it is now.
    station: usize,
    /// The rung's engine took it.
    is_taken: bool,
    /// Where it was first asked; not the first engine for pages whose lines are known.
    start: usize,
    tries: u32,
    spent: Duration,
    /// The best answer without an end, and whose it is.
    best: Option<(usize, Recognition)>,
    troubles: Vec<(usize, Trouble)>,
}

/// All pages of a ladder.
pub(super) struct Desk<'a> {
    stations: Vec<Station>,
    answers: Mutex<&'a mut dyn AnswerSink>,
    pages: Mutex<HashMap<u64, Journey>>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(stations: Vec<Station>, answers: &'a mut dyn AnswerSink) -> Self {
        Self {
            stations,
            answers: Mutex::new(answers),
            pages: Mutex::default(),
        }
    }

    pub(super) fn first_name(&self) -> &str {
        &self.stations[0].info.name
    }

    /// Takes a page in; `None` if a lower rung reads it from the start.
    fn admit(&self, request: PageRequest) -> Option<PageRequest> {
        let by_lines = request.known_lines.is_some() && !self.stations[0].takes_known_lines;
        let start = if by_lines {
            self.stations
                .iter()
                .position(|station| station.takes_known_lines && !station.queue().is_lost)
                .unwrap_or(0)
        } else {
            0
        };
        let journey = Journey {
            request: request.clone(),
            station: start,
            is_taken: start == 0,
            start,
            tries: 0,
            spent: Duration::ZERO,
            best: None,
            troubles: Vec::new(),
        };
        lock(&self.pages).insert(request.ticket, journey);
        if start == 0 {
            return Some(request);
        }
        self.push(start, request);
        None
    }

    /// Puts a page into a rung's queue. The rung may have been lost since it was chosen; then
    /// the page goes on.
    fn push(&self, station: usize, request: PageRequest) {
        let ticket = request.ticket;
        let mut queue = self.stations[station].queue();
        if !queue.is_lost {
            queue.waiting.push_back(request);
            drop(queue);
            self.stations[station].ready.notify_one();
            return;
        }
        drop(queue);
        let result = Err(Trouble::new(Stage::Recognize, TroubleCode::Other, LOST));
        self.answered(station, PageAnswer { ticket, result });
    }

    /// A page that the first engine is to read in another mode.
    fn again(&self) -> Option<PageRequest> {
        let mut modes = self
            .stations
            .iter()
            .filter(|station| station.mode.is_some());
        let request = modes.find_map(|station| station.queue().waiting.pop_front())?;
        self.take(request.ticket);
        Some(request)
    }

    /// Whether pages wait for the first engine in another mode.
    pub(super) fn has_again(&self) -> bool {
        let mut modes = self
            .stations
            .iter()
            .filter(|station| station.mode.is_some());
        modes.any(|station| !station.queue().waiting.is_empty())
    }

    fn take(&self, ticket: u64) {
        if let Some(journey) = lock(&self.pages).get_mut(&ticket) {
            journey.is_taken = true;
        }
    }

    /// No page will be sent to this rung any more.
    pub(super) fn close(&self, station: usize) {
        let station = &self.stations[station];
        station.queue().is_closed = true;
        station.ready.notify_all();
    }

    /// The page, if it is this rung's now; the first engine reads those of its other modes, too.
    fn leave(&self, from: usize, ticket: u64) -> Option<Journey> {
        let mut pages = lock(&self.pages);
        let at = pages.get(&ticket)?.station;
        let is_its_own = at == from || from == 0 && self.stations[at].mode.is_some();
        if is_its_own {
            pages.remove(&ticket)
        } else {
            None
        }
    }

    /// What a rung said of a page: the page's answer, or a reason to ask the next one.
    fn answered(&self, from: usize, answer: PageAnswer) {
        let ticket = answer.ticket;
        let Some(mut journey) = self.leave(from, ticket) else {
            return;
        };
        let station = journey.station;
        journey.tries += 1;
        let reason = match shortfall(&answer.result) {
            None => {
                let result = answer.result.map(|page| self.told(&journey, station, page));
                return self.send(PageAnswer { ticket, result });
            }
            Some(reason) => reason,
        };
        match answer.result {
            Ok(page) => journey.keep(station, page),
            Err(trouble) => journey.troubles.push((station, trouble)),
        }
        let Some(next) = self.next_after(station) else {
            let result = self.give_up(journey);
            return self.send(PageAnswer { ticket, result });
        };
        let named = |at: usize| {
            let info = &self.stations[at].info;
            format!("{}:{}", info.name, info.mode)
        };
        metrics::fallback(named(station), named(next), reason);
        journey.station = next;
        journey.is_taken = false;
        let mut request = journey.request.clone();
        if let Some(mode) = &self.stations[next].mode {
            request.mode = Some(mode.clone());
        }
        lock(&self.pages).insert(ticket, journey);
        self.push(next, request);
    }

    fn next_after(&self, station: usize) -> Option<usize> {
        (station + 1..self.stations.len()).find(|&next| !self.stations[next].queue().is_lost)
    }

    /// A recognition with what led to it.
    fn told(&self, journey: &Journey, station: usize, mut page: Recognition) -> Recognition {
        page.attempt = journey.tries.max(1);
        page.infer += journey.spent;
        if station != 0 {
            page.read_by = Some(Arc::clone(&self.stations[station].info));
        }
        if station != journey.start {
            let gave_up = &self.stations[journey.start].info.name;
            page.fallback_from = Some(gave_up.clone());
            page.flags.push(Flag::Fallback);
        }
        page
    }

    /// Every rung failed: the answer that says most, marked for what it is, or the troubles.
    fn give_up(&self, mut journey: Journey) -> Result<Recognition, Trouble> {
        if let Some((station, mut page)) = journey.best.take() {
            page.flags.push(match page.finish_reason.as_deref() {
                Some("repetition") => Flag::Repetition,
                _ => Flag::Truncated,
            });
            // What it took itself is among what was spent.
            page.infer = Duration::ZERO;
            return Ok(self.told(&journey, station, page));
        }
        let mut troubles = journey.troubles.into_iter();
        let Some((_, first)) = troubles.next() else {
            let message = "no engine is left to read the page";
            return Err(Trouble::new(Stage::Recognize, TroubleCode::Other, message));
        };
        let further = troubles.map(|(station, trouble)| {
            format!(
                "; {}: {}",
                self.stations[station].info.name, trouble.message
            )
        });
        let message: String = std::iter::once(first.message).chain(further).collect();
        Err(Trouble::new(first.stage, first.code, message))
    }

    fn send(&self, answer: PageAnswer) {
        lock(&self.answers).answer(answer);
    }

    /// The engine of a rung panicked: pages that it held go on. Returns how many.
    pub(super) fn panicked(&self, station: usize) -> usize {
        let is_mode = |at: usize| self.stations[at].mode.is_some();
        let mut held: Vec<u64> = lock(&self.pages)
            .iter()
            .filter(|(_, journey)| journey.is_taken)
            .filter(|(_, journey)| {
                journey.station == station || station == 0 && is_mode(journey.station)
            })
            .map(|(&ticket, _)| ticket)
            .collect();
        held.sort_unstable();
        for &ticket in &held {
            let trouble = Trouble::new(Stage::Recognize, TroubleCode::Crash, "the engine panicked");
            let result = Err(trouble);
            self.answered(station, PageAnswer { ticket, result });
        }
        held.len()
    }

    /// The engine of a lower rung cannot go on: its pages go on without it, and later ones pass
    /// it by.
    pub(super) fn lost(&self, station: usize, why: &str) {
        {
            let mut queue = self.stations[station].queue();
            queue.is_lost = true;
            queue.waiting.clear();
        }
        let mut here: Vec<u64> = lock(&self.pages)
            .iter()
            .filter(|(_, journey)| journey.station == station)
            .map(|(&ticket, _)| ticket)
            .collect();
        here.sort_unstable();
        for ticket in here {
            let result = Err(Trouble::new(Stage::Recognize, TroubleCode::Other, why));
            self.answered(station, PageAnswer { ticket, result });
        }
    }
}

impl Journey {
    /// Keeps an answer without an end if it says more than the ones before.
    fn keep(&mut self, station: usize, page: Recognition) {
        self.spent += page.infer;
        let is_better = self
            .best
            .as_ref()
            .is_none_or(|(_, best)| worth(&page) > worth(best));
        if is_better {
            self.best = Some((station, page));
        }
    }
}

/// Characters that are no repetition of earlier ones.
fn worth(page: &Recognition) -> f32 {
    let repeated = signals::repetition(&page.text);
    page.text.chars().count() as f32 * (1.0 - repeated)
}

/// Why an answer is none.
fn shortfall(result: &Result<Recognition, Trouble>) -> Option<&'static str> {
    match result {
        Err(trouble) => (trouble.stage == Stage::Recognize).then_some("trouble"),
        Ok(page) => match page.finish_reason.as_deref() {
            Some("length") => Some("length"),
            Some("repetition") => Some("repetition"),
            _ => None,
        },
    }
}

/// Closes every queue, however the first engine ended.
pub(super) struct CloseOnDrop<'d, 'a>(pub(super) &'d Desk<'a>);

impl Drop for CloseOnDrop<'_, '_> {
    fn drop(&mut self) {
        (0..self.0.stations.len()).for_each(|station| self.0.close(station));
    }
}

/// Pages of the first engine: those that are to be tried again, then new ones.
pub(super) struct FirstSource<'d, 'a, 'p> {
    desk: &'d Desk<'a>,
    pages: &'p mut dyn PageSource,
    is_closed: bool,
}

impl<'d, 'a, 'p> FirstSource<'d, 'a, 'p> {
    pub(super) fn new(desk: &'d Desk<'a>, pages: &'p mut dyn PageSource) -> Self {
        Self {
            desk,
            pages,
            is_closed: false,
        }
    }
}

impl PageSource for FirstSource<'_, '_, '_> {
    fn next(&mut self) -> Option<PageRequest> {
        loop {
            if let Some(again) = self.desk.again() {
                return Some(again);
            }
            if self.is_closed {
                return None;
            }
            let Some(page) = self.pages.next() else {
                self.is_closed = true;
                return None;
            };
            if let Some(page) = self.desk.admit(page) {
                return Some(page);
            }
        }
    }

    fn try_next(&mut self) -> TryNext {
        loop {
            if let Some(again) = self.desk.again() {
                return TryNext::Page(again);
            }
            if self.is_closed {
                return TryNext::Closed;
            }
            match self.pages.try_next() {
                TryNext::Page(page) => {
                    if let Some(page) = self.desk.admit(page) {
                        return TryNext::Page(page);
                    }
                }
                TryNext::Empty => return TryNext::Empty,
                TryNext::Closed => self.is_closed = true,
            }
        }
    }
}

/// Pages of a lower rung.
pub(super) struct RungSource<'d, 'a> {
    desk: &'d Desk<'a>,
    station: usize,
}

impl<'d, 'a> RungSource<'d, 'a> {
    pub(super) fn new(desk: &'d Desk<'a>, station: usize) -> Self {
        Self { desk, station }
    }
}

impl PageSource for RungSource<'_, '_> {
    fn next(&mut self) -> Option<PageRequest> {
        let station = &self.desk.stations[self.station];
        let mut queue = station.queue();
        let page = loop {
            if let Some(page) = queue.waiting.pop_front() {
                break page;
            }
            if queue.is_closed {
                return None;
            }
            queue = station
                .ready
                .wait(queue)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        };
        drop(queue);
        self.desk.take(page.ticket);
        Some(page)
    }

    fn try_next(&mut self) -> TryNext {
        let mut queue = self.desk.stations[self.station].queue();
        let Some(page) = queue.waiting.pop_front() else {
            return if queue.is_closed {
                TryNext::Closed
            } else {
                TryNext::Empty
            };
        };
        drop(queue);
        self.desk.take(page.ticket);
        TryNext::Page(page)
    }
}

/// Answers of a rung.
pub(super) struct RungSink<'d, 'a> {
    desk: &'d Desk<'a>,
    station: usize,
    /// Whether a page was read.
    pub(super) has_read: bool,
}

impl<'d, 'a> RungSink<'d, 'a> {
    pub(super) fn new(desk: &'d Desk<'a>, station: usize) -> Self {
        Self {
            desk,
            station,
            has_read: false,
        }
    }
}

impl AnswerSink for RungSink<'_, '_> {
    fn answer(&mut self, answer: PageAnswer) {
        self.has_read |= answer.result.is_ok();
        self.desk.answered(self.station, answer);
    }

    fn moved(&mut self) {
        lock(&self.desk.answers).moved();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
