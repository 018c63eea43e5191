//! The answer cut at its markers. A whole marker is `<|ref|>LABEL<|/ref|><|det|>BOXES<|/det|>`;
//! generation may end anywhere in it, and a damaged one must cost no text.

use quire_core::Rect;

use super::boxes::{self, Bins};
use super::labels;
use crate::prompt::Task;

pub(super) const REF: &str = "<|ref|>";
pub(super) const REF_END: &str = "<|/ref|>";
pub(super) const DET: &str = "<|det|>";
pub(super) const DET_END: &str = "<|/det|>";

/// None of these is ever part of a page's text.
const MARKERS: [&str; 8] = [
    REF,
    REF_END,
    DET,
    DET_END,
    "<|grounding|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
];

/// Longest label, in bytes. A line of text takes a label's place when an image is read.
const MAX_LABEL: usize = 2000;

/// A stretch of the answer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Piece {
    /// The word of the marker in front; `None` for text without one.
    pub(super) label: Option<String>,
    /// Those that have an inside.
    pub(super) boxes: Vec<Rect>,
    /// Some marker or box was not as it should be.
    pub(super) is_damaged: bool,
    pub(super) content: String,
}

impl Piece {
    fn is_empty(&self) -> bool {
        self.label.is_none() && self.boxes.is_empty() && self.content.trim().is_empty()
    }
}

/// What a marker says.
#[derive(Debug, Default)]
struct Announced {
    label: Option<String>,
    /// `None` where there is no list of boxes at all.
    boxes: Option<Vec<Bins>>,
    is_damaged: bool,
    /// Bytes it takes.
    len: usize,
}

impl Announced {
    /// Whether the answer was cut before anything was said.
    fn is_nothing(&self) -> bool {
        self.label.is_none() && self.boxes.is_none()
    }

    fn into_piece(self) -> Piece {
        let is_without_list = self.boxes.is_none();
        let bins = self.boxes.unwrap_or_default();
        let boxes: Vec<Rect> = bins.iter().filter_map(boxes::rect).collect();
        Piece {
            label: self.label,
            is_damaged: self.is_damaged || is_without_list || boxes.len() < bins.len(),
            boxes,
            content: String::new(),
        }
    }
}

/// The answer's pieces, in order. Contents may still hold stray markers.
pub(super) fn pieces(text: &str, task: &Task) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece = Piece::default();
    let mut rest = text;
    while let Some(at) = next_of(rest, &[REF, DET]) {
        piece.content.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(announced) = announced(rest) else {
            // A stray marker: what follows it is text.
            piece.is_damaged = true;
            rest = &rest[REF.len()..];
            continue;
        };
        rest = &rest[announced.len..];
        if announced.is_nothing() {
            piece.is_damaged = true;
            continue;
        }
        let is_at_line_start = piece
            .content
            .rsplit('\n')
            .next()
            .is_none_or(|line| line.trim().is_empty());
        if is_block(&announced, task, is_at_line_start) {
            let done = std::mem::replace(&mut piece, announced.into_piece());
            if !done.is_empty() || done.is_damaged {
                pieces.push(done);
            }
        } else {
            // A phrase inside a sentence, told where it is: the phrase belongs to the sentence.
            piece.content.push_str(&announced.label.unwrap_or_default());
        }
    }
    piece.content.push_str(rest);
    if !piece.is_empty() || piece.is_damaged {
        pieces.push(piece);
    }
    pieces
}

/// Whether a marker starts a block, or stands in running text.
fn is_block(announced: &Announced, task: &Task, is_at_line_start: bool) -> bool {
    let is_known = announced
        .label
        .as_deref()
        .is_some_and(|label| labels::known(label).is_some());
    match (task, &announced.boxes) {
        (Task::Locate(_), _) => true,
        (Task::Document | Task::Ocr, Some(_)) => true,
        _ => is_known && is_at_line_start,
    }
}

/// The marker at the start of `text`, if it makes sense as one.
fn announced(text: &str) -> Option<Announced> {
    let Some(after) = text.strip_prefix(REF) else {
        let (boxes, is_damaged, len) = box_list(text);
        return Some(Announced {
            label: None,
            boxes: Some(boxes),
            is_damaged,
            len,
        });
    };
    let end = next_of(after, &[REF, REF_END, DET, DET_END]);
    let (label, closed_by) = match end {
        Some(at) if after[at..].starts_with(REF_END) => (&after[..at], REF_END.len()),
        Some(at) if after[at..].starts_with(DET) => (&after[..at], 0),
        // The answer was cut in the label: half a word of the model's own is no text.
        None if labels::is_start_of_known(after.trim()) => {
            return Some(Announced {
                len: text.len(),
                ..Announced::default()
            });
        }
        _ => return None,
    };
    let word = without_markers(label);
    let word = word.trim();
    if word.is_empty() || word.contains(char::is_control) || word.len() > MAX_LABEL {
        return None;
    }
    let mut announced = Announced {
        label: Some(word.to_owned()),
        boxes: None,
        is_damaged: closed_by == 0,
        len: REF.len() + label.len() + closed_by,
    };
    let behind = &text[announced.len..];
    let gap = behind.len() - behind.trim_start().len();
    if behind[gap..].starts_with(DET) {
        let (boxes, is_damaged, len) = box_list(&behind[gap..]);
        announced.boxes = Some(boxes);
        announced.is_damaged |= is_damaged;
        announced.len += gap + len;
    }
    Some(announced)
}

