//! Whole pages through the engine, as a worker gives them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use pp_ocr::detect::postprocess::{ProbabilityMap, lines_of};
use pp_ocr::{PpOcr, PpOcrOptions};
use quire_core::{
    AnswerSink, Engine, Flag, Line, PageAnswer, PageImage, PageRequest, PageSource, Quad,
    Recognition, Rect, Rotation, TroubleCode, TryNext,
};

static ENGINE: LazyLock<Mutex<PpOcr>> =
    LazyLock::new(|| Mutex::new(PpOcr::load(PpOcrOptions::default()).unwrap()));

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pages")
        .join(name)
}

fn page(name: &str) -> PageImage {
    let rgb = image::open(fixture(name)).unwrap().to_rgb8();
    PageImage {
        width: rgb.width(),
        height: rgb.height(),
        rgb: rgb.into_raw(),
        dpi: None,
    }
}

fn read(image: PageImage) -> Recognition {
    read_with(&ENGINE.lock().unwrap(), image)
}

/// What is on a page, without the time it took.
fn read_with(engine: &PpOcr, image: PageImage) -> Recognition {
    let request = PageRequest {
        ticket: 0,
        image: Arc::new(image),
        known_lines: None,
        mode: None,
    };
    Recognition {
        infer: Duration::ZERO,
        ..engine.read_page(&request).unwrap()
    }
}

/// Letters that differ, white space aside.
fn errors(page: &Recognition, truth: &str) -> usize {
    let lines = page.lines.as_deref().unwrap();
    let found: Vec<char> = lines
        .iter()
        .flat_map(|line| line.text.chars())
        .filter(|c| !c.is_whitespace())
        .collect();
    let truth = std::fs::read_to_string(fixture(truth)).unwrap();
    let wanted: Vec<char> = truth.chars().filter(|c| !c.is_whitespace()).collect();
    let mut row: Vec<usize> = (0..=wanted.len()).collect();
    for (i, a) in found.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in wanted.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[wanted.len()]
}

#[test]
fn english_page_is_read_in_order() {
    let page = read(page("en.png"));
    assert!(errors(&page, "en.txt") <= 2, "{}", page.text);
    assert!(page.confidence.unwrap() > 0.95);
    assert!(page.confidence_p10.unwrap() <= page.confidence.unwrap());
    assert_eq!(
        (page.rotation, page.flags.as_slice()),
        (Rotation::None, [].as_slice())
    );
    assert!(page.text.contains("Allotment Committee"));
    let lines = page.lines.unwrap();
    assert!(
        lines
            .iter()
            .all(|line| line.block.is_some() && line.rect.area() > 0.0)
    );
    // The first line of text starts at a tenth of the width.
    assert!(
        (0.05..0.15).contains(&lines[0].rect.x0),
        "{:?}",
        lines[0].rect
    );
}

#[test]
fn chinese_page_is_read_in_order() {
    let page = read(page("zh.png"));
    assert!(errors(&page, "zh.txt") <= 3, "{}", page.text);
}

#[test]
fn page_turned_any_way_reads_as_the_upright_one() {
    for turn in [Rotation::Quarter, Rotation::Half, Rotation::ThreeQuarters] {
        let found = read(page("en.png").rotated(turn));
        assert_eq!(turn.then(found.rotation), Rotation::None, "{turn:?}");
        assert_eq!(found.flags, [Flag::Rotated]);
        assert!(errors(&found, "en.txt") <= 3, "{turn:?}: {}", found.text);
        let first = found.lines.unwrap()[0].clone();
        assert!(
            first.rect.y0 < 0.3 && first.text.starts_with("Allotment"),
            "{turn:?} {first:?}"
        );
    }
}

#[test]
fn page_without_text_has_no_lines_and_no_confidence() {
    let sizes = [
        (1, 1),
        (3, 700),
        (566, 6),
        (40, 40),
        (1240, 1754),
        (9000, 40),
    ];
    for (width, height) in sizes {
        let page = read(PageImage::white(width, height));
        assert_eq!(
            page.lines.as_deref(),
            Some([].as_slice()),
            "{width}x{height}"
        );
        assert_eq!((page.text.as_str(), page.confidence), ("", None));
    }
}

