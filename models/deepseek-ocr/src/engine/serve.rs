//! Pages come, are looked at, written side by side, and go as they are ready.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quire_core::{
    AnswerSink, PageAnswer, PageImage, PageRequest, PageSource, Parsed, Recognition, Stage,
    Trouble, TroubleCode, TryNext,
};

use super::figures;
use super::model::Model;
use super::prepare::{Job, Prepared, Preparing, check, crash};
use super::reading::{self, count};
use crate::decoder::Decoder;
use crate::generate::metrics::Meters;
use crate::generate::{Answered, BatchSettings, Batcher, CannotFit, Written};
use crate::output::figure::FigureAnswer;
use crate::preprocess::{Mode, PageViews};
use crate::prompt::Task;

/// Pages that go through the vision towers together at most; the towers themselves bound the
/// memory they take. More would keep those that are written waiting for longer.
const SEEN_AT_ONCE: usize = 4;

/// Which image of a page a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    page: u64,
    /// A picture among the page's blocks; `None` for the page itself.
    block: Option<usize>,
}

/// A page between its arrival and its answer.
struct Page {
    ticket: u64,
    image: Arc<PageImage>,
    vision_tokens: usize,
    spent: Duration,
    /// What was read of the page itself.
    recognition: Option<Recognition>,
    /// Pictures that are still asked about.
    n_open: usize,
}

/// One call of `serve`. Dropping it gives all places back, so a panic costs no more than the
/// pages that it held.
pub(super) struct Serving<'a> {
    model: &'a Model,
    batcher: Batcher<'a, Part>,
    meters: Meters,
    /// Pages that may be held at once.
    room: usize,
    pages: BTreeMap<u64, Page>,
    n_taken: u64,
    /// Images that nobody looks at yet.
    waiting: VecDeque<Job>,
    preparing: Preparing<'a>,
    prepared: VecDeque<Prepared>,
    ready: Vec<PageAnswer>,
    is_closed: bool,
}

impl<'a> Serving<'a> {
    pub(super) fn new(
        model: &'a Model,
        decoder: &'a mut dyn Decoder,
        batch: BatchSettings,
        room: usize,
        meters: Meters,
    ) -> Self {
        Self {
            model,
            batcher: Batcher::new(decoder, batch, meters.clone()),
            meters,
            room: room.max(1),
            pages: BTreeMap::new(),
            n_taken: 0,
            waiting: VecDeque::new(),
            preparing: Preparing::new(&model.preparing, 2 * SEEN_AT_ONCE),
            prepared: VecDeque::new(),
            ready: Vec::new(),
            is_closed: false,
        }
    }

    /// Serves until the source closes and every page is answered.
    pub(super) fn serve(mut self, pages: &mut dyn PageSource, answers: &mut dyn AnswerSink) {
        while self.take(pages) {
            self.prepare();
            self.look();
            for answered in self.batcher.step() {
                self.settle(answered);
            }
            answers.moved();
            for answer in self.ready.drain(..) {
                answers.answer(answer);
            }
        }
    }

    /// Takes pages while there is room. Waits for one only if there is nothing else to do; false
    /// if nothing will come any more and nothing is left.
    fn take(&mut self, pages: &mut dyn PageSource) -> bool {
        while !self.is_closed && self.pages.len() + self.ready.len() < self.room {
            let request = if self.pages.is_empty() && self.ready.is_empty() {
                pages.next()
            } else {
                match pages.try_next() {
                    TryNext::Page(request) => Some(request),
                    TryNext::Empty => break,
                    TryNext::Closed => None,
                }
            };
            match request {
                Some(request) => self.accept(request),
                None => self.is_closed = true,
            }
        }
        !(self.is_closed && self.pages.is_empty() && self.ready.is_empty())
    }

