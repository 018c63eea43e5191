//! Lines side by side are one typeset row: a detector cuts a row at every wide gap.

use quire_core::Rect;

use crate::draft::Page;
use crate::geometry::weighted_median;

/// A typeset row within one column.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Indexes into [`Page::items`], in reading direction.
    pub(crate) items: Vec<usize>,
    pub(crate) rect: Rect,
    /// Height of its text, pixels: of the longer pieces, not of the box around all.
    pub(crate) height: f32,
    /// Starts a line of its own in its block's text: the break before it carries meaning.
    pub(crate) starts_line: bool,
}

impl Row {
    pub(crate) fn new(page: &Page<'_>, mut items: Vec<usize>) -> Self {
        items.sort_by(|&a, &b| {
            let (a, b) = (&page.items[a].rect, &page.items[b].rect);
            (a.x0 + a.x1).total_cmp(&(b.x0 + b.x1))
        });
        let mut heights: Vec<(f32, f32)> = items
            .iter()
            .map(|&item| &page.items[item].rect)
            .map(|rect| (rect.height(), rect.width().max(1.0)))
            .collect();
        let height = weighted_median(&mut heights).unwrap_or(0.0);
        Self {
            rect: page.bounds(items.iter().copied()),
            items,
            height,
            starts_line: false,
        }
    }

    pub(crate) fn centre_y(&self) -> f32 {
        (self.rect.y0 + self.rect.y1) / 2.0
    }

    /// Its pieces' texts with one space between.
    pub(crate) fn text(&self, page: &Page<'_>) -> String {
        let pieces: Vec<&str> = self
            .items
            .iter()
            .map(|&item| page.items[item].text.as_str())
            .collect();
        pieces.join(" ")
    }

    /// The region that most of its pieces lie in.
    pub(crate) fn zone(&self, page: &Page<'_>) -> Option<usize> {
        self.items
            .iter()
            .filter_map(|&item| {
                page.items[item]
                    .zone
                    .map(|zone| (zone, page.items[item].rect.width()))
            })
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(zone, _)| zone)
    }
}

/// Clusters items into rows, top to bottom.
pub(crate) fn rows(page: &Page<'_>, items: &[usize]) -> Vec<Row> {
    let mut sorted = items.to_vec();
    let centre = |item: usize| page.items[item].rect.y0 + page.items[item].rect.y1;
    sorted.sort_by(|&a, &b| centre(a).total_cmp(&centre(b)).then(a.cmp(&b)));
    let mut open: Vec<Vec<usize>> = Vec::new();
    for item in sorted {
        // Only the last few rows can still be beside this one.
        let found = open
            .iter()
            .enumerate()
            .rev()
            .take(6)
            .filter(|(_, row)| row.iter().all(|&other| !is_stacked(page, item, other)))
            .map(|(index, row)| (index, best_overlap(page, item, row)))
            .filter(|&(_, overlap)| overlap >= 0.5)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match found {
            Some((index, _)) => open[index].push(item),
            None => open.push(vec![item]),
        }
    }
    let mut rows: Vec<Row> = open
        .into_iter()
        .map(|items| Row::new(page, items))
        .collect();
    rows.sort_by(|a, b| a.centre_y().total_cmp(&b.centre_y()));
    rows
}

/// Whether one stands over the other rather than beside it.
fn is_stacked(page: &Page<'_>, a: usize, b: usize) -> bool {
    let (a, b) = (&page.items[a].rect, &page.items[b].rect);
    let shared = a.x1.min(b.x1) - a.x0.max(b.x0);
    shared > 0.3 * a.width().min(b.width()) && shared > 0.0
}

/// The largest share of height that an item has in common with a piece of a row.
fn best_overlap(page: &Page<'_>, item: usize, row: &[usize]) -> f32 {
    let rect = &page.items[item].rect;
    row.iter()
        .map(|&other| {
            let other = &page.items[other].rect;
            let shared = rect.y1.min(other.y1) - rect.y0.max(other.y0);
            let (low, high) = (
                rect.height().min(other.height()),
                rect.height().max(other.height()),
            );
            // A raised or lowered small piece belongs to the large one it touches.
            if low <= 0.0 {
                0.0
            } else {
                shared / low * if high > 3.0 * low { 0.5 } else { 1.0 }
            }
        })
        .fold(0.0, f32::max)
}
