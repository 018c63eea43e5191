//! Which region each line lies in. Regions are hints: a line may lie in none.

use quire_core::{Label, Rect};

use crate::draft::{Item, Page, Zone};
use crate::rows::rows;
use crate::rules;
use crate::tables;

/// Share of a line's area that must lie inside a region.
const MIN_COVER: f32 = 0.5;
/// Rows of running text from which on a "picture" is taken for text after all.
const PROSE_ROWS: usize = 4;

/// Sets every item's zone and drops zones that the lines contradict.
pub(crate) fn assign(page: &mut Page<'_>) {
    drop_doubles(&mut page.zones);
    add_ruled(page);
    place_items(page);
    let kept: Vec<bool> = (0..page.zones.len())
        .map(|zone| is_plausible(page, zone))
        .collect();
    if kept.iter().all(|&keep| keep) {
        return;
    }
    let mut keep = kept.iter();
    page.zones.retain(|_| *keep.next().unwrap_or(&false));
    place_items(page);
}

/// Boxes ruled row by row that the detector did not see become tables; whether they are, the
/// lines inside decide like for any other.
fn add_ruled(page: &mut Page<'_>) {
    let Some(image) = page.image else { return };
    let stacks = rules::ruled_stacks(image, page.frame, page.em);
    let parts: Vec<Rect> = stacks
        .iter()
        .flat_map(|stack| at_headings(page, stack))
        .collect();
    for mut rect in parts {
        let is_seen = page.zones.iter().any(|zone| {
            zone.is_solid() && zone.rect.overlap(&rect) > 0.3 * rect.area().min(zone.rect.area())
        });
        if is_seen {
            continue;
        }
        // Often no rule closes the last row.
        let mut below: Vec<Rect> = page
            .items
            .iter()
            .map(|item| item.rect)
            .filter(|line| {
                line.y0 > rect.y1 - 0.4 * page.em
                    && line.x0 > rect.x0 - page.em
                    && line.x1 < rect.x1 + page.em
            })
            .collect();
        below.sort_by(|a, b| a.y0.total_cmp(&b.y0));
        rect.y1 = last_row_end(&below, &rect, page.em).unwrap_or(rect.y1);
        page.zones.push(Zone {
            label: Label::Table,
            label_raw: "ruled".to_owned(),
            rect,
            confidence: 0.5,
        });
    }
}

/// Where the row under a table's last rule ends, if a row of cells follows there: a few short
/// lines and then white space. What fills the width is text after the table.
fn last_row_end(below: &[Rect], table: &Rect, em: f32) -> Option<f32> {
    let mut end = table.y1;
    for (n, line) in below.iter().enumerate() {
        if line.y0 - end >= 0.7 * em {
            return (n > 0).then_some(end);
        }
        if n >= 8 || line.width() > 0.7 * table.width() {
            return None;
        }
        end = end.max(line.y1);
    }
    (!below.is_empty()).then_some(end)
}

/// Boxes of a stack of rules, cut where a line stands apart between two rules, the heading of
/// the next table, or fills the width, as text between two tables does.
fn at_headings(page: &Page<'_>, stack: &[Rect]) -> Vec<Rect> {
    let stands_apart = |above: &Rect, below: &Rect| {
        let inside = |rect: &Rect| {
            let (x, y) = ((rect.x0 + rect.x1) / 2.0, (rect.y0 + rect.y1) / 2.0);
            y > above.y0 && y < below.y1 && x > above.x0 && x < above.x1
        };
        let mut bottom = above.y1;
        let mut lines: Vec<Rect> = page
            .items
            .iter()
            .map(|item| item.rect)
            .filter(inside)
            .collect();
        lines.sort_by(|a, b| a.y0.total_cmp(&b.y0));
        lines.iter().any(|line| {
            let gap = line.y0 - bottom;
            bottom = bottom.max(line.y1);
            gap > 1.3 * page.em || line.width() > 0.9 * above.width()
        })
    };
    let mut parts: Vec<Vec<Rect>> = Vec::new();
    for rule in stack {
        match parts.last_mut() {
            Some(part) if !part.last().is_some_and(|last| stands_apart(last, rule)) => {
                part.push(*rule);
            }
            _ => parts.push(vec![*rule]),
        }
    }
    parts
        .into_iter()
        .filter(|part| part.len() >= 2)
        .filter_map(|part| part.into_iter().reduce(|a, b| a.union(&b)))
        .collect()
}

