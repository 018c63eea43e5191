//! A piece of the answer into blocks: what its label says and what its content turns out to be.

use quire_core::{Block, Label, Rect};

use super::formulas::{self, Span};
use super::inline::{tidy, without_bold};
use super::labels;
use super::markers::Piece;
use super::tables::{self, Part};
use crate::prompt::Task;

/// Level of a section's heading that has no marks of its own.
const SECTION_LEVEL: u32 = 2;
/// Markdown knows six.
const MAX_LEVEL: u32 = 6;

/// A block before it has a place in the page's text.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) block: Block,
    /// What it adds to the page's text; of a picture, what stands under it.
    pub(super) markdown: String,
}

impl Draft {
    pub(super) fn has_box(&self) -> bool {
        self.block.rect.area() > 0.0
    }
}

/// A block's label and where it stands.
#[derive(Debug, Clone)]
struct Place {
    label: Label,
    /// The model's own word.
    word: String,
    rect: Rect,
}

impl Place {
    fn labeled(&self, label: Label) -> Self {
        Self {
            label,
            ..self.clone()
        }
    }

    fn draft(&self, text: String, markdown: String) -> Draft {
        Draft {
            block: Block {
                label: self.label,
                label_raw: self.word.clone(),
                rect: self.rect,
                quad: None,
                text,
                html: None,
                latex: None,
                text_range: None,
                parent: None,
                level: None,
                confidence: None,
                parsed: None,
            },
            markdown,
        }
    }
}

/// Adds a piece's blocks. One without a box and without content adds nothing.
pub(super) fn build(piece: Piece, task: &Task, drafts: &mut Vec<Draft>) {
    let mut content = tidy(&piece.content);
    let mut word = piece.label.unwrap_or_default();
    let mut label = labels::known(&word);
    if let Task::Locate(_) = task {
        return found(&word, &piece.boxes, &content, drafts);
    }
    let is_text = match task {
        // What was read takes the label's place.
        Task::Ocr if label.is_none() => !labels::is_wordlike(&word) || content.is_empty(),
        Task::Ocr => content.is_empty() && label != Some(Label::Picture),
        _ => label.is_none() && content.is_empty() && !labels::is_wordlike(&word),
    };
    if is_text && !word.is_empty() {
        content = tidy(&format!("{word}\n{content}"));
        word.clear();
        label = None;
    }
    let place = Place {
        label: label.unwrap_or(if word.is_empty() {
            Label::Text
        } else {
            Label::Other
        }),
        word,
        rect: piece
            .boxes
            .iter()
            .copied()
            .reduce(|a, b| a.union(&b))
            .unwrap_or_default(),
    };
    if place.label == Label::Picture {
        return pictures(&place, &piece.boxes, &content, drafts);
    }
    let parts = if place.label == Label::Code && !content.is_empty() {
        // Tags in a listing are its text.
        vec![Part::Text(content)]
    } else {
        tables::parts(&content)
    };
    if parts.is_empty() && !piece.boxes.is_empty() {
        drafts.push(place.draft(String::new(), String::new()));
    }
    let has_table = parts.iter().any(|part| matches!(part, Part::Table(_)));
    for part in parts {
        match part {
            Part::Table(table) => {
                let html = table.html();
                let mut draft = place
                    .labeled(Label::Table)
                    .draft(table.plain(), html.clone());
                draft.block.html = Some(html);
                drafts.push(draft);
            }
            Part::Text(text) if place.label == Label::Table && has_table => {
                written(&place.labeled(Label::Text), &text, drafts);
            }
            Part::Text(text) => written(&place, &text, drafts),
        }
    }
}

/// Places of what was looked for, each its own block; words beside them are text.
fn found(phrase: &str, boxes: &[Rect], content: &str, drafts: &mut Vec<Draft>) {
    for &rect in boxes {
        let place = Place {
            label: Label::Other,
            word: phrase.to_owned(),
            rect,
        };
        drafts.push(place.draft(String::new(), String::new()));
    }
    if !content.is_empty() {
        let place = Place {
            label: Label::Text,
            word: String::new(),
            rect: Rect::default(),
        };
        written(&place, content, drafts);
    }
}

