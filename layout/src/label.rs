//! What a group of rows is: the detector's word weighed against how the rows look and read.

use quire_core::Label;

use crate::captions;
use crate::chars::width_units;
use crate::draft::Page;
use crate::flow::Column;
use crate::follow::is_reference_start;
use crate::geometry::median;
use crate::headings::starts_like_heading;
use crate::lists::marker;
use crate::rows::Row;

/// Longest heading, characters.
const MAX_HEADING: f32 = 160.0;

/// The label of a finished group; `gaps` is the white space before and after it.
pub(crate) fn label_of(page: &Page<'_>, column: &Column, rows: &[Row], gaps: (f32, f32)) -> Label {
    let texts: Vec<String> = rows.iter().map(|row| row.text(page)).collect();
    let units: f32 = texts.iter().map(|text| width_units(text)).sum();
    let (first, last) = (
        texts.first().map_or("", String::as_str),
        texts.last().map_or("", String::as_str),
    );
    let hinted = rows
        .first()
        .and_then(|row| row.zone(page))
        .map(|zone| page.zones[zone].label);
    let has_letters = texts
        .iter()
        .any(|text| text.chars().any(char::is_alphabetic));
    let is_brief = rows.len() <= 4 && units <= MAX_HEADING && has_letters;
    let sentence = (last.ends_with(['.', '。', ';', '；', ',', '，'])
        && (units > 60.0 || texts.iter().flat_map(|text| text.split(' ')).count() > 5))
        || (last.ends_with([':', '：']) && units > 40.0);
    match hinted {
        Some(Label::Title | Label::SectionHeader) if is_brief && !sentence => {
            return Label::SectionHeader;
        }
        Some(Label::Caption) => return Label::Caption,
        _ => {}
    }
    if captions::starts_like_caption(first) && hinted.is_none() {
        return Label::Text;
    }
    if is_brief && !sentence && is_heading(page, column, rows, &texts, gaps) {
        return Label::SectionHeader;
    }
    if marker(first).is_some() {
        return Label::ListItem;
    }
    if is_reference_start(first) {
        return Label::Reference;
    }
    let small = rows.iter().all(|row| row.height < 0.93 * page.em);
    let is_low = rows
        .iter()
        .all(|row| row.rect.y0 > 0.6 * page.frame.extent().1);
    match hinted {
        // The detector takes footnotes and small print for references.
        Some(Label::Reference) if texts.iter().any(|text| names_year(text)) => Label::Reference,
        Some(label @ (Label::Footnote | Label::Code | Label::Form | Label::Stamp)) => label,
        _ if small && is_low && starts_like_footnote(first) => Label::Footnote,
        _ => Label::Text,
    }
}

/// `1999`, `(2015)`, `2007a`.
fn names_year(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| {
            let digits = word.bytes().take_while(u8::is_ascii_digit).count();
            digits == 4 && word.len() <= 5 && (word.starts_with("19") || word.starts_with("20"))
        })
}

/// `* see`, `† see`, `3 see`, `a Some`.
fn starts_like_footnote(text: &str) -> bool {
    let mark = text
        .chars()
        .take_while(|&c| !c.is_alphabetic() || c.is_ascii_lowercase())
        .next();
    let word = text.split(' ').next().unwrap_or("");
    let is_mark = |c: char| matches!(c, '*' | '∗' | '†' | '‡' | '§' | '¶') || c.is_numeric();
    mark.is_some_and(is_mark) || (word.len() == 1 && word.chars().all(char::is_alphanumeric))
}

/// `13See`, `† Also`: what a footnote starts with, as surely as can be told.
pub(crate) fn is_footnote_mark(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let after = text[digits..].chars().next();
    text.starts_with(['*', '∗', '†', '‡', '§', '¶'])
        || ((1..=2).contains(&digits) && after.is_some_and(|c| c == ' ' || c.is_alphabetic()))
}

/// A heading that no region names: larger than the text, or numbered and standing apart.
fn is_heading(
    page: &Page<'_>,
    column: &Column,
    rows: &[Row],
    texts: &[String],
    gaps: (f32, f32),
) -> bool {
    let height = median(rows.iter().map(|row| row.height)).unwrap_or(0.0);
    let ends_open = texts
        .last()
        .is_some_and(|text| text.ends_with(['.', '。', ',', '，', ';', ':', '：', '!', '！']));
    // A single line that fills its column may only look tall.
    let fills = rows.len() == 1 && rows[0].rect.width() > 0.9 * (column.right - column.left);
    let is_large = height > if fills { 1.4 } else { 1.22 } * page.em;
    if is_large && rows.len() <= 3 && !ends_open {
        return true;
    }
    let leading = column.pitch - page.em;
    let stands_apart =
        gaps.0 > leading + 0.3 * page.em && gaps.1 > leading.max(0.0) - 0.1 * page.em;
    let is_short = rows
        .iter()
        .all(|row| row.rect.width() < 0.85 * (column.right - column.left));
    rows.len() <= 2 && stands_apart && is_short && !ends_open && starts_like_heading(&texts[0])
}
