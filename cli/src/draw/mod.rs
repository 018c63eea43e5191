//! Draws the blocks of a page onto its image: a tinted box in the label's color, and a tag with
//! the block's place in reading order and its label.

mod font;

use quire_core::{Block, Label, PageImage, Quad};

type Color = [u8; 3];

/// How much of the label's color a box's inside takes, of 255.
const TINT: u16 = 26;

/// Draws every block that has a box, numbered from 0 as they stand in `layout`.
pub(crate) fn draw_blocks(image: &mut PageImage, blocks: &[Block]) {
    let has_box = |block: &Block| block.quad.is_some() || block.rect.area() > 0.0;
    // Tags last: no box may cross a number.
    for block in blocks.iter().filter(|block| has_box(block)) {
        let color = color_of(block.label);
        let quad = block.quad.unwrap_or_else(|| block.rect.into());
        fill(image, &quad, color);
        outline(image, &quad, color);
    }
    for (number, block) in blocks.iter().enumerate() {
        if !has_box(block) {
            continue;
        }
        let text = format!("{number} {}", block.label);
        let corner = block.quad.unwrap_or_else(|| block.rect.into()).bounds();
        let x = to_pixel(corner.x0, image.width);
        let y = to_pixel(corner.y0, image.height);
        tag(image, x, y, &text, color_of(block.label));
    }
}

/// Colors far enough apart on white paper; furniture is grey.
pub(crate) fn color_of(label: Label) -> Color {
    match label {
        Label::Title => [0xC6, 0x1A, 0x27],
        Label::SectionHeader => [0xE0, 0x6C, 0x00],
        Label::Text => [0x1B, 0x6C, 0xB8],
        Label::ListItem => [0x00, 0x93, 0xA3],
        Label::Table => [0x23, 0x8B, 0x3A],
        Label::Formula => [0x7D, 0x4C, 0xB0],
        Label::Picture => [0x8A, 0x55, 0x35],
        Label::Caption => [0xC9, 0x3F, 0x97],
        Label::Code => [0x4A, 0x4A, 0x8A],
        Label::Footnote => [0x8F, 0x8A, 0x00],
        Label::PageHeader | Label::PageFooter | Label::PageNumber => [0x80, 0x80, 0x80],
        Label::Reference => [0x2F, 0x4F, 0x6F],
        Label::Form => [0x5C, 0x7A, 0x29],
        Label::Stamp => [0x9E, 0x2A, 0x5B],
        Label::Other => [0x30, 0x30, 0x30],
    }
}

/// Thickness of lines and size of letters grow with the image.
fn thickness(image: &PageImage) -> i64 {
    i64::from((image.width.max(image.height) / 800).max(1)) + 1
}

fn letter_scale(image: &PageImage) -> i64 {
    i64::from((image.width.max(image.height) / 900).max(1))
}

fn to_pixel(fraction: f32, size: u32) -> i64 {
    (f64::from(fraction) * f64::from(size)).round() as i64
}

fn corners(image: &PageImage, quad: &Quad) -> [(i64, i64); 4] {
    quad.0
        .map(|[x, y]| (to_pixel(x, image.width), to_pixel(y, image.height)))
}

fn fill(image: &mut PageImage, quad: &Quad, color: Color) {
    let corners = corners(image, quad);
    let top = corners.iter().map(|&(_, y)| y).min().unwrap_or(0).max(0);
    let bottom = corners
        .iter()
        .map(|&(_, y)| y)
        .max()
        .unwrap_or(0)
        .min(i64::from(image.height));
    for y in top..bottom {
        let Some((left, right)) = row_span(&corners, y) else {
            continue;
        };
        for x in left.max(0)..right.min(i64::from(image.width)) {
            blend(image, x, y, color, TINT);
        }
    }
}

/// Where the row at the middle of pixel `y` enters and leaves the quad.
fn row_span(corners: &[(i64, i64); 4], y: i64) -> Option<(i64, i64)> {
    let middle = y as f64 + 0.5;
    let mut crossings = Vec::with_capacity(4);
    for at in 0..4 {
        let ((x0, y0), (x1, y1)) = (corners[at], corners[(at + 1) % 4]);
        let (y0, y1) = (y0 as f64, y1 as f64);
        if (y0 <= middle) != (y1 <= middle) {
            crossings.push(x0 as f64 + (x1 - x0) as f64 * (middle - y0) / (y1 - y0));
        }
    }
    let left = crossings.iter().copied().reduce(f64::min)?;
    let right = crossings.iter().copied().reduce(f64::max)?;
    Some((left.round() as i64, right.round() as i64))
}

fn outline(image: &mut PageImage, quad: &Quad, color: Color) {
    let corners = corners(image, quad);
    for at in 0..4 {
        line(image, corners[at], corners[(at + 1) % 4], color);
    }
}

fn line(image: &mut PageImage, from: (i64, i64), to: (i64, i64), color: Color) {
    let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
    let brush = thickness(image);
    let back = brush / 2;
    for step in 0..=steps {
        let x = from.0 + (to.0 - from.0) * step / steps - back;
        let y = from.1 + (to.1 - from.1) * step / steps - back;
        for (dx, dy) in (0..brush).flat_map(|dy| (0..brush).map(move |dx| (dx, dy))) {
            blend(image, x + dx, y + dy, color, 255);
        }
    }
}

