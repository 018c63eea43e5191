//! Work on single values. Plain loops: the compiler makes vectors of them.

use pulp::{Simd, WithSimd};

/// Compiles `work` for AVX-512, for AVX2 with FMA and for neither, and runs what fits this CPU.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn run<W: WithSimd>(work: W) -> W::Output {
    if let Some(simd) = pulp::x86::V4::try_new() {
        return Simd::vectorize(simd, work);
    }
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, work);
    }
    Simd::vectorize(pulp::Scalar, work)
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(super) fn run<W: WithSimd>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Runs plain loops, which the compiler turns into vectors of the chosen width.
#[inline]
pub(super) fn run_loops<F: FnOnce()>(loops: F) {
    struct Loops<F>(F);

    impl<F: FnOnce()> WithSimd for Loops<F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) {
            (self.0)();
        }
    }

    run(Loops(loops));
}

/// Replaces values by the exponentials of what they lie below the greatest, and gives their sum.
#[inline(always)]
pub(super) fn exponentials(values: &mut [f32]) -> f32 {
    let greatest = greatest(values);
    values
        .iter_mut()
        .for_each(|value| *value = exp(*value - greatest));
    // In several lanes, which the compiler may not make of a plain sum.
    let mut sums = [0.0f32; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}

#[inline(always)]
fn greatest(values: &[f32]) -> f32 {
    let mut most = [f32::MIN; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for values in whole {
        for (most, value) in most.iter_mut().zip(values) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    rest.iter().chain(&most).copied().fold(f32::MIN, f32::max)
}

/// `e` to the power of `x`, to a relative error of 2e-7; at least 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
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

/// `x` times the normal distribution function of `x`, to an error of 1e-6.
///
/// By the rational function of Abramowitz and Stegun (7.1.26), which gives the error function to
/// 1.5e-7.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    const COEFFICIENTS: [f32; 6] = [
        0.0,
        0.254_829_6,
        -0.284_496_74,
        1.421_413_7,
        -1.453_152,
        1.061_405_4,
    ];
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    // The distribution of what lies beyond |x|; nothing cancels where it is small.
    let beyond = 0.5 * horner(t, COEFFICIENTS) * exp(-z * z);
    x * if x < 0.0 { beyond } else { 1.0 - beyond }
}

/// `x * sigmoid(1.702 x)`
#[inline(always)]
pub(super) fn quick_gelu(x: f32) -> f32 {
    x / (1.0 + exp(-1.702 * x))
}

/// `x * sigmoid(x)`
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
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
        assert!(exp(-1e30) < 1e-37);
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
            assert!((gelu(x) - exact).abs() < 1e-6, "{x}: {}", gelu(x));
        }
    }

    #[test]
    fn exponentials_of_masked_values_are_nothing() {
        let mut values: Vec<f32> = (0..45).map(|index| (index % 7) as f32 - 20.0).collect();
        values.extend([-1e30, -2e30]);
        let sum = exponentials(&mut values);
        assert!((values.iter().sum::<f32>() - sum).abs() < 1e-4);
        assert!((values[1] / values[0] - std::f32::consts::E).abs() < 1e-5);
        assert!(values[45] < 1e-37 && values[46] < 1e-37);
    }
}
