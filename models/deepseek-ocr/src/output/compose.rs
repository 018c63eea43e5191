//! Blocks into the page's text, with every block's place in it.

use quire_core::{Block, Label};
use unicode_normalization::UnicodeNormalization;

use super::blocks::Draft;
use super::markers::without_markers;

/// Writes the page out. A block's range is its span in the text, in code points; one that adds
/// nothing has an empty range, furniture has none.
pub(super) fn write(drafts: Vec<Draft>) -> (String, Vec<Block>) {
    let mut text = String::new();
    let mut written: u32 = 0;
    let mut blocks = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.into_iter().enumerate() {
        let Draft {
            mut block,
            markdown,
        } = draft;
        block.text = clean(&block.text);
        block.label_raw = clean(&block.label_raw);
        block.html = block.html.as_deref().map(clean);
        block.latex = block.latex.as_deref().map(clean);
        if !block.label.is_furniture() {
            let span = span(&block, &clean(&markdown), index);
            if !span.is_empty() && !text.is_empty() {
                text.push_str("\n\n");
                written = written.saturating_add(2);
            }
            let n_chars = u32::try_from(span.chars().count()).unwrap_or(u32::MAX);
            let end = written.saturating_add(n_chars);
            text.push_str(&span);
            block.text_range = Some(written..end);
            written = end;
        }
        blocks.push(block);
    }
    (text, blocks)
}

/// A block as Markdown, without the blank lines around it.
fn span(block: &Block, markdown: &str, index: usize) -> String {
    if block.label != Label::Picture {
        return markdown.to_owned();
    }
    let picture = format!("![](#{index})");
    if markdown.is_empty() {
        picture
    } else {
        format!("{picture}\n\n{markdown}")
    }
}

/// NFC, without markers that an entity or a bold mark inside them may have hidden until now.
pub(super) fn clean(text: &str) -> String {
    without_markers(text).nfc().collect()
}
