//! The rows of a table whose cells hold several lines each.
//!
//! Cells of one row share their top or their middle, but their lines stand on no common
//! heights: a name beside the middle of a three-line description. So the lines are cut into
//! bands of height, and the cut is chosen by which the cells of every band fit best.

use quire_core::Rect;

use crate::draft::Page;
use crate::rows::Row;

/// Most heights one table row reaches over; bounds the search.
const MAX_SLABS: usize = 14;
/// Rows that fit, at least, for a table.
const MIN_ROWS: usize = 3;

/// A table row: its items, and whether its cells fit each other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Band {
    pub(crate) items: Vec<usize>,
    pub(crate) fits: bool,
}

/// Cuts items into table rows; `None` unless nearly all of them come to stand in rows that fit.
///
/// `column_of` gives an item's column, or `None` for one that reaches over several.
pub(crate) fn cut(
    page: &Page<'_>,
    rows: &[Row],
    column_of: &dyn Fn(usize) -> Option<usize>,
) -> Option<Vec<Band>> {
    let slabs = slabs(page, rows);
    let n = slabs.len();
    if n < MIN_ROWS {
        return None;
    }
    // The best total up to each slab, and where its last band starts.
    let mut best: Vec<(f32, usize)> = vec![(0.0, 0); n + 1];
    for end in 1..=n {
        best[end] = (end.saturating_sub(MAX_SLABS)..end)
            .map(|start| {
                (
                    best[start].0 + score(page, &slabs[start..end], column_of),
                    start,
                )
            })
            .fold(
                (f32::MIN, end - 1),
                |top, next| if next.0 > top.0 { next } else { top },
            );
    }
    let mut bands = Vec::new();
    let mut end = n;
    while end > 0 {
        let start = best[end].1;
        bands.push(Band {
            items: slabs[start..end].iter().flatten().copied().collect(),
            fits: score(page, &slabs[start..end], column_of) > 0.3,
        });
        end = start;
    }
    bands.reverse();
    let total: usize = bands.iter().map(|band| band.items.len()).sum();
    let fitting: usize = bands
        .iter()
        .filter(|band| band.fits)
        .map(|band| band.items.len())
        .sum();
    let n_fitting = bands.iter().filter(|band| band.fits).count();
    (n_fitting >= MIN_ROWS && fitting * 10 >= total * 8).then_some(bands)
}

/// Items whose middles overlap in height, top to bottom.
fn slabs(page: &Page<'_>, rows: &[Row]) -> Vec<Vec<usize>> {
    let core = |item: usize| {
        let rect = &page.items[item].rect;
        let (middle, half) = ((rect.y0 + rect.y1) / 2.0, 0.28 * rect.height());
        (middle - half, middle + half)
    };
    let mut items: Vec<usize> = rows
        .iter()
        .flat_map(|row| row.items.iter().copied())
        .collect();
    items.sort_by(|&a, &b| core(a).0.total_cmp(&core(b).0));
    let mut slabs: Vec<(f32, Vec<usize>)> = Vec::new();
    for item in items {
        let (from, to) = core(item);
        match slabs.last_mut() {
            Some((end, slab)) if from < *end => {
                *end = end.max(to);
                slab.push(item);
            }
            _ => slabs.push((to, vec![item])),
        }
    }
    slabs.into_iter().map(|(_, slab)| slab).collect()
}

/// How well some slabs make one table row: over 0.3 is a fit.
fn score(page: &Page<'_>, slabs: &[Vec<usize>], column_of: &dyn Fn(usize) -> Option<usize>) -> f32 {
    let mut cells: Vec<(usize, Rect)> = Vec::new();
    let mut loose = 0.0;
    for &item in slabs.iter().flatten() {
        let rect = page.items[item].rect;
        let Some(column) = column_of(item) else {
            // What reaches over columns is a row of its own.
            return if slabs.len() == 1 { 0.0 } else { -2.0 };
        };
        match cells.iter_mut().find(|(other, _)| *other == column) {
            Some((_, cell)) => {
                if rect.y0 - cell.y1 > 0.7 * page.em {
                    loose += 0.5;
                }
                *cell = cell.union(&rect);
            }
            None => cells.push((column, rect)),
        }
    }
    if cells.len() < 2 {
        return -0.6 - loose;
    }
    let spread = |of: &dyn Fn(&Rect) -> f32| {
        let values = || cells.iter().map(|(_, cell)| of(cell));
        values().fold(f32::MIN, f32::max) - values().fold(f32::MAX, f32::min)
    };
    let misfit = spread(&|cell| cell.y0).min(spread(&|cell| (cell.y0 + cell.y1) / 2.0));
    let misfit = misfit / page.em;
    let fit = if misfit > 0.5 { -1.0 } else { 1.0 - misfit };
    fit - loose
}
