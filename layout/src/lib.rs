//! From recognised lines to a page: which block every line belongs to, in which order people
//! read the blocks, and the page as Markdown.
//!
//! A page arrives as text lines (in any order) and as regions from a layout detector. The
//! regions are hints: they may be missing, overlap or be wrong. What decides is the geometry of
//! the lines themselves; a region adds a label or settles a doubt. Two promises hold for any
//! input, however broken: every line stands in exactly one block, and every block's
//! `text_range` is exactly its span in the page's text.
//!
//! The way of a page through this crate, one file a step:
//!
//! 1. `geometry`: lines and regions into one upright, deskewed frame in pixels;
//! 2. `regions`: which region, if any, each line lies in; what is ruled in the image (`rules`);
//! 3. `furniture`: page headers, footers and page numbers set aside;
//! 4. `order`: the rest cut into columns and bands, in reading order (`sides`: columns or cells);
//! 5. `rows`: the lines of a column into typeset rows;
//! 6. `flow`: rows into blocks: `follow` says where a paragraph ends, `label` what it is, `code`
//!    finds listings, `tables` and `bands` make grids;
//! 7. `captions`, `headings`, `lists`: what needs sight of the whole page;
//! 8. `join`: rows of a paragraph into running text;
//! 9. `markdown`: blocks into the page's text.
//!
//! # Markdown
//!
//! Blocks are separated by one blank line. Headings are `#` to `######`, list items start with
//! `- ` or with their own number and are indented by four spaces a level, tables are HTML, code
//! is fenced, a picture is `![](#K)` with K its index among the blocks, everything else is plain
//! text. A line break that carries meaning (an address, a poem, a receipt) is kept as a newline.
//! Characters are escaped with a backslash only where a line's start would otherwise be taken
//! for Markdown (`#`, `>`, a bullet, a number with a dot, a fence, a rule, an HTML tag, a link
//! definition); inside a line nothing is escaped.

mod bands;
mod captions;
mod chars;
mod code;
mod draft;
mod flow;
mod follow;
mod furniture;
mod geometry;
mod headings;
mod join;
mod label;
mod lists;
mod markdown;
mod order;
mod regions;
mod rows;
mod rules;
mod sides;
mod tables;

use quire_core::{Block, Label, Line, PageImage, Rect};

use crate::draft::{Draft, Page};
use crate::geometry::Frame;

/// An area that a layout detector marked, in fractions of the upright page image.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    pub label: Label,
    /// The detector's own word for the label.
    pub label_raw: String,
    pub rect: Rect,
    /// 0 to 1.
    pub confidence: f32,
}

/// What is known of a page before it is composed; coordinates in fractions of the upright image.
#[derive(Debug, Clone)]
pub struct PageInput<'a> {
    /// Size of the upright page image: gives the fractions their aspect.
    pub width_px: u32,
    pub height_px: u32,
    /// In any order; `block` is ignored.
    pub lines: Vec<Line>,
    pub regions: Vec<Region>,
    /// The upright page image, where it is at hand.
    pub image: Option<&'a PageImage>,
}

/// A page in reading order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ComposedPage {
    /// Markdown, NFC, `\n`.
    pub text: String,
    pub blocks: Vec<Block>,
    /// In reading order, with `block` set; a line without any text belongs to no block.
    pub lines: Vec<Line>,
}

/// Composes a page. Never fails: lines that fit no pattern become plain text blocks.
pub fn compose(input: PageInput<'_>) -> ComposedPage {
    let frame = Frame::new(&input);
    let mut page = Page::new(&input, &frame);
    regions::assign(&mut page);
    let furniture = furniture::take(&mut page);
    let flows = order::order(&page, &furniture);
    let mut drafts: Vec<Draft> = furniture.head;
    for flow in &flows {
        flow::build(&page, flow, &mut drafts);
    }
    drafts.extend(furniture.foot);
    captions::arrange(&page, &mut drafts);
    headings::level(&page, &mut drafts);
    lists::level(&page, &mut drafts);
    markdown::write(&page, drafts, input.lines)
}
