//! How far lines may be narrowed before they are read.
//!
//! The time of the recognizer goes with the width of its input, and it was trained on lines that
//! keep their aspect, where a letter is 14 to 24 pixels wide and an East Asian character 40. It
//! reads far narrower ones as well. What it cannot do is tell letters apart that fall into one
//! step of 8 pixels. So the width that a page is read at is chosen by the letters of its first
//! lines.

use super::STEP;

/// How wide a recognizer wants what it reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pitch {
    /// Mean width of a letter that reads as well as a wider one, pixels.
    letter_px: f32,
    /// The same of an East Asian character.
    wide_px: f32,
    /// Width over that of an undistorted line before anything is known of a page.
    pub(super) first: f32,
}

impl Pitch {
    /// Measured on 20 pages by narrowing them in steps: down to 13 hardly a page read worse, at 11
    /// every third, at 9 all fell apart; 23 pages' East Asian characters at 23 pixels read as at
    /// 38.
    pub(super) const SMALL: Self = Self {
        letter_px: 13.2,
        wide_px: 23.0,
        first: 0.9,
    };
    /// Steps that see two to each side lose one of two equal letters sooner.
    pub(super) const TINY: Self = Self {
        letter_px: 17.0,
        wide_px: 32.0,
        first: 1.0,
    };
}

/// Under this a line is read again, wider: its letters are narrower than its page's.
const TOO_NARROW: f32 = 0.87;
/// Bounds of the width over that of an undistorted line.
const NARROWEST: f32 = 0.6;
const WIDEST: f32 = 1.2;

impl Pitch {
    /// Width of a page's lines over that of undistorted ones, by lines already read: pairs of the
    /// undistorted width in pixels and the text.
    pub(super) fn squeeze_for<'a>(self, read: impl Iterator<Item = (f32, &'a str)>) -> f32 {
        let (mut width, mut wanted) = (0.0, 0.0);
        for (line_width, text) in read {
            width += line_width;
            wanted += self.comfortable_width(text);
        }
        if wanted < 8.0 * self.letter_px {
            self.first
        } else {
            bounded(wanted / width.max(1.0))
        }
    }

    /// The squeeze to read a line at once more, if `text` is too crowded in `width` pixels.
    pub(super) fn wider_for(self, text: &str, undistorted: f32, width: usize) -> Option<f32> {
        let wanted = self.comfortable_width(text);
        let squeeze = bounded(wanted / undistorted.max(1.0));
        let is_crowded = (width as f32) < TOO_NARROW * wanted;
        (is_crowded && squeeze * undistorted > (width + STEP) as f32).then_some(squeeze)
    }

    fn comfortable_width(self, text: &str) -> f32 {
        let of = |c| match is_wide(c) {
            true => self.wide_px,
            false => self.letter_px,
        };
        text.chars().map(of).sum()
    }
}

/// Han, kana, hangul, their punctuation and full-width forms.
fn is_wide(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}' | '\u{FE30}'..='\u{FE4F}'
        | '\u{FF01}'..='\u{FF60}' | '\u{20000}'..='\u{3FFFF}')
}

fn bounded(squeeze: f32) -> f32 {
    squeeze.clamp(NARROWEST, WIDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_of_wide_letters_is_narrowed_and_of_narrow_ones_widened() {
        let text = "a line of forty letters, counted by hand";
        let at =
            |px: f32| Pitch::SMALL.squeeze_for(std::iter::once((px * text.len() as f32, text)));
        assert!((at(17.6) - 0.75).abs() < 1e-3);
        assert!((at(12.0) - 1.1).abs() < 1e-2);
        assert_eq!((at(100.0), at(1.0)), (NARROWEST, WIDEST));
        let chinese =
            Pitch::SMALL.squeeze_for(std::iter::once((38.0 * 12.0, "本馆自二〇二四年七月一日")));
        assert!((chinese - 23.0 / 38.0).abs() < 0.03, "{chinese}");
    }

    #[test]
    fn too_little_text_decides_nothing() {
        for pitch in [Pitch::SMALL, Pitch::TINY] {
            assert_eq!(pitch.squeeze_for(std::iter::empty()), pitch.first);
            let short = std::iter::once((500.0, "Page"));
            assert_eq!(pitch.squeeze_for(short), pitch.first);
        }
    }

    #[test]
    fn crowded_line_is_read_again_and_others_are_not() {
        let text = "narrow letters in a small font";
        let pitch = Pitch::SMALL;
        let crowded = pitch.wider_for(text, 360.0, 280).unwrap();
        assert!(crowded * 360.0 > 300.0);
        assert_eq!(pitch.wider_for(text, 600.0, 380), None);
        assert_eq!(pitch.wider_for("", 600.0, 380), None);
    }
}
