//! From the layout detector's maps to regions.

use quire_core::{Label, Rect};
use quire_layout::Region;

use super::network::{INPUT_SIZE, N_BINS, N_CLASSES};

/// Regions that are less sure are dropped.
const SCORE_THRESH: f32 = 0.5;
/// Two regions of one class that cover each other by more (intersection over union) are one.
const OVERLAP_THRESH: f32 = 0.5;
/// Regions of one class at most.
const MAX_REGIONS: usize = 100;

/// The classes in the network's order, with what they are to us.
const CLASSES: [(&str, Label); N_CLASSES] = [
    ("text", Label::Text),
    ("title", Label::SectionHeader),
    ("figure", Label::Picture),
    ("figure_caption", Label::Caption),
    ("table", Label::Table),
    ("table_caption", Label::Caption),
    ("header", Label::PageHeader),
    ("footer", Label::PageFooter),
    ("reference", Label::Reference),
    ("equation", Label::Formula),
];

/// What the network says at one scale, in host memory; places go row by row.
#[derive(Debug, Clone)]
pub struct LevelValues {
    /// `[places, 10]` probabilities.
    pub scores: Vec<f32>,
    /// `[places, 32]` logits.
    pub boxes: Vec<f32>,
    /// Pixels from one place to the next.
    pub stride: usize,
}

/// Regions in fractions of the page, class by class, the surest first.
pub fn regions_of(levels: &[LevelValues]) -> Vec<Region> {
    let mut regions = Vec::new();
    for (class, (name, label)) in CLASSES.into_iter().enumerate() {
        let mut candidates: Vec<(f32, Rect)> = levels
            .iter()
            .flat_map(|level| candidates(level, class))
            .collect();
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (confidence, rect) in distinct(&candidates) {
            regions.push(Region {
                label,
                label_raw: name.to_owned(),
                rect,
                confidence,
            });
        }
    }
    regions
}

fn candidates(level: &LevelValues, class: usize) -> impl Iterator<Item = (f32, Rect)> {
    let columns = INPUT_SIZE[1].div_ceil(level.stride);
    let places = level
        .scores
        .chunks_exact(N_CLASSES)
        .zip(level.boxes.chunks_exact(4 * N_BINS));
    places
        .enumerate()
        .filter_map(move |(place, (scores, bins))| {
            let score = scores[class];
            (score > SCORE_THRESH).then(|| {
                let center = [place % columns, place / columns].map(|at| at as f32 + 0.5);
                (score, rect_at(center, bins, level.stride as f32))
            })
        })
}

/// The box around a place: the distance to each side is the mean over a distribution.
fn rect_at([x, y]: [f32; 2], bins: &[f32], stride: f32) -> Rect {
    let mut sides = bins.chunks_exact(N_BINS).map(mean_bin);
    let [left, top, right, bottom] = std::array::from_fn(|_| sides.next().unwrap_or(0.0));
    let [height, width] = INPUT_SIZE.map(|edge| edge as f32);
    let rect = Rect {
        x0: (x - left) * stride / width,
        y0: (y - top) * stride / height,
        x1: (x + right) * stride / width,
        y1: (y + bottom) * stride / height,
    };
    rect.clamped()
}

/// The mean index of a distribution given as logits.
fn mean_bin(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let (mut sum, mut total) = (0.0, 0.0);
    for (index, logit) in logits.iter().enumerate() {
        let weight = (logit - top).exp();
        sum += weight * index as f32;
        total += weight;
    }
    if total > 0.0 { sum / total } else { 0.0 }
}

/// Leaves out every candidate that a surer one covers.
fn distinct(candidates: &[(f32, Rect)]) -> Vec<(f32, Rect)> {
    let mut kept: Vec<(f32, Rect)> = Vec::new();
    for &(score, rect) in candidates {
        if kept.len() == MAX_REGIONS {
            break;
        }
        if rect.area() > 0.0
            && kept
                .iter()
                .all(|(_, other)| cover(&rect, other) <= OVERLAP_THRESH)
        {
            kept.push((score, rect));
        }
    }
    kept
}

fn cover(a: &Rect, b: &Rect) -> f32 {
    let shared = a.overlap(b);
    shared / (a.area() + b.area() - shared).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level of stride 32 with 25 by 19 places and nothing on it.
    fn empty() -> LevelValues {
        LevelValues {
            scores: vec![0.0; 475 * 10],
            boxes: vec![0.0; 475 * 32],
            stride: 32,
        }
    }

    /// Puts a box that reaches `bins` strides to each side on a place.
    fn mark(level: &mut LevelValues, place: usize, class: usize, score: f32, bins: [usize; 4]) {
        level.scores[place * 10 + class] = score;
        for (side, bin) in bins.into_iter().enumerate() {
            level.boxes[place * 32 + side * 8 + bin] = 50.0;
        }
    }

    #[test]
    fn distribution_becomes_a_box_around_its_place() {
        let mut level = empty();
        mark(&mut level, 10 * 19 + 9, 4, 0.8, [2, 1, 3, 4]);
        let regions = regions_of(&[level]);
        assert_eq!(regions.len(), 1);
        let region = &regions[0];
        assert_eq!(
            (region.label, region.label_raw.as_str()),
            (Label::Table, "table")
        );
        let expected = [7.5 / 19.0, 9.5 / 25.0, 12.5 / 19.0, 14.5 / 25.0];
        let found = [
            region.rect.x0,
            region.rect.y0,
            region.rect.x1,
            region.rect.y1,
        ];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
        }
    }

    #[test]
    fn surer_region_wins_over_its_double_and_classes_are_apart() {
        let mut level = empty();
        mark(&mut level, 200, 0, 0.7, [4, 4, 4, 4]);
        mark(&mut level, 201, 0, 0.9, [4, 4, 4, 4]);
        mark(&mut level, 202, 2, 0.6, [4, 4, 4, 4]);
        mark(&mut level, 203, 0, 0.4, [1, 1, 1, 1]);
        let regions = regions_of(&[level]);
        let found: Vec<_> = regions.iter().map(|r| (r.label, r.confidence)).collect();
        assert_eq!(found, [(Label::Text, 0.9), (Label::Picture, 0.6)]);
    }

    #[test]
    fn values_that_are_no_numbers_give_no_regions() {
        let mut level = empty();
        level.scores.fill(f32::NAN);
        level.boxes.fill(f32::NAN);
        assert!(regions_of(&[level]).is_empty());
    }
}
