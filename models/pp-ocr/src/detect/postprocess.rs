//! From the detector's probability map to boxes around lines of text.
//!
//! The network marks the core of a line, thinner than the line itself: a blob of pixels over the
//! threshold becomes its smallest rectangle, which is then grown back.

use quire_core::PageImage;

use super::bend::Bent;
use super::preprocess::{InputSize, Look};
use crate::geometry::{Point, Rectangle, smallest_rectangle};
use crate::line::TextLine;

/// Pixels over this probability belong to a line.
const BIN_THRESH: f32 = 0.3;
/// Lines whose mean probability is less are dropped.
const BOX_THRESH: f32 = 0.5;
/// Area over perimeter, times this, is how far a core grows.
const UNCLIP_RATIO: f32 = 1.6;
/// Cores thinner than this are noise, pixels of the map.
const MIN_CORE: f32 = 3.0;
/// Boxes thinner than this hold no legible text, pixels of the map.
const MIN_BOX: f32 = 5.0;
/// Lines of a page at most: more are patterns, not text. The largest are kept.
const MAX_LINES: usize = 2000;

/// The detector's output: for every pixel the probability that it is in the core of a line.
#[derive(Debug, Clone, Copy)]
pub struct ProbabilityMap<'a> {
    pub width: usize,
    pub height: usize,
    /// Rows from the top.
    pub values: &'a [f32],
}

/// A line of text as the detector sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextBox {
    pub line: TextLine,
    /// Mean probability of the core.
    pub score: f32,
}

impl TextBox {
    /// The shorter edge: the height of the text, whichever way it runs.
    pub fn thickness(&self) -> f32 {
        self.line.width().min(self.line.height())
    }

    /// The box in pixels of `image`, of which the detector saw a version of size `seen`.
    pub fn scaled_to(self, seen: InputSize, image: &PageImage) -> Self {
        let x = image.width as f32 / seen.width as f32;
        let y = image.height as f32 / seen.height as f32;
        Self {
            line: self.line.scaled(x, y),
            score: self.score,
        }
    }
}

/// Between these a pixel is nearly text, over the second it surely is.
const NEARLY: f32 = 0.1;
const SURELY: f32 = 0.6;

/// All that the map says.
pub fn look_at(map: &ProbabilityMap<'_>) -> Look {
    let (mut nearly, mut surely) = (0.0f32, 0.0f32);
    for &value in map.values {
        if value > SURELY {
            surely += 1.0;
        } else if value > NEARLY {
            nearly += 1.0;
        }
    }
    Look {
        lines: lines_of(map),
        doubt: nearly / surely.max(1.0),
        doubt_share: nearly / map.values.len().max(1) as f32,
    }
}

/// Boxes of all lines, from the top of the map down, in pixels of the map.
///
/// A map that holds fewer values than its size says has no lines.
pub fn lines_of(map: &ProbabilityMap<'_>) -> Vec<TextBox> {
    if map.values.len() < map.width * map.height {
        return Vec::new();
    }
    let mut boxes: Vec<TextBox> = blobs(map)
        .iter_mut()
        .filter_map(|outline| line_of(map, outline))
        .collect();
    if boxes.len() > MAX_LINES {
        let area = |line: &TextBox| line.line.width() * line.line.height();
        boxes.sort_by(|a, b| area(b).total_cmp(&area(a)));
        boxes.truncate(MAX_LINES);
    }
    let key = |line: &TextBox| line.line.rectangle.center();
    boxes.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a[1].total_cmp(&b[1]).then(a[0].total_cmp(&b[0]))
    });
    boxes
}

fn line_of(map: &ProbabilityMap<'_>, blob: &[Run]) -> Option<TextBox> {
    // The ends of runs are all that a hull needs.
    let ends = |run: &Run| [run.first, run.last].map(|x| [x as f32, run.y as f32]);
    let mut outline: Vec<Point> = blob.iter().flat_map(ends).collect();
    let around = smallest_rectangle(&mut outline)?;
    let bent = Bent::of(blob, &around);
    let core = bent.as_ref().map_or(&around, Bent::core);
    let (width, height) = (core.width(), core.height());
    if width.min(height) < MIN_CORE {
        return None;
    }
    let score = if bent.is_some() {
        mean_of(map, blob)
    } else {
        mean_inside(map, core)
    };
    if score < BOX_THRESH {
        return None;
    }
    let margin = UNCLIP_RATIO * width * height / (2.0 * (width + height));
    let line = match &bent {
        Some(bent) => bent.grown(margin),
        None => TextLine::straight(core.grown(margin)),
    };
    let text_box = TextBox { line, score };
    (text_box.thickness() >= MIN_BOX).then_some(text_box)
}

