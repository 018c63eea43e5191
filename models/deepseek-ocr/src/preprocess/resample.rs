//! Pillow's bicubic resizer, bit for bit, as it was up to version 12.
//!
//! Each axis is a weighted sum over a window that widens when the image shrinks, in fixed point:
//! rows of pixels first, then columns, with 8-bit values in between. The sums are the same in any
//! order, so they are taken several pixels at a time, on the widest vectors that the CPU has.

use pulp::{Simd, WithSimd};

/// Fraction bits of a weight.
const BITS: u32 = 22;
/// Half a unit, which rounds the shift down to nearest.
const HALF: i32 = 1 << (BITS - 1);
/// Reach of the kernel in samples, when the image does not shrink.
const REACH: f64 = 2.0;
/// Bytes of an output row that are summed at a time in the second pass.
const RUN: usize = 64;
/// Rows that are summed at a time in the first pass.
const ROWS: usize = 8;
/// Bytes that stand at one x in those rows.
const LANES: usize = ROWS * 3;

/// What one output sample is made of.
#[derive(Debug)]
struct Window {
    /// First input sample.
    first: usize,
    weights: Vec<i32>,
}

/// RGB pixels of `size` (width, height) resized to `new_size`.
///
/// # Panics
/// When `rgb` does not hold `size`, or either size has a side of 0.
pub fn resized(rgb: &[u8], size: (u32, u32), new_size: (u32, u32)) -> Vec<u8> {
    let (width, height) = (size.0 as usize, size.1 as usize);
    let (new_width, new_height) = (new_size.0 as usize, new_size.1 as usize);
    assert_eq!(rgb.len(), width * height * 3, "pixels of another size");
    assert!(
        width.min(height).min(new_width).min(new_height) > 0,
        "an image without pixels"
    );
    let arch = pulp::Arch::new();
    let narrow = (width != new_width).then(|| {
        let windows = windows(width, new_width);
        arch.dispatch(Across {
            rgb,
            width,
            height,
            windows: &windows,
        })
    });
    let source = narrow.as_deref().unwrap_or(rgb);
    if height == new_height {
        return narrow.unwrap_or_else(|| rgb.to_vec());
    }
    let windows = windows(height, new_height);
    arch.dispatch(Down {
        rgb: source,
        stride: new_width * 3,
        windows: &windows,
    })
}

/// The windows of all output samples of an axis.
fn windows(n_in: usize, n_out: usize) -> Vec<Window> {
    let scale = n_in as f64 / n_out as f64;
    let stretch = scale.max(1.0);
    let reach = REACH * stretch;
    let inverse = 1.0 / stretch;
    (0..n_out)
        .map(|at| {
            let center = (at as f64 + 0.5) * scale;
            // Casts from float saturate: below 0 is 0.
            let first = (center - reach + 0.5) as usize;
            let end = ((center + reach + 0.5) as usize).min(n_in);
            let values: Vec<f64> = (first..end)
                .map(|x| kernel((x as f64 - center + 0.5) * inverse))
                .collect();
            let sum: f64 = values.iter().sum();
            let weights = values
                .iter()
                .map(|value| fixed(if sum == 0.0 { *value } else { value / sum }))
                .collect();
            Window { first, weights }
        })
        .collect()
}

/// The cubic convolution kernel with a = -0.5.
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Rounded half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << BITS);
    (scaled + if weight < 0.0 { -0.5 } else { 0.5 }) as i32
}

/// A sum as a byte. Weights add up to little more than one, so a sum stays far inside 32 bits.
#[inline(always)]
fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// The first pass: every row to the width that `windows` has.
#[derive(Debug)]
struct Across<'a> {
    rgb: &'a [u8],
    width: usize,
    height: usize,
    windows: &'a [Window],
}

impl WithSimd for Across<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Vec<u8> {
        across(self.rgb, self.width, self.height, self.windows)
    }
}

/// The second pass: every column to the height that `windows` has; a row is `stride` bytes.
#[derive(Debug)]
struct Down<'a> {
    rgb: &'a [u8],
    stride: usize,
    windows: &'a [Window],
}

impl WithSimd for Down<'_> {
    type Output = Vec<u8>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> Vec<u8> {
        down(self.rgb, self.stride, self.windows)
    }
}

