//! What the steps share: the page under work, and blocks before they are written out.

use std::collections::HashMap;

use quire_core::{Label, PageImage, Rect};
use unicode_normalization::UnicodeNormalization;

use crate::chars::{is_cjk, is_hyphen};
use crate::geometry::{Frame, finite_rect, weighted_median};
use crate::rows::Row;
use crate::tables::Grid;
use crate::{PageInput, Region};

/// A recognised line in the frame. Lines without text have no item.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Index among the input's lines.
    pub(crate) line: usize,
    /// NFC, one line, trimmed.
    pub(crate) text: String,
    pub(crate) rect: Rect,
    pub(crate) is_sideways: bool,
    pub(crate) confidence: f32,
    /// The region it lies in, as an index into [`Page::zones`].
    pub(crate) zone: Option<usize>,
}

/// A region in the frame.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    pub(crate) label: Label,
    pub(crate) label_raw: String,
    pub(crate) rect: Rect,
    pub(crate) confidence: f32,
}

impl Zone {
    /// Whether the region is read as a whole: its lines never mix with others.
    pub(crate) fn is_solid(&self) -> bool {
        matches!(self.label, Label::Table | Label::Picture | Label::Formula)
    }
}

/// The page under work.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) image: Option<&'a PageImage>,
    pub(crate) items: Vec<Item>,
    pub(crate) zones: Vec<Zone>,
    /// Height of a line of running text, pixels of the frame: the unit of all distances.
    pub(crate) em: f32,
    /// Whether this page sets a space between Chinese and Latin.
    pub(crate) spaces_scripts: bool,
    /// How often each word stands on the page, lower case.
    pub(crate) words: HashMap<String, usize>,
}

impl<'a> Page<'a> {
    pub(crate) fn new(input: &PageInput<'a>, frame: &'a Frame) -> Self {
        let items: Vec<Item> = input
            .lines
            .iter()
            .enumerate()
            .filter_map(|(index, line)| {
                let text = clean(&line.text);
                let placed = frame.place(line);
                let confidence = if line.confidence.is_finite() {
                    line.confidence.clamp(0.0, 1.0)
                } else {
                    0.0
                };
                (!text.is_empty()).then_some(Item {
                    line: index,
                    text,
                    rect: placed.rect,
                    is_sideways: placed.is_sideways,
                    confidence,
                    zone: None,
                })
            })
            .collect();
        let mut heights: Vec<(f32, f32)> = items
            .iter()
            .filter(|item| !item.is_sideways && item.rect.height() > 0.0)
            .map(|item| (item.rect.height(), item.text.chars().count() as f32))
            .collect();
        let em = weighted_median(&mut heights)
            .unwrap_or(frame.extent().1 / 80.0)
            .max(1.0);
        let (spaces_scripts, words) = habits(&items);
        Self {
            frame,
            image: input.image,
            items,
            zones: input
                .regions
                .iter()
                .filter_map(|region| zone(frame, region))
                .collect(),
            em,
            spaces_scripts,
            words,
        }
    }

    /// The smallest box around some items.
    pub(crate) fn bounds(&self, items: impl IntoIterator<Item = usize>) -> Rect {
        items
            .into_iter()
            .map(|item| self.items[item].rect)
            .reduce(|a, b| a.union(&b))
            .unwrap_or_default()
    }
}

/// How a block's rows become text.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// Rows are joined to running text, but where a row starts a line of its own.
    Running,
    Table(Grid),
    Picture,
    /// Rows with their indentation, as written in the listing.
    Code(Vec<String>),
}

/// A block before it is written out.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) label: Label,
    pub(crate) label_raw: String,
    pub(crate) rows: Vec<Row>,
    /// In the frame.
    pub(crate) rect: Rect,
    pub(crate) body: Body,
    /// The block this one belongs to, by its place among the drafts.
    pub(crate) parent: Option<usize>,
    pub(crate) level: Option<u32>,
}

impl Draft {
    pub(crate) fn new(
        label: Label,
        label_raw: impl Into<String>,
        rows: Vec<Row>,
        body: Body,
    ) -> Self {
        let rect = rows
            .iter()
            .map(|row| row.rect)
            .reduce(|a, b| a.union(&b))
            .unwrap_or_default();
        Self {
            label,
            label_raw: label_raw.into(),
            rows,
            rect,
            body,
            parent: None,
            level: None,
        }
    }

    /// Its lines in reading order.
    pub(crate) fn items(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows.iter().flat_map(|row| row.items.iter().copied())
    }

    /// Height of its text, pixels.
    pub(crate) fn text_height(&self) -> f32 {
        let mut heights: Vec<(f32, f32)> = self
            .rows
            .iter()
            .map(|row| (row.height, row.rect.width().max(1.0)))
            .collect();
        weighted_median(&mut heights).unwrap_or(0.0)
    }
}

fn zone(frame: &Frame, region: &Region) -> Option<Zone> {
    if finite_rect(&region.rect).area() <= 0.0 {
        return None;
    }
    let confidence = if region.confidence.is_finite() {
        region.confidence.clamp(0.0, 1.0)
    } else {
        0.0
    };
    Some(Zone {
        label: region.label,
        label_raw: region.label_raw.clone(),
        rect: frame.place_rect(&region.rect),
        confidence,
    })
}

/// One line of text: NFC, control characters out, runs of space as one.
///
/// PDF text layers mark a hyphen at a line's end by U+0002 or U+FFFE: that is a soft hyphen.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let trimmed = text.trim();
    let (body, ends_soft) = match trimmed.strip_suffix(['\u{2}', '\u{FFFE}']) {
        Some(body) => (body, true),
        None => (trimmed, false),
    };
    for c in body.nfc() {
        let is_space = c.is_whitespace() || c.is_control() || matches!(c, '\u{FEFF}' | '\u{FFFE}');
        if !is_space {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    out.truncate(out.trim_end().len());
    if ends_soft && !out.is_empty() {
        out.push('\u{AD}');
    }
    out
}

/// Habits of the page that settle doubts when its lines are joined.
fn habits(items: &[Item]) -> (bool, HashMap<String, usize>) {
    let (mut spaced, mut tight) = (0usize, 0usize);
    let mut words: HashMap<String, usize> = HashMap::new();
    for item in items {
        let chars: Vec<char> = item.text.chars().collect();
        for pair in chars.windows(2) {
            if is_ideograph(pair[0]) && pair[1].is_ascii_alphanumeric()
                || pair[0].is_ascii_alphanumeric() && is_ideograph(pair[1])
            {
                tight += 1;
            }
        }
        for triple in chars.windows(3) {
            if triple[1] == ' '
                && (is_ideograph(triple[0]) && triple[2].is_ascii_alphanumeric()
                    || triple[0].is_ascii_alphanumeric() && is_ideograph(triple[2]))
            {
                spaced += 1;
            }
        }
        for word in item
            .text
            .split(|c: char| !c.is_alphanumeric() && !is_hyphen(c))
        {
            // What a line's end cuts off is no word.
            if !word.is_empty() && !word.ends_with(is_hyphen) {
                *words.entry(word.to_lowercase()).or_default() += 1;
            }
        }
    }
    (spaced > tight, words)
}

fn is_ideograph(c: char) -> bool {
    is_cjk(c) && c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaned_text_is_one_trimmed_line() {
        assert_eq!(clean("  a\tb\n\nc\u{0} "), "a b c");
        assert_eq!(clean("e\u{301}"), "é");
        assert_eq!(clean("hy\u{2}"), "hy\u{AD}");
        assert_eq!(clean("\u{2}"), "");
    }
}
