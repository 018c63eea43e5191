//! Joining the parts of a line that was seen in parts.
//!
//! A wide space, as typewriters have it, is where a small detector may end a line and begin
//! another. Both are then grown into the space from their sides until they meet, which neighbors
//! in different columns do not.

use super::postprocess::TextBox;
use crate::geometry::{Point, smallest_rectangle};
use crate::line::TextLine;

/// How far the parts may lie in each other, over the height of a line: more is no space.
const MOST_SHARED: f32 = 1.0;
/// How far the middle of one may lie above that of the other, over the height of a line.
const MOST_ASIDE: f32 = 0.25;
/// How much taller one may be.
const MOST_TALLER: f32 = 1.4;

/// Joins what continues each other; the order stays.
pub(super) fn joined(boxes: Vec<TextBox>) -> Vec<TextBox> {
    let mut joined: Vec<TextBox> = Vec::with_capacity(boxes.len());
    for mut text_box in boxes {
        while let Some((at, whole)) = neighbor(&joined, &text_box) {
            joined.remove(at);
            text_box = whole;
        }
        joined.push(text_box);
    }
    joined
}

/// The first box that `text_box` continues or that continues it, and both as one.
fn neighbor(boxes: &[TextBox], text_box: &TextBox) -> Option<(usize, TextBox)> {
    boxes.iter().enumerate().find_map(|(at, other)| {
        let continues =
            continues(&other.line, &text_box.line) || continues(&text_box.line, &other.line);
        let whole = continues.then(|| whole(other, text_box))??;
        Some((at, whole))
    })
}

fn whole(one: &TextBox, other: &TextBox) -> Option<TextBox> {
    let corners = |text_box: &TextBox| text_box.line.rectangle.corners;
    let mut points = [corners(one), corners(other)].concat();
    Some(TextBox {
        line: TextLine::straight(smallest_rectangle(&mut points)?),
        score: one.score.min(other.score),
    })
}

/// Whether `right` begins where `left` ends.
fn continues(left: &TextLine, right: &TextLine) -> bool {
    if left.bend.is_some() || right.bend.is_some() {
        return false;
    }
    let heights = [left.height(), right.height()];
    let low = heights[0].min(heights[1]);
    // Upright letters have no direction of their own.
    if heights[0].max(heights[1]) > MOST_TALLER * low || left.width() < low || right.width() < low {
        return false;
    }
    let [start, end, below_end, _] = left.rectangle.corners;
    let [begin, _, _, below_begin] = right.rectangle.corners;
    let (from, to) = (middle(end, below_end), middle(begin, below_begin));
    let length = left.width();
    let along = [(end[0] - start[0]) / length, (end[1] - start[1]) / length];
    let gap = [to[0] - from[0], to[1] - from[1]];
    let forward = gap[0] * along[0] + gap[1] * along[1];
    let aside = gap[1] * along[0] - gap[0] * along[1];
    (-MOST_SHARED * low..=0.0).contains(&forward) && aside.abs() < MOST_ASIDE * low
}

fn middle(one: Point, other: Point) -> Point {
    [(one[0] + other[0]) / 2.0, (one[1] + other[1]) / 2.0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rectangle;

    fn at([left, top, right, bottom]: [f32; 4]) -> TextBox {
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
        TextBox {
            line: TextLine::straight(Rectangle { corners }),
            score: 1.0,
        }
    }

    #[test]
    fn parts_that_meet_become_one_line_and_columns_stay() {
        let below = at([10.0, 40.0, 200.0, 60.0]);
        let parts = vec![
            at([100.0, 11.0, 200.0, 31.0]),
            at([10.0, 10.0, 105.0, 30.0]),
            below,
            at([195.0, 10.0, 260.0, 30.0]),
        ];
        let lines = joined(parts);
        assert_eq!(lines.len(), 2);
        let one = lines.iter().find(|line| **line != below).unwrap();
        assert!((one.line.width() - 250.0).abs() < 2.0, "{one:?}");
        let columns = vec![
            at([10.0, 10.0, 100.0, 30.0]),
            at([104.0, 10.0, 200.0, 30.0]),
        ];
        assert_eq!(joined(columns.clone()), columns);
    }

    #[test]
    fn heading_beside_small_print_stays_alone() {
        let boxes = vec![at([10.0, 10.0, 100.0, 50.0]), at([95.0, 20.0, 200.0, 40.0])];
        assert_eq!(joined(boxes.clone()), boxes);
    }
}
