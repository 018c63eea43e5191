//! Ruling lines in the page image: where a table is ruled, its rows are known for sure.

use quire_core::{PageImage, Rect};

use crate::geometry::{Direction, Frame};

/// Points looked at along a would-be rule.
const SAMPLES: usize = 160;
/// Share of them that must be dark: a row of text is never so dense.
const MIN_DARK: f32 = 0.9;
/// How much darker than the table's paper a rule is, of 255.
const MIN_CONTRAST: i32 = 40;

/// Heights of rules that cross a box of the frame from side to side, top to bottom.
pub(crate) fn horizontal(image: &PageImage, frame: &Frame, rect: &Rect) -> Vec<f32> {
    if rect.width() < 1.0 || rect.height() < 1.0 || !is_whole(image) {
        return Vec::new();
    }
    let paper = paper(image, frame, rect);
    let step = frame.extent().1 / image.height.max(1) as f32;
    let mut rules: Vec<f32> = Vec::new();
    let n = (rect.height() / step.max(0.25)).min(20_000.0) as usize;
    for at in 0..=n {
        let y = rect.y0 + at as f32 * step;
        let dark = (0..SAMPLES)
            .filter(|&sample| {
                let x = rect.x0 + (sample as f32 + 0.5) / SAMPLES as f32 * rect.width();
                // A thin or slightly bent rule may lie a pixel beside.
                [-1.0, 0.0, 1.0].iter().any(|shift| {
                    paper - brightness(image, frame, [x, y + shift * step]) > MIN_CONTRAST
                })
            })
            .count();
        if dark as f32 >= MIN_DARK * SAMPLES as f32 {
            match rules.last_mut() {
                Some(last) if y - *last < 5.0 * step => *last = y,
                _ => rules.push(y),
            }
        }
    }
    rules
}

/// Most rules looked at on a page; a photograph gives no end of them.
const MAX_RULES: usize = 4000;
/// Rules of a ruled table, at least.
const MIN_RULES: usize = 4;
/// Lines between two rules of a ruled table, at most.
const MAX_ROW: f32 = 9.0;

/// Rules of tables ruled row by row, in the frame: four rules or more of one length over each
/// other, at distances of table rows. Only on pages that stand straight, where a rule keeps to
/// its row of pixels.
pub(crate) fn ruled_stacks(image: &PageImage, frame: &Frame, em: f32) -> Vec<Vec<Rect>> {
    if frame.skew.abs() > 0.25f32.to_radians()
        || !is_whole(image)
        || frame.direction != Direction::LeftToRight
    {
        return Vec::new();
    }
    let scale = frame.height / image.height as f32;
    let mut groups: Vec<Vec<Rect>> = Vec::new();
    for rule in thin_runs(image, em / scale) {
        let rule = Rect {
            x0: rule.x0 * scale,
            y0: rule.y0 * scale,
            x1: rule.x1 * scale,
            y1: rule.y1 * scale,
        };
        let group = groups.iter_mut().rev().find(|group| {
            group.last().is_some_and(|last| {
                (last.x0 - rule.x0).abs() < em
                    && (last.x1 - rule.x1).abs() < em
                    && rule.y0 - last.y1 < MAX_ROW * em
            })
        });
        match group {
            Some(group) => group.push(rule),
            None => groups.push(vec![rule]),
        }
    }
    groups.retain(|group| group.len() >= MIN_RULES);
    groups
}

