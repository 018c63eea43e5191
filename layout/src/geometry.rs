//! The frame in which a page is composed: upright, deskewed, in pixels, text running left to
//! right and lines stacking downwards, whatever the page itself does.
//!
//! Scans lean by a few degrees; a line right across a page then climbs by more than a line's
//! height and rows of two columns no longer look parallel to the page's edge. So the lean is
//! measured from the lines' own quads and taken out before anything is compared. Right-to-left
//! pages are mirrored and vertical Chinese or Japanese ones turned, so that the later steps know
//! one direction only.

use quire_core::{Line, Quad, Rect};

use crate::PageInput;
use crate::chars::{is_cjk, is_right_to_left};

/// A lean beyond this is no lean but text set at an angle, degrees.
const MAX_SKEW_DEGREES: f32 = 15.0;
/// A lean below this is noise of the detector, degrees.
const MIN_SKEW_DEGREES: f32 = 0.05;
/// Pixels assumed when the page's size is not known.
const FALLBACK_SIZE: (f32, f32) = (1240.0, 1754.0);

/// How the page's text runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    LeftToRight,
    RightToLeft,
    /// Characters downwards, lines from right to left.
    Vertical,
}

/// Maps between fractions of the image and the frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) width: f32,
    pub(crate) height: f32,
    /// Clockwise lean of the text, radians.
    pub(crate) skew: f32,
    pub(crate) direction: Direction,
}

/// A line's place in the frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) rect: Rect,
    /// The line runs across the reading direction (a stamp along the margin).
    pub(crate) is_sideways: bool,
}

impl Frame {
    pub(crate) fn new(input: &PageInput<'_>) -> Self {
        let (width, height) = match (input.width_px, input.height_px) {
            (0, _) | (_, 0) => FALLBACK_SIZE,
            (width, height) => (width as f32, height as f32),
        };
        let mut frame = Self {
            width,
            height,
            skew: 0.0,
            direction: direction_of(&input.lines, width, height),
        };
        frame.skew = frame.measure_skew(&input.lines);
        frame
    }

    /// Length of the axis along which text runs, and of the one along which lines stack.
    pub(crate) fn extent(&self) -> (f32, f32) {
        match self.direction {
            Direction::Vertical => (self.height, self.width),
            Direction::LeftToRight | Direction::RightToLeft => (self.width, self.height),
        }
    }

    /// Where a line lies in the frame.
    pub(crate) fn place(&self, line: &Line) -> Placed {
        let corners = corners_of(line)
            .0
            .map(|[x, y]| [x * self.width, y * self.height]);
        let along = edge(corners);
        let angle = angle_of(along);
        let centre = centre_of(corners);
        let across = side(corners);
        let (length, thickness) = (along[0].hypot(along[1]), across[0].hypot(across[1]));
        let turned = fold(angle - self.skew).abs();
        let vertical = self.direction == Direction::Vertical;
        if line.quad.is_none() || turned > 30f32.to_radians() {
            // A box without a direction of its own, or text set at an angle.
            let rect = self.turn_rect(Quad(corners).bounds());
            let (along, across) = (rect.width(), rect.height());
            let is_sideways = turned > 60f32.to_radians() && !vertical
                || (across > along * 2.0 && line.text.chars().count() > 2);
            return Placed { rect, is_sideways };
        }
        let (half_w, half_h) = if vertical && thickness > length {
            (thickness / 2.0, length / 2.0)
        } else {
            (length / 2.0, thickness / 2.0)
        };
        let [x, y] = self.turn_point(centre);
        let rect = Rect {
            x0: x - half_w,
            y0: y - half_h,
            x1: x + half_w,
            y1: y + half_h,
        };
        Placed {
            rect,
            is_sideways: false,
        }
    }

    /// Where a region given in fractions lies in the frame.
    pub(crate) fn place_rect(&self, rect: &Rect) -> Rect {
        let rect = finite_rect(rect);
        self.turn_rect(Rect {
            x0: rect.x0 * self.width,
            y0: rect.y0 * self.height,
            x1: rect.x1 * self.width,
            y1: rect.y1 * self.height,
        })
    }

    /// The corners, in fractions of the image, of a box of the frame: clockwise from the text's
    /// top left.
    pub(crate) fn unplace(&self, rect: &Rect) -> Quad {
        Quad(Quad::from(*rect).0.map(|point| {
            let [x, y] = self.unturn_point(point);
            [x / self.width, y / self.height]
        }))
        .clamped()
    }

    /// A point of the frame in fractions of the image, inside it.
    pub(crate) fn fraction_of(&self, point: [f32; 2]) -> [f32; 2] {
        let [x, y] = self.unturn_point(point);
        [
            (x / self.width).clamp(0.0, 1.0),
            (y / self.height).clamp(0.0, 1.0),
        ]
    }

