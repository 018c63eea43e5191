//! Tables from where their lines stand: rows by height, columns by what stands over each other.
//! Where no plain grid shows, a table is its rows of text.

use std::fmt::Write as _;
use std::ops::Range;

use crate::draft::Page;
use crate::geometry::median;
use crate::join::row_text;
use crate::rows::Row;

/// A table's cells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grid {
    pub(crate) n_columns: usize,
    pub(crate) rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    /// Columns it covers, at least 1.
    pub(crate) span: usize,
}

impl Grid {
    /// Cells by tab, rows by newline; a spanning cell is followed by empty ones.
    pub(crate) fn plain(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let mut out = String::new();
            for (at, cell) in row.iter().enumerate() {
                if at > 0 {
                    out.push('\t');
                }
                out.push_str(&cell.text);
                out.extend(std::iter::repeat_n('\t', cell.span - 1));
            }
            out.truncate(out.trim_end_matches('\t').len());
            out
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// The table as HTML without empty lines, so that Markdown takes it as one block.
    pub(crate) fn html(&self) -> String {
        let mut out = String::from("<table>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for cell in row {
                if cell.span > 1 {
                    // Writing to a string cannot fail.
                    write!(out, "<td colspan=\"{}\">", cell.span).unwrap_or_default();
                } else {
                    out.push_str("<td>");
                }
                for c in cell.text.chars() {
                    match c {
                        '&' => out.push_str("&amp;"),
                        '<' => out.push_str("&lt;"),
                        '>' => out.push_str("&gt;"),
                        c => out.push(c),
                    }
                }
                out.push_str("</td>");
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table>");
        out
    }
}

/// The grid of some rows; one column of text where none shows.
pub(crate) fn grid(page: &Page<'_>, rows: &[Row]) -> Grid {
    let columns = columns(page, rows);
    if !is_plain(page, rows, &columns) {
        return text_rows(page, rows);
    }
    let n_columns = columns.len();
    let mut cells: Vec<Vec<Cell>> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let next = cells_of(page, row, &columns);
        match cells.last_mut() {
            Some(last) if at > 0 && continues(rows, at, &next, last) => append(page, last, next),
            _ => cells.push(next),
        }
    }
    Grid {
        n_columns,
        rows: cells,
    }
}

fn text_rows(page: &Page<'_>, rows: &[Row]) -> Grid {
    let rows = rows.iter().map(|row| {
        vec![Cell {
            text: row_text(page, row),
            span: 1,
        }]
    });
    Grid {
        n_columns: 1,
        rows: rows.collect(),
    }
}

/// Left and right edges of columns: pieces that stand over each other are one column, wider
/// pieces that reach over several do not join them.
fn columns(page: &Page<'_>, rows: &[Row]) -> Vec<(f32, f32)> {
    let mut spans: Vec<(f32, f32)> = rows
        .iter()
        .flat_map(|row| &row.items)
        .map(|&item| (page.items[item].rect.x0, page.items[item].rect.x1))
        .collect();
    spans.sort_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
    let mut columns: Vec<(f32, f32)> = Vec::new();
    for span in &spans {
        let over = overlapped(&columns, *span);
        match over.as_slice() {
            [] => columns.push(*span),
            [only] => {
                let column = &mut columns[*only];
                *column = (column.0.min(span.0), column.1.max(span.1));
            }
            _ => {}
        }
    }
    columns.sort_by(|a, b| a.0.total_cmp(&b.0));
    merge_unshared(page, rows, &mut columns);
    columns
}

/// Columns that never both have a piece on one row, or that more pieces bridge than tell apart,
/// are one column set ragged.
fn merge_unshared(page: &Page<'_>, rows: &[Row], columns: &mut Vec<(f32, f32)>) {
    let mut at = 0;
    while at + 1 < columns.len() {
        let (mut apart, mut bridged) = (0, 0);
        for row in rows {
            let mut has = (false, false);
            for &item in &row.items {
                let rect = &page.items[item].rect;
                let over = overlapped(columns, (rect.x0, rect.x1));
                match (over.contains(&at), over.contains(&(at + 1))) {
                    (true, true) => bridged += 1,
                    (true, false) => has.0 = true,
                    (false, true) => has.1 = true,
                    (false, false) => {}
                }
            }
            apart += usize::from(has.0 && has.1);
        }
        if apart == 0 || bridged > apart {
            columns[at] = (
                columns[at].0.min(columns[at + 1].0),
                columns[at].1.max(columns[at + 1].1),
            );
            columns.remove(at + 1);
        } else {
            at += 1;
        }
    }
}

/// Columns that a stretch of x shares with, by a fifth of the smaller of the two.
fn overlapped(columns: &[(f32, f32)], span: (f32, f32)) -> Vec<usize> {
    let shares = |column: &(f32, f32)| {
        let shared = column.1.min(span.1) - column.0.max(span.0);
        let smaller = (column.1 - column.0).min(span.1 - span.0);
        shared > 0.2 * smaller && shared > 0.0
    };
    let mut over: Vec<usize> = (0..columns.len())
        .filter(|&at| shares(&columns[at]))
        .collect();
    over.sort_unstable();
    over
}

/// Whether the rows show a grid: two columns or more, most rows with two cells or more, and few
/// pieces that reach over several columns.
fn is_plain(page: &Page<'_>, rows: &[Row], columns: &[(f32, f32)]) -> bool {
    if columns.len() < 2 || columns.len() > 40 || rows.len() < 2 {
        return false;
    }
    let full = rows.iter().filter(|row| row.items.len() >= 2).count();
    let pieces: usize = rows.iter().map(|row| row.items.len()).sum();
    let bridging = rows
        .iter()
        .flat_map(|row| &row.items)
        .filter(|&&item| {
            let rect = &page.items[item].rect;
            overlapped(columns, (rect.x0, rect.x1)).len() > 1
        })
        .count();
    full * 2 >= rows.len() && full >= 2 && bridging * 4 <= pieces
}

/// A row's pieces in their columns, with empty cells between.
fn cells_of(page: &Page<'_>, row: &Row, columns: &[(f32, f32)]) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    let mut used = 0;
    for &item in &row.items {
        let rect = &page.items[item].rect;
        let over = overlapped(columns, (rect.x0, rect.x1));
        let (first, last) = match (over.first(), over.last()) {
            (Some(&first), Some(&last)) => (first, last),
            _ => {
                let nearest = nearest_column(columns, (rect.x0 + rect.x1) / 2.0);
                (nearest, nearest)
            }
        };
        if used > first {
            // The column is taken by the piece before: one cell holds both.
            let extra = (last + 1).saturating_sub(used);
            if let Some(cell) = cells.last_mut() {
                cell.text.push(' ');
                cell.text.push_str(&page.items[item].text);
                cell.span += extra;
            }
            used += extra;
            continue;
        }
        cells.extend((used..first).map(|_| Cell {
            text: String::new(),
            span: 1,
        }));
        cells.push(Cell {
            text: page.items[item].text.clone(),
            span: last + 1 - first,
        });
        used = last + 1;
    }
    cells.extend((used..columns.len()).map(|_| Cell {
        text: String::new(),
        span: 1,
    }));
    cells
}

fn nearest_column(columns: &[(f32, f32)], x: f32) -> usize {
    let distance = |column: &(f32, f32)| ((column.0 + column.1) / 2.0 - x).abs();
    (0..columns.len())
        .min_by(|&a, &b| distance(&columns[a]).total_cmp(&distance(&columns[b])))
        .unwrap_or(0)
}

/// Whether a row without a first cell is the second line of the row above: set closer to it
/// than rows of this table are to each other.
fn continues(rows: &[Row], at: usize, next: &[Cell], last: &[Cell]) -> bool {
    let is_plain = |cells: &[Cell]| cells.iter().all(|cell| cell.span == 1);
    if next.first().is_none_or(|cell| !cell.text.is_empty()) || !is_plain(next) || !is_plain(last) {
        return false;
    }
    let fits = next
        .iter()
        .zip(last)
        .all(|(new, old)| new.text.is_empty() || !old.text.is_empty());
    let pitch = rows[at].centre_y() - rows[at - 1].centre_y();
    let usual = median(
        rows.windows(2)
            .map(|pair| pair[1].centre_y() - pair[0].centre_y()),
    );
    fits && usual.is_some_and(|usual| pitch < 0.85 * usual || pitch < 1.25 * rows[at].height)
}

fn append(_page: &Page<'_>, last: &mut [Cell], next: Vec<Cell>) {
    for (cell, more) in last.iter_mut().zip(next) {
        if more.text.is_empty() {
            continue;
        }
        let tight = |c: Option<char>| c.is_some_and(crate::chars::is_spaceless);
        if !(tight(cell.text.chars().next_back()) && tight(more.text.chars().next())) {
            cell.text.push(' ');
        }
        cell.text.push_str(&more.text);
    }
}

/// Runs of rows that are a table although no region says so: three rows or more with cells at
/// shared gaps (two are enough for three columns).
pub(crate) fn find(page: &Page<'_>, rows: &[Row]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < rows.len() {
        let end = run_from(page, rows, at);
        let n = end - at;
        if n >= 3 || (n == 2 && rows[at..end].iter().all(|row| row.items.len() >= 3)) {
            found.push(at..end);
            at = end;
        } else {
            at += 1;
        }
    }
    found
}

/// End of the stretch of rows from `at` on that keep a common gap.
fn run_from(page: &Page<'_>, rows: &[Row], at: usize) -> usize {
    let min = 0.8 * page.em;
    let inner = |row: &Row| -> Vec<(f32, f32)> {
        row.items
            .windows(2)
            .map(|pair| (page.items[pair[0]].rect.x1, page.items[pair[1]].rect.x0))
            .filter(|gap| gap.1 - gap.0 >= min)
            .collect()
    };
    let mut gaps = inner(&rows[at]);
    let mut end = at + 1;
    while end < rows.len() && !gaps.is_empty() {
        let apart = rows[end].rect.y0 - rows[end - 1].rect.y1;
        let here = inner(&rows[end]);
        let shared: Vec<(f32, f32)> = gaps
            .iter()
            .flat_map(|a| here.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))))
            .filter(|gap| gap.1 - gap.0 >= 0.5 * page.em)
            .collect();
        if apart > 2.2 * page.em || shared.is_empty() {
            break;
        }
        gaps = shared;
        end += 1;
    }
    if gaps.is_empty() { at } else { end }
}
