//! Whether a page image has anything on it.

use quire_core::PageImage;

/// Share of pixels that may differ from the paper on a blank page: dust and scanner noise.
const INK: f32 = 0.003;
/// Distance in brightness (0 to 255) from the paper that counts as ink.
const STEP: i32 = 48;

/// Whether nearly every pixel has the brightness of the paper, whatever that is.
pub fn is_blank(image: &PageImage) -> bool {
    let pixels = image.rgb.len() / 3;
    if pixels == 0 {
        return true;
    }
    let mut histogram = [0usize; 256];
    for pixel in image.rgb.chunks_exact(3) {
        histogram[luminance(pixel) as usize] += 1;
    }
    let mut below = 0;
    let paper = histogram.iter().position(|&count| {
        below += count;
        below * 2 >= pixels
    });
    let paper = paper.unwrap_or(255) as i32;
    let ink: usize = (0..256)
        .filter(|level| (level - paper).abs() > STEP)
        .map(|level| histogram[level as usize])
        .sum();
    (ink as f32) < INK * pixels as f32
}

/// Rec. 601 luma of an RGB pixel.
pub(super) fn luminance(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((299 * r + 587 * g + 114 * b) / 1000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paper_of_any_color_is_blank_and_a_line_of_text_is_not() {
        let mut page = PageImage::white(200, 100);
        assert!(is_blank(&page));
        page.rgb.fill(90);
        assert!(is_blank(&page));
        page.rgb[200 * 3 * 50..200 * 3 * 53].fill(0);
        assert!(!is_blank(&page));
    }
}
