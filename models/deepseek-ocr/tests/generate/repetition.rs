//! Loops are cut early, honest pages are not.

use std::sync::Arc;

use deepseek_ocr::decoder::Chosen;
use deepseek_ocr::generate::{
    FinishReason, NgramBlock, RepetitionWatch, Rules, WatchedTokens, Writing,
};

const TD: u32 = 900_001;
const END_TD: u32 = 900_002;
const TR: u32 = 900_003;
const END_TR: u32 = 900_004;
const CELLS: [u32; 4] = [TD, END_TD, TR, END_TR];

/// A number below 1,000.
const NUMBERS: u32 = 800_000;

fn watched() -> WatchedTokens {
    let numbers: Vec<u32> = (NUMBERS..NUMBERS + 1000).collect();
    WatchedTokens::new(&CELLS, &numbers)
}

/// After how many tokens a text is cut, and how many are kept.
fn cut(tokens: impl IntoIterator<Item = u32>) -> Option<(usize, usize)> {
    let mut watch = RepetitionWatch::new(watched());
    for (at, token) in tokens.into_iter().enumerate() {
        if let Some(n_kept) = watch.push(token) {
            return Some((at + 1, n_kept));
        }
    }
    None
}

/// Words as they come in prose: few are common, most are rare.
struct Prose(u64);

impl Iterator for Prose {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let even = (self.0 >> 40) as f64 / f64::from(1u32 << 24);
        Some((3.0 * (5000.0f64).powf(even)) as u32)
    }
}

fn prose(seed: u64, n: usize) -> Vec<u32> {
    Prose(seed).take(n).collect()
}

/// A cell of some tokens.
fn cell(content: &[u32]) -> Vec<u32> {
    [&[TD], content, &[END_TD]].concat()
}

fn row(cells: &[Vec<u32>]) -> Vec<u32> {
    [vec![TR], cells.concat(), vec![END_TR]].concat()
}

#[test]
fn exact_loops_are_cut_after_the_fifth_copy() {
    for period in [1, 2, 7, 30, 80, 200, 512] {
        let mut text = prose(1, 300);
        // Numbered from far away, so that it begins where it should.
        text.extend((0..period * 8 + 200).map(|at| 500_000 + (at % period) as u32));
        let (after, n_kept) = cut(text).unwrap_or_else(|| panic!("period {period} goes on"));
        let bound = 300 + (5 * period).max(period + 96);
        assert!(
            after <= bound,
            "period {period} is cut after {after}, not {bound}"
        );
        assert!(n_kept <= 300 + period, "period {period}: {n_kept} kept");
        assert!(n_kept >= 300, "period {period}: {n_kept} kept");
    }
}

/// A model that wants to write the same stretch for ever, and what it writes under a block.
fn stubborn(ngrams: NgramBlock, period: usize, starts_over: bool) -> (FinishReason, usize) {
    let rules = Rules {
        eos: 1,
        max_new_tokens: 8192,
        max_positions: 8192,
        ngrams,
        never: Vec::new(),
        cut_repetition: true,
        watched: watched(),
    };
    let mut writing = Writing::new(Arc::new(rules), &[], 8192);
    let mut phase = 0;
    for filler in 0.. {
        let wanted = 500_000 + phase as u32;
        let is_banned = writing.banned().contains(&wanted);
        phase = if is_banned && starts_over {
            0
        } else {
            (phase + 1) % period
        };
        let chosen = Chosen {
            token: if is_banned { 600_000 + filler } else { wanted },
            log_probability: -0.1,
        };
        if let Some(reason) = writing.push(chosen) {
            return (reason, writing.tokens().len());
        }
    }
    unreachable!("an answer ends")
}

#[test]
fn loops_that_the_block_of_ngrams_breaks_are_cut_within_a_page() {
    let window = |size, window| NgramBlock::Window {
        size,
        window,
        whitelist: vec![TD, END_TD],
    };
    let blocks = [
        window(30, 90),
        window(20, 50),
        window(20, 90),
        window(40, 90),
        NgramBlock::Whole { size: 35 },
        NgramBlock::Whole { size: 20 },
    ];
    for block in blocks {
        for period in [1, 2, 3, 5, 9, 14, 20, 29, 33, 45, 61] {
            for starts_over in [false, true] {
                let (reason, n) = stubborn(block.clone(), period, starts_over);
                assert_eq!(
                    (reason, n < 1100),
                    (FinishReason::Repetition, true),
                    "{block:?}, period {period}, starts over: {starts_over}, {n} tokens"
                );
            }
        }
    }
}