/// A colored plate with white letters, its bottom left corner at `x, y`; moved into the image.
fn tag(image: &mut PageImage, x: i64, y: i64, text: &str, color: Color) {
    let scale = letter_scale(image);
    let letters = text.chars().count() as i64;
    let advance = i64::from(font::WIDTH + 1) * scale;
    let (width, height) = (
        letters * advance + 3 * scale,
        i64::from(font::HEIGHT + 4) * scale,
    );
    let x = x.min(i64::from(image.width) - width).max(0);
    let y = (y - height).clamp(0, (i64::from(image.height) - height).max(0));
    for (dx, dy) in (0..height).flat_map(|dy| (0..width).map(move |dx| (dx, dy))) {
        blend(image, x + dx, y + dy, color, 230);
    }
    for (at, letter) in text.chars().enumerate() {
        let left = x + 2 * scale + at as i64 * advance;
        write_letter(image, left, y + 2 * scale, scale, letter);
    }
}

fn write_letter(image: &mut PageImage, x: i64, y: i64, scale: i64, letter: char) {
    for (row, bits) in font::glyph(letter).into_iter().enumerate() {
        for column in 0..font::WIDTH {
            if bits & (1 << (font::WIDTH - 1 - column)) == 0 {
                continue;
            }
            let (left, top) = (x + i64::from(column) * scale, y + row as i64 * scale);
            for (dx, dy) in (0..scale).flat_map(|dy| (0..scale).map(move |dx| (dx, dy))) {
                blend(image, left + dx, top + dy, [255; 3], 255);
            }
        }
    }
}

/// Lays `color` over a pixel with a weight of `alpha` in 255; outside the image nothing happens.
fn blend(image: &mut PageImage, x: i64, y: i64, color: Color, alpha: u16) {
    let inside =
        (0..i64::from(image.width)).contains(&x) && (0..i64::from(image.height)).contains(&y);
    if !inside {
        return;
    }
    let at = (y as usize * image.width as usize + x as usize) * 3;
    for (channel, paint) in image.rgb[at..at + 3].iter_mut().zip(color) {
        let mixed = u16::from(*channel) * (255 - alpha) + u16::from(paint) * alpha;
        *channel = (mixed / 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use quire_core::Rect;

    use super::*;

    fn block(rect: Rect, label: Label) -> Block {
        Block {
            label,
            label_raw: label.to_string(),
            rect,
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

    fn pixel(image: &PageImage, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * image.width as usize + x as usize) * 3;
        [image.rgb[at], image.rgb[at + 1], image.rgb[at + 2]]
    }

    #[test]
    fn box_has_an_outline_in_its_color_a_tint_inside_and_nothing_outside() {
        let mut image = PageImage::white(200, 100);
        let rect = Rect {
            x0: 0.25,
            y0: 0.5,
            x1: 0.75,
            y1: 0.9,
        };
        draw_blocks(&mut image, &[block(rect, Label::Table)]);
        assert_eq!(pixel(&image, 150, 70), color_of(Label::Table));
        let inside = pixel(&image, 120, 75);
        assert_ne!(inside, [255; 3]);
        assert!(inside.iter().all(|&channel| channel > 220));
        assert_eq!(pixel(&image, 20, 75), [255; 3]);
        assert_eq!(pixel(&image, 180, 95), [255; 3]);
    }

    #[test]
    fn tag_stands_above_the_box_and_shows_letters() {
        let mut image = PageImage::white(200, 100);
        let rect = Rect {
            x0: 0.25,
            y0: 0.5,
            x1: 0.75,
            y1: 0.9,
        };
        draw_blocks(&mut image, &[block(rect, Label::Text)]);
        let plate = (39..50).flat_map(|y| (50..90).map(move |x| (x, y)));
        let white = plate
            .clone()
            .filter(|&(x, y)| pixel(&image, x, y) == [255; 3])
            .count();
        assert!((30..300).contains(&white), "{white}");
    }

    #[test]
    fn boxes_at_and_beyond_the_edges_are_drawn_as_far_as_they_are_inside() {
        for (width, height) in [(1, 1), (3, 200), (640, 480)] {
            let mut image = PageImage::white(width, height);
            let whole = Rect {
                x0: 0.0,
                y0: 0.0,
                x1: 1.0,
                y1: 1.0,
            };
            let beyond = Rect {
                x0: -4.0,
                y0: -2.0,
                x1: 9.0,
                y1: 7.0,
            };
            let empty = Rect {
                x0: 0.5,
                y0: 0.5,
                x1: 0.5,
                y1: 0.5,
            };
            let blocks = [whole, beyond, empty].map(|rect| block(rect, Label::Other));
            draw_blocks(&mut image, &blocks);
            assert_eq!(image.rgb.len(), (width * height * 3) as usize);
        }
    }

    #[test]
    fn turned_quad_is_filled_inside_its_own_edges_only() {
        let mut image = PageImage::white(100, 100);
        let mut turned = block(
            Rect {
                x0: 0.2,
                y0: 0.2,
                x1: 0.8,
                y1: 0.8,
            },
            Label::Text,
        );
        turned.quad = Some(Quad([[0.5, 0.2], [0.8, 0.5], [0.5, 0.8], [0.2, 0.5]]));
        draw_blocks(&mut image, &[turned]);
        assert_ne!(pixel(&image, 50, 60), [255; 3]);
        assert_eq!(pixel(&image, 75, 75), [255; 3]);
    }
}
