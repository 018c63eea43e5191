//! Tables from where their lines stand: rows by height, columns by what stands over each other.
//! Where no plain grid shows, a table is its rows of text.

use std::fmt::Write as _;
use std::ops::Range;

use quire_core::Rect;

use crate::bands::{self, Band};
use crate::draft::Page;
use crate::furniture::is_page_number;
use crate::join::{join, row_text};
use crate::lists::marker;
use crate::rows::{Row, rows};

/// A table has no more columns than this.
const MAX_COLUMNS: usize = 40;

/// A table's cells.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grid {
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
    if let Some(bands) = bands(page, rows, &columns) {
        let cells = bands
            .iter()
            .map(|band| cells_of(page, &band.items, &columns));
        return Grid {
            rows: cells.collect(),
        };
    }
    if !is_plain(page, rows, &columns) {
        let rows = rows.iter().map(|row| {
            vec![Cell {
                text: row_text(page, row),
                span: 1,
            }]
        });
        return Grid {
            rows: rows.collect(),
        };
    }
    Grid {
        rows: rows
            .iter()
            .map(|row| cells_of(page, &row.items, &columns))
            .collect(),
    }
}

/// Table rows whose cells may hold several lines; `None` where they do not fit.
fn bands(page: &Page<'_>, rows: &[Row], columns: &[(f32, f32)]) -> Option<Vec<Band>> {
    if columns.len() < 2 || columns.len() > MAX_COLUMNS {
        return None;
    }
    bands::cut(page, rows, &|item| {
        let rect = &page.items[item].rect;
        match overlapped(columns, (rect.x0, rect.x1)).as_slice() {
            [] => Some(nearest_column(columns, (rect.x0 + rect.x1) / 2.0)),
            [only] => Some(*only),
            _ => None,
        }
    })
}

/// Whether items make a table of cells with several lines: not columns of text.
pub(crate) fn is_banded(page: &Page<'_>, items: &[usize]) -> bool {
    let rows = rows(page, items);
    bands(page, &rows, &columns(page, &rows)).is_some()
}

/// Whether rows that a region calls a table are one: a grid, or rows of figures whose cells
/// were read as one line. Listings, contents and boxed text are often called tables.
pub(crate) fn is_tabular(page: &Page<'_>, rows: &[Row]) -> bool {
    let leaders = rows
        .iter()
        .filter(|row| has_leaders(&row.text(page)))
        .count();
    if rows.is_empty() || leaders * 4 > rows.len() {
        return false;
    }
    let columns = columns(page, rows);
    if is_plain(page, rows, &columns) || bands(page, rows, &columns).is_some() {
        return true;
    }
    let is_figure = |word: &str| {
        word.chars().any(|c| c.is_ascii_digit())
            && word
                .chars()
                .all(|c| c.is_ascii_digit() || ".,%£$€¥+-±/()".contains(c))
    };
    let of_figures = rows
        .iter()
        .filter(|row| {
            row.text(page)
                .split(' ')
                .filter(|word| is_figure(word))
                .count()
                >= 2
        })
        .count();
    of_figures * 2 >= rows.len()
}

