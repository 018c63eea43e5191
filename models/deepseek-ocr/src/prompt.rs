//! The questions that the model was trained to answer, around the slots of the image.
//!
//! The model is not tuned to follow instructions: a question in other words, or with markers of
//! roles around it, is answered badly or for ever.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use thiserror::Error;

use crate::tokenizer::{TextTokenizer, TokenizeError};

/// Longest phrase to look for, in characters.
const MAX_PHRASE: usize = 500;
/// How tasks are written in settings.
const WORDS: &str = "document, ocr, free-ocr, figure, describe, locate:PHRASE";
const LOCATE: &str = "locate:";

/// What the model is asked to do with an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Task {
    /// A page as Markdown, block by block, with boxes.
    #[default]
    Document,
    /// The text of any other image, with boxes.
    Ocr,
    /// The text alone, without boxes.
    FreeOcr,
    /// What a figure shows: the values of a chart, a chemical structure, a drawing of geometry.
    Figure,
    /// The image in words.
    Describe,
    /// Where something is. Make it with [`Task::locate`], which checks the phrase.
    Locate(String),
}

/// A task that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnknownTask {
    #[error("no task {0:?}; there are {known}", known = WORDS)]
    Name(String),
    #[error(
        "the phrase to locate must be one line of 1 to {most} characters without markers",
        most = MAX_PHRASE
    )]
    Phrase,
}

impl Task {
    /// The task of finding what a phrase names.
    ///
    /// # Errors
    /// For a phrase that is empty, too long, or holds a marker that the model would take for one
    /// of its own.
    pub fn locate(phrase: &str) -> Result<Self, UnknownTask> {
        let phrase = phrase.trim();
        let has_marker = ["<|", "|>", "<｜", "｜>", "<image>"]
            .iter()
            .any(|marker| phrase.contains(marker));
        let n_chars = phrase.chars().count();
        if has_marker || phrase.contains(char::is_control) || !(1..=MAX_PHRASE).contains(&n_chars) {
            return Err(UnknownTask::Phrase);
        }
        Ok(Self::Locate(phrase.to_owned()))
    }

    /// The question as published, with `<image>` where the image goes.
    pub fn question(&self) -> String {
        format!("<image>{}", self.after_image())
    }

    /// What follows the image. Nothing comes before it in any of the published questions.
    fn after_image(&self) -> String {
        let fixed = match self {
            Self::Document => "\n<|grounding|>Convert the document to markdown.",
            Self::Ocr => "\n<|grounding|>OCR this image.",
            Self::FreeOcr => "\nFree OCR.",
            Self::Figure => "\nParse the figure.",
            Self::Describe => "\nDescribe this image in detail.",
            Self::Locate(phrase) => {
                return format!("\nLocate <|ref|>{phrase}<|/ref|> in the image.");
            }
        };
        fixed.to_owned()
    }

    /// Whether the answer is what stands in the image, and not words about it.
    pub fn reads_text(&self) -> bool {
        matches!(self, Self::Document | Self::Ocr | Self::FreeOcr)
    }

    /// Whether the answer is expected to carry boxes.
    pub fn is_grounded(&self) -> bool {
        matches!(self, Self::Document | Self::Ocr | Self::Locate(_))
    }
}

/// As in settings.
impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Document => "document",
            Self::Ocr => "ocr",
            Self::FreeOcr => "free-ocr",
            Self::Figure => "figure",
            Self::Describe => "describe",
            Self::Locate(phrase) => return write!(f, "{LOCATE}{phrase}"),
        })
    }
}

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(word: &str) -> Result<Self, UnknownTask> {
        match word {
            "document" => Ok(Self::Document),
            "ocr" => Ok(Self::Ocr),
            "free-ocr" => Ok(Self::FreeOcr),
            "figure" => Ok(Self::Figure),
            "describe" => Ok(Self::Describe),
            other => match other.strip_prefix(LOCATE) {
                Some(phrase) => Self::locate(phrase),
                None => Err(UnknownTask::Name(other.to_owned())),
            },
        }
    }
}

/// A question as the decoder gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Beginning of the text, the image's slots, the question.
    pub ids: Vec<u32>,
    /// The slots among the ids: their embeddings are replaced by what the vision towers saw.
    pub image_range: Range<usize>,
}

impl Prompt {
    /// A task asked of an image that takes so many slots.
    ///
    /// # Errors
    /// When the tokenizer fails on the question.
    pub fn new(
        tokenizer: &TextTokenizer,
        task: &Task,
        n_slots: usize,
    ) -> Result<Self, TokenizeError> {
        Self::around(tokenizer, "", n_slots, &task.after_image())
    }

    /// Any text before and after an image. Published models know the tasks' own words only.
    ///
    /// # Errors
    /// When the tokenizer fails on the text.
    pub fn around(
        tokenizer: &TextTokenizer,
        before: &str,
        n_slots: usize,
        after: &str,
    ) -> Result<Self, TokenizeError> {
        let tokens = tokenizer.token_ids();
        // A slot that the text brings along would have no vector to go into it.
        let encode = |text: &str| -> Result<Vec<u32>, TokenizeError> {
            let mut ids = tokenizer.encode(text)?;
            ids.retain(|&id| id != tokens.image);
            Ok(ids)
        };
        let mut ids = vec![tokens.bos];
        ids.extend(encode(before)?);
        let first = ids.len();
        ids.extend(std::iter::repeat_n(tokens.image, n_slots));
        let image_range = first..ids.len();
        ids.extend(encode(after)?);
        Ok(Self { ids, image_range })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_written_and_read_alike() {
        for task in [
            Task::Document,
            Task::Ocr,
            Task::FreeOcr,
            Task::Figure,
            Task::Describe,
            Task::locate("the red car: left").unwrap(),
        ] {
            assert_eq!(task.to_string().parse(), Ok(task));
        }
    }

    #[test]
    fn unknown_task_is_answered_with_the_known_ones() {
        let error = "read".parse::<Task>().unwrap_err().to_string();
        assert!(
            error.contains("free-ocr") && error.contains("\"read\""),
            "{error}"
        );
    }

    #[test]
    fn phrases_bring_no_markers_along() {
        for phrase in [
            "",
            "  ",
            "a<|/ref|>b",
            "<image>",
            "two\nlines",
            &"x".repeat(501),
        ] {
            assert_eq!(Task::locate(phrase), Err(UnknownTask::Phrase), "{phrase}");
        }
        assert_eq!(
            Task::locate(" a < b ").unwrap().question(),
            "<image>\nLocate <|ref|>a < b<|/ref|> in the image."
        );
    }
}