/// Mean of the map over a blob.
fn mean_of(map: &ProbabilityMap<'_>, blob: &[Run]) -> f32 {
    let (mut sum, mut count) = (0.0, 0);
    for run in blob {
        let row = &map.values[run.y * map.width..][run.first..=run.last];
        sum += row.iter().sum::<f32>();
        count += row.len();
    }
    sum / count.max(1) as f32
}

/// Mean of the map over the pixels inside a rectangle.
fn mean_inside(map: &ProbabilityMap<'_>, rectangle: &Rectangle) -> f32 {
    let bound = |axis: usize, end: usize| {
        let at = rectangle.corners.map(|corner| corner[axis]);
        let low = at.iter().fold(f32::MAX, |a, &b| a.min(b)).floor().max(0.0) as usize;
        let high = at.iter().fold(0.0f32, |a, &b| a.max(b)).ceil() as usize;
        (low.min(end - 1), high.min(end - 1))
    };
    let (top, bottom) = bound(1, map.height);
    let (mut sum, mut count) = (0.0f64, 0usize);
    for y in top..=bottom {
        let Some((left, right)) = crossing(rectangle, y as f32) else {
            continue;
        };
        let left = left.ceil().max(0.0) as usize;
        let right = (right.floor().max(0.0) as usize).min(map.width - 1);
        if left > right {
            continue;
        }
        let row = &map.values[y * map.width..][left..=right];
        sum += row.iter().map(|&value| f64::from(value)).sum::<f64>();
        count += row.len();
    }
    if count == 0 {
        0.0
    } else {
        (sum / count as f64) as f32
    }
}

/// Where the horizontal line at `y` enters and leaves the rectangle.
fn crossing(rectangle: &Rectangle, y: f32) -> Option<(f32, f32)> {
    // Rounding may put a corner a hair beyond the row of the pixel that it stands on.
    const SLACK: f32 = 1e-3;
    let (mut left, mut right) = (f32::MAX, f32::MIN);
    for index in 0..4 {
        let (a, b) = (rectangle.corners[index], rectangle.corners[(index + 1) % 4]);
        let (low, high) = (a[1].min(b[1]), a[1].max(b[1]));
        if y < low - SLACK || y > high + SLACK {
            continue;
        }
        let flat = high - low <= 2.0 * SLACK;
        let ends = if flat {
            [a[0], b[0]]
        } else {
            let at = ((y - a[1]) / (b[1] - a[1])).clamp(0.0, 1.0);
            [a[0] + at * (b[0] - a[0]); 2]
        };
        for x in ends {
            left = left.min(x - SLACK);
            right = right.max(x + SLACK);
        }
    }
    (left <= right).then_some((left, right))
}

/// A run of set pixels of one row, ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) y: usize,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Blobs of pixels that touch, corners included.
fn blobs(map: &ProbabilityMap<'_>) -> Vec<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let mut parents: Vec<usize> = Vec::new();
    let mut above = 0..0;
    let mut row = vec![false; map.width];
    for y in 0..map.height {
        fill_row(map, y, &mut row);
        let start = runs.len();
        let mut candidate = above.start;
        for run in runs_of(&row, y) {
            let index = runs.len();
            runs.push(run);
            parents.push(index);
            while candidate < above.end && runs[candidate].last + 1 < run.first {
                candidate += 1;
            }
            let mut touching = candidate;
            while touching < above.end && runs[touching].first <= run.last + 1 {
                join(&mut parents, touching, index);
                touching += 1;
            }
        }
        above = start..runs.len();
    }
    gathered(&runs, &mut parents)
}

/// Row `y` of the map over the threshold, each set pixel spread to its right, lower and lower
/// right neighbor, which joins what hair-thin gaps part.
fn fill_row(map: &ProbabilityMap<'_>, y: usize, row: &mut [bool]) {
    let values = &map.values[y * map.width..][..map.width];
    let above = if y > 0 {
        &map.values[(y - 1) * map.width..][..map.width]
    } else {
        values
    };
    let mut left = false;
    for ((set, &value), &up) in row.iter_mut().zip(values).zip(above) {
        let here = value > BIN_THRESH || up > BIN_THRESH;
        *set = here || left;
        left = here;
    }
}