/// Dots that lead from a heading to its page number.
pub(crate) fn has_leaders(text: &str) -> bool {
    text.contains(". . . .")
        || text.contains(".....")
        || text.contains("·····")
        || text.contains("……")
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
    if columns.len() < 2 || columns.len() > MAX_COLUMNS || rows.len() < 2 {
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

/// A table row's pieces in their columns, with empty cells between. A cell's lines are joined.
fn cells_of(page: &Page<'_>, items: &[usize], columns: &[(f32, f32)]) -> Vec<Cell> {
    // Which columns each piece stands in; pieces of one cell stay together, top to bottom.
    let mut placed: Vec<(usize, usize, Vec<usize>)> = Vec::new();
    let mut sorted = items.to_vec();
    sorted.sort_by(|&a, &b| page.items[a].rect.x0.total_cmp(&page.items[b].rect.x0));
    for item in sorted {
        let rect = &page.items[item].rect;
        let over = overlapped(columns, (rect.x0, rect.x1));
        let nearest = nearest_column(columns, (rect.x0 + rect.x1) / 2.0);
        let first = over.first().copied().unwrap_or(nearest);
        let last = over.last().copied().unwrap_or(nearest);
        match placed
            .iter_mut()
            .find(|(from, to, _)| first <= *to && last >= *from)
        {
            Some((from, to, pieces)) => {
                (*from, *to) = ((*from).min(first), (*to).max(last));
                pieces.push(item);
            }
            None => placed.push((first, last, vec![item])),
        }
    }
    placed.sort_by_key(|&(from, to, _)| (from, to));
    let mut cells: Vec<Cell> = Vec::new();
    let mut used = 0;
    for (from, to, pieces) in placed {
        let text = join(page, &rows(page, &pieces));
        // A piece added to a cell may have made it reach over the one before.
        if from < used {
            if let Some(cell) = cells.last_mut() {
                cell.text = format!("{} {text}", cell.text);
                cell.span += (to + 1).saturating_sub(used);
            }
            used = used.max(to + 1);
            continue;
        }
        cells.extend((used..from).map(|_| Cell {
            text: String::new(),
            span: 1,
        }));
        cells.push(Cell {
            text,
            span: to + 1 - from,
        });
        used = to + 1;
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

/// Runs of rows that are a table although no region says so: three rows or more with cells at
/// a shared gap.
pub(crate) fn find(page: &Page<'_>, rows: &[Row]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while at < rows.len() {
        let floor = found.last().map_or(0, |range| range.end);
        match table_from(page, rows, floor, at) {
            Some(range) => {
                at = range.end;
                found.push(range);
            }
            None => {
                let end = run_from(page, rows, at, true);
                let skips = end > at && is_contents(page, &rows[at..end]);
                at = if skips { end } else { at + 1 };
            }
        }
    }
    found
}

/// The table around a row with cells side by side, not starting before `floor`.
fn table_from(page: &Page<'_>, rows: &[Row], floor: usize, at: usize) -> Option<Range<usize>> {
    let straight = at..run_from(page, rows, at, true);
    let end = run_from(page, rows, at, false);
    if end > straight.end || (end > at && is_lone_above(rows, floor, at)) {
        // A first cell of several lines starts above the cell beside it.
        let start = (floor.max(at.saturating_sub(4))..at).find(|&start| {
            rows[start..at].iter().all(|row| row.items.len() == 1)
                && rows[start..=at]
                    .windows(2)
                    .all(|pair| pair[1].rect.y0 - pair[0].rect.y1 < 0.7 * page.em)
        });
        let found = [start, Some(at)].into_iter().flatten().find_map(|start| {
            let run = &rows[start..end];
            let bands = bands(page, run, &columns(page, run))?;
            let range = trimmed(rows, start..end, &bands)?;
            is_table(page, &rows[range.clone()]).then_some(range)
        });
        if found.is_some() {
            return found;
        }
    }
    is_table(page, &rows[straight.clone()]).then_some(straight)
}

fn is_table(page: &Page<'_>, run: &[Row]) -> bool {
    run.len() >= 3 && !is_list(page, run) && !is_contents(page, run)
}

fn is_lone_above(rows: &[Row], floor: usize, at: usize) -> bool {
    at > floor && rows[at - 1].items.len() == 1
}

/// The range without the rows at its ends that fit no table row.
fn trimmed(rows: &[Row], range: Range<usize>, bands: &[Band]) -> Option<Range<usize>> {
    let in_fitting = |row: &Row| {
        bands
            .iter()
            .any(|band| band.fits && row.items.iter().any(|item| band.items.contains(item)))
    };
    let first = range.clone().find(|&at| in_fitting(&rows[at]))?;
    let last = range.rev().find(|&at| in_fitting(&rows[at]))?;
    Some(first..last + 1)
}

/// Whether the first cells are only the marks of list items.
fn is_list(page: &Page<'_>, rows: &[Row]) -> bool {
    rows.iter().all(|row| {
        row.items.len() == 2
            && row.items.first().is_some_and(|&item| {
                let text = &page.items[item].text;
                text.chars().count() <= 5 && marker(&format!("{text} x")).is_some()
            })
    })
}

/// Whether the rows are a table of contents: dots that lead to page numbers, or a last cell
/// that counts pages upwards.
fn is_contents(page: &Page<'_>, rows: &[Row]) -> bool {
    if rows
        .iter()
        .filter(|row| has_leaders(&row.text(page)))
        .count()
        * 4
        > rows.len()
    {
        return true;
    }
    let numbered = rows.iter().filter(|row| is_contents_row(page, row)).count();
    let numbers: Vec<u32> = rows
        .iter()
        .filter_map(|row| {
            page.items[*row.items.last()?]
                .text
                .trim_matches(['.', ' '])
                .parse()
                .ok()
        })
        .collect();
    let rising = numbers.windows(2).filter(|pair| pair[0] <= pair[1]).count();
    rows.len() >= 5
        && numbered * 10 >= rows.len() * 8
        && rows.iter().all(|row| row.items.len() <= 3)
        && numbers.len() >= 4
        && rising * 10 >= (numbers.len() - 1) * 8
}

/// Whether a row ends in a page number of its own.
pub(crate) fn is_contents_row(page: &Page<'_>, row: &Row) -> bool {
    row.items.len() >= 2
        && row.items.last().is_some_and(|&item| {
            is_page_number(page.items[item].text.trim_matches(['.', ' ', '·']))
        })
}

/// End of the stretch of rows from `at` on that leave a common gap free. A straight stretch has
/// pieces on both sides in every row.
fn run_from(page: &Page<'_>, rows: &[Row], at: usize, is_straight: bool) -> usize {
    let mut gaps = inner_gaps(page, &rows[at], 0.9 * page.em);
    let mut end = at + 1;
    while end < rows.len() && !gaps.is_empty() {
        let apart = rows[end].rect.y0 - rows[end - 1].rect.y1;
        let here = if is_straight || rows[end].items.len() > 1 {
            inner_gaps(page, &rows[end], 0.9 * page.em)
        } else {
            // A lone piece in line with a column leaves both of its sides free.
            let rect = &rows[end].rect;
            if !is_in_line(page, &rows[at..end], rect) {
                break;
            }
            vec![(f32::MIN, rect.x0), (rect.x1, f32::MAX)]
        };
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

/// Whether a box starts, ends or is centred where a piece of some rows does.
fn is_in_line(page: &Page<'_>, rows: &[Row], rect: &Rect) -> bool {
    let near = |a: f32, b: f32| (a - b).abs() < 0.5 * page.em;
    rows.iter()
        .flat_map(|row| &row.items)
        .map(|&item| &page.items[item].rect)
        .any(|other| {
            near(rect.x0, other.x0)
                || near(rect.x1, other.x1)
                || near((rect.x0 + rect.x1) / 2.0, (other.x0 + other.x1) / 2.0)
        })
}

/// What a row leaves free between its pieces.
fn inner_gaps(page: &Page<'_>, row: &Row, min: f32) -> Vec<(f32, f32)> {
    row.items
        .windows(2)
        .map(|pair| (page.items[pair[0]].rect.x1, page.items[pair[1]].rect.x0))
        .filter(|gap| gap.1 - gap.0 >= min)
        .collect()
}