/// A picture for every box; what was written of it belongs to the last.
fn pictures(place: &Place, boxes: &[Rect], content: &str, drafts: &mut Vec<Draft>) {
    let boxes = if boxes.is_empty() {
        std::slice::from_ref(&place.rect)
    } else {
        boxes
    };
    for (at, &rect) in boxes.iter().enumerate() {
        let text = if at + 1 == boxes.len() { content } else { "" };
        let spans = formulas::spans(text);
        let place = Place {
            rect,
            ..place.clone()
        };
        drafts.push(place.draft(
            without_bold(&formulas::plain(&spans)),
            formulas::markdown(&spans),
        ));
    }
}

/// A block of running text, as its label wants it.
fn written(place: &Place, text: &str, drafts: &mut Vec<Draft>) {
    match place.label {
        Label::Title | Label::SectionHeader => heading(place, text, drafts),
        Label::Formula => drafts.push(formula(place, text)),
        Label::Code => drafts.push(code(place, text)),
        Label::ListItem => drafts.push(list(place, text)),
        _ => drafts.push(running(place, text)),
    }
}

fn running(place: &Place, text: &str) -> Draft {
    let spans = formulas::spans(text);
    place.draft(
        without_bold(&formulas::plain(&spans)),
        formulas::markdown(&spans),
    )
}

