//! The curve that a bent line of text follows.

use super::postprocess::Run;
use crate::geometry::{Point, Rectangle};
use crate::line::{BEND_POINTS, TextLine};

/// Pieces that a blob is cut into along its length.
const PIECES: usize = 16;
/// Degree of the curve and one: a page of an open book is flat and bends near the spine, which
/// takes a cubic.
const TERMS: usize = 4;
/// Blobs shorter than this many times their height have no bend that matters.
const LONG: f32 = 4.0;
/// Over the thickness of the core, how far the curve leaves a straight line before it counts.
const BENT: f32 = 0.35;
/// Over the thickness of the core, how far pieces may lie off the curve: else the blob is no
/// line, or several that touch.
const MAX_RESIDUAL: f32 = 0.3;

/// A curved core of a line: its rectangle as if it were straight, not yet grown.
pub(super) struct Bent {
    core: Rectangle,
    /// The curve below the middle of the core, by [`PIECES`], pixels.
    curve: Curve,
}

impl Bent {
    /// The core of a blob that lies inside `around`, if it is bent.
    pub(super) fn of(runs: &[Run], around: &Rectangle) -> Option<Self> {
        if around.width() < LONG * around.height() || around.height() < 2.0 {
            return None;
        }
        let frame = Frame::of(around);
        let middles = middles_of(runs, &frame)?;
        let curve = Curve::through(&middles);
        let thickness = thickness_around(runs, &frame, &curve);
        let (mut low, mut high, mut residual) = (f32::MAX, f32::MIN, 0.0f32);
        for (index, middle) in middles.iter().enumerate() {
            let at = curve.at(place(index));
            (low, high) = (low.min(at), high.max(at));
            residual = residual.max((middle - at).abs());
        }
        if high - low < BENT * thickness || residual > MAX_RESIDUAL * thickness {
            return None;
        }
        let middle = middles.iter().sum::<f32>() / PIECES as f32;
        let half = thickness / 2.0;
        let corner = |u: f32, v: f32| frame.point(u, v);
        let corners = [
            corner(0.0, middle - half),
            corner(around.width(), middle - half),
            corner(around.width(), middle + half),
            corner(0.0, middle + half),
        ];
        Some(Self {
            core: Rectangle { corners },
            curve: curve.lowered(-middle),
        })
    }

    pub(super) fn core(&self) -> &Rectangle {
        &self.core
    }

    /// The line that the core grows to.
    pub(super) fn grown(&self, margin: f32) -> TextLine {
        let rectangle = self.core.grown(margin);
        let (length, height) = (self.core.width(), rectangle.height());
        let bend = std::array::from_fn(|index| {
            let along = index as f32 / (BEND_POINTS - 1) as f32;
            let along = (along * rectangle.width() - margin) / length.max(1.0);
            self.curve.at(2.0 * along.clamp(0.0, 1.0) - 1.0) / height
        });
        TextLine {
            rectangle,
            bend: Some(bend),
        }
    }
}

/// Coordinates along and across a rectangle, pixels.
struct Frame {
    origin: Point,
    along: Point,
    length: f32,
}

impl Frame {
    fn of(rectangle: &Rectangle) -> Self {
        let [origin, end, ..] = rectangle.corners;
        let length = rectangle.width().max(1e-6);
        let along = [(end[0] - origin[0]) / length, (end[1] - origin[1]) / length];
        Self {
            origin,
            along,
            length,
        }
    }

    fn of_point(&self, [x, y]: Point) -> Point {
        let (x, y) = (x - self.origin[0], y - self.origin[1]);
        [
            x * self.along[0] + y * self.along[1],
            y * self.along[0] - x * self.along[1],
        ]
    }

    /// The piece that a place along the rectangle falls into.
    fn piece(&self, u: f32) -> usize {
        let index = (u / self.length * PIECES as f32).max(0.0) as usize;
        index.min(PIECES - 1)
    }

    fn point(&self, u: f32, v: f32) -> Point {
        [
            self.origin[0] + u * self.along[0] - v * self.along[1],
            self.origin[1] + u * self.along[1] + v * self.along[0],
        ]
    }
}

/// The middle of a blob in each of its pieces; `None` if one has no pixels.
fn middles_of(runs: &[Run], frame: &Frame) -> Option<[f32; PIECES]> {
    let mut pieces = [(0.0, 0.0); PIECES];
    for [u, v] in points(runs, frame) {
        let (sum, count) = &mut pieces[frame.piece(u)];
        *sum += v;
        *count += 1.0;
    }
    let is_whole = pieces.iter().all(|&(_, count)| count > 0.0);
    is_whole.then(|| pieces.map(|(sum, count)| sum / count))
}

