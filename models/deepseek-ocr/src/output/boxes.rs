//! Boxes as the model writes them: lists of four whole numbers from 0 to 999, over the width and
//! height of the original image.

use quire_core::Rect;

/// Left, top, right, bottom.
pub(super) type Bins = [i64; 4];

/// The last bin: the right or bottom edge.
pub(super) const LAST_BIN: i64 = 999;

/// Whether a character can stand in a list of boxes.
pub(super) fn is_of_list(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '[' | ']' | ',' | '.' | '-' | ' ' | '\t')
}

/// All lists of four numbers in a text, however nested, and whether there was anything else.
pub(super) fn parse(text: &str) -> (Vec<Bins>, bool) {
    let mut boxes = Vec::new();
    let mut numbers: Vec<i64> = Vec::new();
    let mut is_damaged = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() || c == '-' {
            let n_bytes = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '.'))
                .unwrap_or(rest.len());
            match number(&rest[..n_bytes]) {
                Some(number) => numbers.push(number),
                None => is_damaged = true,
            }
            rest = &rest[n_bytes..];
            continue;
        }
        match c {
            ']' => {
                let lists = numbers.chunks_exact(4);
                is_damaged |= !lists.remainder().is_empty();
                boxes.extend(lists.map(|list| [list[0], list[1], list[2], list[3]]));
                numbers.clear();
            }
            // Numbers before an inner list belong to none.
            '[' => {
                is_damaged |= !numbers.is_empty();
                numbers.clear();
            }
            ',' => {}
            c => is_damaged |= !c.is_whitespace(),
        }
        rest = &rest[c.len_utf8()..];
    }
    // A list that does not end may have lost digits.
    is_damaged |= !numbers.is_empty() || boxes.is_empty();
    (boxes, is_damaged)
}

/// A number without its fraction; one that is too long is beyond the last bin.
fn number(text: &str) -> Option<i64> {
    let whole = text.split('.').next().unwrap_or_default();
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = digits.parse().unwrap_or(i64::from(i32::MAX));
    Some(if whole.starts_with('-') {
        -value
    } else {
        value
    })
}

/// A box in fractions, clamped; `None` where nothing of it is left.
pub(super) fn rect(bins: &Bins) -> Option<Rect> {
    let [x0, y0, x1, y1] = bins.map(|bin| bin.clamp(0, LAST_BIN));
    let fraction = |bin: i64| bin as f32 / LAST_BIN as f32;
    (x0 < x1 && y0 < y1).then(|| Rect {
        x0: fraction(x0),
        y0: fraction(y0),
        x1: fraction(x1),
        y1: fraction(y1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_four_are_boxes() {
        for (text, boxes, is_damaged) in [
            ("[[1, 2, 3, 4]]", vec![[1, 2, 3, 4]], false),
            ("[1,2,3,4]", vec![[1, 2, 3, 4]], false),
            (
                "[[1, 2, 3, 4], [5, 6, 7, 8]]",
                vec![[1, 2, 3, 4], [5, 6, 7, 8]],
                false,
            ),
            ("[[1.9, -2, 3, 4]]", vec![[1, -2, 3, 4]], false),
            ("[[1, 2, 3], [5, 6, 7, 8]]", vec![[5, 6, 7, 8]], true),
            ("[[1, 2, 3, 4", vec![], true),
            ("[[1, 2, 3, --4]]", vec![], true),
            ("", vec![], true),
            ("[]", vec![], true),
            (
                "[[1, 2, 3, 99999999999999999999]]",
                vec![[1, 2, 3, i64::from(i32::MAX)]],
                false,
            ),
        ] {
            assert_eq!(parse(text), (boxes, is_damaged), "{text}");
        }
    }

    #[test]
    fn boxes_are_clamped_and_empty_ones_dropped() {
        let whole = rect(&[-5, 0, 2000, 999]).unwrap();
        assert_eq!(
            (whole.x0, whole.y0, whole.x1, whole.y1),
            (0.0, 0.0, 1.0, 1.0)
        );
        assert_eq!(rect(&[10, 10, 10, 20]), None);
        assert_eq!(rect(&[1000, 0, 1001, 20]), None);
    }
}