/// The first paragraph is the heading, on one line; what follows it is text.
fn heading(place: &Place, text: &str, drafts: &mut Vec<Draft>) {
    let (head, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let marks = head.bytes().take_while(|&byte| byte == b'#').count();
    let level = match (u32::try_from(marks), place.label) {
        (Ok(marks @ 1..), _) => marks.min(MAX_LEVEL),
        (_, Label::Title) => 1,
        _ => SECTION_LEVEL,
    };
    let lines = head.lines().map(|line| line.trim_start_matches('#').trim());
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let spans: Vec<Span> = formulas::spans(&lines.join(" "))
        .into_iter()
        .map(|span| match span {
            Span::Display(latex) => Span::Inline(latex.replace('\n', " ")),
            other => other,
        })
        .collect();
    let plain = without_bold(&formulas::plain(&spans));
    let markdown = if plain.is_empty() {
        String::new()
    } else {
        format!(
            "{} {}",
            "#".repeat(level as usize),
            formulas::markdown(&spans)
        )
    };
    let mut draft = place.draft(plain, markdown);
    draft.block.level = Some(level);
    drafts.push(draft);
    if !rest.is_empty() {
        written(&place.labeled(Label::Text), rest, drafts);
    }
}

/// LaTeX with or without delimiters, set off; words between formulas stay where they are.
fn formula(place: &Place, text: &str) -> Draft {
    let mut spans = formulas::spans(text);
    if !formulas::has_formula(&spans) {
        // Delimiters of Markdown's own would be doubled.
        spans = formulas::spans(&format!("\\[{}\\]", text.trim_matches('$')));
    }
    let words_between = |span: &Span| matches!(span, Span::Text(text) if !text.trim().is_empty());
    let has_words = spans.iter().any(words_between);
    let latex: Vec<String> = spans
        .iter()
        .filter_map(|span| match span {
            Span::Inline(latex) | Span::Display(latex) => Some(latex.clone()),
            Span::Text(_) => None,
        })
        .collect();
    let mut draft = if has_words {
        place.draft(formulas::plain(&spans), formulas::markdown(&spans))
    } else {
        let display: Vec<Span> = latex.iter().cloned().map(Span::Display).collect();
        place.draft(latex.join("\n"), formulas::markdown(&display))
    };
    draft.block.latex = Some(latex.join("\n"));
    draft
}

/// A listing in a fence longer than any run of backticks inside it.
fn code(place: &Place, text: &str) -> Draft {
    let lines: Vec<&str> = text.lines().collect();
    let is_fenced = text.starts_with("```");
    let end = lines.len() - usize::from(is_fenced && lines.len() > 1 && lines.ends_with(&["```"]));
    let text = lines[usize::from(is_fenced)..end].join("\n");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    let markdown = format!("{fence}\n{text}\n{fence}");
    place.draft(text, markdown)
}

/// An item of a list, marked as one. Several in a block keep the marks that they have.
fn list(place: &Place, text: &str) -> Draft {
    let mut draft = running(place, text);
    let mark_ends = draft.markdown.find(' ').unwrap_or(0);
    let mark = &draft.markdown[..mark_ends];
    let is_number = mark.ends_with(['.', ')']) && mark.starts_with(|c: char| c.is_ascii_digit());
    if !is_number && !["-", "*", "+"].contains(&mark) {
        draft.markdown = format!("- {}", draft.markdown.replace('\n', "\n  "));
    }
    draft.block.level = Some(1);
    draft
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(label: &str, content: &str) -> Vec<Draft> {
        let piece = Piece {
            label: Some(label.to_owned()),
            boxes: vec![Rect {
                x1: 1.0,
                y1: 1.0,
                ..Rect::default()
            }],
            is_damaged: false,
            content: content.to_owned(),
        };
        let mut drafts = Vec::new();
        build(piece, &Task::Document, &mut drafts);
        drafts
    }

    fn only(label: &str, content: &str) -> Draft {
        let mut drafts = built(label, content);
        assert_eq!(drafts.len(), 1, "{drafts:?}");
        drafts.remove(0)
    }

    #[test]
    fn headings_have_levels() {
        for (label, content, level, markdown) in [
            ("title", "# A\nB", 1, "# A B"),
            ("title", "A", 1, "# A"),
            ("sub_title", "A", 2, "## A"),
            ("sub_title", "### 1.2 A", 3, "### 1.2 A"),
            ("sub_title", "######## A", 6, "###### A"),
            ("sub_title", "## **A**", 2, "## **A**"),
        ] {
            let draft = only(label, content);
            assert_eq!(draft.block.level, Some(level), "{content}");
            assert_eq!(draft.markdown, markdown);
        }
        assert_eq!(only("sub_title", "## **A**").block.text, "A");
        let drafts = built("sub_title", "## A\n\nB\n\nC");
        let labels: Vec<Label> = drafts.iter().map(|draft| draft.block.label).collect();
        assert_eq!(labels, [Label::SectionHeader, Label::Text]);
        assert_eq!(drafts[1].markdown, "B\n\nC");
    }

    #[test]
    fn formulas_have_their_latex() {
        for (content, latex, markdown) in [
            ("\\[ a = b \\]", "a = b", "$$\na = b\n$$"),
            ("a = b", "a = b", "$$\na = b\n$$"),
            ("$$ a = b $$", "a = b", "$$\na = b\n$$"),
            ("\\[ a", "a", "$$\na\n$$"),
            ("\\[ a \\]\n\\[ b \\]", "a\nb", "$$\na\n$$\n$$\nb\n$$"),
            ("\\[ a \\] (1)", "a", "$$\na\n$$\n(1)"),
        ] {
            let draft = only("equation", content);
            assert_eq!(draft.block.latex.as_deref(), Some(latex), "{content}");
            assert_eq!(draft.markdown, markdown, "{content}");
        }
    }

    #[test]
    fn tables_are_tables_under_any_label() {
        let drafts = built("text", "see <table><tr><td>a</td></tr></table> here");
        let labels: Vec<Label> = drafts.iter().map(|draft| draft.block.label).collect();
        assert_eq!(labels, [Label::Text, Label::Table, Label::Text]);
        let drafts = built("table", "<table><tr><td>a</td></tr></table>\nnote");
        let labels: Vec<Label> = drafts.iter().map(|draft| draft.block.label).collect();
        assert_eq!(labels, [Label::Table, Label::Text]);
        let draft = only("table", "a | b");
        assert_eq!((draft.block.label, draft.block.html), (Label::Table, None));
    }

    #[test]
    fn listings_are_fenced_once() {
        for content in ["x = 1\ny", "```\nx = 1\ny\n```", "```python\nx = 1\ny"] {
            let draft = only("code", content);
            assert_eq!(draft.block.text, "x = 1\ny");
            assert_eq!(draft.markdown, "```\nx = 1\ny\n```");
        }
        assert_eq!(only("algorithm", "```").block.text, "");
        assert_eq!(only("code", "<td>1</td>").block.label, Label::Code);
    }

    #[test]
    fn items_of_lists_are_marked() {
        assert_eq!(only("list", "a\nb").markdown, "- a\n  b");
        assert_eq!(only("list", "1. a").markdown, "1. a");
        assert_eq!(only("list", "- a\n- b").markdown, "- a\n- b");
    }

    #[test]
    fn words_in_place_of_a_label_are_kept() {
        let draft = only("Hello world", "");
        assert_eq!(
            (draft.block.label, draft.markdown.as_str()),
            (Label::Text, "Hello world")
        );
        let draft = only("side_note", "a");
        assert_eq!(draft.block.label, Label::Other);
        assert_eq!(
            (draft.block.label_raw.as_str(), draft.markdown.as_str()),
            ("side_note", "a")
        );
    }
}