    /// Whether the text leans enough for an upright box to be a poor outline.
    pub(crate) fn is_leaning(&self) -> bool {
        self.skew.abs() > 0.4f32.to_radians()
    }

    /// Box of the leaning text whose upright bounds are `rect` (pixels of the image).
    fn turn_rect(&self, rect: Rect) -> Rect {
        let lean = self.skew.abs();
        let (sin, cos) = lean.sin_cos();
        // Bounds of a leaning box: W = w cos + h sin, H = w sin + h cos. Solved for w and h.
        let (outer_w, outer_h) = (rect.width(), rect.height());
        let determinant = cos * cos - sin * sin;
        let inner_w = (outer_w * cos - outer_h * sin) / determinant;
        let inner_h = (outer_h * cos - outer_w * sin) / determinant;
        let (w, h) = if inner_w > 0.2 * outer_w && inner_h > 0.2 * outer_h {
            (inner_w, inner_h)
        } else {
            (outer_w, outer_h)
        };
        let (w, h) = if self.direction == Direction::Vertical {
            (h, w)
        } else {
            (w, h)
        };
        let [x, y] = self.turn_point([(rect.x0 + rect.x1) / 2.0, (rect.y0 + rect.y1) / 2.0]);
        Rect {
            x0: x - w / 2.0,
            y0: y - h / 2.0,
            x1: x + w / 2.0,
            y1: y + h / 2.0,
        }
    }

    fn turn_point(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = (-self.skew).sin_cos();
        let (dx, dy) = (x - self.width / 2.0, y - self.height / 2.0);
        let (x, y) = (
            self.width / 2.0 + dx * cos - dy * sin,
            self.height / 2.0 + dx * sin + dy * cos,
        );
        match self.direction {
            Direction::LeftToRight => [x, y],
            Direction::RightToLeft => [self.width - x, y],
            Direction::Vertical => [y, self.width - x],
        }
    }

    fn unturn_point(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [x, y] = match self.direction {
            Direction::LeftToRight => [x, y],
            Direction::RightToLeft => [self.width - x, y],
            Direction::Vertical => [self.width - y, x],
        };
        let (sin, cos) = self.skew.sin_cos();
        let (dx, dy) = (x - self.width / 2.0, y - self.height / 2.0);
        [
            self.width / 2.0 + dx * cos - dy * sin,
            self.height / 2.0 + dx * sin + dy * cos,
        ]
    }

    /// The median lean of the page's lines, each counted by its length.
    fn measure_skew(&self, lines: &[Line]) -> f32 {
        let mut leans: Vec<(f32, f32)> = Vec::new();
        // A line without a quad is upright: it votes for no lean, or one crooked line would tilt
        // a page of upright ones.
        for line in lines {
            let corners = corners_of(line)
                .0
                .map(|[x, y]| [x * self.width, y * self.height]);
            let (along, across) = (edge(corners), side(corners));
            let (length, thickness) = (along[0].hypot(along[1]), across[0].hypot(across[1]));
            let lean = match self.direction {
                Direction::Vertical if thickness > length => {
                    fold(angle_of(across) - std::f32::consts::FRAC_PI_2)
                }
                _ => angle_of(along),
            };
            // A short line's edges are too noisy to tell a lean from the raster.
            let long = length.max(thickness) > 4.0 * length.min(thickness);
            if long && lean.abs() <= MAX_SKEW_DEGREES.to_radians() {
                leans.push((lean, length.max(thickness)));
            }
        }
        let skew = weighted_median(&mut leans).unwrap_or(0.0);
        if skew.abs() < MIN_SKEW_DEGREES.to_radians() {
            0.0
        } else {
            skew
        }
    }
}

/// The value at which half of the weight lies on either side.
pub(crate) fn weighted_median(values: &mut [(f32, f32)]) -> Option<f32> {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f32 = values.iter().map(|&(_, weight)| weight).sum();
    let mut seen = 0.0;
    for &(value, weight) in values.iter() {
        seen += weight;
        if seen * 2.0 >= total {
            return Some(value);
        }
    }
    values.last().map(|&(value, _)| value)
}

/// The middle value.
pub(crate) fn median(values: impl IntoIterator<Item = f32>) -> Option<f32> {
    let mut values: Vec<(f32, f32)> = values.into_iter().map(|value| (value, 1.0)).collect();
    weighted_median(&mut values)
}

/// The rectangle with numbers that are numbers, ordered, inside the page.
pub(crate) fn finite_rect(rect: &Rect) -> Rect {
    let fix = |value: f32| if value.is_finite() { value } else { 0.0 };
    Rect {
        x0: fix(rect.x0),
        y0: fix(rect.y0),
        x1: fix(rect.x1),
        y1: fix(rect.y1),
    }
    .clamped()
}