    fn accept(&mut self, request: PageRequest) {
        let ticket = request.ticket;
        let checked = check(&request.image);
        let mode = match checked.and_then(|()| self.model.mode_of(request.mode.as_deref())) {
            Ok(mode) => mode,
            Err(trouble) => {
                let result = Err(trouble);
                return self.ready.push(PageAnswer { ticket, result });
            }
        };
        let page = self.n_taken;
        self.n_taken += 1;
        self.waiting.push_back(Job {
            part: Part { page, block: None },
            image: Arc::clone(&request.image),
            mode,
            task: self.model.task.clone(),
        });
        let page_held = Page {
            ticket,
            image: request.image,
            vision_tokens: 0,
            spent: Duration::ZERO,
            recognition: None,
            n_open: 0,
        };
        self.pages.insert(page, page_held);
    }

    /// Keeps the threads that cut pages into views at work, and takes what they have ready.
    fn prepare(&mut self) {
        while self.preparing.has_room()
            && self.preparing.n_running() + self.prepared.len() < 2 * SEEN_AT_ONCE
            && let Some(job) = self.waiting.pop_front()
        {
            self.preparing.start(job);
        }
        // Without anything to write or to see, the next page is all there is to wait for.
        let mut wait = self.batcher.is_idle() && self.prepared.is_empty() && self.ready.is_empty();
        while let Some(prepared) = self.preparing.take(wait) {
            wait = false;
            self.prepared.push_back(prepared);
        }
    }

    /// Sends pages through the vision towers if prompts will be wanted soon.
    fn look(&mut self) {
        let ahead = (self.room / 8).max(1);
        let wanted = (self.batcher.n_free() + ahead).saturating_sub(self.batcher.n_waiting());
        let n = wanted.min(SEEN_AT_ONCE).min(self.prepared.len());
        if n == 0 {
            return;
        }
        let mut seen = Vec::with_capacity(n);
        let mut views = Vec::with_capacity(n);
        for prepared in self.prepared.drain(..n).collect::<Vec<_>>() {
            let part = prepared.part;
            if let Some(page) = self.pages.get_mut(&part.page) {
                page.spent += prepared.spent;
            }
            match prepared.views {
                Ok(found) => {
                    self.note(part, &prepared.mode, &found);
                    seen.push((part, prepared.task));
                    views.push(found);
                }
                Err(trouble) => self.give_up(part, trouble),
            }
        }
        self.see(seen, views);
    }

    /// Counts what a page's own image costs; its pictures are asked about at its expense.
    fn note(&mut self, part: Part, mode: &Mode, views: &PageViews) {
        if part.block.is_none()
            && let Some(page) = self.pages.get_mut(&part.page)
        {
            page.vision_tokens = mode.vision_tokens(views.grid);
        }
    }

    fn see(&mut self, seen: Vec<(Part, Task)>, views: Vec<PageViews>) {
        let n_views: Vec<usize> = views.iter().map(PageViews::n_views).collect();
        let all: usize = n_views.iter().sum();
        if all == 0 {
            return;
        }
        let start = Instant::now();
        // The towers do not change while they see, so a panic leaves them whole.
        let vectors = catch_unwind(AssertUnwindSafe(|| self.model.see(views)));
        let spent = start.elapsed();
        self.meters.views(all, spent);
        let Ok(vectors) = vectors else {
            for (part, _) in seen {
                self.give_up(part, crash("the vision towers panicked"));
            }
            return;
        };
        for (((part, task), vectors), n) in seen.into_iter().zip(vectors).zip(n_views) {
            if let Some(page) = self.pages.get_mut(&part.page) {
                page.spent += spent.mul_f64(n as f64 / all as f64);
            }
            match self.model.ask(self.batcher.decoder(), part, &task, vectors) {
                // A page is not answered before its pictures are.
                Ok(question) if part.block.is_some() => self.batcher.push_first(question),
                Ok(question) => self.batcher.push(question),
                Err(trouble) => self.give_up(part, trouble),
            }
        }
    }

