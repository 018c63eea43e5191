//! Rows of one column into blocks: paragraphs, headings, list items, code, tables, pictures.

use quire_core::Label;

use crate::chars::{ends_sentence, is_cjk, width_units};
use crate::draft::{Body, Draft, Page};
use crate::geometry::median;
use crate::headings::starts_like_heading;
use crate::lists::{Kind, marker};
use crate::order::{Atom, Flow};
use crate::rows::{Row, rows};
use crate::{captions, code, tables};

/// Longest heading, characters.
const MAX_HEADING: f32 = 160.0;

/// Appends a flow's blocks, top to bottom.
pub(crate) fn build(page: &Page<'_>, flow: &Flow, drafts: &mut Vec<Draft>) {
    let (solids, plain): (Vec<&Atom>, Vec<&Atom>) =
        flow.atoms.iter().partition(|atom| atom.zone.is_some());
    let items: Vec<usize> = plain
        .iter()
        .flat_map(|atom| atom.items.iter().copied())
        .collect();
    let mut rest = rows(page, &items);
    let mut solids: Vec<Solid> = solids
        .into_iter()
        .map(|atom| solid(page, atom, &mut rest))
        .collect();
    solids.sort_by(|a, b| a.middle.total_cmp(&b.middle));
    let column = Column::of(page, &rest);
    let mut rest = rest.into_iter().peekable();
    for Solid { draft, middle } in solids {
        let mut above = Vec::new();
        while let Some(row) = rest.next_if(|row| row.centre_y() < middle) {
            above.push(row);
        }
        text(page, &column, above, drafts);
        drafts.push(draft);
    }
    text(page, &column, rest.collect(), drafts);
}

/// A table, picture or formula, and the height at which it is read.
#[derive(Debug)]
struct Solid {
    draft: Draft,
    middle: f32,
}

fn solid(page: &Page<'_>, atom: &Atom, rest: &mut Vec<Row>) -> Solid {
    let zone = atom.zone.map(|zone| &page.zones[zone]);
    let label = zone.map_or(Label::Other, |zone| zone.label);
    let raw = zone.map_or("", |zone| zone.label_raw.as_str());
    let mut inside = rows(page, &atom.items);
    let mut draft = match label {
        Label::Table => match code::find(page, &inside).as_slice() {
            // The detector takes listings for tables.
            [only] if only.len() == inside.len() => code_draft(page, raw, inside),
            _ => {
                let grid = tables::grid(page, &inside);
                Draft::new(label, raw, inside, Body::Table(grid))
            }
        },
        Label::Picture => Draft::new(label, raw, inside, Body::Picture),
        _ => {
            take_equation_number(page, &mut inside, rest);
            for row in inside.iter_mut().skip(1) {
                row.starts_line = true;
            }
            Draft::new(label, raw, inside, Body::Running)
        }
    };
    if draft.rows.is_empty() || label == Label::Picture {
        draft.rect = atom.rect;
    }
    Solid {
        middle: (atom.rect.y0 + atom.rect.y1) / 2.0,
        draft,
    }
}

/// The number beside an equation belongs to its row.
fn take_equation_number(page: &Page<'_>, inside: &mut [Row], rest: &mut Vec<Row>) {
    rest.retain(|row| {
        let text = row.text(page);
        let is_number = text.len() <= 8 && text.starts_with('(') && text.ends_with(')');
        let beside = inside
            .iter_mut()
            .find(|own| is_number && row.centre_y() > own.rect.y0 && row.centre_y() < own.rect.y1);
        match beside {
            Some(own) => {
                let items = own.items.iter().chain(&row.items).copied().collect();
                *own = Row::new(page, items);
                false
            }
            None => true,
        }
    });
}

fn code_draft(page: &Page<'_>, raw: &str, rows: Vec<Row>) -> Draft {
    let listing = code::listing(page, &rows);
    Draft::new(Label::Code, raw, rows, Body::Code(listing))
}

/// Measures of a column that its rows are compared with.
#[derive(Debug)]
struct Column {
    /// Where most rows start.
    left: f32,
    right: f32,
    /// Usual distance of two rows' middles.
    pitch: f32,
    /// Its rows are set centred: every one is a line of its own.
    is_centred: bool,
}

