//! How large a page is shown to the detector.

use quire_core::PageImage;

use super::postprocess::TextBox;

/// The network halves its input five times.
const MULTIPLE: usize = 32;
/// Longest edge of a page of unknown resolution at the first look. A sheet of A4 is then seen at
/// 82 dots an inch, where lines of 8 point type are 12 pixels high with their margins. Of 13 real
/// pages with 3,700 words no more were missed than at twice that size, except single letters.
const FIRST_EDGE: f32 = 960.0;
/// Dots an inch of the first look where the page says how large it is.
const FIRST_DPI: f32 = 82.0;
/// Resolutions that are believed; many image files state 72 or 96 whatever they hold.
const BELIEVED_DPI: std::ops::RangeInclusive<f32> = 100.0..=1200.0;
/// Largest input of the first and of the second look, pixels. Time grows with the area: a
/// megapixel is about a second on one core without wide vectors.
const FIRST_AREA: f32 = 1.3e6;
const SECOND_AREA: f32 = 3.2e6;
/// Height that an eighth of the lines stay under, with their margins and in pixels of the input,
/// from which lines begin to merge or to be missed: a second, larger look pays. Cores are 3 pixels
/// at least, so heights hardly fall below 10 however small the text. Of 5 pages shrunk in steps,
/// those over 11 missed nothing, and those under it up to a tenth of their words.
const SMALL_LINE: f32 = 11.0;
/// How much larger the second look is then.
const GROWTH: f32 = 1.45;
/// Doubtful pixels per sure one, from which the text is too small to be seen as lines at all; on
/// pages seen at a fitting size there are 0.1 to 0.25.
const MUCH_DOUBT: f32 = 0.5;
/// Share of the map that must be doubtful: less is a few specks on a page without text.
const DOUBT_SHARE: f32 = 0.01;
/// How much larger the second look is then.
const DOUBT_GROWTH: f32 = 2.2;
/// Enlarging a page beyond this adds no detail.
const MAX_ENLARGED: f32 = 2.0;

/// What a look at a page found.
#[derive(Debug, Clone)]
pub struct Look {
    /// In pixels of the input.
    pub lines: Vec<TextBox>,
    /// Pixels that are nearly text, over those that surely are.
    pub doubt: f32,
    /// Share of the pixels that are nearly text.
    pub doubt_share: f32,
}

/// Width and height of the detector's input, multiples of 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputSize {
    pub width: usize,
    pub height: usize,
}

impl InputSize {
    /// The size of the first look at `image`: never larger than the image, but for rounding.
    pub fn first(image: &PageImage) -> Self {
        let long = image.width.max(image.height).max(1) as f32;
        let mut scale = FIRST_EDGE / long;
        if let Some(dpi) = image.dpi.filter(|dpi| BELIEVED_DPI.contains(dpi)) {
            // Only upwards: a small sheet is cheap at any size.
            scale = scale.max(FIRST_DPI / dpi);
        }
        Self::of(image, scale.min(1.0), FIRST_AREA)
    }

    /// The size of a second look, if what the first one found calls for it.
    pub fn grown_for(self, look: &Look, image: &PageImage) -> Option<Self> {
        let growth = if look.doubt > MUCH_DOUBT && look.doubt_share > DOUBT_SHARE {
            DOUBT_GROWTH
        } else if small_height(&look.lines).is_some_and(|height| height < SMALL_LINE) {
            GROWTH
        } else {
            return None;
        };
        let pixels = image.width.max(1) as f32 * image.height.max(1) as f32;
        let scale = (self.area() as f32 / pixels).sqrt() * growth;
        let grown = Self::of(image, scale.min(MAX_ENLARGED), SECOND_AREA);
        (grown.area() as f32 > 1.2 * self.area() as f32).then_some(grown)
    }

    /// Pixels of the input.
    pub fn area(self) -> usize {
        self.width * self.height
    }

    fn of(image: &PageImage, scale: f32, most: f32) -> Self {
        let (width, height) = (image.width.max(1) as f32, image.height.max(1) as f32);
        let scale = scale.min((most / (width * height)).sqrt());
        // A sliver keeps its short edge and so its text; its long edge is bounded by the area.
        let round =
            |edge: f32| ((edge * scale / MULTIPLE as f32).round() as usize).max(1) * MULTIPLE;
        let cap = |edge: usize| edge.min(most as usize / MULTIPLE / MULTIPLE * MULTIPLE);
        Self {
            width: cap(round(width)),
            height: cap(round(height)),
        }
    }
}

/// Height that an eighth of the lines stay under; `None` without lines.
fn small_height(found: &[TextBox]) -> Option<f32> {
    let mut heights: Vec<f32> = found.iter().map(TextBox::thickness).collect();
    heights.sort_by(f32::total_cmp);
    heights.get(heights.len() / 8).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Rectangle;
    use crate::line::TextLine;

    fn size(width: u32, height: u32, dpi: Option<f32>) -> (usize, usize) {
        let image = PageImage {
            width,
            height,
            rgb: Vec::new(),
            dpi,
        };
        let size = InputSize::first(&image);
        (size.width, size.height)
    }

    fn line(height: f32) -> TextBox {
        let corners = [[0.0, 0.0], [90.0, 0.0], [90.0, height], [0.0, height]];
        TextBox {
            line: TextLine::straight(Rectangle { corners }),
            score: 0.9,
        }
    }

    #[test]
    fn page_is_seen_at_a_size_its_text_needs_not_its_pixels() {
        assert_eq!(size(1241, 1754, Some(150.0)), (672, 960));
        assert_eq!(size(2480, 3508, Some(300.0)), (672, 960));
        assert_eq!(size(2480, 3508, None), (672, 960));
        // A3 at 150 dots an inch, and a slide that is small already.
        assert_eq!(size(1754, 2480, Some(150.0)), (960, 1344));
        assert_eq!(size(756, 567, None), (768, 576));
    }

    #[test]
    fn odd_shapes_get_a_legal_size() {
        assert_eq!(size(1, 1, None), (32, 32));
        assert_eq!(size(566, 6, None), (576, 32));
        for (width, height) in [(0, 0), (100_000, 3), (3, 100_000), (60_000, 60_000)] {
            let (width, height) = size(width, height, Some(150.0));
            assert!(width % 32 == 0 && height % 32 == 0 && width * height > 0);
            assert!(width * height <= 1_400_000, "{width} x {height}");
        }
    }

    fn look(lines: &[TextBox], doubt: f32) -> Look {
        Look {
            lines: lines.to_vec(),
            doubt,
            doubt_share: 0.05,
        }
    }

    #[test]
    fn small_lines_call_for_a_second_look_and_large_ones_do_not() {
        let image = PageImage {
            width: 2480,
            height: 3508,
            rgb: Vec::new(),
            dpi: None,
        };
        let first = InputSize::first(&image);
        let grown = |lines: &[TextBox], doubt| first.grown_for(&look(lines, doubt), &image);
        assert_eq!(grown(&[line(13.0), line(20.0)], 0.2), None);
        assert_eq!(grown(&[], 0.2), None);
        let second = grown(&[line(10.0), line(10.0)], 0.2).unwrap();
        assert_eq!(
            second,
            InputSize {
                width: 992,
                height: 1376
            }
        );
        // Hardly a line found, but much that is nearly text.
        assert!(grown(&[line(20.0)], 2.0).unwrap().area() > second.area());
    }
}
