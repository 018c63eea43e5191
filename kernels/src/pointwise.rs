//! Work on single values and on rows. Plain loops: the compiler makes vectors of them.

use rayon::prelude::*;

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
                    let squares = sum(row, |value| value * value);
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

/// Replaces values by the exponentials of what they exceed the greatest by, and gives their sum.
pub(crate) fn exponentials(vectors: Vectors, values: &mut [f32]) -> f32 {
    vectors.run_loops(
        #[inline(always)]
        || {
            let greatest = greatest(values);
            for value in values.iter_mut() {
                *value = exp(*value - greatest);
            }
            sum(values, |value| value)
        },
    )
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

/// A sum in several lanes, which the compiler may not make of a plain sum.
#[inline(always)]
pub(crate) fn sum(values: &[f32], apply: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += apply(*value);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|value| apply(*value)).sum::<f32>()
}

/// The greatest value, whatever is no number aside; negative infinity of none.
#[inline(always)]
pub(crate) fn greatest(values: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (most, value) in most.iter_mut().zip(values) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    rest.iter()
        .chain(&most)
        .fold(f32::NEG_INFINITY, |most, value| most.max(*value))
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
    // The series of the exponential function, whose next term is below 1.2e-7 of the sum here.
    let mut power = 1.0 / 5040.0;
    power = power * rest + 1.0 / 720.0;
    power = power * rest + 1.0 / 120.0;
    power = power * rest + 1.0 / 24.0;
    power = power * rest + 1.0 / 6.0;
    power = power * rest + 0.5;
    power = power * rest + 1.0;
    power = power * rest + 1.0;
    let scaled = f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23));
    let low = if x < -87.0 { 0.0 } else { scaled };
    let high = if x > 88.0 { f32::INFINITY } else { low };
    if x.is_nan() { x } else { high }
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
}