/// How far pixels lie apart across the curve, from center to center, in a piece of mean thickness.
fn thickness_around(runs: &[Run], frame: &Frame, curve: &Curve) -> f32 {
    let mut pieces = [(0.0f32, 0.0f32); PIECES];
    for [u, v] in points(runs, frame) {
        let off = v - curve.at(2.0 * u / frame.length - 1.0);
        let (low, high) = &mut pieces[frame.piece(u)];
        (*low, *high) = (low.min(off), high.max(off));
    }
    pieces.iter().map(|(low, high)| high - low).sum::<f32>() / PIECES as f32
}

/// A blob's pixels in a frame.
fn points<'a>(runs: &'a [Run], frame: &'a Frame) -> impl Iterator<Item = Point> + 'a {
    let pixels = |run: &'a Run| (run.first..=run.last).map(|x| [x as f32, run.y as f32]);
    runs.iter()
        .flat_map(pixels)
        .map(|point| frame.of_point(point))
}

/// Where the middle of a piece lies, from -1 to 1.
fn place(index: usize) -> f32 {
    (2 * index + 1) as f32 / PIECES as f32 - 1.0
}

/// A cubic over -1 to 1, by its powers.
#[derive(Debug, Clone, Copy)]
struct Curve([f32; TERMS]);

impl Curve {
    /// The curve nearest to the middles of pieces, by least squares.
    fn through(middles: &[f32; PIECES]) -> Self {
        // Powers made orthogonal to each other one after the other, so that each coefficient can
        // be found by itself.
        let mut basis: Vec<[f32; TERMS]> = Vec::with_capacity(TERMS);
        let mut fitted = [0.0; TERMS];
        for degree in 0..TERMS {
            let mut term = [0.0; TERMS];
            term[degree] = 1.0;
            for other in &basis {
                let share = dot(|x| value(&term, x), other) / dot(|x| value(other, x), other);
                for (part, taken) in term.iter_mut().zip(other) {
                    *part -= share * taken;
                }
            }
            let mut along = 0.0;
            for (index, middle) in middles.iter().enumerate() {
                along += middle * value(&term, place(index));
            }
            let weight = along / dot(|x| value(&term, x), &term);
            for (part, added) in fitted.iter_mut().zip(term) {
                *part += weight * added;
            }
            basis.push(term);
        }
        Self(fitted)
    }

    fn at(&self, x: f32) -> f32 {
        value(&self.0, x)
    }

    fn lowered(mut self, by: f32) -> Self {
        self.0[0] += by;
        self
    }
}

fn value(powers: &[f32; TERMS], x: f32) -> f32 {
    powers.iter().rev().fold(0.0, |sum, power| sum * x + power)
}

fn dot(one: impl Fn(f32) -> f32, other: &[f32; TERMS]) -> f32 {
    (0..PIECES)
        .map(|index| one(place(index)) * value(other, place(index)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::smallest_rectangle;

    /// A core of `thickness` rows that follows `middle` over `length` columns.
    fn blob(length: usize, thickness: usize, middle: impl Fn(f32) -> f32) -> Vec<Run> {
        let mut runs = Vec::new();
        for x in 0..length {
            let top = middle(x as f32 / (length - 1) as f32) as usize;
            runs.extend((top..top + thickness).map(|y| Run {
                y,
                first: x,
                last: x,
            }));
        }
        runs
    }

    fn bent(runs: &[Run]) -> Option<Bent> {
        let ends = runs.iter().map(|run| [run.first as f32, run.y as f32]);
        Bent::of(runs, &smallest_rectangle(&mut ends.collect())?)
    }

    #[test]
    fn curve_of_a_bent_line_is_found() {
        let runs = blob(400, 8, |x| 60.0 - 40.0 * x * (1.0 - x) * 4.0 * 0.5);
        let bent = bent(&runs).unwrap();
        assert!(
            (bent.core().height() - 8.0).abs() < 1.5,
            "{}",
            bent.core().height()
        );
        let line = bent.grown(6.0);
        // Text hangs from both ends: its middle lies higher than its ends by 20 pixels.
        let height = line.height();
        let sag = (line.bend_at(0.0) - line.bend_at(0.5)) * height;
        assert!(
            (sag - 20.0).abs() < 1.5,
            "{sag} {:?} {height} {:?}",
            line,
            bent.core()
        );
    }

    #[test]
    fn straight_short_and_ragged_blobs_are_not_bent() {
        assert!(bent(&blob(400, 8, |_| 20.0)).is_none());
        assert!(bent(&blob(400, 8, |x| 20.0 + 20.0 * x)).is_none());
        assert!(bent(&blob(20, 8, |x| 20.0 + 9.0 * x * x)).is_none());
        assert!(bent(&blob(400, 8, |x| if x < 0.5 { 20.0 } else { 60.0 })).is_none());
    }
}
