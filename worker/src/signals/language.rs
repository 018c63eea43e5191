//! The language of a page, as ISO 639-3 and ISO 15924 (`deu_Latn`).

use whatlang::{Lang, Script};

/// Letters under which a guess would be noise.
const LEAST_LETTERS: usize = 12;

/// A language with how sure the identifier is.
#[derive(Debug, Clone, PartialEq)]
pub struct Language {
    /// Such as `deu_Latn`.
    pub code: String,
    /// 0 to 1.
    pub score: f32,
}

/// The language most of `text` is written in; `None` if there is too little of it.
pub fn language(text: &str) -> Option<Language> {
    // Markup is English-looking noise: leave tags and link targets out.
    let plain = without_markup(text);
    if plain.chars().filter(|c| c.is_alphabetic()).count() < LEAST_LETTERS {
        return None;
    }
    let found = whatlang::detect(&plain)?;
    let script = match (found.lang(), found.script()) {
        (Lang::Jpn, _) => "Jpan",
        (_, Script::Latin) => "Latn",
        (_, Script::Cyrillic) => "Cyrl",
        (_, Script::Arabic) => "Arab",
        (_, Script::Mandarin) => "Hani",
        (_, Script::Devanagari) => "Deva",
        (_, Script::Hebrew) => "Hebr",
        (_, Script::Ethiopic) => "Ethi",
        (_, Script::Georgian) => "Geor",
        (_, Script::Armenian) => "Armn",
        (_, Script::Bengali) => "Beng",
        (_, Script::Hangul) => "Kore",
        (_, Script::Hiragana | Script::Katakana) => "Jpan",
        (_, Script::Greek) => "Grek",
        (_, Script::Kannada) => "Knda",
        (_, Script::Tamil) => "Taml",
        (_, Script::Thai) => "Thai",
        (_, Script::Gujarati) => "Gujr",
        (_, Script::Gurmukhi) => "Guru",
        (_, Script::Telugu) => "Telu",
        (_, Script::Malayalam) => "Mlym",
        (_, Script::Oriya) => "Orya",
        (_, Script::Myanmar) => "Mymr",
        (_, Script::Sinhala) => "Sinh",
        (_, Script::Khmer) => "Khmr",
    };
    Some(Language {
        code: format!("{}_{script}", found.lang().code()),
        score: (found.confidence() as f32).clamp(0.0, 1.0),
    })
}

fn without_markup(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut in_tag = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '<' if chars
                .peek()
                .is_some_and(|next| next.is_ascii_alphabetic() || *next == '/') =>
            {
                in_tag = true;
            }
            '>' if in_tag => {
                in_tag = false;
                plain.push(' ');
            }
            _ if !in_tag => plain.push(c),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_languages_are_told_apart() {
        let check = |text: &str, expected: &str| {
            assert_eq!(
                language(text).map(|l| l.code).as_deref(),
                Some(expected),
                "{text}"
            );
        };
        check(
            "The gauge was cleaned on 4 March and again on 29 April, as the log shows.",
            "eng_Latn",
        );
        check(
            "Die Ergebnisse der Untersuchung wurden im vergangenen Jahr veröffentlicht.",
            "deu_Latn",
        );
        check(
            "仓库盘点由两人完成，差异超过百分之二的当天重新清点。",
            "cmn_Hani",
        );
        check(
            "<table><tr><td>Le conseil municipal se réunit chaque mardi à la mairie</td></tr></table>",
            "fra_Latn",
        );
    }

    #[test]
    fn numbers_alone_have_no_language() {
        assert_eq!(language("12 345 678 90 12,5 %"), None);
        assert_eq!(language(""), None);
    }
}