#[test]
fn endless_empty_cells_are_cut() {
    let cells = [TD, END_TD].into_iter().cycle();
    let (after, n_kept) = cut(cells).unwrap();
    assert!(after < 2100, "after {after}");
    assert!(n_kept <= 2);
    let rows = row(&vec![cell(&[]); 9]).into_iter().cycle();
    assert!(cut(rows).is_some());
}

#[test]
fn rows_that_count_on_for_ever_are_cut() {
    let rows = (0u32..).flat_map(|number| {
        let cells = [cell(&[NUMBERS + number % 1000]), cell(&[]), cell(&[])];
        row(&cells)
    });
    let (after, n_kept) = cut(rows).unwrap();
    assert!(after < 9 * 260, "after {after}");
    assert!(n_kept <= 10, "{n_kept} kept");
    // "Total: 17, 403" with its box a little further down each time.
    let blocks = (0u32..).flat_map(|block| {
        let number = |which| NUMBERS + (block * 7 + which) % 1000;
        [
            3000,
            3001,
            3002,
            number(1),
            12,
            number(2),
            3003,
            3004,
            3005,
            3006,
        ]
    });
    assert!(cut(blocks).unwrap().0 < 2700);
}

#[test]
fn a_page_of_figures_is_not_cut() {
    // A table of logarithms: fifty rows of ten.
    let rows = (0..50u32).flat_map(|line| {
        let cell = |column: u32| cell(&[NUMBERS, 13, NUMBERS + (line * 97 + column * 31) % 1000]);
        row(&(0..10).map(cell).collect::<Vec<_>>())
    });
    assert_eq!(cut(rows), None);
    // The answers of a test, two hundred lines.
    let lines = (0..200).flat_map(|line| [NUMBERS + line, 13, 65, 66, 67, 68, 10]);
    assert_eq!(cut(lines), None);
}

#[test]
fn prose_is_not_cut() {
    for seed in 0..20 {
        assert_eq!(cut(prose(seed, 8000)), None, "seed {seed}");
    }
}

#[test]
fn an_empty_attendance_list_is_not_cut() {
    let days: Vec<Vec<u32>> = (1..=31).map(|day| cell(&[1000 + day])).collect();
    let mut text = row(&days);
    for _ in 0..30 {
        text.extend(row(&vec![cell(&[]); 31]));
    }
    assert_eq!(cut(text), None);
}

#[test]
fn a_form_with_numbered_rows_is_not_cut() {
    let rows = (1..=120).flat_map(|number| {
        let mut cells = vec![cell(&[1000 + number])];
        cells.extend(vec![cell(&[]); 12]);
        row(&cells)
    });
    assert_eq!(cut(rows), None);
}

#[test]
fn a_statement_of_like_lines_is_not_cut() {
    // "2024-03-17 | Card payment, thank you | EUR | 12.34 | 1,234.56", two hundred times.
    let lines = (0..200u32).flat_map(|line| {
        row(&[
            cell(&[1202, 4, 11, 30 + line / 20, 11, 60 + line % 31]),
            cell(&[2001, 2002, 12, 2003, 2004]),
            cell(&[2005]),
            cell(&[100 + line * 7 % 90, 13, 300 + line * 31 % 100]),
            cell(&[
                500 + line / 9,
                12,
                600 + line * 17 % 1000,
                13,
                300 + line * 53 % 100,
            ]),
        ])
    });
    assert_eq!(cut(lines), None);
}

#[test]
fn a_slip_in_three_copies_is_not_cut() {
    let slip = prose(3, 160);
    let page = [prose(4, 200), slip.clone(), slip.clone(), slip].concat();
    assert_eq!(cut(page), None);
    let half = prose(5, 700);
    assert_eq!(cut([half.clone(), half].concat()), None);
}

#[test]
fn many_small_blocks_with_boxes_are_not_cut() {
    // "<|ref|>text<|/ref|><|det|>[[12, 34, 56, 78]]<|/det|>\nName:\n\n", with other numbers each.
    let blocks = (0..150u32).flat_map(|block| {
        let number = |which: u32| 100 + (block * 37 + which * 251) % 999;
        let mut tokens = vec![
            3000,
            3001,
            3002,
            3003,
            3004,
            number(0),
            12,
            14,
            number(1),
            12,
            14,
        ];
        tokens.extend([number(2), 12, 14, number(3), 3005, 3006, 3007]);
        tokens.extend([3010 + block % 4, 15, 3008]);
        tokens
    });
    assert_eq!(cut(blocks), None);
}

#[test]
fn a_dotted_leader_is_not_cut() {
    let mut text = Vec::new();
    for line in 0..60 {
        text.extend(prose(line, 6));
        text.extend(vec![16; 20]);
        text.push(1000 + line as u32);
    }
    assert_eq!(cut(text), None);
}
