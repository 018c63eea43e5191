//! Whether a string reads like text of some language, judged by how often its characters are used.
//!
//! A broken Unicode map shifts every character by the same amount: each one is a fine character,
//! and only their frequencies are wrong.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::letters::{FREQUENT, LETTER_SURPRISE};

/// Below this many letters or ideographs frequencies say nothing.
const MIN_LETTERS: usize = 60;
const MIN_IDEOGRAPHS: usize = 30;
/// Mean bits of surprise of a letter. Measured on pages of books, papers, tables and receipts in
/// English, German, Dutch and French: 4.2 to 4.7, a pangram 4.9; the same with letters shifted by
/// one to five places: 5.3 to 5.6.
const MAX_LETTER_SURPRISE: f32 = 4.95;
/// Part of the ideographs, kana and syllables that are frequent ones. Measured on Chinese books,
/// notices, tables and receipts: 0.44 to 0.74; with characters shifted: 0.02 to 0.19.
const MIN_FREQUENT: f32 = 0.28;
/// Part of the characters that are letters, ideographs or digits; tables of figures have little
/// else, formulas and code much.
const MIN_WORD_CHARACTERS: f32 = 0.55;

/// What speaks against a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Too few characters to tell.
    TooShort,
    /// Mostly signs, hardly a word.
    MostlySigns,
    /// Latin letters with frequencies of no language.
    Letters,
    /// Ideographs nobody uses.
    Ideographs,
    /// A script whose order or frequencies are not known here.
    Script,
}

static FREQUENT_SET: LazyLock<HashSet<char>> = LazyLock::new(|| FREQUENT.chars().collect());

/// The first doubt about `text`, if there is one.
pub(super) fn doubt(text: &str) -> Option<Doubt> {
    let mut counts = Counts::default();
    let mut previous = ' ';
    for c in text.chars().filter(|c| !c.is_whitespace()) {
        // Dot leaders of tables of contents say nothing.
        if c.is_alphanumeric() || c != previous {
            counts.add(c);
        }
        previous = c;
    }
    let Counts {
        total,
        latin,
        surprise,
        ideographs,
        frequent,
        other_letters,
        digits,
        ..
    } = counts;
    let words = latin + ideographs + other_letters + digits;
    let part = |n: usize, of: usize| n as f32 / of.max(1) as f32;
    if part(words, total) < MIN_WORD_CHARACTERS {
        return Some(Doubt::MostlySigns);
    }
    if part(other_letters, words) > 0.3 {
        return Some(Doubt::Script);
    }
    let is_figures = part(digits, words) > 0.6 && words >= MIN_LETTERS;
    if latin < MIN_LETTERS && ideographs < MIN_IDEOGRAPHS && !is_figures {
        return Some(Doubt::TooShort);
    }
    if latin >= MIN_LETTERS && surprise / latin as f32 > MAX_LETTER_SURPRISE {
        return Some(Doubt::Letters);
    }
    if ideographs >= MIN_IDEOGRAPHS && part(frequent, ideographs) < MIN_FREQUENT {
        return Some(Doubt::Ideographs);
    }
    None
}

#[derive(Default)]
struct Counts {
    total: usize,
    /// Letters a to z, whatever their case and accent.
    latin: usize,
    surprise: f32,
    ideographs: usize,
    frequent: usize,
    other_letters: usize,
    digits: usize,
}

impl Counts {
    fn add(&mut self, c: char) {
        self.total += 1;
        if c.is_ascii_alphabetic() {
            self.latin += 1;
            let nth = usize::from(c.to_ascii_lowercase() as u8 - b'a');
            self.surprise += LETTER_SURPRISE[nth];
        } else if super::lines::is_cjk(c) && c.is_alphanumeric() {
            self.ideographs += 1;
            self.frequent += usize::from(FREQUENT_SET.contains(&c));
        } else if matches!(u32::from(c), 0xc0..=0x24f | 0x1e00..=0x1eff) {
            // Accented letters: of words, and outside the table.
            self.digits += 1;
        } else if c.is_numeric() {
            self.digits += 1;
        } else if c.is_alphabetic() {
            self.other_letters += 1;
        } else if super::lines::is_cjk(c) {
            // Full-width punctuation belongs to running text.
            self.digits += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLISH: &str = "It is a truth universally acknowledged, that a single man in possession \
        of a good fortune, must be in want of a wife. However little known the feelings or views \
        of such a man may be on his first entering a neighbourhood.";
    const GERMAN: &str = "Habe nun, ach! Philosophie, Juristerei und Medizin, und leider auch \
        Theologie durchaus studiert, mit heißem Bemühn. Da steh ich nun, ich armer Tor, und bin so \
        klug als wie zuvor.";
    const CHINESE: &str = "我们在这个问题上已经做了很多工作，但是还有一些地方需要进一步的研究和讨论，\
        希望大家能够提出自己的意见。";

    fn shifted(text: &str, by: u32) -> String {
        let shift = |c: char| char::from_u32(u32::from(c) + by).unwrap_or(c);
        text.chars()
            .map(|c| if c.is_whitespace() { c } else { shift(c) })
            .collect()
    }

    #[test]
    fn text_passes_and_shifted_text_does_not() {
        for text in [ENGLISH, GERMAN, CHINESE] {
            assert_eq!(doubt(text), None, "{text}");
            for by in [1, 2, 3, 5, 7, 29] {
                assert!(doubt(&shifted(text, by)).is_some(), "{by}: {text}");
            }
        }
    }

    #[test]
    fn figures_pass_and_signs_do_not() {
        assert_eq!(
            doubt(&"12.5 17.25 3.0 1998 2004 45% 1,200 ".repeat(4)),
            None
        );
        let contents = "Introduction to the matter . . . . . . . . . . . . . . . . . . . . 12 ";
        assert_eq!(doubt(&contents.repeat(8)), None);
        assert_eq!(doubt("A short title"), Some(Doubt::TooShort));
        assert_eq!(doubt("#$%&*()!@ ><?:{} |~^ a1"), Some(Doubt::MostlySigns));
        assert_eq!(doubt("مرحبا بالعالم هذا نص عربي"), Some(Doubt::Script));
    }
}
