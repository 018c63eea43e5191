//! Work on single values and on rows. Plain loops: the compiler makes vectors of them.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::rows::Rows;
use crate::vectors::Vectors;

/// Rows that are worth a thread of their own.
const ROWS_OF_A_THREAD: usize = 8;

/// Divides each row by the root of its mean square and multiplies it by `weight`, value by value.
///
/// # Panics
/// When shapes differ.
pub fn rms_norm(vectors: Vectors, rows: &Rows, weight: &[f32], epsilon: f32) -> Rows {
    assert_eq!(rows.width(), weight.len(), "a weight for each value");
    let mut out = Rows::zeros(rows.n(), rows.width());
    out.par_iter_mut()
        .with_min_len(ROWS_OF_A_THREAD)
        .enumerate()
        .for_each(|(index, out)| {
            let row = rows.row(index);
            vectors.run_loops(
                #[inline(always)]
                || {
                    let squares = sum_of(row, Square { less: 0.0 });
                    let scale = 1.0 / (squares / row.len() as f32 + epsilon).sqrt();
                    for ((out, value), weight) in out.iter_mut().zip(row).zip(weight) {
                        *out = value * scale * weight;
                    }
                },
            );
        });
    out
}

/// Softmax of each row, in place.
pub fn softmax(vectors: Vectors, rows: &mut Rows) {
    rows.par_iter_mut()
        .with_min_len(ROWS_OF_A_THREAD)
        .for_each(|row| {
            let sum = exponentials(vectors, row);
            row.iter_mut().for_each(|value| *value /= sum);
        });
}

/// Adds `other` to `values`.
pub fn add(vectors: Vectors, values: &mut [f32], other: &[f32]) {
    vectors.run_loops(
        #[inline(always)]
        || {
            for (value, other) in values.iter_mut().zip(other) {
                *value += other;
            }
        },
    );
}

/// Adds each row of `other` to two rows of `values`, which follow each other, along a line.
///
/// # Panics
/// When lines do not fit.
pub fn add_repeated(vectors: Vectors, values: &mut [f32], other: &[f32], width: usize) {
    assert_eq!(values.len(), 2 * other.len(), "two rows for each");
    vectors.run_loops(
        #[inline(always)]
        || {
            let rows = other.chunks_exact(width);
            for (two, row) in values.chunks_exact_mut(2 * width).zip(rows) {
                for values in two.chunks_exact_mut(width) {
                    for (value, other) in values.iter_mut().zip(row) {
                        *value += other;
                    }
                }
            }
        },
    );
}

/// Copies each row of `width` values to so many places, which are `stride` values apart.
///
/// # Panics
/// When the last place is too short, or there are no places or values.
pub fn copy_rows(
    vectors: Vectors,
    rows: &[f32],
    out: &mut [f32],
    width: usize,
    stride: usize,
    times: usize,
) {
    vectors.run_loops(
        #[inline(always)]
        || {
            let places = out.chunks_mut(times * stride);
            for (row, places) in rows.chunks_exact(width).zip(places) {
                // Rows are short: a call that copies any number of bytes would take longer.
                let (vectors, rest) = row.as_chunks::<8>();
                for out in places.chunks_mut(stride) {
                    let (out_vectors, out_rest) = out[..width].as_chunks_mut::<8>();
                    for (out, vector) in out_vectors.iter_mut().zip(vectors) {
                        *out = *vector;
                    }
                    for (out, value) in out_rest.iter_mut().zip(rest) {
                        *out = *value;
                    }
                }
            }
        },
    );
}

/// Multiplies every row by `scale`, value by value.
pub fn scale_rows(vectors: Vectors, rows: &mut [f32], scale: &[f32]) {
    vectors.run_loops(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(scale.len()) {
                for (value, scale) in row.iter_mut().zip(scale) {
                    *value *= scale;
                }
            }
        },
    );
}

/// The mean of all rows.
pub fn mean_rows(vectors: Vectors, rows: &[f32], mean: &mut [f32]) {
    let n_rows = rows.len() / mean.len();
    let mut sums = Buffer::take(mean.len());
    vectors.run_loops(
        #[inline(always)]
        || {
            mean.fill(0.0);
            // Sums of few rows are added up, so that large maps lose no accuracy.
            for few in rows.chunks(64 * mean.len()) {
                sums.fill(0.0);
                for row in few.chunks_exact(mean.len()) {
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += value;
                    }
                }
                for (mean, sum) in mean.iter_mut().zip(sums.iter()) {
                    *mean += *sum;
                }
            }
            for mean in mean.iter_mut() {
                *mean /= n_rows as f32;
            }
        },
    );
}

