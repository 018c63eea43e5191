//! The made pages of the shared corpus, given their exact lines in random order: what the blocks
//! say, one after the other, is what a reader sees. Skipped where the corpus is not at hand.

#![allow(clippy::unwrap_used, reason = "a broken corpus fails the test")]

use std::path::{Path, PathBuf};

use quire_core::{Line, Quad};
use quire_layout::{PageInput, compose};
use unicode_normalization::UnicodeNormalization;

/// Share of characters that may differ over all pages: the hyphens at line ends, which the
/// corpus keeps and the text heals.
const MAX_ERROR: f64 = 0.000_5;

/// Every line of a `.lines.tsv`, in a fixed shuffled order.
fn page(path: &Path) -> PageInput<'static> {
    let rows = std::fs::read_to_string(path).unwrap();
    let parsed: Vec<([[f32; 2]; 4], String)> = rows
        .lines()
        .skip(1)
        .map(|row| {
            let cells: Vec<&str> = row.splitn(9, '\t').collect();
            let number = |n: usize| cells[n].parse::<f32>().unwrap();
            (
                [0, 2, 4, 6].map(|n| [number(n), number(n + 1)]),
                cells[8].to_owned(),
            )
        })
        .collect();
    let far = |axis: usize| {
        parsed
            .iter()
            .flat_map(|(quad, _)| quad)
            .map(|corner| corner[axis])
            .fold(0.0, f32::max)
    };
    // The margins on the far sides are not in the file; any will do.
    let (width, height) = (far(0) + 100.0, far(1) + 100.0);
    let mut lines: Vec<Line> = parsed
        .into_iter()
        .map(|(quad, text)| {
            let quad = Quad(quad.map(|[x, y]| [x / width, y / height]));
            Line {
                block: None,
                text,
                rect: quad.bounds(),
                quad: Some(quad),
                confidence: 1.0,
            }
        })
        .collect();
    lines.sort_by_key(|line| line.text.bytes().rev().collect::<Vec<u8>>());
    PageInput {
        width_px: width as u32,
        height_px: height as u32,
        lines,
        regions: Vec::new(),
        image: None,
    }
}

/// As the corpus says rates are measured: NFKC; English with white space as one space, the rest
/// without any.
fn normalized(text: &str, is_english: bool) -> Vec<char> {
    let text: String = text.nfkc().collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .join(if is_english { " " } else { "" })
        .chars()
        .collect()
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != y))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[test]
fn exact_lines_give_the_exact_text() {
    let folder = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/corpus/pages"
    ));
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: no corpus at {}", folder.display());
        return;
    };
    let (mut errors, mut length) = (0, 0);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".lines.tsv") else {
            continue;
        };
        let truth = std::fs::read_to_string(folder.join(format!("{stem}.gt.txt"))).unwrap();
        let blocks = compose(page(&path)).blocks;
        let texts: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
        let is_english = stem.starts_with("en");
        let truth = normalized(&truth, is_english);
        let found = distance(&truth, &normalized(&texts.join("\n"), is_english));
        if found > 0 {
            println!("{stem}: {found} of {}", truth.len());
        }
        errors += found;
        length += truth.len();
    }
    assert!(
        length > 0 && (errors as f64) <= MAX_ERROR * length as f64,
        "{errors} of {length}"
    );
}
