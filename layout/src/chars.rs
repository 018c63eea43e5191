//! What kind of character it is, as far as joining and measuring lines needs to know.

/// Written without spaces between words: Chinese, Japanese, and South-East Asian scripts.
pub(crate) fn is_spaceless(c: char) -> bool {
    is_cjk(c)
        || matches!(c as u32,
            0x0E00..=0x0EFF      // Thai, Lao
            | 0x1000..=0x109F    // Myanmar
            | 0x1780..=0x17FF) // Khmer
}

/// Chinese and Japanese characters and their punctuation; not Hangul, which uses spaces.
pub(crate) fn is_cjk(c: char) -> bool {
    matches!(c as u32,
        0x2E80..=0x2FDF          // radicals
        | 0x2FF0..=0x303F        // description characters, CJK punctuation
        | 0x3040..=0x30FF        // kana
        | 0x3100..=0x312F        // bopomofo
        | 0x31A0..=0x31FF
        | 0x3200..=0x33FF        // enclosed, squared
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE4F
        | 0xFF00..=0xFFEF        // full-width forms
        | 0x20000..=0x3FFFF)
}

/// Arabic, Hebrew and their kin.
pub(crate) fn is_right_to_left(c: char) -> bool {
    matches!(c as u32, 0x0590..=0x08FF | 0xFB1D..=0xFDFF | 0xFE70..=0xFEFE)
}

/// Punctuation that ends a sentence or introduces what follows.
pub(crate) fn ends_sentence(text: &str) -> bool {
    let trimmed = text.trim_end_matches(['"', '\'', ')', ']', '”', '’', '»', '」', '』', '）']);
    trimmed.ends_with([
        '.', '!', '?', ':', ';', '。', '！', '？', '：', '；', '…', '．',
    ])
}

/// Characters by the room they take: a full-width one counts as two.
pub(crate) fn width_units(text: &str) -> f32 {
    text.chars()
        .map(|c| if is_cjk(c) { 2.0 } else { 1.0 })
        .sum()
}

/// The marks with which a typeset line says that its last word goes on: hyphen, Unicode hyphen,
/// soft hyphen.
pub(crate) fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{00AD}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_ends_are_seen_through_closing_quotes() {
        assert!(ends_sentence("he said so.”"));
        assert!(ends_sentence("他说过。」"));
        assert!(!ends_sentence("Dr. Smith"));
        assert!(!ends_sentence(""));
    }
}
