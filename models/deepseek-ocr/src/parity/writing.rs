//! Answers, token by token: each page alone, in pieces, and all pages together.

use std::path::Path;

use burn::tensor::Tensor;
use serde::Deserialize;

use super::fixture::{Case, Values, read_json};
use super::{ParityError, Report, Row};
use crate::decoder::{Decoder, Input, Row as PageRow, Slot};
use crate::generate::{NgramBlock, Ngrams};
use crate::stages::Stages;

/// Logits of a decoding step.
const LOGITS: f64 = 1e-3;

/// A question and how it is to be answered.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// `[n, hidden]`.
    pub(super) prompt: Tensor<2>,
    pub(super) ids: Vec<u32>,
    pub(super) block: NgramBlock,
    /// The answer ends after so many tokens; the end of text does not end it.
    pub(super) n_tokens: usize,
}

/// Compares all answers to one question.
pub(super) fn compare_alone(
    case: &Case,
    page: &Page,
    decoder: &mut dyn Decoder,
    report: &mut Report,
) -> Result<(), ParityError> {
    let name = &case.about.name;
    if let Some(wanted) = case.tensors.get("gen_off.step_logits")
        && let Values::Floats(wanted) = &wanted.values
    {
        let tokens = case.integers("gen_off.tokens")?;
        let found = step_logits(page, tokens, decoder)?;
        let title = format!("{name}/gen_off.step_logits");
        report.push(Row::floats(title, wanted, &found, LOGITS));
    }
    for (rule, block) in rules(case) {
        let Ok(wanted) = case.integers(&format!("{rule}.tokens")) else {
            continue;
        };
        let page = Page {
            block,
            n_tokens: wanted.len(),
            ..page.clone()
        };
        let found = write(std::slice::from_ref(&page), usize::MAX, decoder)?;
        let title = format!("{name}/{rule}.tokens");
        report.push(Row::integers(title, wanted, &found[0]));
    }
    Ok(())
}

/// Compares the answers of all cases when they are written together, each joining a step after the
/// one before, prompts cut in pieces of odd lengths.
pub(super) fn compare_together(
    cases: &[Case],
    pages: Vec<Page>,
    decoder: &mut dyn Decoder,
    report: &mut Report,
) -> Result<(), ParityError> {
    const PIECE: usize = 13;
    let mut wanted = Vec::new();
    let mut asked = Vec::new();
    for (case, page) in cases.iter().zip(pages) {
        for (rule, block) in rules(case) {
            if let Ok(tokens) = case.integers(&format!("{rule}.tokens")) {
                wanted.push((
                    format!("{}/{rule}.tokens (together)", case.about.name),
                    tokens,
                ));
                asked.push(Page {
                    block,
                    n_tokens: tokens.len(),
                    ..page.clone()
                });
            }
        }
    }
    let found = write(&asked, PIECE, decoder)?;
    for ((title, wanted), found) in wanted.into_iter().zip(found) {
        report.push(Row::integers(title, wanted, &found));
    }
    Ok(())
}

/// The rules of a case, by the names that its answers start with.
fn rules(case: &Case) -> [(&'static str, NgramBlock); 4] {
    let about = &case.about;
    let (size, window) = (about.ngram_size, about.window_size);
    let windowed = |whitelist: &[u32]| NgramBlock::Window {
        size,
        window,
        whitelist: whitelist.to_vec(),
    };
    [
        ("gen_off", NgramBlock::Off),
        ("gen_window", windowed(&[])),
        ("gen_window_whitelist", windowed(&about.whitelist)),
        ("gen_hf_ngram", NgramBlock::Whole { size }),
    ]
}

/// The logits that choose each of the tokens.
fn step_logits(
    page: &Page,
    tokens: &[i64],
    decoder: &mut dyn Decoder,
) -> Result<Vec<f32>, ParityError> {
    let [n, _] = page.prompt.dims();
    let slot = decoder.open(n + tokens.len())?;
    let mut logits = Vec::new();
    let inputs = std::iter::once(Input::Prompt(page.prompt.clone()))
        .chain(tokens.iter().map(|&token| Input::Token(token as u32)));
    for input in inputs.take(tokens.len()) {
        let row = PageRow {
            slot,
            input,
            banned: Vec::new(),
        };
        let rows = decoder.logits(&row, &mut Stages::ignored());
        let [n, _] = rows.dims();
        logits.extend(rows.narrow(0, n - 1, 1).into_data().iter::<f32>());
    }
    decoder.close(slot);
    Ok(logits)
}

/// A page that is being written.
struct Writing<'a> {
    page: &'a Page,
    slot: Slot,
    /// Positions of the prompt that were read.
    read: usize,
    ngrams: Ngrams,
    tokens: Vec<i64>,
}

