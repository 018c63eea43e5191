//! Tables of positions, resampled to the grids of other view sizes.
//!
//! The towers were trained with tables of one size. For a view of another size the published code
//! resamples them: grids by an antialiased bicubic (a = -0.5, the filter widened when shrinking),
//! relative positions linearly, both with half-pixel centers and without rounding. Ready-made
//! resizers do something else (no antialiasing, or a = -0.75), and that costs text quality, so the
//! rules are written out here, with places and weights in f32 like the published code's: f64 gives
//! values that are up to 2e-5 elsewhere. It is done on the host, once for each size.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor, TensorData};

/// What one output sample takes of the input.
#[derive(Debug, Clone)]
struct Taps {
    /// The first input sample.
    first: usize,
    /// Of it and of those that follow.
    weights: Vec<f32>,
}

/// Resamples a square grid with an antialiased bicubic.
///
/// # Shapes
/// - `grid`: `[side, side, channels]`
/// - output: `[to, to, channels]`
///
/// # Panics
/// If `grid` is not of that shape, or a side is zero.
pub fn resample_grid(grid: &[f32], side: usize, channels: usize, to: usize) -> Vec<f32> {
    assert_eq!(grid.len(), side * side * channels, "values of the grid");
    if side == to {
        return grid.to_vec();
    }
    // Shrinking widens the filter, or what lies between its taps would be lost.
    let stretch = (side as f32 / to as f32).max(1.0);
    resample_with(&cubic_taps(side, to, stretch), grid, side, channels)
}

fn resample_with(taps: &[Taps], grid: &[f32], side: usize, channels: usize) -> Vec<f32> {
    // Along x each row of the grid is a line of its own; along y the grid is one line, whose
    // samples are whole rows.
    let narrow: Vec<f32> = grid
        .chunks_exact(side * channels)
        .flat_map(|row| apply(taps, row, channels))
        .collect();
    apply(taps, &narrow, taps.len() * channels)
}

/// Resamples a line linearly.
///
/// # Shapes
/// - `line`: `[len, channels]`
/// - output: `[to, channels]`
///
/// # Panics
/// If `line` is not of that shape, or a length is zero.
pub fn resample_line(line: &[f32], len: usize, channels: usize, to: usize) -> Vec<f32> {
    assert_eq!(line.len(), len * channels, "values of the line");
    if len == to {
        return line.to_vec();
    }
    apply(&linear_taps(len, to), line, channels)
}

/// Taps for a bicubic from `from` samples to `to`, with a filter so many times as wide as its own.
fn cubic_taps(from: usize, to: usize, stretch: f32) -> Vec<Taps> {
    assert!(from > 0 && to > 0, "samples of an axis");
    let scale = from as f32 / to as f32;
    let support = 2.0 * stretch;
    let of_output = |output: usize| {
        let center = (output as f32 + 0.5) * scale;
        // Conversion truncates and takes what is negative for zero, both as wanted.
        let first = (center - support + 0.5) as usize;
        let last = ((center + support + 0.5) as usize).min(from);
        let at = |input: usize| cubic((input as f32 - center + 0.5) / stretch);
        let weights: Vec<f32> = (first..last).map(at).collect();
        let sum: f32 = weights.iter().sum();
        Taps {
            first,
            weights: weights.iter().map(|weight| weight / sum).collect(),
        }
    };
    (0..to).map(of_output).collect()
}