fn runs_of(row: &[bool], y: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut first = None;
    for (x, &set) in row.iter().enumerate() {
        match (set, first) {
            (true, None) => first = Some(x),
            (false, Some(start)) => {
                runs.push(Run {
                    y,
                    first: start,
                    last: x - 1,
                });
                first = None;
            }
            _ => {}
        }
    }
    if let Some(start) = first {
        runs.push(Run {
            y,
            first: start,
            last: row.len() - 1,
        });
    }
    runs
}

fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

fn join(parents: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(parents, a), root(parents, b));
    parents[a.max(b)] = a.min(b);
}

/// Runs by the blob that they belong to.
fn gathered(runs: &[Run], parents: &mut [usize]) -> Vec<Vec<Run>> {
    let mut slots = vec![usize::MAX; runs.len()];
    let mut blobs: Vec<Vec<Run>> = Vec::new();
    for (index, &run) in runs.iter().enumerate() {
        let root = root(parents, index);
        if slots[root] == usize::MAX {
            slots[root] = blobs.len();
            blobs.push(Vec::new());
        }
        blobs[slots[root]].push(run);
    }
    blobs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map with the given boxes (left, top, right, bottom, ends included) at a probability.
    fn map_of(width: usize, height: usize, boxes: &[([usize; 4], f32)]) -> Vec<f32> {
        let mut values = vec![0.0; width * height];
        for &([left, top, right, bottom], probability) in boxes {
            for y in top..=bottom {
                values[y * width + left..=y * width + right].fill(probability);
            }
        }
        values
    }

    fn lines(width: usize, height: usize, boxes: &[([usize; 4], f32)]) -> Vec<TextBox> {
        let values = map_of(width, height, boxes);
        lines_of(&ProbabilityMap {
            width,
            height,
            values: &values,
        })
    }

    #[test]
    fn core_of_a_line_grows_by_area_over_perimeter() {
        let found = lines(320, 64, &[([40, 20, 239, 29], 0.9)]);
        assert_eq!(found.len(), 1);
        // The core is 200 by 10 between pixel centers, one right and one lower pixel added.
        let margin = 1.6 * (200.0 * 10.0) / (2.0 * 210.0);
        let rectangle = found[0].line.rectangle;
        assert!((rectangle.corners[0][0] - (40.0 - margin)).abs() < 0.01);
        assert!((rectangle.corners[2][1] - (30.0 + margin)).abs() < 0.01);
        assert!(found[0].score > 0.8, "{}", found[0].score);
    }

    #[test]
    fn faint_and_tiny_blobs_are_dropped() {
        let boxes = [
            ([10, 10, 100, 20], 0.4),
            ([10, 40, 11, 41], 0.99),
            ([200, 40, 300, 50], 0.8),
        ];
        let found = lines(320, 64, &boxes);
        assert_eq!(found.len(), 1);
        assert!(found[0].line.rectangle.center()[0] > 200.0);
    }

    #[test]
    fn lines_come_from_the_top_down() {
        let boxes = [
            ([10, 60, 100, 70], 0.9),
            ([150, 10, 250, 20], 0.9),
            ([10, 10, 100, 20], 0.9),
        ];
        let found = lines(320, 96, &boxes);
        let order: Vec<_> = found
            .iter()
            .map(|line| line.line.rectangle.center())
            .collect();
        assert!(
            order[0][0] < order[1][0] && order[1][1] < order[2][1],
            "{order:?}"
        );
    }

    #[test]
    fn parts_that_meet_lower_down_are_one_line() {
        let boxes = [
            ([10, 10, 20, 30], 0.9),
            ([40, 10, 50, 30], 0.9),
            ([10, 31, 50, 40], 0.9),
        ];
        assert_eq!(lines(64, 64, &boxes).len(), 1);
    }

    #[test]
    fn empty_and_full_maps_are_read() {
        assert!(lines(32, 32, &[]).is_empty());
        assert_eq!(lines(32, 32, &[([0, 0, 31, 31], 1.0)]).len(), 1);
    }
}