    fn settle(&mut self, answered: Answered<Part>) {
        let part = answered.tag;
        match (answered.result, part.block) {
            (Ok(written), _) if !reading::is_sane(&written) => self.give_up(part, no_number()),
            (Ok(written), None) => self.read(part.page, &written),
            (Ok(written), Some(block)) => self.parse(part.page, block, &written),
            (Err(cannot_fit), _) => self.give_up(part, too_large(cannot_fit)),
        }
    }

    /// The page itself was written.
    fn read(&mut self, number: u64, written: &Written) {
        let Some(page) = self.pages.get_mut(&number) else {
            return;
        };
        page.spent += written.spent;
        let size = (page.image.width, page.image.height);
        let start = Instant::now();
        let model = self.model;
        let recognition = reading::recognition(&model.tokenizer, &model.task, size, written);
        let crops = figures::crops(&page.image, &recognition.blocks, model.max_figures);
        page.n_open = crops.len();
        page.recognition = Some(recognition);
        page.spent += start.elapsed();
        // The first picture of the page is to be the first asked about.
        for (block, image) in crops.into_iter().rev() {
            self.waiting.push_front(Job {
                part: Part {
                    page: number,
                    block: Some(block),
                },
                image,
                mode: model.mode,
                task: Task::Figure,
            });
        }
        self.finish(number);
    }

    /// A picture of a page was written.
    fn parse(&mut self, number: u64, block: usize, written: &Written) {
        let Some(page) = self.pages.get_mut(&number) else {
            return;
        };
        page.spent += written.spent;
        page.n_open -= 1;
        let text = self
            .model
            .tokenizer
            .decode(&written.tokens[..written.n_kept]);
        if let Some(recognition) = &mut page.recognition
            && let Some(block) = recognition.blocks.get_mut(block)
        {
            block.parsed = parsed(&text);
        }
        self.finish(number);
    }

    /// An image that cannot be asked about. Of a page, that is its answer; a picture stays
    /// without one.
    fn give_up(&mut self, part: Part, trouble: Trouble) {
        if part.block.is_some() {
            tracing::warn!(%trouble, "a picture could not be asked about");
            if let Some(page) = self.pages.get_mut(&part.page) {
                page.n_open -= 1;
            }
            return self.finish(part.page);
        }
        if let Some(page) = self.pages.remove(&part.page) {
            self.ready.push(PageAnswer {
                ticket: page.ticket,
                result: Err(trouble),
            });
        }
    }

    /// Answers a page if nothing about it is open.
    fn finish(&mut self, number: u64) {
        let is_done = |page: &Page| page.n_open == 0 && page.recognition.is_some();
        if !self.pages.get(&number).is_some_and(is_done) {
            return;
        }
        if let Some(page) = self.pages.remove(&number)
            && let Some(recognition) = page.recognition
        {
            let recognition = Recognition {
                vision_tokens: Some(count(page.vision_tokens)),
                infer: page.spent,
                ..recognition
            };
            self.ready.push(PageAnswer {
                ticket: page.ticket,
                result: Ok(recognition),
            });
        }
    }
}

/// What a picture's answer says; nothing if it is empty.
fn parsed(text: &str) -> Option<Parsed> {
    let answer = FigureAnswer::read(text);
    (!answer.text().is_empty()).then(|| Parsed {
        asked: Task::Figure.question(),
        kind: answer.kind().to_owned(),
        text: answer.text().to_owned(),
    })
}

/// What was written says nothing then, however it looks.
fn no_number() -> Trouble {
    let message = "the model's numbers overflowed; another dtype may do";
    Trouble::new(Stage::Recognize, TroubleCode::Crash, message)
}

fn too_large(cannot_fit: CannotFit) -> Trouble {
    Trouble::new(
        Stage::Recognize,
        TroubleCode::TooLarge,
        cannot_fit.to_string(),
    )
}
