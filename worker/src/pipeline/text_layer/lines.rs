//! Glyphs in the order of drawing to lines of text.
//!
//! A line goes on while the next glyph stands on the same baseline, reads in the same direction
//! and is not far ahead. Order between lines is left as the file has it.

use hayro::kurbo::{Point, Rect as PageRect, Vec2};
use quire_core::{Line, Quad, Rect};
use unicode_normalization::UnicodeNormalization;

use super::extract::{Glyph, Meaning};

/// In ems: a gap that is a space between words. Fonts set spaces at 0.25 to 0.33, typesetters
/// shrink them in tight lines to 0.167, and tracked headings spread letters by up to 0.15.
const WORD_GAP: f64 = 0.16;
/// In ems: a gap that is the space between columns, not the widest of a justified line.
const COLUMN_GAP: f64 = 1.6;
/// In ems: how far off the baseline a glyph may stand, as superscripts do.
const BASELINE_DRIFT: f64 = 0.55;
/// In ems: how far back a glyph may start, as accents and kerned pairs do.
const STEP_BACK: f64 = 0.75;

/// Whether `c` is written without spaces to its neighbors, on a square.
pub(super) fn is_cjk(c: char) -> bool {
    matches!(u32::from(c),
        0x2e80..=0x2fdf | 0x3000..=0x30ff | 0x3100..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff
        | 0xac00..=0xd7af | 0xf900..=0xfaff | 0xfe30..=0xfe4f | 0xff00..=0xff60 | 0xffe0..=0xffe6
        | 0x20000..=0x3ffff)
}

/// Lines of the glyphs that are visible, or of those that are not.
pub(super) fn group(glyphs: &[Glyph], page: (f64, f64), visible: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<OpenLine> = None;
    for glyph in glyphs.iter().filter(|glyph| glyph.is_visible == visible) {
        if let Some(line) = &mut open {
            if line.takes(glyph) {
                line.push(glyph);
                continue;
            }
            lines.extend(open.take().and_then(|line| line.finish(page)));
        }
        if !glyph.meaning.is_space() {
            open = Some(OpenLine::new(glyph));
        }
    }
    lines.extend(open.and_then(|line| line.finish(page)));
    lines
}

struct OpenLine {
    text: String,
    /// Where the line is drawn to so far, spaces included.
    end: Point,
    start: Point,
    /// Unit vector of reading.
    along: Vec2,
    /// Baseline of the largest glyph so far.
    base: Point,
    size: f64,
    bounds: PageRect,
    has_space: bool,
}

impl OpenLine {
    fn new(glyph: &Glyph) -> Self {
        let mut line = Self {
            text: String::new(),
            end: glyph.end,
            start: glyph.start,
            along: direction(glyph),
            base: glyph.start,
            size: glyph.size,
            bounds: glyph.bounds,
            has_space: false,
        };
        line.append(&glyph.meaning);
        line
    }

    fn takes(&self, glyph: &Glyph) -> bool {
        let size = self.size.max(glyph.size);
        if self.along.dot(direction(glyph)) < 0.99 || size <= 0.0 {
            return false;
        }
        let off_baseline = self.along.cross(glyph.start - self.base).abs();
        let gap = self.along.dot(glyph.start - self.end);
        off_baseline < BASELINE_DRIFT * size
            && gap > -STEP_BACK * size
            && gap < COLUMN_GAP * size.min(2.0 * self.size)
    }

    fn push(&mut self, glyph: &Glyph) {
        let gap = self.along.dot(glyph.start - self.end);
        // A glyph drawn backwards (an accent) does not pull the end back.
        if self.along.dot(glyph.end - self.end) > 0.0 {
            self.end = glyph.end;
        }
        if glyph.meaning.is_space() {
            self.has_space = true;
            return;
        }
        let gap_in_ems = gap / self.size.min(glyph.size).max(1e-6);
        let before = self.text.chars().next_back().unwrap_or(' ');
        let is_gap = gap_in_ems > WORD_GAP && may_part(before, first_char(glyph));
        if (self.has_space || is_gap) && !self.text.ends_with(' ') {
            self.text.push(' ');
        }
        self.has_space = false;
        self.append(&glyph.meaning);
        self.bounds = self.bounds.union(glyph.bounds);
        if glyph.size > self.size * 1.05 {
            self.size = glyph.size;
            self.base = glyph.start;
        }
    }

    fn append(&mut self, meaning: &Meaning) {
        match meaning {
            Meaning::Char(c) => push_clean(&mut self.text, *c),
            Meaning::Text(text) => text.chars().for_each(|c| push_clean(&mut self.text, c)),
            Meaning::Unknown => self.text.push(char::REPLACEMENT_CHARACTER),
        }
    }

