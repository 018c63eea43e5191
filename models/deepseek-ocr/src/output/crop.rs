//! Pictures cut from the page, to be asked about by themselves.

use quire_core::{PageImage, Rect};

use super::boxes::{Bins, LAST_BIN};

/// A box of the model's in pixels of the original image: left, top, right, bottom. The last bin is
/// the image's edge; pixels are rounded down.
pub fn pixel_box(bins: Bins, image_size: (u32, u32)) -> [i64; 4] {
    let sides = [image_size.0, image_size.1, image_size.0, image_size.1];
    let mut pixels = [0; 4];
    for ((pixel, bin), side) in pixels.iter_mut().zip(bins).zip(sides) {
        *pixel = (bin as f64 / LAST_BIN as f64 * f64::from(side)) as i64;
    }
    pixels
}

/// The part of an image that a block's box covers; `None` where it covers no pixel.
pub fn crop(image: &PageImage, rect: &Rect) -> Option<PageImage> {
    // Fractions are bins in f32: back to the bin first, so that pixels are the model's.
    let rect = rect.clamped();
    let bins = [rect.x0, rect.y0, rect.x1, rect.y1]
        .map(|edge| (f64::from(edge) * LAST_BIN as f64).round() as i64);
    let pixels = pixel_box(bins, (image.width, image.height));
    let [x0, y0, x1, y1] = pixels.map(|pixel| usize::try_from(pixel).unwrap_or(0));
    if x0 >= x1 || y0 >= y1 {
        return None;
    }
    let stride = image.width as usize * 3;
    let rows = image.rgb.chunks_exact(stride).skip(y0).take(y1 - y0);
    let rgb: Vec<u8> = rows
        .flat_map(|row| row[x0 * 3..x1 * 3].iter().copied())
        .collect();
    Some(PageImage {
        width: u32::try_from(x1 - x0).ok()?,
        height: u32::try_from(y1 - y0).ok()?,
        rgb,
        dpi: image.dpi,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_is_what_the_box_covers() {
        let mut image = PageImage::white(10, 4);
        image.rgb[(2 * 10 + 5) * 3] = 7;
        let rect = Rect {
            x0: 500.0 / 999.0,
            y0: 0.5,
            x1: 1.0,
            y1: 1.0,
        };
        let cut = crop(&image, &rect).unwrap();
        assert_eq!((cut.width, cut.height, cut.rgb[0]), (5, 2, 7));
        assert_eq!(cut.rgb.len(), 5 * 2 * 3);
        assert_eq!(crop(&image, &Rect::default()), None);
        let thin = Rect {
            x1: 0.05,
            y1: 1.0,
            ..Rect::default()
        };
        assert_eq!(crop(&image, &thin), None);
    }
}
