//! Unpacked samples of a TIFF band to RGB rows.

use super::layout::{Color, Layout};
use crate::pipeline::render::serve::image::on_white;

/// Rows of one band, one plane or one a sample; 16-bit samples have their high byte first.
pub(super) struct Band {
    planes: Vec<Vec<u8>>,
}

impl Band {
    pub(super) fn new(planes: Vec<Vec<u8>>) -> Self {
        Self { planes }
    }

    /// Writes row `y` of the band to `rgb`; false if the row is not there in full.
    pub(super) fn row_to_rgb(&self, layout: &Layout, y: u32, rgb: &mut [u8]) -> bool {
        let row_bytes = layout.band_row_bytes() as usize;
        let start = row_bytes * y as usize;
        let mut rows = Vec::with_capacity(self.planes.len());
        for plane in &self.planes {
            let Some(row) = plane.get(start..start + row_bytes) else {
                return false;
            };
            rows.push(row);
        }
        let samples = Samples { rows, layout };
        let (pixels, _) = rgb.as_chunks_mut::<3>();
        match &layout.color {
            Color::Gray { zero_is_white } if layout.bits == 1 && layout.samples == 1 => {
                gray_bits(samples.rows[0], *zero_is_white, pixels);
            }
            color => {
                for (x, pixel) in pixels.iter_mut().enumerate() {
                    *pixel = samples.pixel(x, color);
                }
            }
        }
        true
    }
}

fn gray_bits(row: &[u8], zero_is_white: bool, pixels: &mut [[u8; 3]]) {
    let flip = if zero_is_white { 0xff } else { 0 };
    for (eight, byte) in pixels.chunks_mut(8).zip(row) {
        let byte = byte ^ flip;
        for (x, pixel) in eight.iter_mut().enumerate() {
            *pixel = [if byte & (0x80 >> x) == 0 { 0 } else { 255 }; 3];
        }
    }
}

struct Samples<'r> {
    rows: Vec<&'r [u8]>,
    layout: &'r Layout,
}

impl Samples<'_> {
    /// Sample `nth` of pixel `x` as it is stored, 16 bits cut to 8.
    fn stored(&self, x: usize, nth: usize) -> u8 {
        let (row, at) = if self.layout.is_planar {
            (self.rows[nth], x)
        } else {
            (self.rows[0], x * self.layout.samples as usize + nth)
        };
        match self.layout.bits {
            8 => row[at],
            16 => row[2 * at],
            bits => {
                let bit = at * bits as usize;
                let shift = 8 - bits as usize - bit % 8;
                (row[bit / 8] >> shift) & ((1 << bits) - 1)
            }
        }
    }

    /// Sample `nth` of pixel `x` over the range of a byte.
    fn value(&self, x: usize, nth: usize) -> u8 {
        let stored = self.stored(x, nth);
        match self.layout.bits {
            8 | 16 => stored,
            bits => (u32::from(stored) * 255 / ((1 << bits) - 1)) as u8,
        }
    }

    fn pixel(&self, x: usize, color: &Color) -> [u8; 3] {
        let rgb = match color {
            Color::Gray {
                zero_is_white: true,
            } => [255 - self.value(x, 0); 3],
            Color::Gray {
                zero_is_white: false,
            } => [self.value(x, 0); 3],
            Color::Rgb | Color::YCbCr { .. } => {
                [self.value(x, 0), self.value(x, 1), self.value(x, 2)]
            }
            Color::Palette(map) => map[usize::from(self.stored(x, 0))],
            Color::Cmyk => {
                let black = 255 - u32::from(self.value(x, 3));
                [0, 1, 2].map(|nth| {
                    let paper = 255 - u32::from(self.value(x, nth));
                    ((paper * black + 127) / 255) as u8
                })
            }
        };
        match self.layout.alpha {
            None => rgb,
            Some((nth, is_multiplied)) => {
                let alpha = self.value(x, nth as usize);
                rgb.map(|value| {
                    if is_multiplied {
                        value.saturating_add(255 - alpha)
                    } else {
                        on_white(value, alpha)
                    }
                })
            }
        }
    }
}

/// RGB rows of `width` x `rows` pixels from YCbCr units of `across` x `down` luma samples and one
/// pair of color samples (ITU-R BT.601, full range).
pub(super) fn from_ycbcr(packed: &[u8], width: u32, rows: u32, across: u32, down: u32) -> Vec<u8> {
    let (width, rows) = (width as usize, rows as usize);
    let (across, down) = (across as usize, down as usize);
    let unit_bytes = across * down + 2;
    let units_a_row = width.div_ceil(across);
    let whole_rows = (packed.len() / (unit_bytes * units_a_row) * down).min(rows);
    let mut rgb = vec![0; whole_rows * width * 3];
    for (nth, unit) in packed.chunks_exact(unit_bytes).enumerate() {
        let (unit_x, unit_y) = (nth % units_a_row * across, nth / units_a_row * down);
        let (cb, cr) = (unit[across * down], unit[across * down + 1]);
        for (at, &luma) in unit[..across * down].iter().enumerate() {
            let (x, y) = (unit_x + at % across, unit_y + at / across);
            if x < width && y < whole_rows {
                let to = (y * width + x) * 3;
                rgb[to..to + 3].copy_from_slice(&ycbcr_to_rgb(luma, cb, cr));
            }
        }
    }
    rgb
}

fn ycbcr_to_rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (luma, cb, cr) = (
        f32::from(luma),
        f32::from(cb) - 128.0,
        f32::from(cr) - 128.0,
    );
    [
        luma + 1.402 * cr,
        luma - 0.344_136 * cb - 0.714_136 * cr,
        luma + 1.772 * cb,
    ]
    .map(|value| value.round().clamp(0.0, 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ycbcr_units_spread_their_color() {
        // One unit of 2 x 1: a white and a black pixel without color.
        assert_eq!(
            from_ycbcr(&[255, 0, 128, 128], 2, 1, 2, 1),
            [255, 255, 255, 0, 0, 0]
        );
        assert_eq!(ycbcr_to_rgb(76, 85, 255), [254, 0, 0]);
    }
}
