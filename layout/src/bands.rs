//! The rows of a table whose cells hold several lines each.
//!
//! Cells of one row share their top or their middle, but their lines stand on no common
//! heights: a name beside the middle of a three-line description. So the lines are cut into
//! bands of height, and the cut is chosen by which the cells of every band fit best.

use quire_core::Rect;

use crate::draft::Page;
use crate::rows::Row;
use crate::rules;

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
    let (mut bands, min_rows): (Vec<Band>, usize) = match ruled(page, rows, column_of) {
        Some(groups) => (
            groups
                .into_iter()
                .map(|items| whole(page, items, column_of))
                .collect(),
            2,
        ),
        None => (search(page, &slabs(page, rows), column_of), MIN_ROWS),
    };
    bands.retain(|band| !band.items.is_empty());
    let total: usize = bands.iter().map(|band| band.items.len()).sum();
    let fitting: usize = bands
        .iter()
        .filter(|band| band.fits)
        .map(|band| band.items.len())
        .sum();
    let n_fitting = bands.iter().filter(|band| band.fits).count();
    (n_fitting >= min_rows && fitting * 10 >= total * 8).then_some(bands)
}

/// The items between ruling lines, where the page image shows a table ruled row by row.
fn ruled(
    page: &Page<'_>,
    rows: &[Row],
    column_of: &dyn Fn(usize) -> Option<usize>,
) -> Option<Vec<Vec<usize>>> {
    let image = page.image?;
    let items: Vec<usize> = rows
        .iter()
        .flat_map(|row| row.items.iter().copied())
        .collect();
    let bounds = page.bounds(items.iter().copied());
    let lines = rules::horizontal(image, page.frame, &bounds);
    if lines.is_empty() {
        return None;
    }
    let mut groups: Vec<Vec<usize>> = vec![Vec::new(); lines.len() + 1];
    for item in items {
        let rect = &page.items[item].rect;
        let middle = (rect.y0 + rect.y1) / 2.0;
        groups[lines.iter().filter(|&&y| y < middle).count()].push(item);
    }
    let mut groups: Vec<Vec<usize>> = groups
        .into_iter()
        .flat_map(|group| at_wide_gaps(page, group))
        .collect();
    groups.retain(|group| !group.is_empty());
    is_row_by_row(&groups, column_of).then_some(groups)
}

/// Whether rules part single rows. A rule under the head and one at the end, or between
/// sections of rows, say nothing of the rows themselves.
fn is_row_by_row(groups: &[Vec<usize>], column_of: &dyn Fn(usize) -> Option<usize>) -> bool {
    let (mut n_short, mut n_long, mut n_sections) = (0, 0, 0);
    for group in groups {
        let mut columns: Vec<(usize, usize)> = Vec::new();
        for column in group.iter().filter_map(|&item| column_of(item)) {
            match columns.iter_mut().find(|(other, _)| *other == column) {
                Some((_, n)) => *n += 1,
                None => columns.push((column, 1)),
            }
        }
        let most = columns.iter().map(|&(_, n)| n).max().unwrap_or(0);
        n_short += usize::from(most <= 3);
        n_long += usize::from(most > 1);
        let is_even = columns.len() >= 2 && columns.iter().all(|&(_, n)| n == most);
        if is_even && most >= 4 {
            return false;
        }
        let is_section = is_even && columns.len() >= 3;
        n_sections += usize::from(most > 1 && is_section);
    }
    groups.len() >= 2 && n_short * 2 >= groups.len() && (n_long == 0 || n_sections * 5 < n_long * 3)
}

/// Cuts a group where more than a line's height is free: a heading between two tables.
fn at_wide_gaps(page: &Page<'_>, mut group: Vec<usize>) -> Vec<Vec<usize>> {
    group.sort_by(|&a, &b| page.items[a].rect.y0.total_cmp(&page.items[b].rect.y0));
    let mut parts: Vec<(f32, Vec<usize>)> = Vec::new();
    for item in group {
        let rect = &page.items[item].rect;
        match parts.last_mut() {
            Some((bottom, part)) if rect.y0 - *bottom < page.em => {
                *bottom = bottom.max(rect.y1);
                part.push(item);
            }
            _ => parts.push((rect.y1, vec![item])),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// A table row that rules give: it fits if it has two cells or more.
fn whole(
    page: &Page<'_>,
    mut items: Vec<usize>,
    column_of: &dyn Fn(usize) -> Option<usize>,
) -> Band {
    items.sort_by(|&a, &b| page.items[a].rect.y0.total_cmp(&page.items[b].rect.y0));
    let mut columns: Vec<usize> = items.iter().filter_map(|&item| column_of(item)).collect();
    columns.sort_unstable();
    columns.dedup();
    Band {
        items,
        fits: columns.len() >= 2,
    }
}

/// The cut whose bands fit best in total.
fn search(
    page: &Page<'_>,
    slabs: &[Vec<usize>],
    column_of: &dyn Fn(usize) -> Option<usize>,
) -> Vec<Band> {
    let n = slabs.len();
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
    bands
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
