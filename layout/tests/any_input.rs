//! What holds for any input, however broken: no panic, no line lost or doubled, ranges that are
//! exactly the blocks' spans, parents that exist, coordinates inside the page.

use proptest::prelude::*;
use quire_core::{Label, Line, PageImage, Quad, Rect};
use quire_layout::{ComposedPage, PageInput, Region, compose};

/// A coordinate: mostly on the page, sometimes far off, sometimes no number.
fn coordinate() -> impl Strategy<Value = f32> {
    prop_oneof![
        12 => 0.0f32..1.0,
        2 => (0u8..12).prop_map(|n| f32::from(n) / 12.0),
        1 => -5.0f32..5.0,
        1 => prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(0.0), Just(f32::MIN), Just(1e-30)],
    ]
}

fn rect() -> impl Strategy<Value = Rect> {
    let line_like = (0.0f32..0.9, 0u8..40, 0.01f32..0.6).prop_map(|(x, row, width)| {
        let y = f32::from(row) / 40.0;
        Rect {
            x0: x,
            y0: y,
            x1: x + width,
            y1: y + 0.02,
        }
    });
    let any = (coordinate(), coordinate(), coordinate(), coordinate())
        .prop_map(|(x0, y0, x1, y1)| Rect { x0, y0, x1, y1 });
    prop_oneof![3 => line_like, 1 => any]
}

fn quad(rect: Rect) -> impl Strategy<Value = Option<Quad>> {
    let any = prop::array::uniform4((coordinate(), coordinate()))
        .prop_map(|points| Some(Quad(points.map(|(x, y)| [x, y]))));
    prop_oneof![2 => Just(None), 4 => Just(Some(Quad::from(rect))), 1 => any]
}

/// Text with what joining, lists, tables and Markdown look at.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,40}",
        "[\\PC\\n\\t]{0,20}",
        "[#>*+\\-=`~<\\[|1-9.) ]{0,8}[a-z]{0,9}",
        "[一-龥，。（）]{0,30}",
        "[ء-ي ]{0,20}",
        Just("Figure 2: a tree".to_owned()),
        Just("\u{301}\u{1100}\u{AD}".to_owned()),
        Just("12".to_owned()),
        Just("int main() { return 0; }".to_owned()),
        Just("• an item-".to_owned()),
    ]
}

fn line() -> impl Strategy<Value = (Rect, Option<Quad>, String, f32)> {
    rect().prop_flat_map(|rect| (Just(rect), quad(rect), words(), coordinate()))
}

fn region() -> impl Strategy<Value = Region> {
    (rect(), 0..Label::ALL.len(), coordinate()).prop_map(|(rect, label, confidence)| Region {
        label: Label::ALL[label],
        label_raw: Label::ALL[label].to_string(),
        rect,
        confidence,
    })
}

fn lines(with_tokens: bool) -> impl Strategy<Value = Vec<Line>> {
    (prop::collection::vec(line(), 0..60), 0usize..4).prop_map(move |(lines, copies)| {
        let n = lines.len();
        let mut lines: Vec<Line> = lines
            .into_iter()
            .map(|(rect, quad, text, confidence)| Line {
                block: Some(7),
                text,
                rect,
                quad,
                confidence,
            })
            .collect();
        // Identical lines are one of the things a detector does.
        for at in 0..copies.min(n) {
            lines.push(lines[at].clone());
        }
        if with_tokens {
            for (at, line) in lines.iter_mut().enumerate() {
                // Random text must not hold a token by chance.
                let text = line.text.replace(['q', 'z'], "");
                line.text = format!("q{at}q {text} z{at}z");
            }
        }
        lines
    })
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 100u32..3000, 1 => Just(0), 1 => Just(1), 1 => Just(u32::MAX)]
}

/// No image, a ruled one, or one that lacks pixels.
fn image() -> impl Strategy<Value = Option<PageImage>> {
    (0u8..6, 1u32..90, 1u32..90, 1usize..12).prop_map(|(kind, width, height, step)| {
        let mut image = PageImage::white(width, height);
        for row in image.rgb.chunks_mut(width as usize * 3).step_by(step) {
            row.fill(if kind == 1 { 120 } else { 0 });
        }
        match kind {
            0 => image.rgb.truncate(7),
            1..=3 => {}
            _ => return None,
        }
        Some(image)
    })
}

fn composed(
    (width_px, height_px): (u32, u32),
    lines: Vec<Line>,
    regions: Vec<Region>,
    image: Option<&PageImage>,
) -> ComposedPage {
    compose(PageInput {
        width_px,
        height_px,
        lines,
        regions,
        image,
    })
}

