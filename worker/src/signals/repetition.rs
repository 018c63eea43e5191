//! How much of a page says again what it has said: loops of a generating engine, tiled scans.

use std::collections::HashSet;

/// Length of a span, in words (or single characters of scripts without spaces).
const SPAN: usize = 8;

/// Share of the text that lies in a span of eight words already seen earlier on the page, 0 to 1.
///
/// Ordinary prose gives 0; tables with equal cells a little; a page that loops nearly 1.
pub fn repetition(text: &str) -> f32 {
    let words = words(text);
    if words.len() < 2 * SPAN {
        return 0.0;
    }
    let mut seen = HashSet::new();
    let mut repeated = vec![false; words.len()];
    for start in 0..=words.len() - SPAN {
        let span = &words[start..start + SPAN];
        // Rules of dots or dashes and empty table cells are not speech.
        let is_speech = span
            .iter()
            .any(|word| word.chars().any(char::is_alphanumeric));
        if is_speech && !seen.insert(span) {
            repeated[start..start + SPAN].fill(true);
        }
    }
    repeated.iter().filter(|&&yes| yes).count() as f32 / words.len() as f32
}

fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for piece in text.split_whitespace() {
        let mut start = 0;
        for (at, c) in piece.char_indices() {
            if is_unspaced(c) {
                if start < at {
                    words.push(&piece[start..at]);
                }
                start = at + c.len_utf8();
                words.push(&piece[at..start]);
            }
        }
        if start < piece.len() {
            words.push(&piece[start..]);
        }
    }
    words
}

/// Scripts that write words without spaces between them.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_has_none_and_a_loop_is_nearly_all() {
        let prose = "The gauge was cleaned on the fourth of March and again on the \
                     twenty-ninth of April; between those dates it recorded five thousand readings";
        assert_eq!(repetition(prose), 0.0);
        assert!(repetition(&format!("{prose} ").repeat(20)) > 0.9);
        assert!(repetition(&"仓库盘点由两人完成差异超过百分之二".repeat(10)) > 0.85);
    }

    #[test]
    fn short_text_and_rules_do_not_count() {
        assert_eq!(repetition("yes yes yes"), 0.0);
        assert_eq!(repetition(&". ".repeat(400)), 0.0);
    }
}