#[test]
fn noise_is_no_text_and_no_panic() {
    let mut state = 1u32;
    let rgb = (0..400 * 300 * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let page = read(PageImage {
        width: 400,
        height: 300,
        rgb: rgb.collect(),
        dpi: Some(1e9),
    });
    assert!(page.lines.unwrap().len() < 5);
}

#[test]
fn page_of_known_lines_keeps_their_text() {
    let rect = Rect {
        x0: 0.1,
        y0: 0.1,
        x1: 0.9,
        y1: 0.13,
    };
    let known = Line {
        block: None,
        text: "Taken from the file, not from pixels.".to_owned(),
        rect,
        quad: Some(Quad::from(rect)),
        confidence: 1.0,
    };
    let image = Arc::new(PageImage::white(600, 800));
    let request = PageRequest {
        ticket: 0,
        image,
        known_lines: Some(vec![known]),
        mode: None,
    };
    let page = ENGINE.lock().unwrap().read_page(&request).unwrap();
    assert_eq!(page.text.trim(), "Taken from the file, not from pixels.");
    assert_eq!(page.confidence, None);
}

/// Gives pages from a list and keeps the answers.
#[derive(Default)]
struct Desk {
    pages: Vec<PageRequest>,
    answers: Vec<PageAnswer>,
}

impl PageSource for Desk {
    fn next(&mut self) -> Option<PageRequest> {
        self.pages.pop()
    }

    fn try_next(&mut self) -> TryNext {
        self.pages.pop().map_or(TryNext::Closed, TryNext::Page)
    }
}

impl AnswerSink for Desk {
    fn answer(&mut self, answer: PageAnswer) {
        self.answers.push(answer);
    }
}

#[test]
fn every_page_is_answered_once_and_a_fork_answers_alike() {
    let torn = PageImage {
        width: 10,
        height: 10,
        rgb: vec![0; 7],
        dpi: None,
    };
    let images = [page("en.png"), torn, page("zh.png")].map(Arc::new);
    let requests = || {
        let numbered = images.iter().zip(7..);
        numbered.map(|(image, ticket)| PageRequest {
            ticket,
            image: Arc::clone(image),
            known_lines: None,
            mode: None,
        })
    };
    let mut fork = ENGINE.lock().unwrap().fork().unwrap();
    let thread = std::thread::spawn({
        let pages = requests().collect();
        move || {
            let (mut source, mut sink) = (
                Desk {
                    pages,
                    ..Desk::default()
                },
                Desk::default(),
            );
            fork.serve(&mut source, &mut sink).unwrap();
            sink.answers
        }
    });
    let mut source = Desk {
        pages: requests().collect(),
        ..Desk::default()
    };
    let mut sink = Desk::default();
    ENGINE
        .lock()
        .unwrap()
        .serve(&mut source, &mut sink)
        .unwrap();
    let answers = sink.answers;
    let tickets: Vec<u64> = answers.iter().map(|answer| answer.ticket).collect();
    assert_eq!(tickets, [9, 8, 7]);
    assert_eq!(
        answers[1].result.as_ref().unwrap_err().code,
        TroubleCode::Damaged
    );
    for (own, other) in answers.iter().zip(thread.join().unwrap()) {
        let text = |answer: &PageAnswer| answer.result.clone().map(|page| (page.text, page.lines));
        assert_eq!(text(own), text(&other));
    }
}

#[test]
fn page_reads_alike_whoever_helps() {
    let alone = PpOcr::load(PpOcrOptions::default()).unwrap();
    let helped = PpOcr::load(PpOcrOptions::default()).unwrap();
    let _idle: Vec<PpOcr> = (0..2).map(|_| helped.fork().unwrap()).collect();
    for name in ["en.png", "zh.png"] {
        let read = |engine| read_with(engine, page(name));
        assert_eq!(read(&helped), read(&alone), "{name}");
    }
}

#[test]
fn lines_of_a_real_map_are_those_that_opencv_finds() {
    #[derive(serde::Deserialize)]
    struct Expected {
        core: [[f32; 2]; 4],
        score: f32,
    }
    let map = image::open(fixture("map.png")).unwrap().to_luma8();
    let values: Vec<f32> = map.iter().map(|&value| f32::from(value) / 255.0).collect();
    let (width, height) = (map.width() as usize, map.height() as usize);
    let found = lines_of(&ProbabilityMap {
        width,
        height,
        values: &values,
    });
    let text = std::fs::read_to_string(fixture("map.json")).unwrap();
    let expected: Vec<Expected> = serde_json::from_str(&text).unwrap();
    let mut n_matched = 0;
    for Expected { core, score } in &expected {
        // Growing leaves the middle where it is.
        let middle = [0, 1].map(|axis| (core[0][axis] + core[2][axis]) / 2.0);
        let near = found.iter().find(|line| {
            let center = line.line.rectangle.center();
            (center[0] - middle[0]).hypot(center[1] - middle[1]) < 1.0
        });
        let Some(line) = near else { continue };
        n_matched += 1;
        let edge = |a: usize, b: usize| (core[a][0] - core[b][0]).hypot(core[a][1] - core[b][1]);
        let (along, across) = (edge(0, 1), edge(0, 3));
        let margin = 1.6 * along * across / (2.0 * (along + across));
        assert!((line.line.width() - along - 2.0 * margin).abs() < 0.5);
        assert!((line.line.height() - across - 2.0 * margin).abs() < 0.5);
        assert!(
            (line.score - score).abs() < 0.06,
            "{} is not {score}",
            line.score
        );
    }
    // Cores so thin or faint that a rounding decides are the only ones that may differ.
    assert!(
        n_matched + 2 >= expected.len(),
        "{n_matched} of {}",
        expected.len()
    );
    assert!(
        found.len() <= expected.len() + 2,
        "{} for {}",
        found.len(),
        expected.len()
    );
}
