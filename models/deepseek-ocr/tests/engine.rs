//! Pages through the whole engine, with the small checkpoint: its text is nonsense, all else is
//! as with a real one.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deepseek_ocr::prompt::Task;
use deepseek_ocr::weights::StoredType;
use deepseek_ocr::{DeepSeekOcr, DeepSeekOptions, NgramSetting};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use quire_core::{
    AnswerSink, Engine, Fault, PageAnswer, PageImage, PageRequest, PageSource, Recognition, TryNext,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

fn options(mode: &str) -> DeepSeekOptions {
    DeepSeekOptions {
        mode: mode.to_owned(),
        dtype: Some(StoredType::F32),
        max_new_tokens: 48,
        places: 4,
        threads: 2,
        ..DeepSeekOptions::new(fixtures())
    }
}

fn image(name: &str) -> Arc<PageImage> {
    let file = fixtures().join("preprocess/pages").join(name);
    let image = image::open(&file).unwrap().to_rgb8();
    Arc::new(PageImage {
        width: image.width(),
        height: image.height(),
        rgb: image.into_raw(),
        dpi: None,
    })
}

const PAGES: [&str; 6] = [
    "small.png",
    "edge_640.png",
    "slide.png",
    "receipt.png",
    "square.png",
    "banner.png",
];

fn requests() -> Vec<PageRequest> {
    let pages = PAGES.iter().enumerate();
    pages
        .map(|(ticket, name)| PageRequest {
            ticket: ticket as u64,
            image: image(name),
            known_lines: None,
            mode: None,
        })
        .collect()
}

/// Gives pages from the last, and none when asked for more than are prepared.
struct Source {
    pages: Vec<PageRequest>,
    /// Says that nothing waits, every other time.
    hesitates: bool,
}

impl PageSource for Source {
    fn next(&mut self) -> Option<PageRequest> {
        self.pages.pop()
    }

    fn try_next(&mut self) -> TryNext {
        self.hesitates = !self.hesitates;
        if self.hesitates {
            return TryNext::Empty;
        }
        self.pages.pop().map_or(TryNext::Closed, TryNext::Page)
    }
}

#[derive(Default)]
struct Sink(BTreeMap<u64, Recognition>);

impl AnswerSink for Sink {
    fn answer(&mut self, answer: PageAnswer) {
        let recognition = answer.result.unwrap();
        assert!(self.0.insert(answer.ticket, recognition).is_none());
    }
}

fn read(options: DeepSeekOptions, pages: Vec<PageRequest>) -> BTreeMap<u64, Recognition> {
    let mut engine = DeepSeekOcr::load(options).unwrap();
    let mut sink = Sink::default();
    let mut source = Source {
        pages,
        hesitates: false,
    };
    engine.serve(&mut source, &mut sink).unwrap();
    sink.0
}

/// How sure the model was; on some devices, sums of a batch end in other digits.
fn assert_as_sure(pages: &mut BTreeMap<u64, Recognition>, others: &BTreeMap<u64, Recognition>) {
    for (ticket, page) in pages {
        let other = &others[ticket];
        for (sure, other) in [
            (&mut page.confidence, other.confidence),
            (&mut page.confidence_p10, other.confidence_p10),
        ] {
            let (found, wanted) = (sure.unwrap(), other.unwrap());
            assert!((found - wanted).abs() < 1e-4, "{found} is not {wanted}");
            *sure = other;
        }
    }
}

/// All but what differs from run to run.
fn timeless(mut pages: BTreeMap<u64, Recognition>) -> BTreeMap<u64, Recognition> {
    for recognition in pages.values_mut() {
        assert!(recognition.infer > Duration::ZERO);
        recognition.infer = Duration::ZERO;
    }
    pages
}

#[test]
fn pages_read_together_are_read_as_alone() {
    let alone = requests().into_iter().map(|request| {
        let ticket = request.ticket;
        let options = DeepSeekOptions {
            places: 1,
            ..options("tiny")
        };
        let mut read = read(options, vec![request]);
        (ticket, read.remove(&ticket).unwrap())
    });
    let alone: BTreeMap<u64, Recognition> = timeless(alone.collect());
    for places in [2, 6] {
        let options = DeepSeekOptions {
            places,
            prompt_piece: 512,
            prompt_budget: 64,
            ..options("tiny")
        };
        let mut together = timeless(read(options, requests()));
        assert_as_sure(&mut together, &alone);
        assert_eq!(together, alone, "{places} places");
    }
    let all: Vec<&Recognition> = alone.values().collect();
    for recognition in &all {
        assert_eq!(recognition.vision_tokens, Some(64));
        assert!(recognition.output_tokens.unwrap() <= 48);
        assert!(recognition.finish_reason.is_some());
    }
    assert!(
        all.iter().any(|page| page.text != all[0].text),
        "pages are told apart"
    );
}

#[test]
fn pages_with_tiles_go_through_beside_pages_without() {
    let pages = requests().into_iter().take(3).collect();
    let options = DeepSeekOptions {
        max_new_tokens: 8,
        max_tiles: Some(2),
        ngrams: NgramSetting::Whole { size: 20 },
        ..options("gundam")
    };
    let read = read(options, pages);
    // The first two are not larger than a tile; the slide is cut into two.
    let vision: Vec<u32> = read
        .values()
        .map(|page| page.vision_tokens.unwrap())
        .collect();
    assert_eq!(vision, [256, 256, 456]);
}

#[test]
fn single_pages_are_read_in_another_mode() {
    let mut pages: Vec<PageRequest> = requests().into_iter().take(2).collect();
    pages[1].mode = Some("small".to_owned());
    let options = DeepSeekOptions {
        max_new_tokens: 4,
        ..options("tiny")
    };
    let read = read(options, pages);
    let vision: Vec<u32> = read
        .values()
        .map(|page| page.vision_tokens.unwrap())
        .collect();
    assert_eq!(vision, [64, 100]);
}

#[test]
fn engine_says_who_it_is() {
    let engine = DeepSeekOcr::load(options("small")).unwrap();
    let info = engine.info();
    assert_eq!(info.name, "deepseek-ocr");
    assert_eq!(info.model_id, "deepseek-ai/DeepSeek-OCR");
    assert_eq!(info.mode, "small");
    assert_eq!(info.model_revision.len(), 64);
    assert!(engine.pages_in_flight() > 4);
    assert!(engine.takes_mode("base") && !engine.takes_mode("huge"));
    assert!(!engine.takes_known_lines());
    let again = DeepSeekOcr::load(options("small")).unwrap();
    assert_eq!(again.info(), info);
}

#[test]
fn what_else_is_asked_is_part_of_who_it_is() {
    let asked = DeepSeekOptions {
        task: Task::FreeOcr,
        max_tiles: Some(4),
        deep_parsing: true,
        ..options("gundam")
    };
    let engine = DeepSeekOcr::load(asked).unwrap();
    let plain = DeepSeekOcr::load(options("gundam")).unwrap();
    assert_ne!(engine.info(), plain.info(), "their jobs are different ones");
    assert_eq!(engine.info().mode, "gundam tiles:4 free-ocr deep-parsing");
    let fallback = engine.info_in("base").mode;
    assert_eq!(fallback, "base free-ocr deep-parsing");
    assert_eq!(plain.info_in("base").mode, "base");
    let report = engine.load_report();
    assert!(report.places > 0 && report.cache_positions > 0);
    assert!(report.to_string().starts_with("loaded in "), "{report}");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let refused = |options: DeepSeekOptions, word: &str| {
        let error = DeepSeekOcr::load(options).unwrap_err();
        assert_eq!(error.fault, Fault::Config, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    refused(options("huge"), "gundam");
    let small_cache = DeepSeekOptions {
        cache_bytes: Some(1 << 16),
        ..options("tiny")
    };
    refused(small_cache, "memory");
    let nowhere = DeepSeekOptions {
        folder: fixtures().join("nowhere"),
        ..options("tiny")
    };
    refused(nowhere, "nowhere");
}

/// The small checkpoint in a folder of its own, with one file changed.
fn damaged(file: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_part =
            name.starts_with("model") || name == "config.json" || name == "tokenizer.json";
        if is_part {
            fs::copy(entry.path(), folder.path().join(name)).unwrap();
        }
    }
    let path = folder.path().join(file);
    match change(fs::read(&path).unwrap()) {
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
    folder
}

#[test]
fn damaged_checkpoints_are_refused_before_any_page() {
    const SHARD: &str = "model-00001-of-000001.safetensors";
    let truncated = damaged(SHARD, |bytes| Some(bytes[..bytes.len() / 2].to_vec()));
    let no_tokenizer = damaged("tokenizer.json", |_| None);
    let no_config = damaged("config.json", |_| None);
    let garbled = damaged("tokenizer.json", |_| Some(b"{\"model\": 3}".to_vec()));
    // The last two bytes are a number of some tensor; all ones is not a number in bf16.
    let not_a_number = damaged(SHARD, |mut bytes| {
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&[0xFF, 0xFF]);
        Some(bytes)
    });
    let cases = [
        (truncated, SHARD),
        (no_tokenizer, "tokenizer.json"),
        (no_config, "config.json"),
        (garbled, "tokenizer.json"),
        (not_a_number, "not a number"),
    ];
    for (folder, word) in cases {
        let options = DeepSeekOptions {
            folder: folder.path().to_owned(),
            ..options("tiny")
        };
        let error = DeepSeekOcr::load(options).unwrap_err();
        assert_eq!(error.fault, Fault::Config, "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// Keeps the engine's counters where a test can look at them while the engine works.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn counter(&self, name: &str) -> Arc<AtomicU64> {
        let mut counters = self.0.lock().unwrap();
        Arc::clone(counters.entry(name.to_owned()).or_default())
    }

    /// Rows over places of the decoder's steps so far.
    fn occupancy(&self) -> f64 {
        let count = |name: &str| self.counter(name).load(Ordering::Relaxed) as f64;
        count("quire_engine_decode_rows_total") / count("quire_engine_decode_places_total")
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.counter(key.name()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A queue of pages that notes the occupancy of the decoder when its last page is taken.
struct Queue<'a> {
    pages: Vec<PageRequest>,
    counters: &'a Counters,
    until_dry: Option<f64>,
}

impl PageSource for Queue<'_> {
    fn next(&mut self) -> Option<PageRequest> {
        let page = self.pages.pop();
        if self.pages.is_empty() {
            self.until_dry
                .get_or_insert_with(|| self.counters.occupancy());
        }
        page
    }

    fn try_next(&mut self) -> TryNext {
        self.next().map_or(TryNext::Closed, TryNext::Page)
    }
}

#[test]
fn queue_of_sixty_four_pages_keeps_nine_places_of_ten_taken_until_it_runs_dry() {
    let pages = requests();
    let modes = ["tiny", "base", "gundam", "small"];
    let pages: Vec<PageRequest> = (0..64)
        .map(|ticket| PageRequest {
            ticket,
            mode: Some(modes[ticket as usize % modes.len()].to_owned()),
            ..pages[ticket as usize % pages.len()].clone()
        })
        .collect();
    let settings = DeepSeekOptions {
        places: 8,
        max_new_tokens: 160,
        ..options("gundam")
    };
    let mut engine = DeepSeekOcr::load(settings).unwrap();
    let counters = Counters::default();
    let mut queue = Queue {
        pages,
        counters: &counters,
        until_dry: None,
    };
    let mut sink = Sink::default();
    metrics::with_local_recorder(&counters, || engine.serve(&mut queue, &mut sink)).unwrap();
    let lengths: BTreeSet<_> = sink.0.values().map(|page| page.text_tokens).collect();
    let prompts: BTreeSet<_> = sink.0.values().map(|page| page.vision_tokens).collect();
    assert_eq!(sink.0.len(), 64);
    assert!(
        lengths.len() > 3 && prompts.len() > 3,
        "{lengths:?} {prompts:?}"
    );
    let until_dry = queue.until_dry.unwrap();
    assert!(until_dry >= 0.9, "{until_dry:.3} of the places were taken");
}
