//! The 64-bit DCT perceptual hash of a page image (Zauner 2010): 32 x 32 grey, the 8 x 8 lowest
//! frequencies, each bit says whether a coefficient exceeds their median.

use std::f32::consts::PI;

use quire_core::PageImage;

use super::blank::luminance;

const SIDE: usize = 32;
const LOW: usize = 8;

/// The hash as 16 hex digits; `None` for an image without pixels.
pub fn phash(image: &PageImage) -> Option<String> {
    let (width, height) = (image.width as usize, image.height as usize);
    if width == 0 || height == 0 {
        return None;
    }
    let grey = shrink(image, width, height);
    let mut low = [0f32; LOW * LOW];
    for (v, row) in low.chunks_exact_mut(LOW).enumerate() {
        for (u, coefficient) in row.iter_mut().enumerate() {
            *coefficient = grey
                .iter()
                .enumerate()
                .map(|(at, value)| value * cosine(at % SIDE, u) * cosine(at / SIDE, v))
                .sum();
        }
    }
    // The first coefficient is the mean brightness: it says nothing of the page.
    let mut sorted = low[1..].to_vec();
    sorted.sort_by(f32::total_cmp);
    let median = sorted[sorted.len() / 2];
    let bits = low
        .iter()
        .fold(0u64, |bits, &c| (bits << 1) | u64::from(c > median));
    Some(format!("{bits:016x}"))
}

fn cosine(x: usize, frequency: usize) -> f32 {
    (PI * (2 * x + 1) as f32 * frequency as f32 / (2 * SIDE) as f32).cos()
}

/// Mean brightness of each cell of a 32 x 32 grid; a small image repeats its pixels.
fn shrink(image: &PageImage, width: usize, height: usize) -> [f32; SIDE * SIDE] {
    let mut grey = [0f32; SIDE * SIDE];
    for (at, value) in grey.iter_mut().enumerate() {
        let (x0, x1) = cell(at % SIDE, width);
        let (y0, y1) = cell(at / SIDE, height);
        let mut sum = 0u64;
        for y in y0..y1 {
            let row = &image.rgb[(y * width + x0) * 3..(y * width + x1) * 3];
            sum += row
                .chunks_exact(3)
                .map(|pixel| u64::from(luminance(pixel)))
                .sum::<u64>();
        }
        *value = sum as f32 / ((x1 - x0) * (y1 - y0)) as f32;
    }
    grey
}

fn cell(index: usize, length: usize) -> (usize, usize) {
    let start = (index * length / SIDE).min(length - 1);
    (
        start,
        ((index + 1) * length / SIDE).clamp(start + 1, length),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(seed: u32, noise: u8) -> PageImage {
        let mut image = PageImage::white(300, 400);
        for (at, value) in image.rgb.iter_mut().enumerate() {
            let (x, y) = ((at / 3) as u32 % 300, (at / 3) as u32 / 300);
            let dark = (x / 37 * 7 + y / 29 * 13 + seed).is_multiple_of(3);
            *value = if dark { 40 } else { 230 } + (at as u8 % (noise + 1));
        }
        image
    }

    fn distance(a: &PageImage, b: &PageImage) -> u32 {
        let bits = |image| u64::from_str_radix(&phash(image).unwrap(), 16).unwrap();
        (bits(a) ^ bits(b)).count_ones()
    }

    #[test]
    fn noise_hardly_moves_the_hash_and_another_page_does() {
        assert!(distance(&page(0, 0), &page(0, 12)) <= 4);
        assert!(distance(&page(0, 0), &page(1, 0)) > 10);
    }

    #[test]
    fn images_smaller_than_the_grid_have_a_hash() {
        assert!(phash(&PageImage::white(1, 1)).is_some());
        assert!(phash(&PageImage::white(0, 5)).is_none());
    }
}
