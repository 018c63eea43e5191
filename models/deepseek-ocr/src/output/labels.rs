//! The model's words for blocks. The set is open: words that are not here are kept beside the
//! label `other`.

use quire_core::Label;

/// What a caption is the caption of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Picture,
    Table,
    Formula,
}

/// Words seen in answers, and those of the layout model that the training labels came from.
const KNOWN: [(&str, Label); 41] = [
    ("title", Label::Title),
    ("doc_title", Label::Title),
    ("sub_title", Label::SectionHeader),
    ("subtitle", Label::SectionHeader),
    ("paragraph_title", Label::SectionHeader),
    ("section_header", Label::SectionHeader),
    ("text", Label::Text),
    ("paragraph", Label::Text),
    ("abstract", Label::Text),
    ("content", Label::Text),
    ("aside_text", Label::Text),
    ("list", Label::ListItem),
    ("list_item", Label::ListItem),
    ("image", Label::Picture),
    ("figure", Label::Picture),
    ("picture", Label::Picture),
    ("chart", Label::Picture),
    ("image_caption", Label::Caption),
    ("figure_caption", Label::Caption),
    ("figure_title", Label::Caption),
    ("chart_caption", Label::Caption),
    ("table_caption", Label::Caption),
    ("table_title", Label::Caption),
    ("formula_caption", Label::Caption),
    ("caption", Label::Caption),
    ("table", Label::Table),
    ("table_footnote", Label::Footnote),
    ("image_footnote", Label::Footnote),
    ("footnote", Label::Footnote),
    ("page_footnote", Label::Footnote),
    ("equation", Label::Formula),
    ("formula", Label::Formula),
    ("isolate_formula", Label::Formula),
    ("code", Label::Code),
    ("algorithm", Label::Code),
    ("header", Label::PageHeader),
    ("footer", Label::PageFooter),
    ("page_number", Label::PageNumber),
    ("number", Label::PageNumber),
    ("reference", Label::Reference),
    ("seal", Label::Stamp),
];

/// The label that a word stands for, if it is one of those known.
pub(super) fn known(word: &str) -> Option<Label> {
    let word = word.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    KNOWN
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, label)| *label)
}

/// Whether a text is the beginning of a known word, cut off.
pub(super) fn is_start_of_known(text: &str) -> bool {
    !text.is_empty() && KNOWN.iter().any(|(name, _)| name.starts_with(text))
}

/// Whether a word looks like a label that the model made up, not like text of the page.
pub(super) fn is_wordlike(word: &str) -> bool {
    const LONGEST: usize = 32;
    word.len() <= LONGEST
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What a block with this word belongs to, if to anything.
pub(super) fn belongs_to(word: &str) -> Option<Kind> {
    let word = word.trim().to_ascii_lowercase();
    let is_tied = ["_caption", "_title", "_footnote"]
        .iter()
        .any(|end| word.ends_with(end));
    match word.split('_').next() {
        Some("image" | "figure" | "chart" | "picture") if is_tied => Some(Kind::Picture),
        Some("table") if is_tied => Some(Kind::Table),
        Some("formula" | "equation") if is_tied => Some(Kind::Formula),
        _ => None,
    }
}

impl Kind {
    pub(super) fn is(self, label: Label) -> bool {
        match self {
            Self::Picture => label == Label::Picture,
            Self::Table => label == Label::Table,
            Self::Formula => label == Label::Formula,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_words_have_labels() {
        for (word, label) in [
            ("title", Label::Title),
            ("sub_title", Label::SectionHeader),
            ("text", Label::Text),
            ("image", Label::Picture),
            ("figure", Label::Picture),
            ("image_caption", Label::Caption),
            ("table", Label::Table),
            ("table_caption", Label::Caption),
            ("table_footnote", Label::Footnote),
            ("equation", Label::Formula),
            ("header", Label::PageHeader),
            ("footer", Label::PageFooter),
            (" Sub Title ", Label::SectionHeader),
        ] {
            assert_eq!(known(word), Some(label), "{word}");
        }
        assert_eq!(known("the teacher"), None);
    }

    #[test]
    fn captions_know_what_they_belong_to() {
        assert_eq!(belongs_to("image_caption"), Some(Kind::Picture));
        assert_eq!(belongs_to("table_footnote"), Some(Kind::Table));
        assert_eq!(belongs_to("table"), None);
        assert_eq!(belongs_to("sub_title"), None);
        assert_eq!(belongs_to("footnote"), None);
    }

    #[test]
    fn text_is_told_from_words_for_blocks() {
        assert!(is_wordlike("side_note2"));
        assert!(!is_wordlike("Hello world") && !is_wordlike("EXIT") && !is_wordlike(""));
        assert!(is_start_of_known("tab") && !is_start_of_known("zebra"));
    }
}
