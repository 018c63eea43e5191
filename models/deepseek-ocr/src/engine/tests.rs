//! What the engine does around a decoder: here one that writes what it is told, between the real
//! tokenizer and towers of the small checkpoint.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use quire_core::{
    AnswerSink, Engine, Flag, Label, PageAnswer, PageImage, PageRequest, PageSource, TroubleCode,
    TryNext,
};

use super::{DeepSeekOcr, DeepSeekOptions};
use crate::decoder::{CacheFull, Chosen, Decoder, Input, Row, Slot};
use crate::prompt::Task;
use crate::stages::Stages;

/// Answers each question with the text that is set for its words.
struct Told {
    answers: Vec<(Vec<u32>, Vec<u32>)>,
    hidden: usize,
    eos: u32,
    places: BTreeMap<Slot, Place>,
    /// Steps until it panics.
    fuse: Option<usize>,
}

#[derive(Default)]
struct Place {
    /// Ids of the prompt that are no vision.
    question: Vec<u32>,
    n_written: usize,
}

impl Decoder for Told {
    /// The first number is the id, the second marks it as one.
    fn embed(&self, tokens: &[u32]) -> Tensor<2> {
        let mut values = Vec::new();
        for &token in tokens {
            values.extend([token as f32, 1e6]);
            values.resize(values.len() + self.hidden - 2, 0.0);
        }
        let shape = [tokens.len(), self.hidden];
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn open(&mut self, _: usize) -> Result<Slot, CacheFull> {
        let slot = (0..).map(Slot).find(|slot| !self.places.contains_key(slot));
        let slot = slot.unwrap();
        self.places.insert(slot, Place::default());
        Ok(slot)
    }

    fn grow(&mut self, _: Slot, _: usize) -> Result<(), CacheFull> {
        Ok(())
    }

    fn close(&mut self, slot: Slot) {
        assert!(self.places.remove(&slot).is_some());
    }

    fn step(&mut self, rows: &[Row]) -> Vec<Chosen> {
        if let Some(fuse) = &mut self.fuse {
            assert!(*fuse > 0, "the device is lost");
            *fuse -= 1;
        }
        rows.iter().map(|row| self.choose(row)).collect()
    }

    fn logits(&mut self, _: &Row, _: &mut Stages) -> Tensor<2> {
        unreachable!("nobody compares")
    }

    fn capacity(&self) -> usize {
        1 << 20
    }
}

impl Told {
    fn choose(&mut self, row: &Row) -> Chosen {
        let place = self.places.get_mut(&row.slot).unwrap();
        match &row.input {
            Input::Token(_) => place.n_written += 1,
            Input::Prompt(piece) => {
                let values = piece.clone().into_data().convert::<f32>();
                let values: Vec<f32> = values.iter::<f32>().collect();
                let ids = values.chunks(self.hidden).filter(|row| row[1] == 1e6);
                place.question.extend(ids.map(|row| row[0] as u32));
            }
        }
        let answer = self
            .answers
            .iter()
            .find(|(words, _)| place.question.ends_with(words));
        let token = answer.and_then(|(_, answer)| answer.get(place.n_written));
        Chosen {
            token: token.copied().unwrap_or(self.eos),
            log_probability: -0.5,
        }
    }
}

fn small_checkpoint() -> DeepSeekOptions {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
    DeepSeekOptions {
        mode: "tiny".to_owned(),
        places: 3,
        max_new_tokens: 400,
        ..DeepSeekOptions::new(folder)
    }
}

/// The small checkpoint, but with what it writes.
fn told(options: DeepSeekOptions, answers: &[(Task, &str)]) -> DeepSeekOcr {
    let mut engine = DeepSeekOcr::load(options).unwrap();
    let tokenizer = &engine.model.tokenizer;
    let ids = |text: &str| tokenizer.encode(text).unwrap();
    let words = |task: &Task| ids(task.question().trim_start_matches("<image>"));
    let decoder = Told {
        answers: answers
            .iter()
            .map(|(task, answer)| (words(task), ids(answer)))
            .collect(),
        hidden: 64,
        eos: tokenizer.token_ids().eos,
        places: BTreeMap::new(),
        fuse: None,
    };
    engine.decoder = Box::new(decoder);
    engine
}

struct Source(Vec<PageRequest>);

impl PageSource for Source {
    fn next(&mut self) -> Option<PageRequest> {
        self.0.pop()
    }

