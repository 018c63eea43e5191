//! What stands on the two sides of a gutter: columns, or the cells of rows.

use quire_core::{Label, Rect};

use crate::chars::width_units;
use crate::draft::Page;
use crate::geometry::median;
use crate::order::{Atom, centre_x};
use crate::rows::{Row, rows};
use crate::tables::is_banded;

/// Whether two sides of a gutter are columns, each to be read to its end, and not cells.
pub(crate) fn are_columns(
    page: &Page<'_>,
    atoms: &[Atom],
    left: &[usize],
    right: &[usize],
    is_wide: bool,
) -> bool {
    let (left, right) = (side_of(page, atoms, left), side_of(page, atoms, right));
    if !is_wide {
        return left.is_prose() && right.is_prose();
    }
    if left.rows.is_empty() || right.rows.is_empty() {
        // Solid things beside text, or beside each other.
        return left.n_solid + left.rows.len() > 0 && right.n_solid + right.rows.len() > 0;
    }
    if left.is_prose() && right.is_prose() || left.is_list_like(&right) {
        return true;
    }
    let high = left.bottom.max(right.bottom) < 0.5 * page.frame.extent().1;
    if high && left.is_stacks && right.is_stacks {
        return true;
    }
    let (few, many) = if left.rows.len() <= right.rows.len() {
        (&left, &right)
    } else {
        (&right, &left)
    };
    if few.rows.len() + few.n_solid < 2 || many.rows.len() < 2 {
        return false;
    }
    if left.length.min(right.length) < 4.0 {
        return false;
    }
    if left.in_own_text && right.in_own_text {
        return true;
    }
    if aligned(few, many) >= 0.7 {
        return false;
    }
    let items = |side: &Side| -> Vec<usize> { side.items().collect() };
    let all = [items(few), items(many)].concat();
    if !is_banded(page, &all) {
        return true;
    }
    // Cells of several lines; unless the sides are tables of their own, far apart.
    let gap = right.x0 - left.x1;
    let nested = is_banded(page, &items(few)) || is_banded(page, &items(many));
    gap > 2.0 * page.em && nested
}

fn side_of(page: &Page<'_>, atoms: &[Atom], side: &[usize]) -> Side {
    let mut items = Vec::new();
    let mut n_solid = 0;
    for &atom in side {
        let zone = atoms[atom].zone.map(|zone| page.zones[zone].label);
        match zone {
            Some(Label::Table | Label::Picture) => n_solid += 1,
            _ => items.extend(&atoms[atom].items),
        }
    }
    Side::new(page, &items, n_solid)
}

/// What stands on one side of a gutter.
#[derive(Debug)]
struct Side {
    rows: Vec<Row>,
    n_solid: usize,
    /// Width that its rows stay within, pixels.
    width: f32,
    x0: f32,
    x1: f32,
    /// Median width of a row's text, gaps left out, as a share of that.
    fill: f32,
    /// Median length of a row, characters.
    length: f32,
    bottom: f32,
    /// Short centred lines over each other: names and addresses under a title.
    is_stacks: bool,
    /// Mostly letters.
    is_wordy: bool,
    /// Most lines lie in text regions of several rows: the detector saw a column here.
    in_own_text: bool,
}

impl Side {
    fn new(page: &Page<'_>, items: &[usize], n_solid: usize) -> Self {
        let rows = rows(page, items);
        let x0 = rows.iter().map(|row| row.rect.x0).fold(f32::MAX, f32::min);
        let x1 = rows.iter().map(|row| row.rect.x1).fold(f32::MIN, f32::max);
        let width = (x1 - x0).max(1.0);
        let inked = |row: &Row| {
            row.items
                .iter()
                .map(|&item| page.items[item].rect.width())
                .sum()
        };
        let fill = median(rows.iter().map(inked)).unwrap_or(0.0) / width;
        let (mut letters, mut chars) = (0usize, 0usize);
        for c in items.iter().flat_map(|&item| page.items[item].text.chars()) {
            letters += usize::from(c.is_alphabetic());
            chars += usize::from(!c.is_whitespace());
        }
        let length = median(rows.iter().map(|row| width_units(&row.text(page)))).unwrap_or(0.0);
        let margin = page.em;
        let n_own = items
            .iter()
            .filter(|&&item| {
                page.items[item].zone.is_some_and(|zone| {
                    let rect = &page.zones[zone].rect;
                    rect.x0 > x0 - margin && rect.x1 < x1 + margin && rect.height() > 2.2 * page.em
                })
            })
            .count();
        Self {
            rows,
            n_solid,
            width,
            x0,
            x1,
            fill,
            length,
            bottom: items
                .iter()
                .map(|&item| page.items[item].rect.y1)
                .fold(0.0, f32::max),
            is_stacks: letters * 10 > chars * 8 && are_centred_stacks(page, items),
            is_wordy: letters * 10 > chars * 7,
            in_own_text: n_own * 10 > items.len() * 6,
        }
    }

    fn items(&self) -> impl Iterator<Item = usize> + '_ {
        self.rows.iter().flat_map(|row| row.items.iter().copied())
    }

    /// Rows that fill their column: running text.
    fn is_prose(&self) -> bool {
        self.rows.len() >= 4 && self.fill > 0.72 && self.length > 14.0 && self.is_wordy
    }

    /// Many rows of like length and width on both sides: an index, a list set in columns.
    fn is_list_like(&self, other: &Self) -> bool {
        let alike = |a: f32, b: f32| a < 1.35 * b && b < 1.35 * a;
        self.rows.len().min(other.rows.len()) >= 10
            && alike(self.width, other.width)
            && alike(self.length, other.length)
            && self.length > 10.0
            && self.is_wordy
            && other.is_wordy
    }
}

/// Whether items stand in stacks of two to seven centred lines, one stack or several side by
/// side.
fn are_centred_stacks(page: &Page<'_>, items: &[usize]) -> bool {
    let mut sorted: Vec<&Rect> = items.iter().map(|&item| &page.items[item].rect).collect();
    sorted.sort_by(|a, b| a.x0.total_cmp(&b.x0));
    let mut stacks: Vec<(f32, Vec<&Rect>)> = Vec::new();
    for rect in sorted {
        match stacks.last_mut() {
            Some((end, stack)) if rect.x0 < *end => {
                *end = end.max(rect.x1);
                stack.push(rect);
            }
            _ => stacks.push((rect.x1, vec![rect])),
        }
    }
    stacks.iter().all(|(_, stack)| {
        let spread = |of: &dyn Fn(&Rect) -> f32| {
            let values: Vec<f32> = stack.iter().map(|rect| of(rect)).collect();
            values.iter().fold(f32::MIN, |a, &b| a.max(b))
                - values.iter().fold(f32::MAX, |a, &b| a.min(b))
        };
        (2..=7).contains(&stack.len())
            && spread(&centre_x) < 0.7 * page.em
            && spread(&Rect::width) > 1.5 * page.em
    })
}

/// Share of the rows of the shorter side that have a row of the other beside them.
fn aligned(few: &Side, many: &Side) -> f32 {
    let beside = few
        .rows
        .iter()
        .filter(|row| {
            many.rows.iter().any(|other| {
                let low = row.rect.height().min(other.rect.height());
                (row.centre_y() - other.centre_y()).abs() < 0.3 * low
            })
        })
        .count();
    beside as f32 / few.rows.len().max(1) as f32
}
