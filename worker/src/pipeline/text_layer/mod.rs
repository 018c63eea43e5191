//! The text that a PDF page carries: what it says, where, and whether to believe it.
//!
//! `extract` runs in the sandboxed child and listens to the renderer's drawing events; `lines`
//! groups glyphs into lines; [`trust`] decides in the parent, from what came over, whether the
//! layer may stand in for reading the pixels. Doubt always means: read the pixels.

mod cid;
pub(crate) mod extract;
mod letters;
mod lines;
mod plausible;
mod trust;

use quire_core::Line;
use serde::{Deserialize, Serialize};

pub use trust::{Distrust, TextLayerKind, trust};

/// The text layer of one page. Counts are of glyphs other than white space, fake-bold doubles
/// dropped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TextLayer {
    /// Glyphs on the page, seen or not.
    pub n_glyphs: u32,
    /// Glyphs that leave no ink: invisible by their drawing mode, transparent, or covered by a
    /// picture or a filled box that was drawn over them.
    pub n_invisible: u32,
    /// Glyphs whose Unicode the PDF does not tell.
    pub n_unknown_unicode: u32,
    /// Glyphs that mean a private-use, control or replacement character.
    pub n_odd: u32,
    /// Glyphs outside the page's visible part; not counted in `n_glyphs`.
    pub n_outside: u32,
    /// Part of the page under pictures, 0 to 1.
    pub image_coverage: f32,
    /// Lines with ink, in the order in which they are drawn.
    pub lines: Vec<Line>,
    /// Lines without ink: somebody's OCR, or hidden words.
    pub hidden_lines: Vec<Line>,
    /// `lines` as text, a newline between lines.
    pub visible_text: String,
}

impl TextLayer {
    /// What kind of layer this is.
    pub fn kind(&self) -> TextLayerKind {
        TextLayerKind::of(self)
    }
}
