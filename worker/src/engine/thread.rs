//! The thread that owns one engine. A panic costs the pages the engine held and nothing else.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use quire_core::{
    AnswerSink, Engine, EngineInfo, PageAnswer, PageRequest, PageSource, Stage, Trouble,
    TroubleCode, TryNext,
};

use super::{MOST_FUTILE_PANICS, Shared};

/// Tickets that the engine took and has not answered.
#[derive(Default)]
struct Held(Mutex<HashSet<u64>>);

impl Held {
    fn tickets(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

struct Source<'a> {
    pages: &'a Receiver<PageRequest>,
    held: &'a Held,
    busy: Busy,
}

/// Counts the time in which the engine does not wait for a page.
struct Busy {
    counter: metrics::Counter,
    since: Instant,
    /// Less than a millisecond, which is what is counted.
    rest: Duration,
}

impl Busy {
    fn of(device: &str) -> Self {
        let device = device.to_owned();
        Self {
            counter: metrics::counter!(
                "quire_worker_engine_busy_milliseconds_total",
                "device" => device
            ),
            since: Instant::now(),
            rest: Duration::ZERO,
        }
    }

    fn count(&mut self) {
        let now = Instant::now();
        self.rest += now - self.since;
        self.since = now;
        let whole = self.rest.as_millis() as u64;
        self.counter.increment(whole);
        self.rest -= Duration::from_millis(whole);
    }

    fn waited(&mut self) {
        self.since = Instant::now();
    }
}

impl PageSource for Source<'_> {
    fn next(&mut self) -> Option<PageRequest> {
        self.busy.count();
        let page = self.pages.recv().ok()?;
        self.busy.waited();
        self.held.tickets().insert(page.ticket);
        Some(page)
    }

    fn try_next(&mut self) -> TryNext {
        self.busy.count();
        match self.pages.try_recv() {
            Ok(page) => {
                self.held.tickets().insert(page.ticket);
                TryNext::Page(page)
            }
            Err(TryRecvError::Empty) => TryNext::Empty,
            Err(TryRecvError::Disconnected) => TryNext::Closed,
        }
    }
}

struct Sink<'a> {
    shared: &'a Shared,
    held: &'a Held,
    /// Whether a page was read.
    has_read: bool,
}

impl AnswerSink for Sink<'_> {
    fn answer(&mut self, answer: PageAnswer) {
        self.held.tickets().remove(&answer.ticket);
        self.has_read |= answer.result.is_ok();
        self.shared.settle(answer.ticket, Ok(answer.result));
    }

    fn moved(&mut self) {
        self.shared.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Serves pages until the pool is dropped or the engine gives up.
pub(super) fn run(
    engine: Box<dyn Engine>,
    device: String,
    shared: &Arc<Shared>,
    pages: Receiver<PageRequest>,
) {
    let gave_up = serve(engine, &device, shared, &pages);
    if let Err(GaveUp { message, .. }) = &gave_up {
        shared.last_words.get_or_init(|| message.clone());
    }
    // Whoever hears of the end finds that the engine is gone.
    drop(pages);
    let is_last = shared.n_living.fetch_sub(1, Ordering::AcqRel) == 1;
    if let Err(GaveUp { message, left }) = gave_up {
        for ticket in left {
            shared.settle(ticket, Err(message.clone()));
        }
        if is_last {
            // Pages that no engine took any more.
            shared.settle_all(&message);
        }
    }
}

/// What is said of an engine that read nothing between so many panics.
pub(super) fn futile(engine: &EngineInfo) -> String {
    format!(
        "engine {}: panicked {MOST_FUTILE_PANICS} times and read no page in between",
        engine.name
    )
}

/// An engine that cannot go on.
struct GaveUp {
    message: String,
    /// Tickets of pages that it took and did not answer.
    left: Vec<u64>,
}

fn serve(
    mut engine: Box<dyn Engine>,
    device: &str,
    shared: &Arc<Shared>,
    pages: &Receiver<PageRequest>,
) -> Result<(), GaveUp> {
    let mut n_futile = 0;
    loop {
        let held = Held::default();
        let mut sink = Sink {
            shared,
            held: &held,
            has_read: false,
        };
        let served = catch_unwind(AssertUnwindSafe(|| {
            let mut source = Source {
                pages,
                held: &held,
                busy: Busy::of(device),
            };
            engine.serve(&mut source, &mut sink)
        }));
        let left: Vec<u64> = held.tickets().drain().collect();
        match served {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                tracing::error!(device, %error, "an engine cannot go on");
                let message = error.to_string();
                return Err(GaveUp { message, left });
            }
            Err(_) => {
                n_futile = if sink.has_read { 1 } else { n_futile + 1 };
                if n_futile == MOST_FUTILE_PANICS {
                    let message = futile(engine.info());
                    tracing::error!(device, message, "an engine cannot go on");
                    return Err(GaveUp { message, left });
                }
                for ticket in left {
                    let trouble =
                        Trouble::new(Stage::Recognize, TroubleCode::Crash, "the engine panicked");
                    shared.settle(ticket, Ok(Err(trouble)));
                }
            }
        }
    }
}
