//! Deep parsing: what is asked about the pictures of a page, and what is cut out for it.

use std::sync::Arc;

use quire_core::{Block, Label, PageImage};

use crate::output::crop;

/// Pictures with an edge shorter than this are bullets, rules and logos, pixels.
const MIN_EDGE: u32 = 32;

/// Indices of the blocks to ask about, in reading order, each with its part of the page.
pub(super) fn crops(
    image: &PageImage,
    blocks: &[Block],
    at_most: usize,
) -> Vec<(usize, Arc<PageImage>)> {
    let pictures = blocks.iter().enumerate();
    pictures
        .filter(|(_, block)| block.label == Label::Picture)
        .filter_map(|(index, block)| {
            let picture = crop(image, &block.rect).and_then(legible)?;
            Some((index, Arc::new(picture)))
        })
        .take(at_most)
        .collect()
}

/// A picture that has enough pixels to show something.
fn legible(picture: PageImage) -> Option<PageImage> {
    (picture.width.min(picture.height) >= MIN_EDGE).then_some(picture)
}

#[cfg(test)]
mod tests {
    use quire_core::Rect;

    use super::*;

    fn block(label: Label, [x0, y0, x1, y1]: [f32; 4]) -> Block {
        Block {
            label,
            label_raw: String::new(),
            rect: Rect { x0, y0, x1, y1 },
            quad: None,
            text: String::new(),
            html: None,
            latex: None,
            text_range: None,
            parent: None,
            level: None,
            confidence: None,
            parsed: None,
        }
    }

    #[test]
    fn pictures_are_cut_out_in_order_but_for_specks_and_those_too_many() {
        let image = PageImage::white(200, 100);
        let blocks = [
            block(Label::Picture, [0.0, 0.0, 0.1, 1.0]),
            block(Label::Picture, [0.5, 0.5, 0.75, 0.9]),
            block(Label::Text, [0.0, 0.0, 1.0, 1.0]),
            block(Label::Picture, [1.5, 0.0, 3.0, 1.0]),
            block(Label::Picture, [f32::NAN, 0.0, f32::NAN, 1.0]),
            block(Label::Picture, [-1.0, -1.0, 2.0, 2.0]),
            block(Label::Picture, [0.0, 0.0, 1.0, 0.5]),
        ];
        let found: Vec<usize> = crops(&image, &blocks, 2)
            .into_iter()
            .map(|crop| crop.0)
            .collect();
        assert_eq!(found, [1, 5]);
        assert!(crops(&image, &blocks, 0).is_empty());
        let all = crops(&image, &blocks, 16);
        assert_eq!(*all[1].1, image);
    }
}