/// The line's own quad if it is usable, else its box.
pub(crate) fn corners_of(line: &Line) -> Quad {
    match &line.quad {
        Some(quad) if quad.0.iter().flatten().all(|value| value.is_finite()) => quad.clamped(),
        _ => Quad::from(finite_rect(&line.rect)),
    }
}

fn direction_of(lines: &[Line], width: f32, height: f32) -> Direction {
    let (mut letters, mut right_to_left, mut tall, mut chars) = (0usize, 0usize, 0usize, 0usize);
    for line in lines {
        let n = line.text.chars().filter(|c| !c.is_whitespace()).count();
        letters += line.text.chars().filter(|c| c.is_alphabetic()).count();
        right_to_left += line.text.chars().filter(|&c| is_right_to_left(c)).count();
        chars += n;
        let rect = corners_of(line).bounds();
        let is_tall = rect.height() * height > rect.width() * width * 2.0;
        if is_tall && n > 2 && line.text.chars().filter(|&c| is_cjk(c)).count() * 2 > n {
            tall += n;
        }
    }
    if right_to_left * 2 > letters {
        Direction::RightToLeft
    } else if tall * 10 > chars * 6 {
        Direction::Vertical
    } else {
        Direction::LeftToRight
    }
}

/// From the left to the right end of a quad.
fn edge([a, b, c, d]: [[f32; 2]; 4]) -> [f32; 2] {
    [
        (b[0] - a[0] + c[0] - d[0]) / 2.0,
        (b[1] - a[1] + c[1] - d[1]) / 2.0,
    ]
}

/// From the top to the bottom of a quad.
fn side([a, b, c, d]: [[f32; 2]; 4]) -> [f32; 2] {
    [
        (d[0] - a[0] + c[0] - b[0]) / 2.0,
        (d[1] - a[1] + c[1] - b[1]) / 2.0,
    ]
}

fn centre_of(corners: [[f32; 2]; 4]) -> [f32; 2] {
    let sum = corners
        .iter()
        .fold([0.0, 0.0], |s, p| [s[0] + p[0], s[1] + p[1]]);
    [sum[0] / 4.0, sum[1] / 4.0]
}

fn angle_of([dx, dy]: [f32; 2]) -> f32 {
    if dx == 0.0 && dy == 0.0 {
        0.0
    } else {
        dy.atan2(dx)
    }
}

/// The angle within a half turn either way.
fn fold(angle: f32) -> f32 {
    let turn = std::f32::consts::TAU;
    (angle + turn / 2.0).rem_euclid(turn) - turn / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quad: [[f32; 2]; 4], text: &str) -> Line {
        let quad = Quad(quad);
        Line {
            block: None,
            text: text.to_owned(),
            rect: quad.bounds(),
            quad: Some(quad),
            confidence: 1.0,
        }
    }

    fn input(lines: Vec<Line>) -> PageInput<'static> {
        PageInput {
            width_px: 1000,
            height_px: 1000,
            lines,
            regions: Vec::new(),
            image: None,
        }
    }

    #[test]
    fn a_leaning_line_becomes_level_and_comes_back() {
        let leaning = line(
            [[0.1, 0.1], [0.9, 0.12], [0.899, 0.14], [0.099, 0.12]],
            "some words",
        );
        let frame = Frame::new(&input(vec![leaning.clone()]));
        assert!((frame.skew - 0.025f32.atan()).abs() < 1e-3);
        let placed = frame.place(&leaning);
        assert!((placed.rect.height() - 20.0).abs() < 0.5);
        assert!((placed.rect.width() - 800.25).abs() < 1.0);
        let back = frame.unplace(&placed.rect);
        for (got, want) in back
            .0
            .iter()
            .flatten()
            .zip(leaning.quad.unwrap().0.iter().flatten())
        {
            assert!((got - want).abs() < 2e-3);
        }
    }

    #[test]
    fn right_to_left_pages_are_mirrored() {
        let right = line(
            [[0.6, 0.1], [0.9, 0.1], [0.9, 0.12], [0.6, 0.12]],
            "مرحبا بالعالم",
        );
        let frame = Frame::new(&input(vec![right.clone()]));
        assert_eq!(frame.direction, Direction::RightToLeft);
        assert!((frame.place(&right).rect.x0 - 100.0).abs() < 1e-2);
    }

    #[test]
    fn vertical_columns_stack_from_the_right() {
        let first = line(
            [[0.8, 0.1], [0.83, 0.1], [0.83, 0.8], [0.8, 0.8]],
            "學而時習之不亦說乎",
        );
        let second = line(
            [[0.7, 0.1], [0.73, 0.1], [0.73, 0.6], [0.7, 0.6]],
            "有朋自遠方來",
        );
        let frame = Frame::new(&input(vec![second.clone(), first.clone()]));
        assert_eq!(frame.direction, Direction::Vertical);
        assert!(frame.place(&first).rect.y0 < frame.place(&second).rect.y0);
        assert!(frame.place(&first).rect.width() > 600.0);
    }
}