impl Column {
    fn of(page: &Page<'_>, rows: &[Row]) -> Self {
        let em = page.em;
        let mut starts: Vec<f32> = rows.iter().map(|row| row.rect.x0).collect();
        starts.sort_by(f32::total_cmp);
        let left = starts.get(starts.len() / 8).copied().unwrap_or(0.0);
        let mut ends: Vec<f32> = rows.iter().map(|row| row.rect.x1).collect();
        ends.sort_by(f32::total_cmp);
        let right = ends
            .get((ends.len() * 19 / 20).min(ends.len().saturating_sub(1)))
            .copied();
        let pitches = rows
            .windows(2)
            .map(|pair| pair[1].centre_y() - pair[0].centre_y())
            .filter(|&pitch| pitch > 0.5 * em && pitch < 2.2 * em);
        let pitch = median(pitches).unwrap_or(1.4 * em);
        let middle = |row: &Row| (row.rect.x0 + row.rect.x1) / 2.0;
        let axis = median(rows.iter().map(middle)).unwrap_or(0.0);
        let on_axis = rows
            .iter()
            .filter(|row| (middle(row) - axis).abs() < 0.5 * em)
            .count();
        let at_left = rows
            .iter()
            .filter(|row| (row.rect.x0 - left).abs() < 0.5 * em)
            .count();
        let is_centred =
            rows.len() >= 2 && on_axis * 5 >= rows.len() * 4 && at_left * 2 <= rows.len();
        Self {
            left,
            right: right.unwrap_or(0.0),
            pitch,
            is_centred,
        }
    }
}

/// Blocks of rows without solid things between them.
fn text(page: &Page<'_>, column: &Column, rows: Vec<Row>, drafts: &mut Vec<Draft>) {
    let mut special: Vec<(std::ops::Range<usize>, bool)> = Vec::new();
    special.extend(
        code::find(page, &rows)
            .into_iter()
            .map(|range| (range, true)),
    );
    for range in tables::find(page, &rows) {
        if special
            .iter()
            .all(|(other, _)| other.end <= range.start || other.start >= range.end)
        {
            special.push((range, false));
        }
    }
    special.sort_by_key(|(range, _)| range.start);
    let mut special = special.into_iter().peekable();
    let (mut plain, mut block): (Vec<Row>, Vec<Row>) = (Vec::new(), Vec::new());
    for (at, row) in rows.into_iter().enumerate() {
        let Some((range, is_code)) = special.peek().cloned() else {
            plain.push(row);
            continue;
        };
        if at < range.start {
            plain.push(row);
            continue;
        }
        paragraphs(page, column, std::mem::take(&mut plain), drafts);
        block.push(row);
        if at + 1 == range.end {
            let rows = std::mem::take(&mut block);
            drafts.push(if is_code {
                code_draft(page, "code", rows)
            } else {
                let grid = tables::grid(page, &rows);
                Draft::new(Label::Table, "table", rows, Body::Table(grid))
            });
            special.next();
        }
    }
    paragraphs(page, column, plain, drafts);
}

/// How a row follows the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Follows {
    /// The same paragraph goes on.
    Running,
    /// The same block, on a line of its own.
    OnNewLine,
    /// A new block.
    Apart,
}

fn paragraphs(page: &Page<'_>, column: &Column, rows: Vec<Row>, drafts: &mut Vec<Draft>) {
    let rights = local_rights(page, column, &rows);
    let mut group: Vec<Row> = Vec::new();
    let mut gap_before = f32::MAX;
    let mut previous_bottom: Option<f32> = None;
    for (at, mut row) in rows.into_iter().enumerate() {
        let follows = match group.last() {
            None => Follows::Apart,
            Some(last) => follow(page, column, &group, last, &row, rights[at - 1]),
        };
        if follows == Follows::Apart {
            let done = std::mem::take(&mut group);
            let gap_after = row.rect.y0 - previous_bottom.unwrap_or(row.rect.y0);
            finish(page, column, done, (gap_before, gap_after), drafts);
            gap_before = previous_bottom.map_or(f32::MAX, |bottom| row.rect.y0 - bottom);
        }
        row.starts_line = follows == Follows::OnNewLine;
        previous_bottom = Some(row.rect.y1);
        group.push(row);
    }
    finish(page, column, group, (gap_before, f32::MAX), drafts);
}