#[inline(always)]
fn across(rgb: &[u8], width: usize, height: usize, windows: &[Window]) -> Vec<u8> {
    let new_width = windows.len();
    let mut out = vec![0u8; new_width * height * 3];
    // Some rows with their pixels side by side: one step along x serves them all.
    let mut woven = vec![0u8; width * LANES];
    let mut row_sums = vec![0u8; new_width * LANES];
    for first_row in (0..height).step_by(ROWS) {
        let n_rows = ROWS.min(height - first_row);
        for row in 0..n_rows {
            let pixels = &rgb[(first_row + row) * width * 3..][..width * 3];
            for (cell, pixel) in woven.chunks_exact_mut(LANES).zip(pixels.chunks_exact(3)) {
                cell[row * 3..row * 3 + 3].copy_from_slice(pixel);
            }
        }
        for (window, sums) in windows.iter().zip(row_sums.chunks_exact_mut(LANES)) {
            let mut lanes = [HALF; LANES];
            let cells = woven[window.first * LANES..].chunks_exact(LANES);
            for (&weight, cell) in window.weights.iter().zip(cells) {
                for (lane, &value) in lanes.iter_mut().zip(cell) {
                    *lane += weight * i32::from(value);
                }
            }
            for (sum, lane) in sums.iter_mut().zip(lanes) {
                *sum = byte(lane);
            }
        }
        for row in 0..n_rows {
            let pixels = &mut out[(first_row + row) * new_width * 3..][..new_width * 3];
            for (pixel, sums) in pixels.chunks_exact_mut(3).zip(row_sums.chunks_exact(LANES)) {
                pixel.copy_from_slice(&sums[row * 3..row * 3 + 3]);
            }
        }
    }
    out
}

#[inline(always)]
fn down(rgb: &[u8], stride: usize, windows: &[Window]) -> Vec<u8> {
    let mut out = vec![0u8; stride * windows.len()];
    for (window, row) in windows.iter().zip(out.chunks_exact_mut(stride)) {
        let above = &rgb[window.first * stride..];
        for (at, run) in row.chunks_mut(RUN).enumerate() {
            let mut lanes = [HALF; RUN];
            for (&weight, source) in window.weights.iter().zip(above.chunks_exact(stride)) {
                let source = &source[at * RUN..][..run.len()];
                for (lane, &value) in lanes.iter_mut().zip(source) {
                    *lane += weight * i32::from(value);
                }
            }
            for (value, lane) in run.iter_mut().zip(lanes) {
                *value = byte(lane);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_of_a_window_add_up_to_one() {
        for (n_in, n_out) in [(7, 3), (3, 7), (100, 99), (1, 5), (5, 1), (2339, 1024)] {
            for window in windows(n_in, n_out) {
                let sum: i32 = window.weights.iter().sum();
                let off = (sum - (1 << BITS)).abs();
                assert!(off as usize <= window.weights.len(), "{n_in} to {n_out}");
                assert!(window.first + window.weights.len() <= n_in);
            }
        }
    }

    #[test]
    fn an_image_of_the_wanted_size_is_kept() {
        let rgb: Vec<u8> = (0..2 * 3 * 3).map(|value| value * 11).collect();
        assert_eq!(resized(&rgb, (2, 3), (2, 3)), rgb);
    }

    #[test]
    fn a_plain_color_stays_itself() {
        let rgb = [9u8, 200, 255].repeat(37 * 23);
        for size in [(11, 60), (200, 7), (37, 50), (80, 23)] {
            let new = resized(&rgb, (37, 23), size);
            assert_eq!(new, [9u8, 200, 255].repeat((size.0 * size.1) as usize));
        }
    }

    /// The passes as they are defined, a pixel at a time.
    fn plainly(rgb: &[u8], size: (u32, u32), new_size: (u32, u32)) -> Vec<u8> {
        let (width, height) = (size.0 as usize, size.1 as usize);
        let (columns, rows) = (
            windows(width, new_size.0 as usize),
            windows(height, new_size.1 as usize),
        );
        let mut narrow = vec![0u8; columns.len() * height * 3];
        for y in 0..height {
            for (x, window) in columns.iter().enumerate() {
                for c in 0..3 {
                    let at = |tap: usize| rgb[(y * width + window.first + tap) * 3 + c];
                    narrow[(y * columns.len() + x) * 3 + c] = total(window, at);
                }
            }
        }
        let mut out = Vec::new();
        for window in &rows {
            for x in 0..columns.len() * 3 {
                let at = |tap: usize| narrow[(window.first + tap) * columns.len() * 3 + x];
                out.push(total(window, at));
            }
        }
        out
    }

    fn total(window: &Window, at: impl Fn(usize) -> u8) -> u8 {
        let sum = window.weights.iter().enumerate();
        byte(sum.fold(HALF, |sum, (tap, weight)| sum + weight * i32::from(at(tap))))
    }

    proptest! {
        #[test]
        fn many_at_a_time_is_one_at_a_time(
            (width, height, rgb) in (1u32..40, 1u32..40).prop_flat_map(|(width, height)| {
                let n = (width * height * 3) as usize;
                (Just(width), Just(height), proptest::collection::vec(any::<u8>(), n))
            }),
            new_width in 1u32..50,
            new_height in 1u32..50,
        ) {
            let (size, new_size) = ((width, height), (new_width, new_height));
            // A pass that changes nothing is skipped; by the definition it would be the identity.
            prop_assert_eq!(resized(&rgb, size, new_size), plainly(&rgb, size, new_size));
        }
    }
}
