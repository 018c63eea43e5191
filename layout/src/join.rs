//! Rows of a paragraph into running text: which rows take a space between them, and which of
//! the hyphens at their ends were only there because the row was full.

use crate::chars::{is_cjk, is_hyphen, is_spaceless};
use crate::draft::Page;
use crate::rows::Row;

/// Words that English keeps apart from what follows by a hyphen, so often that a row's end
/// after them is most likely at a real hyphen.
const COMPOUNDING: [&str; 22] = [
    "well", "self", "non", "all", "ex", "half", "high", "low", "long", "short", "two", "three",
    "four", "five", "one", "multi", "cross", "full", "real", "large", "small", "e",
];

/// Words after a suspended hyphen: "Vor- und Nachteile", "two- or three-column".
const SUSPENDING: [&str; 14] = [
    "und", "oder", "bzw", "and", "or", "to", "et", "ou", "y", "o", "en", "of", "och", "sowie",
];

/// Joins rows; a row that starts a line of its own is preceded by a newline.
pub(crate) fn join(page: &Page<'_>, rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let text = row_text(page, row);
        if out.is_empty() {
            out = text;
        } else if row.starts_line {
            out.push('\n');
            out.push_str(&text);
        } else {
            append(page, &mut out, &text);
        }
    }
    out
}

/// A row's pieces side by side.
pub(crate) fn row_text(page: &Page<'_>, row: &Row) -> String {
    let mut out = String::new();
    let mut end = 0.0;
    for &item in &row.items {
        let item = &page.items[item];
        let tight = item.rect.x0 - end < 0.6 * page.em;
        match (out.chars().next_back(), item.text.chars().next()) {
            (Some(last), Some(first)) => {
                if !(tight && is_spaceless(last) && is_spaceless(first)) {
                    out.push(' ');
                }
                out.push_str(&item.text);
            }
            _ => out.push_str(&item.text),
        }
        end = item.rect.x1;
    }
    out
}

/// Appends the next row to running text.
fn append(page: &Page<'_>, out: &mut String, next: &str) {
    let (Some(last), Some(first)) = (out.chars().next_back(), next.chars().next()) else {
        out.push_str(next);
        return;
    };
    if is_hyphen(last) && ends_in_word(out) {
        match hyphen(page, out, next) {
            Hyphen::Typeset => {
                out.pop();
            }
            Hyphen::Real => {}
            Hyphen::Suspended => out.push(' '),
        }
    } else if needs_space(page, last, first) && !is_cut_address(out, next) {
        out.push(' ');
    }
    out.push_str(next);
}

fn needs_space(page: &Page<'_>, last: char, first: char) -> bool {
    match (is_spaceless(last), is_spaceless(first)) {
        (true, true) => false,
        (false, false) => !matches!(last, '—' | '–' | '/') || !first.is_alphanumeric(),
        // Between scripts: as the page itself does it, and never beside full-width punctuation.
        (true, false) | (false, true) => {
            page.spaces_scripts && !is_full_width_mark(last) && !is_full_width_mark(first)
        }
    }
}

/// Whether a web address was cut at the row's end: after its slashes or a mark inside it.
fn is_cut_address(text: &str, next: &str) -> bool {
    let word = text.rsplit(' ').next().unwrap_or("");
    let is_address = word.contains("://")
        || word.starts_with("www.")
        || word.ends_with("https:")
        || word.ends_with("http:");
    let goes_on =
        next.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '/');
    is_address && goes_on && word.ends_with(['/', '.', '_', '?', '&', '=', ':', '%', '#'])
}

fn is_full_width_mark(c: char) -> bool {
    is_cjk(c) && !c.is_alphanumeric()
}

/// Whether a letter or digit stands before the last character.
fn ends_in_word(text: &str) -> bool {
    text.chars().rev().nth(1).is_some_and(char::is_alphanumeric)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hyphen {
    /// Only there because the row was full: goes.
    Typeset,
    /// Part of the word: stays, without a space.
    Real,
    /// Stands for a word's missing half: stays, with a space.
    Suspended,
}

/// What a hyphen between `text` (which ends with it) and `next` is.
fn hyphen(page: &Page<'_>, text: &str, next: &str) -> Hyphen {
    let is_part = |c: char| c.is_alphanumeric() || is_hyphen(c);
    let before = text.trim_end_matches(is_hyphen);
    let head_start = before
        .char_indices()
        .rev()
        .find(|&(_, c)| !is_part(c))
        .map_or(0, |(at, c)| at + c.len_utf8());
    let head = before[head_start..].to_lowercase();
    let tail: String = next.chars().take_while(|&c| c.is_alphanumeric()).collect();
    let first = tail.chars().next().unwrap_or(' ');
    let is_soft = text.ends_with('\u{AD}');
    if SUSPENDING.contains(&tail.to_lowercase().as_str()) && !is_soft {
        return Hyphen::Suspended;
    }
    if !first.is_lowercase() || head.ends_with(|c: char| !c.is_alphabetic()) {
        // Names, numbers, initials; a soft hyphen is typeset whatever follows.
        return if is_soft {
            Hyphen::Typeset
        } else {
            Hyphen::Real
        };
    }
    if is_soft {
        return Hyphen::Typeset;
    }
    // The page's own other spellings settle it where there are any.
    let tail = tail.to_lowercase();
    let seen = |word: String| page.words.get(&word).copied().unwrap_or(0);
    let (whole, apart) = (
        seen(format!("{head}{tail}")),
        seen(format!("{head}-{tail}")),
    );
    if whole != apart {
        return if whole > apart {
            Hyphen::Typeset
        } else {
            Hyphen::Real
        };
    }
    let compounds = COMPOUNDING.contains(&head.as_str()) || head.contains(is_hyphen);
    if compounds {
        Hyphen::Real
    } else {
        Hyphen::Typeset
    }
}
