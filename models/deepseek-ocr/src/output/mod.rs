//! What the model wrote, as blocks, Markdown, tables, formulas and pictures. Never fails: what
//! cannot be understood is kept as text and flagged.
//!
//! The way of an answer through this module, one file a step:
//!
//! 1. `markers`: the answer cut at its markers into labels, boxes (`boxes`) and contents;
//! 2. `labels`: the model's words for what a block is;
//! 3. `blocks`: contents into blocks, with `tables`, `formulas` and `inline` for what is in them;
//! 4. `captions`: which picture or table a caption belongs to;
//! 5. `compose`: blocks into the page's Markdown, with every block's place in it.
//!
//! Beside it, [`figure`] tells what a second question about a picture was answered with, and
//! [`mod@reference`] does what the published code does with an answer, for comparison.
//!
//! # Markdown
//!
//! As `quire_layout` writes it: blocks are separated by one blank line, tables are HTML, a picture
//! is `![](#K)` with K its index among the blocks, furniture is left out. The model's own Markdown
//! stays as it wrote it, but for formulas (`\( \)` and `\[ \]` become `$` and `$$`), `<center>`
//! tags, which go, and the start of an image, which is escaped so that only pictures are pictures.
//! A dollar sign beside formulas of the same block is escaped.

mod blocks;
mod boxes;
mod captions;
mod compose;
mod crop;
pub mod figure;
mod formulas;
mod inline;
mod labels;
mod markers;
pub mod reference;
mod tables;

use quire_core::{Block, Flag, Label, Rect};

pub use crop::{crop, pixel_box};

use crate::prompt::Task;

/// What was asked, which decides how the answer is taken.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    pub task: Task,
}

/// What the model wrote of an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Written {
    /// Markdown in reading order, NFC, `\n`.
    pub text: String,
    /// In reading order. A block without a box has the box `0 0 0 0`.
    pub blocks: Vec<Block>,
    /// [`Flag::BoxesMissing`] if a block has no box or lost one that made no sense.
    pub flags: Vec<Flag>,
}

impl Written {
    /// Pictures with a box: their places among the blocks, for a second question.
    pub fn pictures(&self) -> impl Iterator<Item = (usize, Rect)> + '_ {
        let blocks = self.blocks.iter().enumerate();
        blocks
            .filter(|(_, block)| block.label == Label::Picture && block.rect.area() > 0.0)
            .map(|(at, block)| (at, block.rect))
    }
}

/// Takes an answer apart. `image_size` is width and height of the image that was asked about, in
/// pixels; boxes are fractions of it.
pub fn read(text: &str, image_size: (u32, u32), options: &ReadOptions) -> Written {
    let pieces = markers::pieces(text, &options.task);
    let is_damaged = pieces.iter().any(|piece| piece.is_damaged);
    let mut drafts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        blocks::build(piece, &options.task, &mut drafts);
    }
    captions::tie(&mut drafts, image_size);
    let (text, blocks) = compose::write(drafts);
    let lacks_box = blocks.iter().any(|block| block.rect.area() <= 0.0);
    let flags = if is_damaged || lacks_box {
        vec![Flag::BoxesMissing]
    } else {
        Vec::new()
    };
    Written {
        text,
        blocks,
        flags,
    }
}
