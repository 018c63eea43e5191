//! A page image resampled to the size a network wants, as planes of floats.

use quire_core::PageImage;
use quire_kernels::Vectors;

/// How a pixel's values of 0 to 255 become a network's input, plane by plane:
/// `value * scale + shift`.
#[derive(Debug, Clone, Copy)]
pub struct Normalization {
    /// Channel of an RGB pixel that each plane holds.
    pub channels: [usize; 3],
    pub scale: [f32; 3],
    pub shift: [f32; 3],
}

impl Normalization {
    /// Blue, green, red from -1 to 1, as detector, classifier and recognizer were trained.
    pub const SIGNED: Self = Self {
        channels: [2, 1, 0],
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
            channels: [0, 1, 2],
            scale,
            shift,
        }
    }
}

/// Resamples `image` to `width` x `height` planes, `[3, height, width]`.
///
/// Each axis is averaged over the area of a target pixel when it shrinks, so that thin strokes
/// never fall between samples, and interpolated when it grows.
pub fn resampled(
    image: &PageImage,
    width: usize,
    height: usize,
    normalization: Normalization,
) -> Vec<f32> {
    let columns = taps(image.width as usize, width);
    let rows = taps(image.height as usize, height);
    let source_row = image.width as usize * 3;
    let area = width * height;
    let mut planes = vec![0.0f32; 3 * area];
    let mut sum = vec![0.0f32; width * 3];
    // A source row is shared by at most two neighbors, so two resampled rows are worth keeping.
    let mut kept: [(usize, Vec<f32>); 2] = [
        (usize::MAX, vec![0.0; width * 3]),
        (usize::MAX, vec![0.0; width * 3]),
    ];
    for (y, row) in rows.iter().enumerate() {
        sum.fill(0.0);
        for (offset, &weight) in row.weights.iter().enumerate() {
            let from = row.first + offset;
            let slot = from % 2;
            if kept[slot].0 != from {
                kept[slot].0 = from;
                let source = &image.rgb[from * source_row..];
                Vectors::chosen().run_loops(
                    #[inline(always)]
                    || across(source, &columns, &mut kept[slot].1),
                );
            }
            for (total, value) in sum.iter_mut().zip(&kept[slot].1) {
                *total += weight * value;
            }
        }
        for (plane, &channel) in normalization.channels.iter().enumerate() {
            let (scale, shift) = (normalization.scale[plane], normalization.shift[plane]);
            let target = &mut planes[plane * area + y * width..][..width];
            for (value, pixel) in target.iter_mut().zip(sum.chunks_exact(3)) {
                *value = pixel[channel] * scale + shift;
            }
        }
    }
    planes
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

/// Resamples the line of pixels that `source` begins with.
#[inline(always)]
fn across(source: &[u8], columns: &[Taps], target: &mut [f32]) {
    for (column, pixel) in columns.iter().zip(target.chunks_exact_mut(3)) {
        // A fourth value, which is nobody's, makes a whole vector.
        let mut sum = [0.0f32; 4];
        let mut from = &source[column.first * 3..];
        for &weight in &column.weights {
            let color = match from.first_chunk::<4>() {
                Some(color) => *color,
                None => [from[0], from[1], from[2], 0],
            };
            for (sum, value) in sum.iter_mut().zip(color) {
                *sum += weight * f32::from(value);
            }
            from = &from[3..];
        }
        pixel.copy_from_slice(&sum[..3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Normalization = Normalization {
        channels: [2, 1, 0],
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
        let planes = resampled(&image, 2, 1, PLAIN);
        // Blue first.
        assert_eq!(planes, [30.0, 150.0, 0.0, 0.0, 15.0, 75.0]);
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
        let planes = resampled(&image, 3, 3, PLAIN);
        assert_eq!(
            planes[18..],
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
            let planes = resampled(&image, to.0, to.1, Normalization::SIGNED);
            assert_eq!(planes.len(), 3 * to.0 * to.1);
            assert!(planes.iter().all(|value| (value - 1.0).abs() < 1e-5));
        }
    }
}