/// Keys' cubic with a = -0.5.
fn cubic(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

/// Taps for linear interpolation from `from` samples to `to`; beyond the ends the last sample
/// goes on.
fn linear_taps(from: usize, to: usize) -> Vec<Taps> {
    assert!(from > 0 && to > 0, "samples of an axis");
    let scale = from as f32 / to as f32;
    let of_output = |output: usize| {
        let place = (scale * (output as f32 + 0.5) - 0.5).clamp(0.0, (from - 1) as f32);
        let first = (place as usize).min(from.saturating_sub(2));
        let second = place - first as f32;
        let mut weights = vec![1.0 - second, second];
        weights.truncate(from);
        Taps { first, weights }
    };
    (0..to).map(of_output).collect()
}

/// Resamples one line whose samples are `width` values each.
fn apply(taps: &[Taps], line: &[f32], width: usize) -> Vec<f32> {
    let mut out = vec![0.0; taps.len() * width];
    for (out, taps) in out.chunks_exact_mut(width).zip(taps) {
        let samples = line[taps.first * width..].chunks_exact(width);
        for (weight, sample) in taps.weights.iter().zip(samples) {
            for (out, value) in out.iter_mut().zip(sample) {
                *out += weight * value;
            }
        }
    }
    out
}

/// What was made for a size, kept for the next view of that size.
#[derive(Debug)]
pub(super) struct PerSize<T> {
    kept: Mutex<Vec<(usize, T)>>,
}

/// Sizes that are kept: all published modes have fewer.
const MAX_KEPT: usize = 8;

impl<T: Clone> PerSize<T> {
    pub(super) fn new() -> Self {
        Self {
            kept: Mutex::new(Vec::new()),
        }
    }

    /// What was made for `size`, or what `make` makes now.
    pub(super) fn get(&self, size: usize, make: impl FnOnce() -> T) -> T {
        // Whoever panicked while making something has not touched what is kept.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = kept.iter().find(|(known, _)| *known == size) {
            return made.clone();
        }
        let made = make();
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push((size, made.clone()));
        made
    }
}

/// Learned positions of a square grid.
#[derive(Debug)]
pub(super) struct GridPositions {
    side: usize,
    channels: usize,
    /// `[side, side, channels]`
    values: Vec<f32>,
    device: Device,
    dtype: DType,
    resampled: PerSize<Tensor<3>>,
}

impl GridPositions {
    /// Takes the `[side, side, channels]` values of a table.
    pub(super) fn new(values: Vec<f32>, side: usize, device: &Device, dtype: DType) -> Self {
        Self {
            side,
            channels: values.len() / (side * side),
            values,
            device: device.clone(),
            dtype,
            resampled: PerSize::new(),
        }
    }

    /// Positions of a grid of `side`: `[1, side * side, channels]`.
    pub(super) fn at(&self, side: usize) -> Tensor<3> {
        self.resampled.get(side, || {
            let values = resample_grid(&self.values, self.side, self.channels, side);
            let data = TensorData::new(values, [1, side * side, self.channels]);
            Tensor::from_data(data, (&self.device, self.dtype))
        })
    }
}

#[cfg(test)]
impl GridPositions {
    /// Makes the table of a side without antialiasing, as others did by mistake.
    pub(super) fn plant_plain_resampling(&self, side: usize) {
        let taps = cubic_taps(self.side, side, 1.0);
        let values = resample_with(&taps, &self.values, self.side, self.channels);
        let data = TensorData::new(values, [1, side * side, self.channels]);
        let table = Tensor::from_data(data, (&self.device, self.dtype));
        self.resampled.get(side, || table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_agree_change_nothing() {
        let grid: Vec<f32> = (0..2 * 2 * 3).map(|value| value as f32).collect();
        assert_eq!(resample_grid(&grid, 2, 3, 2), grid);
        assert_eq!(resample_line(&grid, 4, 3, 4), grid);
    }

    #[test]
    fn constant_stays_constant() {
        for to in [1, 3, 7, 20] {
            let same = |values: Vec<f32>| values.iter().all(|value| (value - 4.0).abs() < 1e-5);
            assert!(same(resample_grid(&[4.0; 25], 5, 1, to)));
            assert!(same(resample_line(&[4.0; 25], 25, 1, to)));
            assert!(same(resample_line(&[4.0], 1, 1, to)));
        }
    }

    #[test]
    fn ends_of_a_line_go_on() {
        assert_eq!(resample_line(&[0.0, 1.0], 2, 1, 4), [0.0, 0.25, 0.75, 1.0]);
    }

    #[test]
    fn only_few_sizes_are_kept() {
        let sizes = PerSize::new();
        for size in 0..20 {
            assert_eq!(sizes.get(size, || size), size);
        }
        assert_eq!(sizes.get(19, || 0), 19);
        assert_eq!(sizes.get(0, || 7), 7);
    }
}
