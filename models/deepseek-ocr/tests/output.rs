//! Answers taken apart: against the published code's own results, and whatever comes.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

use std::path::Path;

use deepseek_ocr::output::figure::FigureAnswer;
use deepseek_ocr::output::reference::{Crop, reference, reference_markdown};
use deepseek_ocr::output::{ReadOptions, Written, crop, read};
use deepseek_ocr::prompt::Task;
use proptest::prelude::*;
use quire_core::{Block, Flag, Label, PageImage, Rect};
use serde::Deserialize;
use unicode_normalization::is_nfc;

#[derive(Deserialize)]
struct Case {
    name: String,
    image_size: (u32, u32),
    raw: String,
    markdown: String,
    refs: Vec<ExpectedRef>,
    crops: Vec<ExpectedCrop>,
}

#[derive(Deserialize)]
struct ExpectedRef {
    label: String,
    boxes: Vec<[i64; 4]>,
    pixel_boxes: Vec<[i64; 4]>,
}

#[derive(Deserialize)]
struct ExpectedCrop {
    file: String,
    size: (i64, i64),
}

fn cases() -> Vec<Case> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/postprocess/cases.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn read_as(task: Task, raw: &str) -> Written {
    read(raw, (1000, 1400), &ReadOptions { task })
}

fn document(raw: &str) -> Written {
    read_as(Task::Document, raw)
}

/// The part of the text that a block stands for.
fn span(written: &Written, block: &Block) -> String {
    let range = block.text_range.clone().unwrap();
    let chars = written.text.chars();
    chars
        .skip(range.start as usize)
        .take((range.end - range.start) as usize)
        .collect()
}

fn spans(written: &Written) -> Vec<String> {
    let blocks = written.blocks.iter();
    blocks
        .filter(|block| block.text_range.is_some())
        .map(|block| span(written, block))
        .collect()
}

#[test]
fn the_published_results_are_met() {
    for case in cases() {
        let found = reference(&case.raw, case.image_size);
        assert_eq!(found.markdown, case.markdown, "{}", case.name);
        assert_eq!(reference_markdown(&case.raw), case.markdown);
        assert_eq!(found.refs.len(), case.refs.len(), "{}", case.name);
        for (found, expected) in found.refs.iter().zip(&case.refs) {
            assert_eq!(found.label, expected.label);
            assert_eq!(found.boxes, expected.boxes);
            assert_eq!(found.pixel_boxes, expected.pixel_boxes);
        }
        let expected: Vec<Crop> = case
            .crops
            .into_iter()
            .map(|crop| Crop {
                file: crop.file,
                size: crop.size,
            })
            .collect();
        assert_eq!(found.crops, expected, "{}", case.name);
    }
}

#[test]
fn a_page_becomes_blocks_with_their_place_in_the_text() {
    let case = cases().into_iter().find(|case| case.name == "doc").unwrap();
    let written = read(&case.raw, case.image_size, &ReadOptions::default());
    let labels: Vec<Label> = written.blocks.iter().map(|block| block.label).collect();
    assert_eq!(
        labels,
        [
            Label::Title,
            Label::Text,
            Label::Picture,
            Label::Caption,
            Label::Table,
            Label::Picture
        ]
    );
    assert_eq!(
        spans(&written),
        [
            "# A short report",
            "First paragraph with $x := 3$.",
            "![](#2)",
            "Figure 1: a plot",
            "<table>\n<tr><td>a</td><td>1</td></tr>\n<tr><td>b</td><td>2</td></tr>\n</table>",
            "![](#5)",
        ]
    );
    assert_eq!(written.text, spans(&written).join("\n\n"));
    assert_eq!(written.flags, []);
    let [title, _, picture, caption, table, last] = written.blocks.as_slice() else {
        panic!("six blocks");
    };
    assert_eq!(
        (title.level, title.text.as_str()),
        (Some(1), "A short report")
    );
    assert_eq!(title.label_raw, "title");
    assert_eq!(title.rect.x0, 100.0 / 999.0);
    assert_eq!((caption.parent, picture.parent), (Some(2), None));
    assert_eq!(caption.label_raw, "image_caption");
    assert_eq!(table.text, "a\t1\nb\t2");
    assert_eq!((last.rect.x1, last.rect.y1), (1.0, 1.0));
}

#[test]
fn pictures_are_cut_as_the_published_code_cuts_them() {
    for case in cases() {
        let image = PageImage::white(case.image_size.0, case.image_size.1);
        let written = read(&case.raw, case.image_size, &ReadOptions::default());
        let sizes: Vec<(i64, i64)> = written
            .pictures()
            .map(|(_, rect)| crop(&image, &rect).unwrap())
            .map(|cut| (i64::from(cut.width), i64::from(cut.height)))
            .collect();
        let expected: Vec<(i64, i64)> = case.crops.iter().map(|crop| crop.size).collect();
        assert_eq!(sizes, expected, "{}", case.name);
    }
}

