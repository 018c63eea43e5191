//! Which region each line lies in. Regions are hints: a line may lie in none.

use quire_core::{Label, Rect};

use crate::draft::{Item, Page, Zone};
use crate::rows::rows;
use crate::tables;

/// Share of a line's area that must lie inside a region.
const MIN_COVER: f32 = 0.5;
/// Rows of running text from which on a "picture" is taken for text after all.
const PROSE_ROWS: usize = 4;

/// Sets every item's zone and drops zones that the lines contradict.
pub(crate) fn assign(page: &mut Page<'_>) {
    drop_doubles(&mut page.zones);
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