/// How far right each row could have reached: as far as its neighbours do, since a paragraph
/// may be narrower than its column.
fn local_rights(page: &Page<'_>, column: &Column, rows: &[Row]) -> Vec<f32> {
    (0..rows.len())
        .map(|at| {
            let mut ends = vec![rows[at].rect.x1];
            let mut reach = |from: usize, to: usize| {
                let pitch = (rows[to].centre_y() - rows[from].centre_y()).abs();
                if pitch > column.pitch + 0.8 * page.em {
                    return false;
                }
                ends.push(rows[to].rect.x1);
                true
            };
            for n in 1..=6 {
                if at < n || !reach(at - n + 1, at - n) {
                    break;
                }
            }
            for n in 1..=6 {
                if at + n >= rows.len() || !reach(at + n - 1, at + n) {
                    break;
                }
            }
            // One line that sticks out says nothing about the others.
            ends.sort_by(|a, b| b.total_cmp(a));
            let right = if ends.len() >= 4 { ends[1] } else { ends[0] };
            right.min(column.right).max(rows[at].rect.x1)
        })
        .collect()
}

/// How `row` follows `last`, the end of `group`; `right` is how far `last` could have reached.
fn follow(
    page: &Page<'_>,
    column: &Column,
    group: &[Row],
    last: &Row,
    row: &Row,
    right: f32,
) -> Follows {
    let em = page.em;
    let (last_text, text) = (last.text(page), row.text(page));
    let (last_kind, kind) = (hint(page, last), hint(page, row));
    let height = last.height.max(row.height);
    let alike = last.height < 1.28 * row.height && row.height < 1.28 * last.height;
    let pitch = row.centre_y() - last.centre_y();
    let usual = if height > 1.15 * em {
        column.pitch.max(1.5 * height)
    } else {
        column.pitch
    };
    if pitch > usual + 0.35 * em {
        // Lines of a large title stand far apart.
        let is_title = kind == last_kind
            && (kind == Hint::Heading || row.height > 1.4 * em)
            && row.height < 1.15 * last.height
            && last.height < 1.15 * row.height;
        return if is_title && pitch < 2.1 * height {
            Follows::Running
        } else {
            Follows::Apart
        };
    }
    if kind != last_kind {
        // A region may miss its heading's or caption's last line.
        let cut_off = row.zone(page).is_none()
            && alike
            && last_kind != Hint::None
            && (last_kind != Hint::Heading || row.height > 1.15 * em);
        if !cut_off {
            return Follows::Apart;
        }
    }
    if kind == Hint::Heading && last.zone(page) == row.zone(page) {
        return Follows::Running;
    }
    let long_enough = width_units(&last_text) >= 4.0 && width_units(&text) >= 4.0;
    if !alike && long_enough {
        return Follows::Apart;
    }
    if tables::has_leaders(&last_text) || tables::has_leaders(&text) {
        return Follows::OnNewLine;
    }
    let is_short = would_have_fit(last, &text, row, right, em);
    let ended = ends_sentence(&last_text);
    let in_item = group.first().is_some_and(|first| {
        let text = first.text(page);
        marker(&text).is_some() || is_reference_start(&text)
    });
    let is_small = row.height < 0.93 * em && last.height < 0.93 * em;
    if is_small
        && is_footnote_mark(&text)
        && group
            .first()
            .is_some_and(|row| is_footnote_mark(&row.text(page)))
    {
        return Follows::Apart;
    }
    if let Some(mark) = marker(&text) {
        let sure = match mark.kind {
            Kind::Bullet => true,
            Kind::Dash | Kind::Number(_) | Kind::Other => {
                is_short || ended || in_item && aligned(group, row, em)
            }
        };
        if sure {
            return Follows::Apart;
        }
    }
    if is_reference_start(&text) && (is_short || ended || in_item) {
        return Follows::Apart;
    }
    let indented = row.rect.x0 - last.rect.x0 > 0.8 * em;
    let was_at_left = last.rect.x0 - column.left < 0.6 * em;
    if indented && was_at_left && !in_item && (ended || is_short) {
        return Follows::Apart;
    }
    let dedented = last.rect.x0 - row.rect.x0 > 0.8 * em;
    if dedented
        && (group.len() >= 2 || is_short)
        && (ended || is_short)
        && !is_centred(group, row, em)
    {
        return Follows::Apart;
    }
    if kind == Hint::None && are_centred(column, last, row, em) {
        return Follows::OnNewLine;
    }
    if !is_short {
        return Follows::Running;
    }
    let filled = group.len() >= 2
        && group[..group.len() - 1]
            .iter()
            .all(|row| row.rect.x1 > right - 3.0 * em);
    let elsewhere = last.zone(page) != row.zone(page);
    if (filled && ended) || elsewhere || (ended && starts_new(&text)) {
        Follows::Apart
    } else {
        Follows::OnNewLine
    }
}