#[test]
fn what_was_located_is_a_block_for_every_place() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "locate")
        .unwrap();
    let options = ReadOptions {
        task: Task::locate("the teacher").unwrap(),
    };
    let written = read(&case.raw, case.image_size, &options);
    assert_eq!(written.text, "");
    assert_eq!(written.blocks.len(), 2);
    for block in &written.blocks {
        assert_eq!(
            (block.label, block.label_raw.as_str()),
            (Label::Other, "the teacher")
        );
        assert!(block.rect.area() > 0.0);
    }
    assert_eq!(written.flags, []);
}

#[test]
fn text_without_boxes_is_one_flagged_block() {
    let written = read_as(Task::FreeOcr, "Just plain text.\n\n\n\nSecond line.\n");
    assert_eq!(written.text, "Just plain text.\n\nSecond line.");
    assert_eq!(written.blocks.len(), 1);
    assert_eq!(written.blocks[0].label, Label::Text);
    assert_eq!(written.blocks[0].rect, Rect::default());
    assert_eq!(span(&written, &written.blocks[0]), written.text);
    assert_eq!(written.flags, [Flag::BoxesMissing]);
    assert_eq!(read_as(Task::FreeOcr, " \n"), Written::default());
    assert_eq!(document(""), Written::default());
}

#[test]
fn furniture_is_a_block_without_a_place_in_the_text() {
    let written = document(
        "<|ref|>header<|/ref|><|det|>[[1, 2, 300, 40]]<|/det|>\nJournal\n\n\
         <|ref|>text<|/ref|><|det|>[[1, 50, 300, 400]]<|/det|>\nnaïve 漢字\n\n\
         <|ref|>page_number<|/ref|><|det|>[[1, 900, 300, 940]]<|/det|>\n7\n\n\
         <|ref|>text<|/ref|><|det|>[[1, 500, 300, 600]]<|/det|>\nend",
    );
    assert_eq!(written.text, "naïve 漢字\n\nend");
    let ranges: Vec<_> = written
        .blocks
        .iter()
        .map(|block| block.text_range.clone())
        .collect();
    assert_eq!(ranges, [None, Some(0..8), None, Some(10..13)]);
    assert_eq!(written.blocks[0].text, "Journal");
    assert_eq!(written.flags, []);
}

#[test]
fn several_boxes_are_one_block_but_several_pictures() {
    let written = document(
        "<|ref|>text<|/ref|><|det|>[[0, 0, 100, 100], [500, 500, 999, 600]]<|/det|>\nA\n\n\
         <|ref|>image<|/ref|><|det|>[[0, 700, 100, 800], [500, 700, 999, 800]]<|/det|>\n",
    );
    assert_eq!(written.text, "A\n\n![](#1)\n\n![](#2)");
    assert_eq!(written.blocks.len(), 3);
    assert_eq!(
        (written.blocks[0].rect.x0, written.blocks[0].rect.x1),
        (0.0, 1.0)
    );
    assert_eq!(written.pictures().count(), 2);
    assert_eq!(written.flags, []);
}

#[test]
fn bad_boxes_cost_a_flag_and_no_text() {
    for boxes in [
        "[[5, 5, 5, 9]]",
        "[[1, 2, 3]]",
        "[[1, 2, 3, x]]",
        "",
        "[[0, 0, 50, 50], [7, 7, 6, 6]]",
    ] {
        let raw = format!("<|ref|>text<|/ref|><|det|>{boxes}<|/det|>\nkept");
        let written = document(&raw);
        assert_eq!(written.text, "kept", "{boxes}");
        assert_eq!(written.blocks[0].label_raw, "text");
        assert_eq!(written.flags, [Flag::BoxesMissing], "{boxes}");
    }
}

#[test]
fn an_answer_may_end_anywhere() {
    let case = cases().into_iter().find(|case| case.name == "doc").unwrap();
    for (at, _) in case.raw.char_indices() {
        check(&case.raw[..at], &Task::Document);
    }
    let cut = document("<|ref|>text<|/ref|><|det|>[[1, 2, 30, 40]]<|/det|>\nA\n\n<|ref|>ima");
    assert_eq!((cut.text.as_str(), cut.blocks.len()), ("A", 1));
    assert_eq!(cut.flags, [Flag::BoxesMissing]);
}

#[test]
fn text_outside_of_blocks_is_kept_and_flagged() {
    let written = document("Leading words\n<|ref|>text<|/ref|><|det|>[[1, 2, 30, 40]]<|/det|>\nA");
    assert_eq!(written.text, "Leading words\n\nA");
    assert_eq!(written.blocks[0].rect, Rect::default());
    assert_eq!(written.flags, [Flag::BoxesMissing]);
}

