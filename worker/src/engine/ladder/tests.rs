//! Which rung reads a page, what its answer then says, and that nothing waits for a rung.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quire_core::{
    Flag, Line, PageAnswer, PageImage, PageRequest, Recognition, Rect, Stage, Trouble, TroubleCode,
    TryNext,
};

use super::*;

/// What a scripted engine does with a page.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    Reads,
    /// Reads, unless it is asked for the mode `base`.
    Loops(&'static str),
    /// Loops in its own mode, reads in `base`.
    LoopsUntilBase,
    Truncates(&'static str),
    Fails,
    Panics,
    GivesUp,
}

/// Does with the page of each ticket what its script says; holds pages in a batch until no
/// further one waits, as an engine that batches does.
struct Scripted {
    info: EngineInfo,
    script: BTreeMap<u64, Does>,
    otherwise: Does,
    takes_lines: bool,
    batch: usize,
}

impl Scripted {
    fn new(name: &str, otherwise: Does) -> Self {
        Self {
            info: EngineInfo {
                name: name.into(),
                version: "1".into(),
                model_id: "none".into(),
                model_revision: "0".into(),
                mode: "gundam".into(),
            },
            script: BTreeMap::new(),
            otherwise,
            takes_lines: false,
            batch: 3,
        }
    }

    fn with(mut self, ticket: u64, does: Does) -> Self {
        self.script.insert(ticket, does);
        self
    }

    fn read(&self, page: &PageRequest) -> Result<Recognition, Trouble> {
        let does = *self.script.get(&page.ticket).unwrap_or(&self.otherwise);
        let ended = |text: &str, reason: &str| {
            Ok(Recognition {
                text: text.to_owned(),
                finish_reason: Some(reason.to_owned()),
                output_tokens: Some(7),
                infer: Duration::from_secs(1),
                ..Recognition::default()
            })
        };
        match does {
            Does::Reads => ended(&self.info.name, "stop"),
            Does::LoopsUntilBase if page.mode.as_deref() == Some("base") => ended("base", "stop"),
            Does::LoopsUntilBase => ended("again again", "repetition"),
            Does::Loops(text) => ended(text, "repetition"),
            Does::Truncates(text) => ended(text, "length"),
            Does::Fails => {
                let message = format!("{} cannot", self.info.name);
                Err(Trouble::new(Stage::Recognize, TroubleCode::Other, message))
            }
            Does::Panics => panic!("as the script says"),
            Does::GivesUp => Err(Trouble::new(Stage::Lost, TroubleCode::Other, "gives up")),
        }
    }
}

impl Engine for Scripted {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn pages_in_flight(&self) -> usize {
        self.batch
    }

    fn takes_mode(&self, mode: &str) -> bool {
        ["gundam", "base"].contains(&mode)
    }

    fn takes_known_lines(&self) -> bool {
        self.takes_lines
    }

    fn serve(
        &mut self,
        pages: &mut dyn PageSource,
        answers: &mut dyn AnswerSink,
    ) -> Result<(), EngineError> {
        loop {
            let mut batch = Vec::new();
            match pages.next() {
                Some(page) => batch.push(page),
                None => return Ok(()),
            }
            while batch.len() < self.batch
                && let TryNext::Page(page) = pages.try_next()
            {
                batch.push(page);
            }
            for page in batch {
                let result = self.read(&page);
                if matches!(&result, Err(trouble) if trouble.stage == Stage::Lost) {
                    return Err(EngineError {
                        engine: self.info.name.clone(),
                        message: "the device is lost".into(),
                        fault: Fault::Bug,
                    });
                }
                answers.answer(PageAnswer {
                    ticket: page.ticket,
                    result,
                });
            }
        }
    }
}

struct Pages(VecDeque<PageRequest>);

impl PageSource for Pages {
    fn next(&mut self) -> Option<PageRequest> {
        self.0.pop_front()
    }

    fn try_next(&mut self) -> TryNext {
        self.next().map_or(TryNext::Closed, TryNext::Page)
    }
}

#[derive(Default)]
struct Answers(BTreeMap<u64, Result<Recognition, Trouble>>);

impl AnswerSink for Answers {
    fn answer(&mut self, answer: PageAnswer) {
        let before = self.0.insert(answer.ticket, answer.result);
        assert!(before.is_none(), "{} was answered twice", answer.ticket);
    }
}

fn page(ticket: u64) -> PageRequest {
    PageRequest {
        ticket,
        image: std::sync::Arc::new(PageImage::white(1, 1)),
        known_lines: None,
        mode: None,
    }
}

fn serve(ladder: &mut Ladder, pages: Vec<PageRequest>) -> Answers {
    let mut answers = Answers::default();
    ladder
        .serve(&mut Pages(pages.into()), &mut answers)
        .unwrap();
    answers
}

fn other(engine: Scripted) -> Rung {
    Rung::Engine(Box::new(engine))
}

fn base() -> Rung {
    Rung::Mode("base".into())
}

fn read_by(page: &Recognition) -> Option<(&str, &str)> {
    let info = page.read_by.as_deref()?;
    Some((&info.name, &info.mode))
}

#[test]
fn each_page_is_read_by_the_first_rung_that_can() {
    let first = Scripted::new("first", Does::Reads)
        .with(2, Does::LoopsUntilBase)
        .with(3, Does::Truncates("cut"))
        .with(9, Does::LoopsUntilBase);
    let rungs = vec![base(), other(Scripted::new("second", Does::Reads))];
    let mut ladder = Ladder::new(Box::new(first), rungs).unwrap();
    let answers = serve(&mut ladder, (0..10).map(page).collect());
    assert_eq!(answers.0.len(), 10);
    for (ticket, answer) in answers.0 {
        let page = answer.unwrap();
        let told = (
            page.text.as_str(),
            read_by(&page),
            page.fallback_from.as_deref(),
            page.attempt,
            page.flags.contains(&Flag::Fallback),
        );
        let expected = match ticket {
            2 | 9 => ("base", Some(("first", "base")), Some("first"), 2, true),
            3 => ("second", Some(("second", "gundam")), Some("first"), 3, true),
            _ => ("first", None, None, 1, false),
        };
        assert_eq!(told, expected, "page {ticket}");
        assert_eq!(page.infer, Duration::from_secs(u64::from(page.attempt)));
    }
}

#[test]
fn a_page_that_nobody_reads_keeps_the_answer_that_says_most_and_its_flag() {
    let first = Scripted::new("first", Does::Loops("same same same same same same"));
    let longer = "one two three four five six seven eight nine ten eleven twelve";
    let second = Scripted::new("second", Does::Truncates(longer));
    let third = Scripted::new("third", Does::Fails);
    let rungs = vec![other(second), other(third)];
    let mut ladder = Ladder::new(Box::new(first), rungs).unwrap();
    let answers = serve(&mut ladder, vec![page(0)]);
    let page = answers.0[&0].as_ref().unwrap();
    assert_eq!(page.text, longer);
    assert_eq!(page.finish_reason.as_deref(), Some("length"));
    assert_eq!(page.flags, [Flag::Truncated, Flag::Fallback]);
    assert_eq!((page.attempt, page.infer.as_secs()), (3, 2));
    assert_eq!(page.fallback_from.as_deref(), Some("first"));
}

#[test]
fn a_page_on_which_every_rung_errs_is_the_first_trouble_with_the_words_of_all() {
    let first = Scripted::new("first", Does::Fails);
    let rungs = vec![base(), other(Scripted::new("second", Does::Panics))];
    let mut ladder = Ladder::new(Box::new(first), rungs).unwrap();
    let answers = serve(&mut ladder, vec![page(0)]);
    let trouble = answers.0[&0].as_ref().unwrap_err();
    assert_eq!(trouble.stage, Stage::Recognize);
    let said = "first cannot; first: first cannot; second: the engine panicked";
    assert_eq!(trouble.message, said);
}

#[test]
fn pages_of_an_engine_that_panics_are_read_by_the_next() {
    let first = Scripted::new("first", Does::Reads).with(1, Does::Panics);
    let rungs = vec![other(Scripted::new("second", Does::Reads))];
    let mut ladder = Ladder::new(Box::new(first), rungs).unwrap();
    let answers = serve(&mut ladder, (0..5).map(page).collect());
    let texts: Vec<&str> = answers
        .0
        .values()
        .map(|answer| answer.as_ref().unwrap().text.as_str())
        .collect();
    // Page 2 was in the batch that the panic cost.
    assert_eq!(texts, ["first", "second", "second", "first", "first"]);
}

#[test]
fn first_engine_that_only_panics_is_lost_and_does_not_leave_every_page_to_the_next() {
    let first = Scripted::new("first", Does::Panics);
    let rungs = vec![other(Scripted::new("second", Does::Reads))];
    let mut ladder = Ladder::new(Box::new(first), rungs).unwrap();
    let mut answers = Answers::default();
    let mut pages = Pages((0..100).map(page).collect());
    let error = ladder.serve(&mut pages, &mut answers).unwrap_err();
    assert!(error.message.contains("panicked 5 times"), "{error}");
    assert!(pages.0.len() > 80, "{} are left for others", pages.0.len());
}

#[test]
fn a_fallback_that_cannot_go_on_is_passed_by() {
    let first = Scripted::new("first", Does::Fails);
    let second = Scripted::new("second", Does::Reads).with(0, Does::GivesUp);
    let third = Scripted::new("third", Does::Reads);
    let rungs = vec![other(second), other(third)];
    let mut ladder = Ladder::new(Box::new(first), rungs).unwrap();
    let answers = serve(&mut ladder, (0..20).map(page).collect());
    assert_eq!(answers.0.len(), 20);
    for answer in answers.0.values() {
        assert_ne!(answer.as_ref().unwrap().text, "first");
    }
    assert_eq!(answers.0[&0].as_ref().unwrap().text, "third");
}

#[test]
fn a_first_engine_that_cannot_go_on_ends_the_ladder_and_what_fell_before_is_answered() {
    let first = Scripted::new("first", Does::Fails).with(4, Does::GivesUp);
    let rungs = vec![other(Scripted::new("second", Does::Reads))];
    let mut ladder = Ladder::new(Box::new(first), rungs).unwrap();
    let mut answers = Answers::default();
    let mut pages = Pages((0..9).map(page).collect());
    let error = ladder.serve(&mut pages, &mut answers).unwrap_err();
    assert_eq!(error.message, "the device is lost");
    assert_eq!(answers.0.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn pages_whose_lines_are_known_go_to_an_engine_that_takes_them() {
    let first = Scripted::new("first", Does::Reads);
    let mut second = Scripted::new("second", Does::Reads);
    second.takes_lines = true;
    let mut ladder = Ladder::new(Box::new(first), vec![other(second)]).unwrap();
    assert!(ladder.takes_known_lines());
    let line = Line {
        block: None,
        text: "known".into(),
        rect: Rect::default(),
        quad: None,
        confidence: 1.0,
    };
    let known = PageRequest {
        known_lines: Some(vec![line]),
        ..page(1)
    };
    let answers = serve(&mut ladder, vec![page(0), known]);
    let second = answers.0[&1].as_ref().unwrap();
    assert_eq!(read_by(second), Some(("second", "gundam")));
    assert_eq!((second.attempt, &second.fallback_from), (1, &None));
    assert_eq!(answers.0[&0].as_ref().unwrap().text, "first");
}

#[test]
fn a_ladder_that_cannot_be_climbed_is_refused() {
    let first = || Box::new(Scripted::new("first", Does::Reads));
    let unknown = Ladder::new(first(), vec![Rung::Mode("huge".into())]).unwrap_err();
    assert!(unknown.message.contains("no mode huge"), "{unknown}");
    let after = vec![other(Scripted::new("second", Does::Reads)), base()];
    let order = Ladder::new(first(), after).unwrap_err();
    assert!(order.message.contains("must stand before"), "{order}");
    assert_eq!(order.fault, Fault::Config);
}

#[test]
fn pages_at_lower_rungs_are_room_of_their_own() {
    let rungs = vec![base(), other(Scripted::new("second", Does::Reads))];
    let first = Box::new(Scripted::new("first", Does::Reads));
    assert_eq!(Ladder::new(first, rungs).unwrap().pages_in_flight(), 6);
}