    fn try_next(&mut self) -> TryNext {
        self.0.pop().map_or(TryNext::Closed, TryNext::Page)
    }
}

#[derive(Default)]
struct Sink(BTreeMap<u64, PageAnswer>);

impl AnswerSink for Sink {
    fn answer(&mut self, answer: PageAnswer) {
        assert!(self.0.insert(answer.ticket, answer).is_none());
    }
}

fn page(ticket: u64) -> PageRequest {
    PageRequest {
        ticket,
        image: Arc::new(PageImage::white(400, 600)),
        known_lines: None,
        mode: None,
    }
}

fn serve(engine: &mut DeepSeekOcr, pages: Vec<PageRequest>) -> BTreeMap<u64, PageAnswer> {
    let mut sink = Sink::default();
    engine.serve(&mut Source(pages), &mut sink).unwrap();
    sink.0
}

const PAGE: &str = "<|ref|>title<|/ref|><|det|>[[100, 50, 900, 120]]<|/det|>\n# Weather\n\n\
    <|ref|>image<|/ref|><|det|>[[100, 200, 900, 500]]<|/det|>\n\n\
    <|ref|>text<|/ref|><|det|>[[100, 600, 900, 700]]<|/det|>\nRain.\n\n\
    <|ref|>image<|/ref|><|det|>[[100, 800, 120, 810]]<|/det|>\n";

#[test]
fn what_is_written_becomes_blocks_with_counts_and_confidence() {
    let mut engine = told(small_checkpoint(), &[(Task::Document, PAGE)]);
    let answers = serve(&mut engine, vec![page(7)]);
    let recognition = answers[&7].result.as_ref().unwrap();
    assert!(
        recognition.text.contains("# Weather"),
        "{}",
        recognition.text
    );
    assert!(recognition.text.contains("Rain."), "{}", recognition.text);
    let labels: Vec<Label> = recognition.blocks.iter().map(|block| block.label).collect();
    assert_eq!(
        labels,
        [Label::Title, Label::Picture, Label::Text, Label::Picture]
    );
    let rect = recognition.blocks[0].rect;
    assert!((rect.x0 - 100.0 / 999.0).abs() < 1e-3, "{rect:?}");
    assert_eq!(recognition.finish_reason.as_deref(), Some("stop"));
    assert_eq!(recognition.vision_tokens, Some(64));
    let n_written = engine.model.tokenizer.encode(PAGE).unwrap().len();
    assert_eq!(recognition.output_tokens, Some(n_written as u32));
    assert!(
        recognition
            .text_tokens
            .is_some_and(|n| n > 0 && (n as usize) < n_written)
    );
    assert!((recognition.confidence.unwrap() - (-0.5f32).exp()).abs() < 1e-4);
    assert!(
        recognition
            .blocks
            .iter()
            .all(|block| block.parsed.is_none())
    );
}

#[test]
fn deep_parsing_asks_about_each_picture_that_shows_something() {
    let options = DeepSeekOptions {
        deep_parsing: true,
        ..small_checkpoint()
    };
    let table = "<table><tr><td>May</td><td>12</td></tr></table>";
    let answers = [(Task::Document, PAGE), (Task::Figure, table)];
    let mut engine = told(options, &answers);
    let answers = serve(&mut engine, (0..5).map(page).collect());
    assert_eq!(answers.len(), 5);
    for answer in answers.values() {
        let recognition = answer.result.as_ref().unwrap();
        let parsed = recognition.blocks[1].parsed.as_ref().unwrap();
        assert!(parsed.asked.ends_with("Parse the figure."), "{parsed:?}");
        assert_eq!(parsed.kind, "table");
        assert!(parsed.text.contains("May"), "{parsed:?}");
        // The second picture is a speck.
        assert_eq!(recognition.blocks[3].parsed, None);
        assert_eq!(recognition.vision_tokens, Some(64));
    }
}

#[test]
fn answers_without_an_end_are_flagged_and_a_loop_is_left_out() {
    let options = DeepSeekOptions {
        ngrams: super::NgramSetting::Off,
        max_new_tokens: 4000,
        ..small_checkpoint()
    };
    let looping = format!("Before the loop.\n\n{}", "Round and round. ".repeat(400));
    let mut engine = told(options, &[(Task::Document, &looping)]);
    let answers = serve(&mut engine, vec![page(1)]);
    let recognition = answers[&1].result.as_ref().unwrap();
    assert_eq!(recognition.finish_reason.as_deref(), Some("repetition"));
    assert!(recognition.flags.contains(&Flag::Repetition));
    assert!(
        recognition.text.starts_with("Before the loop."),
        "{}",
        recognition.text
    );
    assert!(
        recognition.text.matches("Round").count() < 5,
        "{}",
        recognition.text
    );

    let options = DeepSeekOptions {
        max_new_tokens: 20,
        ..small_checkpoint()
    };
    let mut engine = told(options, &[(Task::Document, PAGE)]);
    let answers = serve(&mut engine, vec![page(1)]);
    let recognition = answers[&1].result.as_ref().unwrap();
    assert_eq!(recognition.finish_reason.as_deref(), Some("length"));
    assert!(recognition.flags.contains(&Flag::Truncated));
    assert_eq!(recognition.output_tokens, Some(20));
}

#[test]
fn panic_costs_the_pages_in_flight_and_no_others() {
    let mut engine = told(small_checkpoint(), &[(Task::Document, "Fine.")]);
    let with_fuse = |engine: &mut DeepSeekOcr, fuse: Option<usize>| {
        let tokenizer = &engine.model.tokenizer;
        let words = tokenizer.encode(Task::Document.question().trim_start_matches("<image>"));
        engine.decoder = Box::new(Told {
            answers: vec![(words.unwrap(), tokenizer.encode("Fine.").unwrap())],
            hidden: 64,
            eos: tokenizer.token_ids().eos,
            places: BTreeMap::new(),
            fuse,
        });
    };
    with_fuse(&mut engine, Some(2));
    let served = catch_unwind(AssertUnwindSafe(|| {
        serve(&mut engine, vec![page(0), page(1)])
    }));
    assert!(served.is_err());
    with_fuse(&mut engine, None);
    let answers = serve(&mut engine, vec![page(2)]);
    assert_eq!(answers[&2].result.as_ref().unwrap().text.trim(), "Fine.");
}

#[test]
fn images_that_are_none_are_answered_and_the_others_read() {
    let mut engine = told(small_checkpoint(), &[(Task::Document, "Fine.")]);
    let broken = |ticket, image| PageRequest {
        image: Arc::new(image),
        ..page(ticket)
    };
    let short = PageImage {
        width: 100,
        ..PageImage::white(10, 10)
    };
    let unknown_mode = PageRequest {
        mode: Some("huge".to_owned()),
        ..page(4)
    };
    let pages = vec![
        page(0),
        broken(1, PageImage::white(0, 100)),
        broken(2, short),
        page(3),
        unknown_mode,
        broken(5, PageImage::white(1, 1)),
    ];
    let answers = serve(&mut engine, pages);
    let codes: BTreeMap<u64, Option<TroubleCode>> = answers
        .iter()
        .map(|(&ticket, answer)| (ticket, answer.result.as_ref().err().map(|t| t.code)))
        .collect();
    let damaged = Some(TroubleCode::Damaged);
    let unsupported = Some(TroubleCode::Unsupported);
    let expected = [None, damaged, damaged, None, unsupported, None];
    assert_eq!(codes.into_values().collect::<Vec<_>>(), expected);
}
