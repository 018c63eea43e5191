//! How far what was read agrees with the text a PDF carries.

use quire_core::{Line, Rect};
use rapidfuzz::distance::levenshtein;
use unicode_normalization::UnicodeNormalization;

/// Characters of a layer under which a comparison says nothing.
const LEAST_CHARS: usize = 8;

/// 1 − normalized edit distance between the lines read and the lines of the layer, 0 to 1.
///
/// A layer stands in content order, which is not reading order: each of its lines is first put
/// beside the read line that it overlaps most, so that only characters are judged. White space is
/// left out and NFKC applied. `None` when the layer holds next to nothing.
pub fn agreement(read: &[Line], layer: &[Line]) -> Option<f32> {
    let mut beside: Vec<Vec<&Line>> = vec![Vec::new(); read.len()];
    let mut alone = Vec::new();
    for line in layer {
        let best = read
            .iter()
            .enumerate()
            .map(|(at, other)| (at, overlap_share(&line.rect, &other.rect)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match best {
            Some((at, share)) if share > 0.3 => beside[at].push(line),
            _ => alone.push(line),
        }
    }
    for lines in &mut beside {
        lines.sort_by(|a, b| a.rect.x0.total_cmp(&b.rect.x0));
    }
    let found: Vec<char> = read.iter().flat_map(|line| letters(&line.text)).collect();
    let carried: Vec<char> = beside
        .into_iter()
        .flatten()
        .chain(alone)
        .flat_map(|line| letters(&line.text))
        .collect();
    if carried.len() < LEAST_CHARS {
        return None;
    }
    let distance = levenshtein::distance(found.iter().copied(), carried.iter().copied());
    Some(1.0 - distance as f32 / found.len().max(carried.len()) as f32)
}

/// Part of the smaller box that the other covers.
fn overlap_share(a: &Rect, b: &Rect) -> f32 {
    let smaller = a.area().min(b.area());
    if smaller > 0.0 {
        a.overlap(b) / smaller
    } else {
        0.0
    }
}

fn letters(text: &str) -> impl Iterator<Item = char> + '_ {
    text.nfkc().filter(|c| !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, x: f32, y: f32) -> Line {
        let rect = Rect {
            x0: x,
            y0: y,
            x1: x + 0.4,
            y1: y + 0.02,
        };
        Line {
            block: None,
            text: text.into(),
            rect,
            quad: None,
            confidence: 1.0,
        }
    }

    #[test]
    fn content_order_does_not_matter_and_letters_do() {
        let read = [
            line("first column", 0.05, 0.1),
            line("second column", 0.55, 0.1),
        ];
        let layer = [
            line("second column", 0.55, 0.1),
            line("first  column", 0.05, 0.1),
        ];
        assert_eq!(agreement(&read, &layer), Some(1.0));
        let shifted = [
            line("gjstu dpmvno", 0.05, 0.1),
            line("tfdpoe dpmvno", 0.55, 0.1),
        ];
        assert!(agreement(&read, &shifted).unwrap() < 0.3);
    }

    #[test]
    fn an_empty_layer_says_nothing() {
        assert_eq!(agreement(&[line("text", 0.0, 0.0)], &[]), None);
        assert_eq!(
            agreement(&[], &[line("a layer without reading", 0.0, 0.0)]),
            Some(0.0)
        );
    }
}