/// The maximum of 2x2 windows at stride 1 along two lines of pixels; the last pixel sees itself
/// instead of a neighbor.
///
/// # Panics
/// When lines are of different lengths, or shorter than a pixel.
pub fn dilate_line(
    vectors: Vectors,
    upper: &[f32],
    lower: &[f32],
    channels: usize,
    out: &mut [f32],
) {
    assert!(
        upper.len() == out.len() && lower.len() == out.len(),
        "lines of one length"
    );
    vectors.run_loops(
        #[inline(always)]
        || {
            let greater = |a: f32, b: f32| if a < b { b } else { a };
            let inside = out.len() - channels;
            let (inner, last) = out.split_at_mut(inside);
            let next = upper[channels..].iter().zip(&lower[channels..]);
            let here = upper.iter().zip(lower).zip(next);
            for (out, ((a, b), (c, d))) in inner.iter_mut().zip(here) {
                *out = greater(greater(*a, *b), greater(*c, *d));
            }
            let here = upper[inside..].iter().zip(&lower[inside..]);
            for (out, (a, b)) in last.iter_mut().zip(here) {
                *out = greater(*a, *b);
            }
        },
    );
}

/// Layer norm of every row.
pub fn normalize_rows(
    vectors: Vectors,
    rows: &mut [f32],
    weight: &[f32],
    bias: &[f32],
    epsilon: f32,
) {
    let n = weight.len() as f32;
    vectors.run_loops(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(weight.len()) {
                let mean = sum(row) / n;
                let variance = sum_of(row, Square { less: mean }) / n;
                let scale = 1.0 / (variance + epsilon).sqrt();
                for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *value = (*value - mean) * scale * weight + bias;
                }
            }
        },
    );
}

/// Replaces values by the exponentials of what they exceed the greatest by, and gives their sum.
pub(crate) fn exponentials(vectors: Vectors, values: &mut [f32]) -> f32 {
    vectors.run_loops(
        #[inline(always)]
        || make_exponentials(values),
    )
}

/// As [`exponentials`], for code that is compiled for vectors already.
#[inline(always)]
pub(crate) fn make_exponentials(values: &mut [f32]) -> f32 {
    let greatest = greatest(values);
    for value in values.iter_mut() {
        *value = exp(*value - greatest);
    }
    sum(values)
}

/// Softmax in place, for code that is compiled for vectors already.
#[inline(always)]
pub(crate) fn make_softmax(values: &mut [f32]) {
    let scale = 1.0 / make_exponentials(values);
    for value in values.iter_mut() {
        *value *= scale;
    }
}

/// `out = silu(gates) * values`.
pub(crate) fn gate(vectors: Vectors, gates: &[f32], values: &[f32], out: &mut [f32]) {
    vectors.run_loops(
        #[inline(always)]
        || {
            for ((out, gate), value) in out.iter_mut().zip(gates).zip(values) {
                *out = gate / (1.0 + exp(-gate)) * value;
            }
        },
    );
}

/// What is summed up of each value.
pub(crate) trait Summand: Copy {
    fn of(self, value: f32) -> f32;
}

/// The value itself.
#[derive(Clone, Copy)]
pub(crate) struct Itself;

/// The square of what a value has more than something.
#[derive(Clone, Copy)]
pub(crate) struct Square {
    pub(crate) less: f32,
}

/// The exponential of what a value has more than something.
#[derive(Clone, Copy)]
pub(crate) struct Exponential {
    pub(crate) less: f32,
}

impl Summand for Itself {
    #[inline(always)]
    fn of(self, value: f32) -> f32 {
        value
    }
}

impl Summand for Square {
    #[inline(always)]
    fn of(self, value: f32) -> f32 {
        (value - self.less) * (value - self.less)
    }
}

impl Summand for Exponential {
    #[inline(always)]
    fn of(self, value: f32) -> f32 {
        exp(value - self.less)
    }
}

#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    sum_of(values, Itself)
}

/// A sum in several lanes, which the compiler may not make of a plain sum.
#[inline(always)]
pub(crate) fn sum_of(values: &[f32], summand: impl Summand) -> f32 {
    let mut sums = [0.0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for index in 0..16 {
            sums[index] += summand.of(values[index]);
        }
    }
    let mut last = 0.0;
    for value in rest {
        last += summand.of(*value);
    }
    let mut all = 0.0;
    for sum in sums {
        all += sum;
    }
    all + last
}