    fn finish(self, (width, height): (f64, f64)) -> Option<Line> {
        let text: String = self.text.trim().nfc().collect();
        if text.is_empty() {
            return None;
        }
        let point = |p: Point| [(p.x / width) as f32, (p.y / height) as f32];
        let [x0, y0] = point(Point::new(self.bounds.x0, self.bounds.y0));
        let [x1, y1] = point(Point::new(self.bounds.x1, self.bounds.y1));
        // One degree is what upright text may be off.
        let is_upright = self.along.x > 0.9998;
        let quad = (!is_upright).then(|| {
            let up = Vec2::new(self.along.y, -self.along.x) * self.size;
            let (above, below) = (up * 0.79, up * -0.21);
            let corners = [
                self.start + above,
                self.end + above,
                self.end + below,
                self.start + below,
            ];
            Quad(corners.map(point)).clamped()
        });
        Some(Line {
            block: None,
            text,
            rect: Rect { x0, y0, x1, y1 }.clamped(),
            quad,
            confidence: 1.0,
        })
    }
}

fn direction(glyph: &Glyph) -> Vec2 {
    let along = glyph.end - glyph.start;
    let length = along.hypot();
    // Glyphs without advance, such as combining marks, read as most text does.
    if length > 1e-9 {
        along / length
    } else {
        Vec2::new(1.0, 0.0)
    }
}

fn first_char(glyph: &Glyph) -> char {
    match &glyph.meaning {
        Meaning::Char(c) => *c,
        Meaning::Text(text) => text.chars().next().unwrap_or(' '),
        Meaning::Unknown => char::REPLACEMENT_CHARACTER,
    }
}

/// Whether a gap between two characters is a space. Between ideographs it is justification, and
/// next to full-width signs it is their own white; between an ideograph and a Latin word it is
/// set as a space and read as one.
fn may_part(before: char, after: char) -> bool {
    match (is_cjk(before), is_cjk(after)) {
        (false, false) => true,
        (true, true) => false,
        _ => before.is_alphanumeric() && after.is_alphanumeric(),
    }
}

/// Appends what a reader would type: ligatures as their letters, no control characters.
fn push_clean(text: &mut String, c: char) {
    match c {
        '\u{fb00}'..='\u{fb06}' => text.extend(std::iter::once(c).nfkd()),
        '\u{ad}' => text.push('-'),
        '\u{a0}' => text.push(' '),
        '\u{feff}' | '\u{200b}' => {}
        c if c.is_control() => {}
        c => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glyph(c: char, x: f64, y: f64, advance: f64) -> Glyph {
        Glyph {
            meaning: Meaning::Char(c),
            start: Point::new(x, y),
            end: Point::new(x + advance, y),
            size: 10.0,
            bounds: PageRect::new(x, y - 8.0, x + advance, y + 2.0),
            is_visible: true,
        }
    }

    fn texts(glyphs: &[Glyph]) -> Vec<String> {
        group(glyphs, (100.0, 100.0), true)
            .into_iter()
            .map(|line| line.text)
            .collect()
    }

    #[test]
    fn gaps_make_words_lines_and_columns() {
        let glyphs = [
            glyph('a', 10.0, 20.0, 5.0),
            glyph('b', 15.0, 20.0, 5.0),
            glyph('c', 23.0, 20.0, 5.0),
            glyph('d', 60.0, 20.0, 5.0),
            glyph('e', 10.0, 32.0, 5.0),
        ];
        assert_eq!(texts(&glyphs), ["ab c", "d", "e"]);
    }

    #[test]
    fn superscripts_stay_in_their_line() {
        let mut raised = glyph('2', 15.0, 16.0, 3.0);
        raised.size = 7.0;
        let glyphs = [
            glyph('x', 10.0, 20.0, 5.0),
            raised,
            glyph('y', 18.0, 20.0, 5.0),
        ];
        assert_eq!(texts(&glyphs), ["x2y"]);
    }

    #[test]
    fn ideographs_need_no_spaces() {
        let glyphs = [glyph('中', 10.0, 20.0, 10.0), glyph('文', 23.0, 20.0, 10.0)];
        assert_eq!(texts(&glyphs), ["中文"]);
        let mixed = [
            glyph('用', 10.0, 20.0, 10.0),
            glyph('x', 22.5, 20.0, 5.0),
            glyph('，', 30.0, 20.0, 10.0),
        ];
        assert_eq!(texts(&mixed), ["用 x，"]);
    }

    #[test]
    fn ligatures_are_letters_and_spaces_once() {
        let glyphs = [
            glyph('o', 10.0, 20.0, 5.0),
            glyph('ﬃ', 15.0, 20.0, 8.0),
            glyph(' ', 23.0, 20.0, 3.0),
            glyph(' ', 26.0, 20.0, 3.0),
            glyph('x', 29.0, 20.0, 5.0),
            glyph(' ', 34.0, 20.0, 3.0),
        ];
        assert_eq!(texts(&glyphs), ["offi x"]);
    }

    #[test]
    fn text_that_reads_up_has_a_quad() {
        let mut up = glyph('a', 50.0, 80.0, 5.0);
        up.end = Point::new(50.0, 75.0);
        let lines = group(&[up], (100.0, 100.0), true);
        let quad = lines[0].quad.unwrap();
        // Top left of the text is at the left of the page, near the bottom.
        assert!(quad.0[0][0] < 0.5 && quad.0[0][1] > quad.0[1][1]);
    }
}
