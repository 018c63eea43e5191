//! Answers that have begun to repeat themselves and will not stop.
//!
//! Loops are the commonest failure of this model: a quarter of one user's pages, on blank areas
//! and in tables. Left alone a loop writes on to the limit of positions and costs as much as six
//! honest pages. Three kinds are seen:
//!
//! - **Exact loops.** The same stretch over and over. With the block of n-grams on, those with a
//!   period over its window remain, and those of table cells, which it lets pass.
//! - **Broken loops.** The block of n-grams forbids the thirtieth token of a repeated run; the
//!   model writes another one and goes on with its loop.
//! - **Counting loops.** Row 17, row 18, row 19, all else equal; or a block of the same text with
//!   its box a little further down each time. Numbers are new text and honest tables look the
//!   same, so only more rows than a page can have are a loop.

use std::collections::VecDeque;
use std::sync::Arc;

use super::echoes::Echoes;

/// An exact loop: the longest stretch whose return is noticed, tokens. Half an ordinary page; a
/// loop over more is left to the limit of length.
const LONGEST_PERIOD: usize = 512;

/// An exact loop: so many equal copies behind the first. Forms print a slip two or three times on
/// a sheet, sheets of labels and coupons a little more often.
const COPIES: usize = 4;

/// An exact loop: so many tokens at least that are no cells. A dotted leader, a line to write on,
/// a row of zeros are shorter.
const TOKENS: usize = 96;

/// An exact loop of nothing but cells: so many tokens. An attendance list of 31 days by 30 names
/// has 930 empty cells, 1,920 tokens with its rows.
const CELLS: usize = 2048;

/// A broken loop: the last so many tokens that are no cells are looked at. Half an ordinary page.
const STALE_WINDOW: usize = 512;

/// A broken loop: a token is stale if it ends a run of so many that stood shortly before. The
/// markup around a block's box is hardly longer.
const STALE_RUN: usize = 5;

/// A broken loop: how long before, tokens. The block of n-grams with its published windows cannot
/// break loops over more than 71; two copies of a slip on one page are farther apart.
const STALE_LAG: usize = 128;

/// A broken loop: stale tokens among those looked at. A loop that is broken at every twentieth
/// token, the shortest n-gram in use, has 15 stale ones of 20. Honest pages stay under two thirds,
/// be it a table of contents with leaders of dots.
const STALE: usize = STALE_WINDOW * 7 / 10;

/// A counting loop: so many stretches that differ in numbers alone. A page has no more lines of
/// print than half of this; a sheet to mark the answers of a test may have 200 in columns.
const COUNTED: usize = 256;

/// A counting loop: the longest stretch that is looked for, tokens. More would not end before the
/// limit of positions does it.
const COUNTED_PERIOD: usize = 24;

/// A counting loop: so many tokens at least. Columns of figures without any text between them are
/// long before they are a loop.
const COUNTED_TOKENS: usize = 1024;

/// Stands for any number.
const NUMBER: u32 = u32::MAX;

/// Tokens that mean something to whoever looks for loops.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedTokens {
    cells: Arc<[u32]>,
    numbers: Arc<[u32]>,
}

impl WatchedTokens {
    /// `cells` are the tokens of empty table cells (`<td>`, `</td>`, `<tr>`, `</tr>`), `numbers`
    /// those of one or more digits.
    pub fn new(cells: &[u32], numbers: &[u32]) -> Self {
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        Self {
            cells: cells.into(),
            numbers: numbers.into(),
        }
    }
}

/// Watches one answer for loops.
#[derive(Debug, Clone)]
pub struct RepetitionWatch {
    tokens: WatchedTokens,
    echoes: Echoes,
    /// The same text with all numbers alike.
    shapes: Echoes,
    /// Of tokens that are no cells: how many stand before each token, and in all.
    n_content: Vec<u32>,
    /// Positions of the last tokens that are no cells, and whether each is stale.
    recent: VecDeque<(usize, bool)>,
    n_stale: usize,
}

impl RepetitionWatch {
    /// Before the first token.
    pub fn new(tokens: WatchedTokens) -> Self {
        Self {
            tokens,
            echoes: Echoes::new(LONGEST_PERIOD),
            shapes: Echoes::new(COUNTED_PERIOD),
            n_content: vec![0],
            recent: VecDeque::new(),
            n_stale: 0,
        }
    }

    /// A token was written. If the answer is caught in a loop: how many tokens stand before what
    /// repeats, the first copy of an exact loop included.
    pub fn push(&mut self, token: u32) -> Option<usize> {
        let at = self.echoes.tokens().len();
        self.echoes.push(token);
        let is_cell = self.tokens.cells.contains(&token);
        let n_content = self.n_content[at] + u32::from(!is_cell);
        self.n_content.push(n_content);

        let mut longest = 0;
        for (lag, run) in self.echoes.runs() {
            if lag <= STALE_LAG {
                longest = longest.max(run);
            }
            if run >= COPIES * lag && self.is_long(at + 1 - run, run) {
                return Some(at + 1 - run);
            }
        }
        if let Some(n_kept) = self.counts(token, at) {
            return Some(n_kept);
        }
        if is_cell {
            return None;
        }
        self.look_back(at, longest >= STALE_RUN)
    }

    /// Whether a run that starts at `start` is longer than honest pages have.
    fn is_long(&self, start: usize, run: usize) -> bool {
        let n_content = self.n_content[start + run] - self.n_content[start];
        n_content as usize >= TOKENS || run >= CELLS
    }

    /// Whether the text has long differed from what stood before in numbers alone.
    fn counts(&mut self, token: u32, at: usize) -> Option<usize> {
        let is_number = self.tokens.numbers.binary_search(&token).is_ok();
        self.shapes.push(if is_number { NUMBER } else { token });
        let found = self
            .shapes
            .runs()
            .find(|&(lag, run)| run >= COUNTED * lag && run >= COUNTED_TOKENS);
        found.map(|(_, run)| at + 1 - run)
    }

    fn look_back(&mut self, at: usize, is_stale: bool) -> Option<usize> {
        self.recent.push_back((at, is_stale));
        self.n_stale += usize::from(is_stale);
        if self.recent.len() > STALE_WINDOW
            && let Some((_, was_stale)) = self.recent.pop_front()
        {
            self.n_stale -= usize::from(was_stale);
        }
        if self.recent.len() < STALE_WINDOW || self.n_stale < STALE {
            return None;
        }
        self.recent
            .iter()
            .find(|(_, is_stale)| *is_stale)
            .map(|&(start, _)| start)
    }
}