fn in_page(rect: &Rect) -> bool {
    [rect.x0, rect.y0, rect.x1, rect.y1]
        .iter()
        .all(|value| (0.0..=1.0).contains(value))
        && rect.x0 <= rect.x1
        && rect.y0 <= rect.y1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_block_is_where_it_says(
        size in (size(), size()),
        lines in lines(false),
        regions in prop::collection::vec(region(), 0..14),
        image in image(),
    ) {
        let page = composed(size, lines, regions, image.as_ref());
        let chars: Vec<char> = page.text.chars().collect();
        let mut at = 0;
        for (index, block) in page.blocks.iter().enumerate() {
            prop_assert!(in_page(&block.rect), "{:?}", block.rect);
            if let Some(quad) = &block.quad {
                prop_assert!(quad.0.iter().flatten().all(|value| (0.0..=1.0).contains(value)));
            }
            prop_assert!(block.confidence.is_none_or(|value| (0.0..=1.0).contains(&value)));
            prop_assert!(block.parent.is_none_or(|parent| parent as usize != index && (parent as usize) < page.blocks.len()));
            prop_assert!(block.level.is_none_or(|level| level >= 1));
            let Some(range) = &block.text_range else {
                prop_assert!(block.label.is_furniture());
                continue;
            };
            prop_assert!(!block.label.is_furniture());
            // Blocks follow each other with exactly one blank line between.
            let start = if at == 0 { 0 } else { at + 2 };
            prop_assert_eq!(range.start as usize, start);
            prop_assert!(range.end as usize <= chars.len());
            prop_assert!(at == 0 || (chars[at] == '\n' && chars[at + 1] == '\n'));
            let span: String = chars[range.start as usize..range.end as usize].iter().collect();
            prop_assert!(!span.trim().is_empty());
            prop_assert!(!span.contains("\n\n") || block.label == Label::Code);
            if block.label == Label::Picture {
                prop_assert_eq!(span, format!("![](#{index})"));
            } else if let Some(html) = &block.html {
                prop_assert_eq!(&span, html);
            }
            at = range.end as usize;
        }
        prop_assert_eq!(at, chars.len());
        let composed: String = unicode_normalization::UnicodeNormalization::nfc(page.text.as_str()).collect();
        prop_assert_eq!(&composed, &page.text);
        prop_assert!(!page.text.contains(['\r', '\t']) || page.blocks.iter().any(|block| block.text.contains('\t')));
    }

    #[test]
    fn every_line_is_in_exactly_one_block(
        size in (size(), size()),
        lines in lines(true),
        regions in prop::collection::vec(region(), 0..14),
        image in image(),
    ) {
        let n = lines.len();
        let page = composed(size, lines, regions, image.as_ref());
        prop_assert_eq!(page.lines.len(), n);
        let all: Vec<&str> = page.blocks.iter().map(|block| block.text.as_str()).collect();
        let all = all.join("\n");
        for at in 0..n {
            for token in [format!("q{at}q"), format!("z{at}z")] {
                prop_assert_eq!(all.matches(&token).count(), 1, "{} in {}", token, all);
            }
        }
        for line in &page.lines {
            let block = &page.blocks[line.block.expect("a line with text has a block") as usize];
            let token = line.text.split(' ').next().expect("split gives one part at least");
            prop_assert!(block.text.contains(token));
            prop_assert!(in_page(&line.rect));
            prop_assert!((0.0..=1.0).contains(&line.confidence));
        }
    }

    #[test]
    fn the_order_of_the_input_changes_nothing(
        lines in prop::collection::vec((0u8..3, 0u8..30, "[a-z]{1,9}( [a-z]{1,9}){0,4}"), 0..40),
    ) {
        let mut seen = std::collections::HashSet::new();
        let mut lines: Vec<Line> = lines
            .into_iter()
            .filter(|(column, row, _)| seen.insert((*column, *row)))
            .map(|(column, row, text)| {
                let (x, y) = (0.05 + 0.31 * f32::from(column), 0.05 + 0.03 * f32::from(row));
                let rect = Rect { x0: x, y0: y, x1: x + 0.28, y1: y + 0.02 };
                Line { block: None, text, rect, quad: None, confidence: 1.0 }
            })
            .collect();
        let forward = composed((1000, 1400), lines.clone(), Vec::new(), None);
        lines.reverse();
        prop_assert_eq!(forward, composed((1000, 1400), lines, Vec::new(), None));
    }
}