#[test]
fn text_read_from_an_image_may_stand_in_the_label() {
    let raw = "<|ref|>NO ENTRY<|/ref|><|det|>[[1, 2, 30, 40]]<|/det|>\n\
               <|ref|>title<|/ref|><|det|>[[1, 52, 30, 90]]<|/det|>\n\
               <|ref|>text<|/ref|><|det|>[[1, 100, 30, 140]]<|/det|>\nbelow";
    let written = read_as(Task::Ocr, raw);
    assert_eq!(written.text, "NO ENTRY\n\ntitle\n\nbelow");
    assert_eq!(written.flags, []);
}

#[test]
fn free_text_may_hold_tables() {
    let written = read_as(Task::FreeOcr, "A\n<table><tr><td>1</td></tr></table>\nB");
    let labels: Vec<Label> = written.blocks.iter().map(|block| block.label).collect();
    assert_eq!(labels, [Label::Text, Label::Table, Label::Text]);
    assert_eq!(spans(&written).join("\n\n"), written.text);
}

const MARKERS: [&str; 8] = [
    "<|ref|>",
    "<|/ref|>",
    "<|det|>",
    "<|/det|>",
    "<|grounding|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
];

fn assert_clean(text: &str, raw: &str) {
    for marker in MARKERS {
        assert!(
            !text.contains(marker),
            "{marker} left of {raw:?} in {text:?}"
        );
    }
    assert!(is_nfc(text), "{raw:?}");
    assert!(!text.contains('\r'), "{raw:?}");
}

/// What holds for any answer.
fn check(raw: &str, task: &Task) {
    let written = read(raw, (640, 480), &ReadOptions { task: task.clone() });
    assert_clean(&written.text, raw);
    let n_chars = written.text.chars().count() as u32;
    let mut covered = Vec::new();
    let mut last_end = 0;
    for (at, block) in written.blocks.iter().enumerate() {
        assert_clean(&block.text, raw);
        assert_clean(&block.label_raw, raw);
        assert_clean(block.html.as_deref().unwrap_or_default(), raw);
        assert_clean(block.latex.as_deref().unwrap_or_default(), raw);
        let rect = block.rect;
        assert!(
            0.0 <= rect.x0 && rect.x0 <= rect.x1 && rect.x1 <= 1.0,
            "{raw:?}"
        );
        assert!(
            0.0 <= rect.y0 && rect.y0 <= rect.y1 && rect.y1 <= 1.0,
            "{raw:?}"
        );
        assert_eq!(
            block.text_range.is_none(),
            block.label.is_furniture(),
            "{raw:?}"
        );
        assert!(block.level != Some(0));
        assert!(
            block.parent.is_none_or(|parent| {
                (parent as usize) < written.blocks.len() && parent as usize != at
            }),
            "{raw:?}"
        );
        if let Some(range) = &block.text_range {
            assert!(
                last_end <= range.start && range.start <= range.end,
                "{raw:?}"
            );
            assert!(range.end <= n_chars, "{raw:?}");
            last_end = range.end;
            let span = span(&written, block);
            if !span.is_empty() {
                covered.push(span);
            }
        }
        if rect.area() <= 0.0 {
            assert_eq!(written.flags, [Flag::BoxesMissing], "{raw:?}");
        }
    }
    // Every character of the text belongs to a block.
    assert_eq!(written.text, covered.join("\n\n"), "{raw:?}");
    let again = document(&written.text);
    assert_clean(&again.text, raw);
    reference(raw, (640, 480));
    let answer = FigureAnswer::read(raw);
    assert_clean(answer.text(), raw);
}

fn task() -> impl Strategy<Value = Task> {
    prop_oneof![
        Just(Task::Document),
        Just(Task::Ocr),
        Just(Task::FreeOcr),
        Just(Task::Figure),
        Just(Task::Describe),
        Just(Task::Locate("it".to_owned())),
    ]
}

/// Pieces of answers, whole and broken.
fn fragment() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = MARKERS
        .into_iter()
        .chain([
            "title",
            "sub_title",
            "text",
            "image",
            "image_caption",
            "table",
            "equation",
            "header",
            "code",
            "list",
            "odd label",
            "\n",
            "\n\n",
            "[[1, 2, 300, 400]]",
            "[[1, 2",
            "[[9, 9, 9, 9]]",
            "<table>",
            "</table>",
            "<tr>",
            "<td colspan=3 rowspan=2>",
            "<td>",
            "</td>",
            "<th",
            "&lt;|ref|&gt;",
            "<center>",
            "</center>",
            "# ",
            "\\(",
            "\\)",
            "\\[",
            "\\]",
            "$",
            "**",
            "![](#0)",
            "```",
            "\\",
            "\\coloneqq",
            "e\u{301}",
            "\u{338}",
            "\u{0}",
            "\r\n",
            "漢",
            "🙂",
            "<|re",
            "f|>",
            "{'a': 1",
            "C(=O)",
        ])
        .collect();
    prop_oneof![
        4 => proptest::sample::select(words).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => "[ -~\n]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_comes_is_read(fragments in proptest::collection::vec(fragment(), 0..24), task in task()) {
        check(&fragments.concat(), &task);
    }
}
