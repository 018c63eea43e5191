//! Page headers, footers and page numbers: set aside before the page is cut into columns.
//!
//! Body text must never be taken for furniture, so a row has to earn it: it is the outermost at
//! the top or bottom edge, stands apart from what follows, is no larger than body text, and
//! either the detector says so or it is (or holds) a page number.

use quire_core::{Label, Rect};

use crate::draft::{Body, Draft, Page};
use crate::rows::{Row, rows};

/// Outer part of the page's height in which furniture stands.
const EDGE: f32 = 0.14;
/// Rows of furniture at one edge at most.
const MAX_ROWS: usize = 4;

/// What was set aside.
#[derive(Debug)]
pub(crate) struct Furniture {
    taken: Vec<bool>,
    pub(crate) head: Vec<Draft>,
    pub(crate) foot: Vec<Draft>,
}

impl Furniture {
    /// Whether the item is furniture.
    pub(crate) fn has(&self, item: usize) -> bool {
        self.taken.get(item).copied().unwrap_or(false)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Top,
    Bottom,
}

/// Takes the furniture out of the page.
pub(crate) fn take(page: &mut Page<'_>) -> Furniture {
    let items: Vec<usize> = (0..page.items.len())
        .filter(|&item| !page.items[item].is_sideways)
        .collect();
    let rows = rows(page, &items);
    let (top, bottom) = (
        find(page, &rows, Edge::Top),
        find(page, &rows, Edge::Bottom),
    );
    let mut furniture = Furniture {
        taken: vec![false; page.items.len()],
        head: Vec::new(),
        foot: Vec::new(),
    };
    // A page of furniture only is a page of text.
    if top + bottom >= rows.len() {
        return furniture;
    }
    for row in &rows[..top] {
        furniture.head.extend(drafts(page, row, Label::PageHeader));
    }
    for row in &rows[rows.len() - bottom..] {
        furniture.foot.extend(drafts(page, row, Label::PageFooter));
    }
    for draft in furniture.head.iter().chain(&furniture.foot) {
        for item in draft.items() {
            furniture.taken[item] = true;
        }
    }
    furniture
}

/// How many rows from the edge are furniture.
fn find(page: &Page<'_>, rows: &[Row], edge: Edge) -> usize {
    let nth = |n: usize| match edge {
        Edge::Top => rows.get(n),
        Edge::Bottom => rows
            .len()
            .checked_sub(n + 1)
            .and_then(|index| rows.get(index)),
    };
    let mut found = 0;
    for n in 0..MAX_ROWS.min(rows.len().saturating_sub(1)) {
        let (Some(row), Some(next)) = (nth(n), nth(n + 1)) else {
            break;
        };
        if !is_at_edge(page, &row.rect, edge) || !is_candidate(page, row, edge) {
            break;
        }
        let gap = match edge {
            Edge::Top => next.rect.y0 - row.rect.y1,
            Edge::Bottom => row.rect.y0 - next.rect.y1,
        };
        // Rows of one header may stand close together; the last of them stands apart.
        if gap > 0.6 * page.em {
            found = n + 1;
        }
    }
    found
}

fn is_at_edge(page: &Page<'_>, rect: &Rect, edge: Edge) -> bool {
    let height = page.frame.extent().1;
    match edge {
        Edge::Top => rect.y1 < EDGE * height,
        Edge::Bottom => rect.y0 > (1.0 - EDGE) * height,
    }
}

fn is_candidate(page: &Page<'_>, row: &Row, edge: Edge) -> bool {
    let pieces = row.items.iter().map(|&item| page.items[item].text.as_str());
    let pieces: Vec<&str> = pieces.collect();
    if row.height > 1.3 * page.em {
        return false;
    }
    let labelled = row.items.iter().all(|&item| {
        page.items[item]
            .zone
            .is_some_and(|zone| match page.zones[zone].label {
                Label::PageHeader => edge == Edge::Top,
                Label::PageFooter => edge == Edge::Bottom,
                Label::PageNumber => true,
                _ => false,
            })
    });
    let any_labelled = row.items.iter().any(|&item| {
        page.items[item]
            .zone
            .is_some_and(|zone| page.zones[zone].label.is_furniture())
    });
    let holds_number = match pieces.as_slice() {
        [only] => is_page_number(only),
        // A number at one end of a row, far from the rest: "12    Chapter one".
        [first, .., last] => is_page_number(first) || is_page_number(last),
        [] => false,
    };
    let sure = row.items.iter().any(|&item| {
        page.items[item].zone.is_some_and(|zone| {
            page.zones[zone].label.is_furniture() && page.zones[zone].confidence >= 0.7
        })
    });
    // A title is often taken for a header: what is larger than the text, or partly inside a
    // title's region, stays in the text.
    let may_be_title = row.height > 1.12 * page.em || touches_title(page, row);
    if holds_number {
        return true;
    }
    !may_be_title && sure && (labelled || (any_labelled && pieces.len() > 1))
}

fn touches_title(page: &Page<'_>, row: &Row) -> bool {
    page.zones.iter().any(|zone| {
        matches!(zone.label, Label::Title | Label::SectionHeader)
            && zone.rect.overlap(&row.rect) > 0.5 * row.rect.area()
    })
}

/// A row of furniture as blocks: the page number apart from what stands beside it.
fn drafts(page: &Page<'_>, row: &Row, label: Label) -> Vec<Draft> {
    let n = row.items.len();
    let is_number = |item: usize| is_page_number(&page.items[item].text);
    let mut groups: Vec<(bool, Vec<usize>)> = Vec::new();
    for (at, &item) in row.items.iter().enumerate() {
        let number = (at == 0 || at + 1 == n) && is_number(item);
        match groups.last_mut() {
            Some((false, group)) if !number => group.push(item),
            _ => groups.push((number, vec![item])),
        }
    }
    groups
        .into_iter()
        .map(|(number, items)| {
            let label = if number { Label::PageNumber } else { label };
            let raw = items
                .iter()
                .find_map(|&item| page.items[item].zone)
                .map(|zone| page.zones[zone].label_raw.clone())
                .unwrap_or_else(|| label.as_str().to_owned());
            Draft::new(label, raw, vec![Row::new(page, items)], Body::Running)
        })
        .collect()
}

/// `12`, `- 12 -`, `xii`, `Page 3 of 10`, `3/10`, `第 3 页`.
pub(crate) fn is_page_number(text: &str) -> bool {
    let bare: String = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect::<String>()
        .trim_matches(['-', '–', '—', '·', '.', '|', '[', ']', '(', ')', '~', '•'])
        .to_lowercase();
    let bare = ["page", "seite", "p.", "pg.", "pagina", "第"]
        .iter()
        .find_map(|prefix| bare.strip_prefix(prefix))
        .unwrap_or(&bare);
    let bare = ["页", "頁"]
        .iter()
        .find_map(|suffix| bare.strip_suffix(suffix))
        .unwrap_or(bare);
    let parts: Vec<&str> = match bare.split_once("of").or_else(|| bare.split_once("von")) {
        Some((number, total)) => vec![number, total],
        None => match bare.split_once('/') {
            Some((number, total)) => vec![number, total],
            None => vec![bare],
        },
    };
    parts.iter().all(|part| {
        let digits =
            !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        digits || is_roman(part)
    })
}

fn is_roman(text: &str) -> bool {
    !text.is_empty() && text.len() <= 7 && text.chars().all(|c| matches!(c, 'i' | 'v' | 'x' | 'l'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_numbers_come_in_many_dresses() {
        for text in [
            "12",
            "- 3 -",
            "xiv",
            "Page 3 of 10",
            "3/10",
            "第 3 页",
            "— 7 —",
            "[4]",
        ] {
            assert!(is_page_number(text), "{text}");
        }
        for text in [
            "",
            "12345",
            "1.5",
            "Chapter",
            "12 apples",
            "2015-03-01",
            "£12",
            "-",
        ] {
            assert!(!is_page_number(text), "{text}");
        }
    }
}