/// The list of boxes at the start of `text`, whether something is wrong with it, and its bytes.
fn box_list(text: &str) -> (Vec<Bins>, bool, usize) {
    let after = &text[DET.len()..];
    let n_listed = after
        .find(|c: char| !boxes::is_of_list(c))
        .unwrap_or(after.len());
    let (boxes, is_damaged) = boxes::parse(&after[..n_listed]);
    let behind = &after[n_listed..];
    if behind.starts_with(DET_END) {
        return (boxes, is_damaged, DET.len() + n_listed + DET_END.len());
    }
    // Something else before the end: no text of the page while it is on the same line.
    let line = behind.split('\n').next().unwrap_or_default();
    let n_dropped = match next_of(line, &MARKERS) {
        Some(at) if line[at..].starts_with(DET_END) => at + DET_END.len(),
        _ => 0,
    };
    (boxes, true, DET.len() + n_listed + n_dropped)
}

/// Where the first of some strings starts.
pub(super) fn next_of(text: &str, markers: &[&str]) -> Option<usize> {
    markers.iter().filter_map(|marker| text.find(marker)).min()
}

/// The text without any marker, also none that appears when another is taken out.
pub(super) fn without_markers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        out.push(c);
        if c == '>' {
            for marker in MARKERS {
                if out.ends_with(marker) {
                    out.truncate(out.len() - marker.len());
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, task: &Task) -> Vec<(Option<String>, usize, bool, String)> {
        pieces(text, task)
            .into_iter()
            .map(|piece| {
                let n_boxes = piece.boxes.len();
                let content = without_markers(&piece.content).trim().to_owned();
                (piece.label, n_boxes, piece.is_damaged, content)
            })
            .collect()
    }

    fn check(text: &str, expected: &[(Option<&str>, usize, bool, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|&(label, n, damaged, content)| {
                (label.map(str::to_owned), n, damaged, content.to_owned())
            })
            .collect();
        assert_eq!(cut(text, &Task::Document), expected, "{text}");
    }

    #[test]
    fn whole_markers_cut_the_answer() {
        check(
            "<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n# A\n\n\
             <|ref|>text<|/ref|><|det|>[[1, 2, 3, 4], [5, 6, 7, 8]]<|/det|>\nB",
            &[
                (Some("title"), 1, false, "# A"),
                (Some("text"), 2, false, "B"),
            ],
        );
        check(
            "before<|ref|>text<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>B",
            &[(None, 0, false, "before"), (Some("text"), 1, false, "B")],
        );
    }

    #[test]
    fn an_answer_cut_anywhere_in_a_marker_loses_no_text() {
        for (text, expected) in [
            ("A\n<|ref|>", vec![(None, 0, true, "A")]),
            ("A\n<|ref|>tit", vec![(None, 0, true, "A")]),
            (
                "A\n<|ref|>title<|/ref|>",
                vec![(None, 0, false, "A"), (Some("title"), 0, true, "")],
            ),
            (
                "A\n<|ref|>title<|/ref|><|det|>[[1, 2",
                vec![(None, 0, false, "A"), (Some("title"), 0, true, "")],
            ),
            (
                "A\n<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]",
                vec![(None, 0, false, "A"), (Some("title"), 1, true, "")],
            ),
        ] {
            check(text, &expected);
        }
    }

    #[test]
    fn damaged_markers_leave_their_text() {
        for (text, expected) in [
            (
                "<|ref|>title<|det|>[[1, 2, 3, 4]]<|/det|>\nA",
                vec![(Some("title"), 1, true, "A")],
            ),
            (
                "<|ref|>text<|/ref|><|det|>[[1, x, 3, 4]]<|/det|>\nA",
                vec![(Some("text"), 0, true, "A")],
            ),
            (
                "<|ref|>text<|/ref|><|det|>[[1, 2, 3, 4]]\nA\n<|ref|>text<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\nB",
                vec![(Some("text"), 1, true, "A"), (Some("text"), 1, false, "B")],
            ),
            (
                "<|det|>[[1, 2, 3, 4]]<|/det|>\nA",
                vec![(None, 1, false, "A")],
            ),
            ("<|ref|>A\nB", vec![(None, 0, true, "A\nB")]),
            (
                "A<|/det|>B<|/ref|><|grounding|>C",
                vec![(None, 0, false, "ABC")],
            ),
            ("A<｜end▁of▁sentence｜>", vec![(None, 0, false, "A")]),
        ] {
            check(text, &expected);
        }
    }

    #[test]
    fn phrases_in_a_description_stay_in_their_sentence() {
        let told = cut(
            "A <|ref|>dog<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|> runs.",
            &Task::Describe,
        );
        assert_eq!(told, [(None, 0, false, "A dog runs.".to_owned())]);
    }

    #[test]
    fn no_marker_comes_from_taking_another_out() {
        assert_eq!(without_markers("<|re<|ref|>f|>a<|<|det|>/det|>"), "a");
    }
}