/// Long dark runs of pixels that are thin, top to bottom, in pixels of the image.
fn thin_runs(image: &PageImage, em: f32) -> Vec<Rect> {
    let (width, height) = (image.width as usize, image.height as usize);
    let min_length = (0.06 * width as f32).max(6.0 * em) as usize;
    let mut open: Vec<Rect> = Vec::new();
    let mut done: Vec<Rect> = Vec::new();
    for y in 0..height {
        let row = &image.rgb[y * width * 3..(y + 1) * width * 3];
        let here = dark_runs(row, min_length);
        let mut next: Vec<Rect> = Vec::new();
        for (from, to) in here {
            let run = Rect {
                x0: from as f32,
                y0: y as f32,
                x1: to as f32,
                y1: y as f32 + 1.0,
            };
            match open
                .iter()
                .position(|above| above.x0 <= run.x1 && above.x1 >= run.x0)
            {
                Some(at) => next.push(open.swap_remove(at).union(&run)),
                None => next.push(run),
            }
        }
        done.append(&mut open);
        open = next;
        if done.len() > MAX_RULES {
            return Vec::new();
        }
    }
    done.append(&mut open);
    done.retain(|rule| rule.height() <= (0.4 * em).max(2.0));
    done.sort_by(|a, b| a.y0.total_cmp(&b.y0));
    done
}

/// Runs of dark pixels in a row of an image, from and to.
fn dark_runs(row: &[u8], min_length: usize) -> Vec<(usize, usize)> {
    const DARK: u16 = 3 * 150;
    let is_dark = |pixel: &[u8]| pixel.iter().map(|&value| u16::from(value)).sum::<u16>() < DARK;
    let mut runs = Vec::new();
    let mut start: Option<usize> = None;
    for (x, pixel) in row.chunks_exact(3).enumerate() {
        match (start, is_dark(pixel)) {
            (None, true) => start = Some(x),
            (Some(from), false) => {
                if x - from >= min_length {
                    runs.push((from, x));
                }
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start.filter(|from| row.len() / 3 - from >= min_length) {
        runs.push((from, row.len() / 3));
    }
    runs
}

/// The brightness that most of a box has.
fn paper(image: &PageImage, frame: &Frame, rect: &Rect) -> i32 {
    let mut values: Vec<i32> = (0..400)
        .map(|n| {
            let (column, row) = ((n % 20) as f32 + 0.5, (n / 20) as f32 + 0.5);
            let point = [
                rect.x0 + column / 20.0 * rect.width(),
                rect.y0 + row / 20.0 * rect.height(),
            ];
            brightness(image, frame, point)
        })
        .collect();
    values.sort_unstable();
    values[values.len() * 6 / 10]
}

fn brightness(image: &PageImage, frame: &Frame, point: [f32; 2]) -> i32 {
    let [x, y] = frame.fraction_of(point);
    let x = ((x * image.width as f32) as usize).min(image.width as usize - 1);
    let y = ((y * image.height as f32) as usize).min(image.height as usize - 1);
    let at = (y * image.width as usize + x) * 3;
    image.rgb[at..at + 3]
        .iter()
        .map(|&value| i32::from(value))
        .sum::<i32>()
        / 3
}

/// Whether the image has all the pixels it promises.
fn is_whole(image: &PageImage) -> bool {
    let pixels = (image.width as usize).checked_mul(image.height as usize);
    pixels
        .and_then(|n| n.checked_mul(3))
        .is_some_and(|n| n > 0 && image.rgb.len() >= n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PageInput;

    #[test]
    fn rules_are_found_and_text_is_not() {
        let mut image = PageImage::white(200, 100);
        for (y, dashed) in [(20usize, false), (50, true), (80, false)] {
            for x in 10..190usize {
                if !dashed || x % 3 > 0 {
                    let at = (y * 200 + x) * 3;
                    image.rgb[at..at + 3].fill(30);
                }
            }
        }
        let input = PageInput {
            width_px: 200,
            height_px: 100,
            lines: Vec::new(),
            regions: Vec::new(),
            image: Some(&image),
        };
        let frame = Frame::new(&input);
        let rect = Rect {
            x0: 20.0,
            y0: 5.0,
            x1: 180.0,
            y1: 95.0,
        };
        let rules = horizontal(&image, &frame, &rect);
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!((rules[0] - 20.0).abs() <= 2.0 && (rules[1] - 80.0).abs() <= 2.0);
    }
}