fn starts_new(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_uppercase())
}

/// Whether rows share a middle: set centred, so that their left edges say nothing.
fn is_centred(group: &[Row], row: &Row, em: f32) -> bool {
    group
        .iter()
        .all(|other| (other.rect.x0 + other.rect.x1 - row.rect.x0 - row.rect.x1).abs() < 1.2 * em)
}

/// Whether two rows are set centred and of different width: each was ended on purpose.
fn are_centred(column: &Column, last: &Row, row: &Row, em: f32) -> bool {
    let (left, right) = (row.rect.x0 - last.rect.x0, last.rect.x1 - row.rect.x1);
    let shift = left.abs().min(right.abs());
    let is_symmetric = left * right > 0.0 && (left - right).abs() < 0.7 * em;
    let is_inside = last.rect.x0.min(row.rect.x0) > column.left + 1.2 * em;
    column.is_centred || (is_symmetric && shift > if is_inside { 0.4 * em } else { em })
}

/// Whether a row starts where the group's first row does.
fn aligned(group: &[Row], row: &Row, em: f32) -> bool {
    group
        .first()
        .is_some_and(|first| (first.rect.x0 - row.rect.x0).abs() < 0.8 * em)
}

/// `[12]` at the start of a line.
fn is_reference_start(text: &str) -> bool {
    text.strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .is_some_and(|(name, _)| {
            !name.is_empty()
                && name.len() <= 12
                && name.chars().all(|c| c.is_alphanumeric() || c == '+')
        })
}

/// Whether the next row's first word had room at the end of the row before: then the row was
/// ended on purpose.
fn would_have_fit(last: &Row, text: &str, row: &Row, right: f32, em: f32) -> bool {
    let units = width_units(text).max(1.0);
    let word: f32 = match text.chars().next() {
        Some(c) if is_cjk(c) => 4.0,
        _ => width_units(text.split(' ').next().unwrap_or("")) + 1.0,
    };
    let room = right - last.rect.x1;
    room > word * row.rect.width() / units + 1.2 * em
}

/// What a row's region says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    None,
    Heading,
    Caption,
}

fn hint(page: &Page<'_>, row: &Row) -> Hint {
    match row.zone(page).map(|zone| page.zones[zone].label) {
        Some(Label::Title | Label::SectionHeader) => Hint::Heading,
        Some(Label::Caption) => Hint::Caption,
        _ => Hint::None,
    }
}

/// A finished group of rows becomes a block.
fn finish(
    page: &Page<'_>,
    column: &Column,
    rows: Vec<Row>,
    gaps: (f32, f32),
    drafts: &mut Vec<Draft>,
) {
    let Some(first) = rows.first() else { return };
    let zone = first.zone(page).map(|zone| &page.zones[zone]);
    let label = label_of(page, column, &rows, gaps);
    let raw = match zone {
        Some(zone) => zone.label_raw.clone(),
        None => label.as_str().to_owned(),
    };
    drafts.push(Draft::new(label, raw, rows, Body::Running));
}

fn label_of(page: &Page<'_>, column: &Column, rows: &[Row], gaps: (f32, f32)) -> Label {
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
fn is_footnote_mark(text: &str) -> bool {
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
    if height > 1.22 * page.em && rows.len() <= 3 && !ends_open {
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
