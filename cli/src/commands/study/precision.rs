//! How alike a known text and a read one are.
//!
//! The measure is the edit similarity that published comparisons of page readers use: 1 − the
//! Levenshtein distance of the characters over the length of the longer text. Before, marks of
//! Markdown and HTML are taken off both texts, compatibility forms are folded (NFKC) and white
//! space is left out: what is judged is what was read, and not how it was written down.

use std::collections::HashSet;

use rapidfuzz::distance::levenshtein;
use unicode_normalization::UnicodeNormalization;

/// Likeness of two texts, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Likeness {
    pub characters: f32,
    /// Share of the distinct words read that the known text has, too.
    pub words: f32,
}

/// Compares what was read with what stands there.
pub(super) fn likeness(known: &str, read: &str) -> Likeness {
    let (known, read) = (plain(known), plain(read));
    let letters =
        |text: &str| -> Vec<char> { text.chars().filter(|c| !c.is_whitespace()).collect() };
    let (a, b) = (letters(&known), letters(&read));
    let longer = a.len().max(b.len());
    let characters = match longer {
        0 => 1.0,
        _ => {
            let distance = levenshtein::distance(a.iter().copied(), b.iter().copied());
            1.0 - distance as f32 / longer as f32
        }
    };
    let distinct = |text: &str| -> HashSet<String> {
        text.split_whitespace().map(str::to_lowercase).collect()
    };
    let (there, found) = (distinct(&known), distinct(&read));
    let words = match found.len() {
        0 => 0.0,
        n => found.intersection(&there).count() as f32 / n as f32,
    };
    Likeness { characters, words }
}

/// A text without marks of Markdown and HTML.
pub(super) fn plain(text: &str) -> String {
    let text: String = text.nfkc().collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.trim();
        let line = line.trim_start_matches('#').trim_start();
        let line = ["- ", "* ", "+ ", "> "]
            .iter()
            .find_map(|mark| line.strip_prefix(mark))
            .unwrap_or(line);
        if !line.starts_with("```") {
            inline(line, &mut plain);
        }
        plain.push('\n');
    }
    plain
}

/// A line without tags, pictures, escapes and emphasis.
fn inline(line: &str, plain: &mut String) {
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = tag(rest).or_else(|| picture(rest)) {
            plain.push(' ');
            rest = after;
            continue;
        }
        if let Some((letter, after)) = entity(rest) {
            plain.push(letter);
            rest = after;
            continue;
        }
        rest = &rest[first.len_utf8()..];
        let is_escape = first == '\\' && rest.starts_with(|next: char| next.is_ascii_punctuation());
        let is_mark = matches!(first, '*' | '$' | '`') || first == '|' && line.starts_with('|');
        if is_escape {
            // The letter behind it stands for itself.
            if let Some(letter) = rest.chars().next() {
                plain.push(letter);
                rest = &rest[letter.len_utf8()..];
            }
        } else if !is_mark {
            plain.push(first);
        }
    }
}

/// What follows an HTML tag.
fn tag(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('<')?;
    let is_tag = inside.starts_with(|c: char| c == '/' || c == '!' || c.is_ascii_alphabetic());
    let end = inside.find(['>', '<']).filter(|_| is_tag)?;
    inside[end..].strip_prefix('>')
}

/// What follows `![...](...)`.
fn picture(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("![")?;
    let (_, address) = inside.split_once("](")?;
    Some(address.split_once(')')?.1)
}

fn entity(text: &str) -> Option<(char, &str)> {
    let named = [
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&#39;", '\''),
        ("&nbsp;", ' '),
    ];
    let found = named.iter();
    found
        .filter_map(|&(name, letter)| Some((letter, text.strip_prefix(name)?)))
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_no_letters() {
        for (marked, bare) in [
            ("# A *title*", "A title"),
            ("- item `x`", "item x"),
            ("![](#3)", ""),
            (
                "<table><tr><td>1</td><td>2 &lt; 3</td></tr></table>",
                "1 2 < 3",
            ),
            (r"50\% \*", "50% *"),
            ("| a | b |", "a b"),
            ("a < b > c", "a < b > c"),
            ("ﬁne", "fine"),
        ] {
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words(&plain(marked)), bare, "{marked}");
        }
    }

    #[test]
    fn likeness_counts_characters_of_the_longer_text() {
        let same = likeness("# One two", "One  two\n");
        assert_eq!((same.characters, same.words), (1.0, 1.0));
        let half = likeness("abcd efgh", "abcd");
        assert_eq!((half.characters, half.words), (0.5, 1.0));
        let looping = likeness("abcd", "abcd abcd abcd abcd");
        assert_eq!((looping.characters, looping.words), (0.25, 1.0));
        let nothing = likeness("abcd", "");
        assert_eq!((nothing.characters, nothing.words), (0.0, 0.0));
    }
}
