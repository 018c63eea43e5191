//! Work on single values and on rows of channels. Plain loops: the compiler makes vectors of them.

use super::buffer::Buffer;
use super::simd::run_loops;
use crate::nn::Activation;

/// Applies an activation in place.
pub(super) fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Identity => {}
        Activation::Relu => each(values, |x| x.max(0.0)),
        Activation::Gelu => each(values, gelu),
        Activation::Swish => each(values, |x| x * sigmoid(x)),
        Activation::HardSwish => each(values, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Activation::HardSigmoid { slope } => {
            each(values, move |x| (slope * x + 0.5).clamp(0.0, 1.0));
        }
        Activation::Sigmoid => each(values, sigmoid),
    }
}

fn each(values: &mut [f32], apply: impl Fn(f32) -> f32) {
    run_loops(
        #[inline(always)]
        || values.iter_mut().for_each(|value| *value = apply(*value)),
    );
}

/// Adds `other` to `values`.
pub(super) fn add(values: &mut [f32], other: &[f32]) {
    run_loops(
        #[inline(always)]
        || {
            values
                .iter_mut()
                .zip(other)
                .for_each(|(value, other)| *value += other)
        },
    );
}

/// Multiplies every row by `scale`, value by value.
pub(super) fn scale_rows(rows: &mut [f32], scale: &[f32]) {
    run_loops(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(scale.len()) {
                row.iter_mut()
                    .zip(scale)
                    .for_each(|(value, scale)| *value *= scale);
            }
        },
    );
}

/// The mean of all rows.
pub(super) fn mean_rows(rows: &[f32], mean: &mut [f32]) {
    let n_rows = rows.len() / mean.len();
    let mut sums = Buffer::take(mean.len());
    run_loops(
        #[inline(always)]
        || {
            mean.fill(0.0);
            // Sums of few rows are added up, so that large maps lose no accuracy.
            for few in rows.chunks(64 * mean.len()) {
                sums.fill(0.0);
                for row in few.chunks_exact(mean.len()) {
                    sums.iter_mut()
                        .zip(row)
                        .for_each(|(sum, value)| *sum += value);
                }
                mean.iter_mut()
                    .zip(sums.iter())
                    .for_each(|(mean, sum)| *mean += *sum);
            }
            mean.iter_mut().for_each(|mean| *mean /= n_rows as f32);
        },
    );
}

/// The maximum of 2x2 windows at stride 1 along two lines of pixels.
pub(super) fn dilate_line(upper: &[f32], lower: &[f32], channels: usize, out: &mut [f32]) {
    run_loops(
        #[inline(always)]
        || {
            for ((out, upper), lower) in out.iter_mut().zip(upper).zip(lower) {
                *out = upper.max(*lower);
            }
            let inside = out.len() - channels;
            for index in 0..inside {
                out[index] = out[index]
                    .max(upper[index + channels])
                    .max(lower[index + channels]);
            }
        },
    );
}

/// Layer norm of every row.
pub(super) fn normalize_rows(rows: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let n = weight.len() as f32;
    run_loops(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(weight.len()) {
                let mean = sum(row, |value| value) / n;
                let variance = sum(row, |value| (value - mean) * (value - mean)) / n;
                let scale = 1.0 / (variance + epsilon).sqrt();
                for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *value = (*value - mean) * scale * weight + bias;
                }
            }
        },
    );
}

/// Softmax in place.
#[inline(always)]
pub(super) fn softmax(values: &mut [f32]) {
    let greatest = greatest(values);
    values
        .iter_mut()
        .for_each(|value| *value = exp(*value - greatest));
    let scale = 1.0 / sum(values, |value| value);
    values.iter_mut().for_each(|value| *value *= scale);
}

/// A sum in several lanes, which the compiler may not make of a plain sum.
#[inline(always)]
pub(super) fn sum(values: &[f32], apply: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += apply(*value);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| apply(*value)).sum::<f32>()
}

#[inline(always)]
pub(super) fn greatest(values: &[f32]) -> f32 {
    let mut most = [f32::MIN; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (most, value) in most.iter_mut().zip(values) {
            *most = most.max(*value);
        }
    }
    rest.iter().chain(&most).copied().fold(f32::MIN, f32::max)
}

/// `e` to the power of `x`, to a relative error of 2e-7; at least 1e-38.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    // ln 2 in two parts, the first of which multiplies a small whole number exactly.
    let rest = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
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
    f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23))
}

#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x` times the normal distribution function of `x`, to an error of 2e-6.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    // Beyond five deviations the function is 0 or 1 in f32. Inside, its odd part over x is a
    // polynomial of the square, fitted on this interval by weighted least squares over Chebyshev
    // points, in a variable from -1 to 1 where rounding does no harm.
    const BOUND: f32 = 5.0;
    const COEFFICIENTS: [f32; 13] = [
        0.141_363_78,
        -0.070_296_6,
        0.051_521_53,
        -0.040_434_558,
        0.031_425_77,
        -0.023_323_499,
        0.016_493_95,
        -0.011_015_752,
        0.006_188_416_4,
        -0.002_857_963_8,
        0.001_962_381_6,
        -0.001_541_820_5,
        0.000_514_325_34,
    ];
    let inside = x.clamp(-BOUND, BOUND);
    let place = inside * inside * (2.0 / (BOUND * BOUND)) - 1.0;
    x * (inside * horner(place, COEFFICIENTS) + 0.5)
}

#[inline(always)]
fn horner<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients
        .iter()
        .rev()
        .fold(0.0, |sum, coefficient| sum.mul_add(x, *coefficient))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_exact_one() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 5e-7, "{x}");
        }
        assert!(exp(-1e9) < 1e-37);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn gelu_is_close_to_the_exact_one() {
        // Known values of x * Phi(x).
        let known = [
            (-6.0, -5.919e-9),
            (-3.0, -0.004_049_694),
            (-1.0, -0.158_655_25),
            (-0.5, -0.154_268_77),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (1.0, 0.841_344_8),
            (3.0, 2.995_950_3),
            (20.0, 20.0),
        ];
        for (x, exact) in known {
            assert!((gelu(x) - exact).abs() < 1e-5, "{x}: {}", gelu(x));
        }
    }

    #[test]
    fn softmax_sums_to_one() {
        let mut values: Vec<f32> = (0..45).map(|index| (index % 7) as f32 - 20.0).collect();
        softmax(&mut values);
        assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((values[1] / values[0] - std::f32::consts::E).abs() < 1e-5);
    }
}
