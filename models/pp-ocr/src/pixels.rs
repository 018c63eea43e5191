//! A page image resampled to the size a network wants, as floats.

use quire_core::PageImage;
use quire_kernels::Vectors;

pub use crate::nn::Images;

/// How a pixel's values of 0 to 255 become a network's input, channel by channel:
/// `value * scale + shift`.
#[derive(Debug, Clone, Copy)]
pub struct Normalization {
    /// Whether blue comes first, as it does not in a page.
    pub blue_first: bool,
    pub scale: [f32; 3],
    pub shift: [f32; 3],
}

impl Normalization {
    /// Blue, green, red from -1 to 1, as detector, classifier and recognizer were trained.
    pub const SIGNED: Self = Self {
        blue_first: true,
        scale: [1.0 / 127.5; 3],
        shift: [-1.0; 3],
    };

    /// Red, green, blue by their mean and deviation, which are fractions of 255.
    pub const fn of(mean: [f32; 3], deviation: [f32; 3]) -> Self {
        let mut scale = [0.0; 3];
        let mut shift = [0.0; 3];
        let mut channel = 0;
        while channel < 3 {
            scale[channel] = 1.0 / (255.0 * deviation[channel]);
            shift[channel] = -mean[channel] / deviation[channel];
            channel += 1;
        }
        Self {
            blue_first: false,
            scale,
            shift,
        }
    }
}

/// Resamples `image` to `width` x `height` pixels.
///
/// Each axis is averaged over the area of a target pixel when it shrinks, so that thin strokes
/// never fall between samples, and interpolated when it grows.
pub fn resampled(
    image: &PageImage,
    width: usize,
    height: usize,
    normalization: Normalization,
) -> Images {
    let columns = taps(image.width as usize, width);
    let rows = taps(image.height as usize, height);
    let source_row = image.width as usize * 3;
    // Along a whole row, so that rows are multiplied in vectors.
    let scale = normalization.scale.repeat(width);
    let shift = normalization.shift.repeat(width);
    let mut images = Images::new(1, [height, width]);
    let mut sum = vec![0.0f32; source_row + 1];
    let lines = images.values_mut().chunks_exact_mut(width * 3);
    for (row, line) in rows.iter().zip(lines) {
        let source = &image.rgb[row.first * source_row..];
        Vectors::chosen().run_loops(
            #[inline(always)]
            || {
                // Down first: that is one pass over whole vectors.
                sum.fill(0.0);
                for (source, &weight) in source.chunks_exact(source_row).zip(&row.weights) {
                    for (sum, value) in sum.iter_mut().zip(source) {
                        *sum += weight * f32::from(*value);
                    }
                }
                across(&sum, &columns, normalization.blue_first, line);
                for ((value, scale), shift) in line.iter_mut().zip(&scale).zip(&shift) {
                    *value = *value * scale + shift;
                }
            },
        );
    }
    images
}

/// Source pixels of a target pixel along one axis.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

fn taps(from: usize, to: usize) -> Vec<Taps> {
    let step = from as f64 / to as f64;
    let tap = |index: usize| {
        if step > 1.0 {
            area_taps(index, step, from)
        } else {
            linear_taps(index, step, from)
        }
    };
    (0..to).map(tap).collect()
}

fn area_taps(index: usize, step: f64, from: usize) -> Taps {
    let (start, end) = (
        index as f64 * step,
        ((index + 1) as f64 * step).min(from as f64),
    );
    let first = (start.floor() as usize).min(from - 1);
    let last = (end.ceil() as usize).clamp(first + 1, from);
    let covered = |at: usize| ((at + 1) as f64).min(end) - (at as f64).max(start);
    let total: f64 = (first..last).map(covered).sum();
    let weights = (first..last)
        .map(|at| (covered(at) / total) as f32)
        .collect();
    Taps { first, weights }
}

fn linear_taps(index: usize, step: f64, from: usize) -> Taps {
    let at = ((index as f64 + 0.5) * step - 0.5).clamp(0.0, (from - 1) as f64);
    let first = at.floor() as usize;
    let fraction = (at - first as f64) as f32;
    if first + 1 >= from {
        return Taps {
            first,
            weights: vec![1.0],
        };
    }
    Taps {
        first,
        weights: vec![1.0 - fraction, fraction],
    }
}

/// Resamples a line of pixels, after which there is a value to spare.
#[inline(always)]
fn across(source: &[f32], columns: &[Taps], blue_first: bool, target: &mut [f32]) {
    for (column, pixel) in columns.iter().zip(target.chunks_exact_mut(3)) {
        // A fourth value, which is nobody's, makes a whole vector.
        let mut sum = [0.0f32; 4];
        let colors = source[column.first * 3..].windows(4).step_by(3);
        for (color, &weight) in colors.zip(&column.weights) {
            for (sum, value) in sum.iter_mut().zip(color) {
                *sum += weight * value;
            }
        }
        let [first, second, third, _] = sum;
        pixel.copy_from_slice(&match blue_first {
            true => [third, second, first],
            false => [first, second, third],
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Normalization = Normalization {
        blue_first: true,
        scale: [1.0; 3],
        shift: [0.0; 3],
    };

    #[test]
    fn shrinking_averages_the_area_of_a_pixel() {
        let rgb = [0u8, 30, 60, 90]
            .iter()
            .flat_map(|&v| [v, 0, 2 * v])
            .collect();
        let image = PageImage {
            width: 4,
            height: 1,
            rgb,
            dpi: None,
        };
        let pixels = resampled(&image, 2, 1, PLAIN);
        // Blue first.
        assert_eq!(pixels.values(), [30.0, 0.0, 15.0, 150.0, 0.0, 75.0]);
    }

    #[test]
    fn same_size_keeps_every_value() {
        let rgb: Vec<u8> = (0..27).collect();
        let image = PageImage {
            width: 3,
            height: 3,
            rgb,
            dpi: None,
        };
        let pixels = resampled(&image, 3, 3, PLAIN);
        let reds = pixels.values().iter().skip(2).step_by(3).copied();
        assert_eq!(
            reds.collect::<Vec<_>>(),
            [0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0]
        );
    }

    #[test]
    fn any_size_comes_from_any_size_and_white_stays_white() {
        for (from, to) in [
            ((1, 1), (32, 64)),
            ((566, 6), (96, 32)),
            ((7, 900), (3, 41)),
        ] {
            let image = PageImage::white(from.0, from.1);
            let pixels = resampled(&image, to.0, to.1, Normalization::SIGNED);
            assert_eq!(pixels.dims(), [1, 3, to.1, to.0]);
            let values = pixels.values().iter();
            assert!(values.clone().all(|value| (value - 1.0).abs() < 1e-5));
        }
    }
}
