//! Rows of one column into blocks: paragraphs, headings, list items, code, tables, pictures.

use quire_core::Label;

use crate::draft::{Body, Draft, Page};
use crate::follow::{Follows, Pair, local_rights};
use crate::geometry::median;
use crate::label::label_of;
use crate::order::{Atom, Flow};
use crate::rows::{Row, rows};
use crate::{code, tables};

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
pub(crate) struct Column {
    /// Where most rows start.
    pub(crate) left: f32,
    pub(crate) right: f32,
    /// Usual distance of two rows' middles.
    pub(crate) pitch: f32,
    /// Its rows are set centred: every one is a line of its own.
    pub(crate) is_centred: bool,
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

fn paragraphs(page: &Page<'_>, column: &Column, rows: Vec<Row>, drafts: &mut Vec<Draft>) {
    let rights = local_rights(page, column, &rows);
    let mut group: Vec<Row> = Vec::new();
    let mut gap_before = f32::MAX;
    let mut previous_bottom: Option<f32> = None;
    for (at, mut row) in rows.into_iter().enumerate() {
        let right = at.checked_sub(1).map_or(0.0, |above| rights[above]);
        let follows = Pair::new(page, column, &group, &row, right)
            .map_or(Follows::Apart, |pair| pair.follows(right));
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
