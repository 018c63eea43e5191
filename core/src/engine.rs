//! The seam between the page pipeline and whatever reads a page.
//!
//! An engine owns its thread. Pages come to it through a bounded source and answers leave as
//! they are ready, in any order: an engine that reads page by page and one that keeps hundreds
//! of pages in flight (continuous batching) both fit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fault::{Fault, Faulty};
use crate::page::PageImage;
use crate::recognition::{Line, Recognition};
use crate::trouble::Trouble;

/// Who read a page; columns `engine` to `engine_mode` of the dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// `pp-ocr`, `deepseek-ocr`.
    pub name: String,
    /// Version of the code.
    pub version: String,
    pub model_id: String,
    /// SHA-256 of the weights.
    pub model_revision: String,
    /// Such as `small`, `gundam`; with all else that decides what is written, where that is not
    /// the default: `gundam free-ocr`.
    pub mode: String,
}

/// A page to read.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// Chosen by the caller, returned with the answer.
    pub ticket: u64,
    pub image: Arc<PageImage>,
    /// Lines already known from a trusted text layer: the engine finds the page's structure and
    /// takes these as its text instead of reading pixels. Coordinates are fractions of `image`.
    pub known_lines: Option<Vec<Line>>,
    /// Read in this mode instead of the engine's own; only one that [`Engine::takes_mode`] names.
    pub mode: Option<String>,
}

/// What became of a page.
#[derive(Debug, Clone)]
pub struct PageAnswer {
    pub ticket: u64,
    /// A page that cannot be read is data, not an error of the engine.
    pub result: Result<Recognition, Trouble>,
}

/// What [`PageSource::try_next`] found.
#[derive(Debug)]
pub enum TryNext {
    Page(PageRequest),
    /// Nothing waits now.
    Empty,
    /// Nothing will come any more.
    Closed,
}

/// Where an engine takes pages from.
pub trait PageSource: Send {
    /// Waits for the next page; `None` when no more will come.
    fn next(&mut self) -> Option<PageRequest>;
    /// Takes a page only if one waits already.
    fn try_next(&mut self) -> TryNext;
}

/// Where an engine puts answers.
pub trait AnswerSink: Send {
    /// Hands one answer over; never blocks for long.
    fn answer(&mut self, answer: PageAnswer);

    /// Says that the engine came further with pages that it holds. An engine that may be busy with
    /// a page for minutes calls it after every step; else its pages are taken for stuck.
    fn moved(&mut self) {}
}

/// Reads pages.
pub trait Engine: Send {
    /// Who this is.
    fn info(&self) -> &EngineInfo;

    /// How many pages the engine likes to have taken at once; bounds what callers prepare ahead.
    fn pages_in_flight(&self) -> usize;

    /// Who reads a single page in a mode that [`Self::takes_mode`] names.
    fn info_in(&self, mode: &str) -> EngineInfo {
        EngineInfo {
            mode: mode.to_owned(),
            ..self.info().clone()
        }
    }

    /// Whether a single page may be read in this mode, beside pages in the engine's own.
    fn takes_mode(&self, mode: &str) -> bool {
        mode == self.info().mode
    }

    /// Whether lines that are known already are taken as the page's text; an engine that writes a
    /// page out by itself has no use for them.
    fn takes_known_lines(&self) -> bool {
        true
    }

    /// Takes pages until the source closes and answers every page it took exactly once.
    ///
    /// # Errors
    /// When the engine itself cannot go on; pages taken and unanswered are then lost to it.
    fn serve(
        &mut self,
        pages: &mut dyn PageSource,
        answers: &mut dyn AnswerSink,
    ) -> Result<(), EngineError>;
}

/// An engine that cannot load or cannot go on.
#[derive(Debug, Error)]
#[error("engine {engine}: {message}")]
pub struct EngineError {
    pub engine: String,
    pub message: String,
    pub fault: Fault,
}

impl Faulty for EngineError {
    fn fault(&self) -> Fault {
        self.fault
    }
}
