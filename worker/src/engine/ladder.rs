//! A ladder of fallbacks behind the engine seam: pages that the first engine gives up (an error,
//! an answer without an end) go to the next rung, which is the same engine in another mode or
//! another engine. The first engine never waits for a rung: other engines have threads of their
//! own, and a second try in another mode joins the pages that it reads anyway.

mod desk;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use quire_core::{AnswerSink, Engine, EngineError, EngineInfo, Fault, PageSource};

use super::MOST_FUTILE_PANICS;
use super::thread::futile;
use desk::{CloseOnDrop, Desk, FirstSource, RungSink, RungSource, Station};

/// Who is asked when those before gave a page up.
pub enum Rung {
    /// The first engine once more, in another mode.
    Mode(String),
    /// Another engine.
    Engine(Box<dyn Engine>),
}

impl std::fmt::Debug for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mode(mode) => write!(f, "Mode({mode})"),
            Self::Engine(engine) => write!(f, "Engine({})", engine.info().name),
        }
    }
}

/// An engine with fallbacks. It is known as its first engine; a page that another rung read says
/// so itself.
pub struct Ladder {
    first: Box<dyn Engine>,
    rungs: Vec<Rung>,
}

impl Ladder {
    /// An engine, and who is asked after it, in this order.
    ///
    /// # Errors
    /// When the engine does not read single pages in a mode that a rung names, or a mode stands
    /// after another engine: the first engine might then wait for new pages beside one that is
    /// its own.
    pub fn new(first: Box<dyn Engine>, rungs: Vec<Rung>) -> Result<Self, EngineError> {
        let refuse = |message: String| EngineError {
            engine: first.info().name.clone(),
            message,
            fault: Fault::Config,
        };
        let mut has_other = false;
        for rung in &rungs {
            match rung {
                Rung::Engine(_) => has_other = true,
                Rung::Mode(mode) if has_other => {
                    return Err(refuse(format!(
                        "the fallback to mode {mode} must stand before other engines"
                    )));
                }
                Rung::Mode(mode) if !first.takes_mode(mode) => {
                    return Err(refuse(format!("has no mode {mode} to fall back to")));
                }
                Rung::Mode(_) => {}
            }
        }
        Ok(Self { first, rungs })
    }

    fn stations(&self) -> Vec<Station> {
        let first = Station::new(self.first.info().clone(), self.first.takes_known_lines());
        let lower = self.rungs.iter().map(|rung| match rung {
            Rung::Mode(mode) => Station::mode(self.first.info_in(mode), mode),
            Rung::Engine(engine) => Station::new(engine.info().clone(), engine.takes_known_lines()),
        });
        std::iter::once(first).chain(lower).collect()
    }
}

impl std::fmt::Debug for Ladder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ladder")
            .field("first", self.first.info())
            .field("rungs", &self.rungs)
            .finish()
    }
}

impl Engine for Ladder {
    fn info(&self) -> &EngineInfo {
        self.first.info()
    }

    /// Of all engines together: pages at lower rungs must not keep the first one short.
    fn pages_in_flight(&self) -> usize {
        let lower = self.rungs.iter().map(|rung| match rung {
            Rung::Mode(_) => 0,
            Rung::Engine(engine) => engine.pages_in_flight(),
        });
        self.first.pages_in_flight() + lower.sum::<usize>()
    }

    fn takes_mode(&self, mode: &str) -> bool {
        self.first.takes_mode(mode)
    }

    fn takes_known_lines(&self) -> bool {
        let lower = self.rungs.iter().any(|rung| match rung {
            Rung::Mode(_) => false,
            Rung::Engine(engine) => engine.takes_known_lines(),
        });
        self.first.takes_known_lines() || lower
    }

    fn serve(
        &mut self,
        pages: &mut dyn PageSource,
        answers: &mut dyn AnswerSink,
    ) -> Result<(), EngineError> {
        let desk = Desk::new(self.stations(), answers);
        let (first, rungs) = (&mut self.first, &mut self.rungs);
        std::thread::scope(|scope| -> Result<(), EngineError> {
            // Else the threads below would wait for pages for ever.
            let closing = CloseOnDrop(&desk);
            let mut lower = Vec::new();
            for (at, rung) in rungs.iter_mut().enumerate() {
                let Rung::Engine(engine) = rung else { continue };
                let (desk, station) = (&desk, at + 1);
                let name = format!("fallback-{}", engine.info().name);
                let thread = std::thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || work(desk, station, engine.as_mut()))
                    .map_err(|error| EngineError {
                        engine: desk.first_name().to_owned(),
                        message: format!("cannot start a thread for a fallback: {error}"),
                        fault: Fault::Unavailable,
                    })?;
                lower.push((station, thread));
            }
            let served = serve_first(&desk, first.as_mut(), pages);
            // From the top: each rung may still send pages to the next.
            for (station, thread) in lower {
                desk.close(station);
                if let Err(panic) = thread.join() {
                    resume_unwind(panic);
                }
            }
            drop(closing);
            served
        })
    }
}

/// Serves with the first engine until no page will come any more and none is to be tried again.
fn serve_first(
    desk: &Desk<'_>,
    first: &mut dyn Engine,
    pages: &mut dyn PageSource,
) -> Result<(), EngineError> {
    let mut source = FirstSource::new(desk, pages);
    let mut n_futile = 0;
    loop {
        let mut sink = RungSink::new(desk, 0);
        let served = catch_unwind(AssertUnwindSafe(|| first.serve(&mut source, &mut sink)));
        match served {
            // Pages of the last batch may have failed after the source had closed.
            Ok(Ok(())) if desk.has_again() => {}
            Ok(ended) => return ended,
            Err(panic) => {
                n_futile = if sink.has_read { 1 } else { n_futile + 1 };
                if n_futile == MOST_FUTILE_PANICS {
                    return Err(EngineError {
                        engine: first.info().name.clone(),
                        message: futile(first.info()),
                        fault: Fault::Unavailable,
                    });
                }
                if desk.panicked(0) == 0 {
                    resume_unwind(panic);
                }
            }
        }
    }
}

/// Serves with the engine of a lower rung until its queue is closed and empty.
fn work(desk: &Desk<'_>, station: usize, engine: &mut dyn Engine) {
    loop {
        let mut source = RungSource::new(desk, station);
        let mut sink = RungSink::new(desk, station);
        let served = catch_unwind(AssertUnwindSafe(|| engine.serve(&mut source, &mut sink)));
        match served {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(%error, "a fallback engine cannot go on");
                return desk.lost(station, &error.to_string());
            }
            Err(_) if desk.panicked(station) == 0 => {
                return desk.lost(station, "the engine panicked without a page");
            }
            Err(_) => {}
        }
    }
}