/// A dot product in several lanes.
#[inline(always)]
pub(crate) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (left, left_rest) = left.as_chunks::<16>();
    let (right, right_rest) = right.as_chunks::<16>();
    for (left, right) in left.iter().zip(right) {
        for index in 0..16 {
            sums[index] = left[index].mul_add(right[index], sums[index]);
        }
    }
    let mut all = 0.0;
    for sum in sums {
        all += sum;
    }
    for (left, right) in left_rest.iter().zip(right_rest) {
        all += left * right;
    }
    all
}

/// The greatest value, whatever is no number aside; negative infinity of none.
#[inline(always)]
pub(crate) fn greatest(values: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for index in 0..16 {
            let value = values[index];
            most[index] = if value > most[index] {
                value
            } else {
                most[index]
            };
        }
    }
    let mut all = f32::NEG_INFINITY;
    for value in rest.iter().chain(&most) {
        all = if *value > all { *value } else { all };
    }
    all
}

/// `e` to the power of `x`, to a relative error of 3e-7; 0 below the least normal number. What is
/// no number stays so.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let inside = x.clamp(-87.0, 88.0);
    let rounded = inside * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    // ln 2 in two parts, the first of which multiplies a small whole number exactly.
    let rest = inside - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    // Fitted to the exponential function where the rest lies.
    let power = horner(
        rest,
        [
            1.0,
            1.0,
            0.5,
            0.166_666_65,
            0.041_665_733,
            0.008_369_15,
            0.001_369_7,
        ],
    );
    let scaled = f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23));
    let low = if x < -87.0 { 0.0 } else { scaled };
    let high = if x > 88.0 { f32::INFINITY } else { low };
    if x.is_nan() { x } else { high }
}

/// A polynomial, coefficients of low powers first.
#[inline(always)]
pub(crate) fn horner<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = 0.0f32;
    let mut index = N;
    while index > 0 {
        index -= 1;
        sum = sum.mul_add(x, coefficients[index]);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_exact_one() {
        for step in -8700..=8800 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "{x}");
        }
    }

    #[test]
    fn exp_of_extremes_is_their_limit() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::from_bits(0x7fc0_0123)).is_nan());
    }

    #[test]
    fn softmax_sums_to_one() {
        for vectors in Vectors::all() {
            let mut values: Vec<f32> = (0..45).map(|index| (index % 7) as f32 - 20.0).collect();
            values.extend([-1e30, -2e30]);
            vectors.run_loops(|| make_softmax(&mut values));
            assert!((sum(&values) - 1.0).abs() < 1e-6);
            assert!((values[1] / values[0] - std::f32::consts::E).abs() < 1e-5);
            assert_eq!(values[45..], [0.0, 0.0]);
        }
    }

    #[test]
    fn rows_are_normalized_scaled_and_averaged_on_every_path() {
        for vectors in Vectors::all() {
            for width in [1, 7, 16, 33, 100] {
                let rows: Vec<f32> = (0..9 * width)
                    .map(|index| (index * 7919 % 2003) as f32 / 500.0)
                    .collect();
                let mut mean = vec![0.0; width];
                mean_rows(vectors, &rows, &mut mean);
                let mut normal = rows.clone();
                normalize_rows(vectors, &mut normal, &vec![2.0; width], &mean, 1e-5);
                let mut scaled = rows.clone();
                scale_rows(vectors, &mut scaled, &mean);
                add(vectors, &mut scaled, &rows);
                for (index, value) in rows.iter().enumerate() {
                    let (row, column) = (index / width, index % width);
                    let of_column: f32 = rows.iter().skip(column).step_by(width).sum();
                    assert!((mean[column] - of_column / 9.0).abs() < 1e-5);
                    let row = &rows[row * width..][..width];
                    let center = row.iter().sum::<f32>() / width as f32;
                    let square = |value: &f32| (value - center) * (value - center);
                    let variance = row.iter().map(square).sum::<f32>() / width as f32;
                    let wanted = 2.0 * (value - center) / (variance + 1e-5).sqrt() + mean[column];
                    assert!((normal[index] - wanted).abs() < 1e-4);
                    assert!((scaled[index] - value * (mean[column] + 1.0)).abs() < 1e-5);
                }
            }
        }
    }
}