impl<'a> Writing<'a> {
    fn open(page: &'a Page, decoder: &mut dyn Decoder) -> Result<Self, ParityError> {
        let positions = page.ids.len() + page.n_tokens;
        Ok(Self {
            page,
            slot: decoder.open(positions)?,
            read: 0,
            ngrams: Ngrams::new(&page.block, &page.ids),
            tokens: Vec::new(),
        })
    }

    fn is_done(&self) -> bool {
        self.tokens.len() >= self.page.n_tokens
    }

    fn next(&mut self, piece: usize) -> PageRow {
        let left = self.page.ids.len() - self.read;
        let input = match self.tokens.last() {
            Some(&token) => Input::Token(token as u32),
            None => {
                let n = left.min(piece);
                let piece = self.page.prompt.clone().narrow(0, self.read, n);
                self.read += n;
                Input::Prompt(piece)
            }
        };
        let mut banned = Vec::new();
        self.ngrams.banned(&mut banned);
        PageRow {
            slot: self.slot,
            input,
            banned,
        }
    }

    fn take(&mut self, token: u32) {
        // What follows a piece that is not the last is no answer.
        if self.read == self.page.ids.len() {
            self.tokens.push(i64::from(token));
            self.ngrams.push(token);
        }
    }
}

/// Writes the answers of many pages in one batch that they join one after the other.
fn write(
    pages: &[Page],
    piece: usize,
    decoder: &mut dyn Decoder,
) -> Result<Vec<Vec<i64>>, ParityError> {
    let mut written: Vec<Writing<'_>> = Vec::with_capacity(pages.len());
    let mut waiting = pages.iter();
    loop {
        if let Some(page) = waiting.next() {
            written.push(Writing::open(page, decoder)?);
        }
        let mut active: Vec<&mut Writing<'_>> = written
            .iter_mut()
            .filter(|writing| !writing.is_done())
            .collect();
        if active.is_empty() && waiting.len() == 0 {
            break;
        }
        let rows: Vec<PageRow> = active.iter_mut().map(|page| page.next(piece)).collect();
        for (page, chosen) in active.into_iter().zip(decoder.step(&rows)) {
            page.take(chosen.token);
            if page.is_done() {
                decoder.close(page.slot);
            }
        }
    }
    Ok(written.into_iter().map(|page| page.tokens).collect())
}

#[derive(Deserialize)]
struct BanCases {
    cases: Vec<BanCase>,
}

#[derive(Deserialize)]
struct BanCase {
    n: usize,
    window: usize,
    whitelist: Vec<u32>,
    output_ids: Vec<u32>,
    banned_window: Vec<i64>,
    banned_hf: Vec<i64>,
}

/// Compares which tokens are banned after short histories, if the folder has any.
pub(super) fn compare_bans(folder: &Path, report: &mut Report) -> Result<(), ParityError> {
    let path = folder.join("ngram_cases.json");
    if !path.is_file() {
        return Ok(());
    }
    let cases: BanCases = read_json(&path)?;
    for (index, case) in cases.cases.iter().enumerate() {
        let window = NgramBlock::Window {
            size: case.n,
            window: case.window,
            whitelist: case.whitelist.clone(),
        };
        let whole = NgramBlock::Whole { size: case.n };
        let rules = [
            ("window", window, &case.banned_window),
            ("whole", whole, &case.banned_hf),
        ];
        for (rule, block, wanted) in rules {
            let mut ngrams = Ngrams::new(&block, &[]);
            for &token in &case.output_ids {
                ngrams.push(token);
            }
            let mut banned = Vec::new();
            ngrams.banned(&mut banned);
            let mut found: Vec<i64> = banned.into_iter().map(i64::from).collect();
            found.sort_unstable();
            let mut wanted = wanted.clone();
            wanted.sort_unstable();
            report.push(Row::integers(
                format!("ngram/{index}.{rule}"),
                &wanted,
                &found,
            ));
        }
    }
    Ok(())
}
