//! Pages read by real networks, or with exact lines, against what they should become.
//!
//! `tests/pages/NAME.json` holds lines (shuffled) and regions, `NAME.expected.txt` the Markdown
//! and the blocks. The pages were made for this project and are CC0. What a page became is
//! written beside the build, to be compared and, where it is better, copied.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use quire_layout::{ComposedPage, compose};

use support::page_input;

fn described(page: &ComposedPage) -> String {
    let mut out = format!("{}\n\n----\n", page.text);
    for (index, block) in page.blocks.iter().enumerate() {
        write!(out, "{index} {}", block.label).unwrap();
        if let Some(level) = block.level {
            write!(out, " level {level}").unwrap();
        }
        if let Some(parent) = block.parent {
            write!(out, " of {parent}").unwrap();
        }
        match &block.text_range {
            Some(range) => writeln!(out, " {}..{}", range.start, range.end).unwrap(),
            None => writeln!(out, " {:?}", block.text).unwrap(),
        }
    }
    out
}

fn check(name: &str) {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pages"));
    let json = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    let found = described(&compose(page_input(&serde_json::from_str(&json).unwrap())));
    let expected = folder.join(format!("{name}.expected.txt"));
    // Kept for whoever means to change what is expected.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.expected.txt"));
    std::fs::write(&kept, &found).unwrap();
    let expected = std::fs::read_to_string(&expected).unwrap();
    assert_eq!(
        found,
        expected,
        "{name}: what was found is in {}",
        kept.display()
    );
}

#[test]
fn leaning_scan_in_two_columns() {
    check("two-columns-leaning");
}

#[test]
fn chinese_in_two_columns() {
    check("two-columns-chinese");
}

#[test]
fn table_that_the_detector_did_not_see() {
    check("table-without-region");
}

#[test]
fn leaning_receipt() {
    check("receipt-leaning");
}

#[test]
fn chinese_and_english_mixed() {
    check("chinese-and-english");
}

#[test]
fn numbered_minutes() {
    check("minutes-numbered");
}
