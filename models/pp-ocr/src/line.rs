//! Where a line of text lies: a rectangle, bent if the paper was.

use crate::geometry::Rectangle;

/// Points of a bend, evenly from the start of a line to its end.
pub const BEND_POINTS: usize = 9;

/// A line of text, in the direction in which it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextLine {
    /// Corners go from the start of the text clockwise around it.
    pub rectangle: Rectangle,
    /// How far the middle of the text lies below that of the rectangle along the line, over the
    /// rectangle's height. Pages of open books and photographs have such lines.
    pub bend: Option<[f32; BEND_POINTS]>,
}

impl TextLine {
    /// A line that is not bent.
    pub fn straight(rectangle: Rectangle) -> Self {
        Self {
            rectangle,
            bend: None,
        }
    }

    /// Length in the direction of reading.
    pub fn width(&self) -> f32 {
        self.rectangle.width()
    }

    pub fn height(&self) -> f32 {
        self.rectangle.height()
    }

    /// How far the text lies below the rectangle at `along`, 0 at its start and 1 at its end,
    /// over the rectangle's height.
    pub fn bend_at(&self, along: f32) -> f32 {
        let Some(bend) = &self.bend else { return 0.0 };
        let at = along.clamp(0.0, 1.0) * (BEND_POINTS - 1) as f32;
        let first = (at as usize).min(BEND_POINTS - 2);
        let fraction = at - first as f32;
        bend[first] * (1.0 - fraction) + bend[first + 1] * fraction
    }

    /// The line in a plane stretched by `x` and `y`.
    pub fn scaled(&self, x: f32, y: f32) -> Self {
        Self {
            rectangle: self.rectangle.scaled(x, y),
            bend: self.bend,
        }
    }

    /// The same line read upside down.
    pub fn half_turned(&self) -> Self {
        let bend = self.bend.map(|mut bend| {
            bend.reverse();
            bend.map(|below| -below)
        });
        Self {
            rectangle: self.rectangle.half_turned(),
            bend,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bend_is_interpolated_and_turns_with_its_line() {
        let corners = [[0.0, 0.0], [80.0, 0.0], [80.0, 10.0], [0.0, 10.0]];
        let mut line = TextLine::straight(Rectangle { corners });
        assert_eq!(line.bend_at(0.3), 0.0);
        line.bend = Some(std::array::from_fn(|index| index as f32));
        assert_eq!(
            (line.bend_at(-1.0), line.bend_at(0.5), line.bend_at(2.0)),
            (0.0, 4.0, 8.0)
        );
        assert!((line.bend_at(0.0625) - 0.5).abs() < 1e-6);
        let turned = line.half_turned();
        assert_eq!((turned.bend_at(0.0), turned.bend_at(1.0)), (-8.0, 0.0));
        assert_eq!(turned.half_turned(), line);
    }
}
