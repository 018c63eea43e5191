//! Plane geometry of text lines: the smallest rectangle around a blob of points, and growing it.
//!
//! Coordinates are pixels, x right and y down; a pixel is the point at its indexes.

/// A point or a vector, x then y.
pub type Point = [f32; 2];

/// A rectangle that may be turned.
///
/// Corners go clockwise on the screen from the one that is top left when the longer of the
/// near-horizontal edges is read from left to right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rectangle {
    pub corners: [Point; 4],
}

impl Rectangle {
    /// Length of the edge from the first corner to the second.
    pub fn width(&self) -> f32 {
        distance(self.corners[0], self.corners[1])
    }

    /// Length of the edge from the first corner to the last.
    pub fn height(&self) -> f32 {
        distance(self.corners[0], self.corners[3])
    }

    /// The middle of the rectangle.
    pub fn center(&self) -> Point {
        let [a, _, c, _] = self.corners;
        [(a[0] + c[0]) / 2.0, (a[1] + c[1]) / 2.0]
    }

    /// The rectangle with every edge moved out by `margin`.
    pub fn grown(&self, margin: f32) -> Self {
        let right = direction(self.corners[0], self.corners[1]);
        let down = direction(self.corners[0], self.corners[3]);
        // A line of no extent has no direction of its own.
        let right = right.unwrap_or(down.map_or([1.0, 0.0], |[x, y]| [y, -x]));
        let down = down.unwrap_or([-right[1], right[0]]);
        let signs = [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]];
        let mut corners = self.corners;
        for (corner, [along, across]) in corners.iter_mut().zip(signs) {
            for axis in 0..2 {
                corner[axis] += margin * (along * right[axis] + across * down[axis]);
            }
        }
        Self { corners }
    }

    /// The rectangle in a plane stretched by `x` and `y`; nearly a rectangle if they are near.
    pub fn scaled(&self, x: f32, y: f32) -> Self {
        Self {
            corners: self.corners.map(|corner| [corner[0] * x, corner[1] * y]),
        }
    }

    /// The same rectangle read upside down.
    pub fn half_turned(&self) -> Self {
        let [a, b, c, d] = self.corners;
        Self {
            corners: [c, d, a, b],
        }
    }

    /// The same rectangle read with what is its right side up: what text that runs from top to
    /// bottom, each letter lying on its back, needs.
    pub fn quarter_turned(&self) -> Self {
        let [a, b, c, d] = self.corners;
        Self {
            corners: [b, c, d, a],
        }
    }
}

/// The smallest rectangle around `points` by area, of any angle; `None` without points.
pub fn smallest_rectangle(points: &mut Vec<Point>) -> Option<Rectangle> {
    let hull = convex_hull(points);
    let &first = hull.first()?;
    let mut best: Option<(f32, [Point; 4])> = None;
    for (index, &from) in hull.iter().enumerate() {
        let to = hull[(index + 1) % hull.len()];
        // One side of the smallest rectangle lies along an edge of the hull.
        let Some(along) = direction(from, to) else {
            continue;
        };
        let across = [-along[1], along[0]];
        let (mut low, mut high) = ([f32::MAX; 2], [f32::MIN; 2]);
        for &point in &hull {
            for (axis, unit) in [along, across].into_iter().enumerate() {
                let at = point[0] * unit[0] + point[1] * unit[1];
                low[axis] = low[axis].min(at);
                high[axis] = high[axis].max(at);
            }
        }
        let area = (high[0] - low[0]) * (high[1] - low[1]);
        if best.is_none_or(|(least, _)| area < least) {
            let at = |u: f32, v: f32| [u * along[0] + v * across[0], u * along[1] + v * across[1]];
            let corners = [
                at(low[0], low[1]),
                at(high[0], low[1]),
                at(high[0], high[1]),
                at(low[0], high[1]),
            ];
            best = Some((area, corners));
        }
    }
    let corners = best.map_or([first; 4], |(_, corners)| corners);
    Some(Rectangle {
        corners: clockwise(corners),
    })
}

/// Orders corners clockwise from the top left: the two leftmost are the left side.
fn clockwise(mut corners: [Point; 4]) -> [Point; 4] {
    corners.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [mut a, mut b, mut c, mut d] = corners;
    if a[1] > b[1] {
        std::mem::swap(&mut a, &mut b);
    }
    if c[1] > d[1] {
        std::mem::swap(&mut c, &mut d);
    }
    [a, c, d, b]
}

/// The corners of the smallest convex polygon around `points`, which are sorted on the way.
fn convex_hull(points: &mut Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    points.dedup();
    if points.len() < 3 {
        return points.clone();
    }
    let mut hull: Vec<Point> = Vec::with_capacity(32);
    let mut chain = |points: &mut dyn Iterator<Item = Point>| {
        let start = hull.len();
        for point in points {
            while hull.len() >= start + 2
                && turn(hull[hull.len() - 2], hull[hull.len() - 1], point) <= 0.0
            {
                hull.pop();
            }
            hull.push(point);
        }
        // The last point of one chain is the first of the other.
        hull.pop();
    };
    chain(&mut points.iter().copied());
    chain(&mut points.iter().rev().copied());
    hull
}

/// Positive when `c` lies to the left of the way from `a` to `b` in a plane with y up.
fn turn(a: Point, b: Point, c: Point) -> f32 {
    (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
}

fn distance(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// The unit vector from `a` to `b`; `None` if they are one point.
fn direction(a: Point, b: Point) -> Option<Point> {
    let length = distance(a, b);
    (length > 1e-6).then(|| [(b[0] - a[0]) / length, (b[1] - a[1]) / length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-3
    }

    #[test]
    fn rectangle_around_a_tilted_strip_follows_its_tilt() {
        let (sin, cos) = 0.05f32.sin_cos();
        let mut points: Vec<Point> = (0..=200)
            .flat_map(|along| (0..=10).map(move |across| (along as f32, across as f32)))
            .map(|(u, v)| [50.0 + u * cos - v * sin, 30.0 + u * sin + v * cos])
            .collect();
        let rectangle = smallest_rectangle(&mut points).unwrap();
        assert!(close(rectangle.width(), 200.0), "{}", rectangle.width());
        assert!(close(rectangle.height(), 10.0), "{}", rectangle.height());
        assert!(close(rectangle.corners[0][0], 50.0) && close(rectangle.corners[0][1], 30.0));
    }

    #[test]
    fn rectangle_of_one_point_or_a_line_is_degenerate_and_not_an_error() {
        assert_eq!(smallest_rectangle(&mut Vec::new()), None);
        let point = smallest_rectangle(&mut vec![[3.0, 4.0]]).unwrap();
        assert_eq!(point.corners, [[3.0, 4.0]; 4]);
        assert_eq!(point.grown(1.0).corners[0], [2.0, 3.0]);
        let line = smallest_rectangle(&mut vec![[0.0, 0.0], [5.0, 0.0], [9.0, 0.0]]).unwrap();
        assert!(close(line.width(), 9.0) && close(line.height(), 0.0));
    }

    #[test]
    fn growing_moves_every_edge_out() {
        let rectangle = Rectangle {
            corners: [[0.0, 0.0], [10.0, 0.0], [10.0, 4.0], [0.0, 4.0]],
        };
        let grown = rectangle.grown(2.0);
        assert_eq!(
            grown.corners,
            [[-2.0, -2.0], [12.0, -2.0], [12.0, 6.0], [-2.0, 6.0]]
        );
        assert_eq!(grown.center(), rectangle.center());
    }
}