fn place_items(page: &mut Page<'_>) {
    let zones = &page.zones;
    for item in &mut page.items {
        item.zone = best_zone(zones, item);
    }
}

/// Of two regions over the same place the surer one stays.
fn drop_doubles(zones: &mut Vec<Zone>) {
    zones.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut kept: Vec<Zone> = Vec::new();
    for zone in zones.drain(..) {
        let double = kept.iter_mut().find(|other| {
            let overlap = zone.rect.overlap(&other.rect);
            let smaller = zone.rect.area().min(other.rect.area());
            let union = zone.rect.area() + other.rect.area() - overlap;
            overlap > 0.8 * union || (zone.label == other.label && overlap > 0.85 * smaller)
        });
        match double {
            // In doubt it is a title, so that nothing leaves the text that belongs there.
            Some(other) if other.label.is_furniture() && !zone.label.is_furniture() => {
                *other = zone
            }
            Some(_) => {}
            None => kept.push(zone),
        }
    }
    *zones = kept;
}

fn best_zone(zones: &[Zone], item: &Item) -> Option<usize> {
    let mut best: Option<(f32, usize)> = None;
    for (index, zone) in zones.iter().enumerate() {
        if cover(&item.rect, &zone.rect) < MIN_COVER {
            continue;
        }
        // A region inside another one says more about its lines, except inside a table, whose
        // cells are often seen as text of their own.
        let solid = if zone.label == Label::Table { 1e3 } else { 1.0 };
        let score = solid * (0.2 + zone.confidence) / zone.rect.area().max(1.0).sqrt();
        if best.is_none_or(|(top, _)| score > top) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}

/// How much of a line lies inside a region, 0 to 1. A line without area counts by its centre.
fn cover(line: &Rect, zone: &Rect) -> f32 {
    if line.area() > 0.0 {
        return line.overlap(zone) / line.area();
    }
    let (x, y) = ((line.x0 + line.x1) / 2.0, (line.y0 + line.y1) / 2.0);
    let inside = x >= zone.x0 && x <= zone.x1 && y >= zone.y0 && y <= zone.y1;
    if inside { 1.0 } else { 0.0 }
}

fn is_plausible(page: &Page<'_>, zone: usize) -> bool {
    let inside: Vec<&Item> = page
        .items
        .iter()
        .filter(|item| item.zone == Some(zone))
        .collect();
    let rect = &page.zones[zone].rect;
    match page.zones[zone].label {
        // A screenshot holds labels; a "picture" full of sentences is text on a dirty scan.
        Label::Picture => {
            let long = inside
                .iter()
                .filter(|item| {
                    item.rect.width() > 0.6 * rect.width()
                        && crate::chars::width_units(&item.text) > 25.0
                })
                .count();
            let covered: f32 = inside.iter().map(|item| item.rect.area()).sum();
            let texts = inside
                .iter()
                .filter(|item| crate::chars::width_units(&item.text) > 30.0)
                .count();
            long < PROSE_ROWS && texts < 2 * PROSE_ROWS && covered < 0.45 * rect.area()
        }
        Label::Table => {
            let items: Vec<usize> = (0..page.items.len())
                .filter(|&item| page.items[item].zone == Some(zone))
                .collect();
            tables::is_tabular(page, &rows(page, &items))
        }
        Label::Formula => !inside.is_empty(),
        _ => true,
    }
}
