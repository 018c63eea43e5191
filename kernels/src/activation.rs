//! Activations, each value by itself.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::pointwise::{exp, horner};
use crate::vectors::Vectors;

/// What is done to each value after a layer's bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    Identity,
    Relu,
    /// `x` times the normal distribution function of `x`, to an error of 4e-6; where products are
    /// rounded to bf16, of 1e-4.
    Gelu,
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// `x * sigmoid(x)`.
    Swish,
    /// `x * clamp(x + 3, 0, 6) / 6`.
    HardSwish,
    /// `clamp(slope * x + 0.5, 0, 1)`.
    HardSigmoid {
        slope: f32,
    },
    Sigmoid,
}

/// Applies an activation in place.
pub fn activate(vectors: Vectors, activation: Activation, values: &mut [f32]) {
    if activation != Activation::Identity {
        vectors.run(Activate { activation, values });
    }
}

struct Activate<'a> {
    activation: Activation,
    values: &'a mut [f32],
}

impl WithSimd for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        self.activation.apply(self.values);
    }
}

impl Activation {
    /// For code that is compiled for vectors already.
    #[inline(always)]
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Relu => each(values, Relu),
            Self::Gelu => each(values, Gelu),
            Self::QuickGelu => each(values, QuickGelu),
            Self::Swish => each(values, Swish),
            Self::HardSwish => each(values, HardSwish),
            Self::HardSigmoid { slope } => each(values, HardSigmoid(slope)),
            Self::Sigmoid => each(values, Sigmoid),
        }
    }
}

impl Activation {
    /// As [`Self::apply`] for some columns of rows that are `stride` values wide.
    #[inline(always)]
    pub(crate) fn apply_columns(self, rows: &mut [f32], stride: usize, columns: Range<usize>) {
        if columns.len() == stride {
            return self.apply(rows);
        }
        match self {
            Self::Identity => {}
            Self::Relu => each_column(rows, stride, columns, Relu),
            Self::Gelu => each_column(rows, stride, columns, Gelu),
            Self::QuickGelu => each_column(rows, stride, columns, QuickGelu),
            Self::Swish => each_column(rows, stride, columns, Swish),
            Self::HardSwish => each_column(rows, stride, columns, HardSwish),
            Self::HardSigmoid { slope } => each_column(rows, stride, columns, HardSigmoid(slope)),
            Self::Sigmoid => each_column(rows, stride, columns, Sigmoid),
        }
    }
}

#[inline(always)]
fn each_column<F: Function>(rows: &mut [f32], stride: usize, columns: Range<usize>, function: F) {
    for row in rows.chunks_exact_mut(stride) {
        let row = &mut row[columns.clone()];
        match row.as_chunks_mut::<32>() {
            // A panel, whose loop the compiler unrolls.
            ([panel], []) => {
                for value in panel {
                    *value = function.of(*value);
                }
            }
            _ => each(row, function),
        }
    }
}

/// A function of one value. A trait instead of a closure, so that each can say that it is inlined.
trait Function: Copy {
    fn of(self, x: f32) -> f32;
}

#[inline(always)]
fn each<F: Function>(values: &mut [f32], function: F) {
    for value in values {
        *value = function.of(*value);
    }
}

#[derive(Clone, Copy)]
struct Relu;
#[derive(Clone, Copy)]
struct Gelu;
#[derive(Clone, Copy)]
struct QuickGelu;
#[derive(Clone, Copy)]
struct Swish;
#[derive(Clone, Copy)]
struct HardSwish;
#[derive(Clone, Copy)]
struct HardSigmoid(f32);
#[derive(Clone, Copy)]
struct Sigmoid;

impl Function for Relu {
    /// What is no number stays so, which `max` does not do.
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        if x < 0.0 { 0.0 } else { x }
    }
}

/// An approximation of the odd part of GELU, over `x`, by a polynomial of the square: fitted inside a
/// bound over Chebyshev points, in a variable from -1 to 1 where rounding does no harm. Beyond the
/// bound the function is taken for 0 or `x`.
pub(crate) struct GeluFit {
    pub(crate) bound: f32,
    /// Those of low powers first.
    pub(crate) coefficients: [f32; 13],
}

/// By weighted least squares; beyond five deviations f32 knows no difference.
pub(crate) const GELU: GeluFit = GeluFit {
    bound: 5.0,
    coefficients: [
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
    ],
};

impl GeluFit {
    #[inline(always)]
    fn of(&self, x: f32) -> f32 {
        let above = if x < -self.bound { -self.bound } else { x };
        let inside = if above > self.bound {
            self.bound
        } else {
            above
        };
        let place = inside * inside * (2.0 / (self.bound * self.bound)) - 1.0;
        above * (inside * horner(place, self.coefficients) + 0.5)
    }
}

impl Function for Gelu {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        GELU.of(x)
    }
}

impl Function for QuickGelu {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        x / (1.0 + exp(-1.702 * x))
    }
}

impl Function for Swish {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        x / (1.0 + exp(-x))
    }
}

impl Function for HardSwish {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0)
    }
}

impl Function for HardSigmoid {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        (self.0 * x + 0.5).clamp(0.0, 1.0)
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn of(self, x: f32) -> f32 {
        1.0 / (1.0 + exp(-x))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const ALL: [Activation; 8] = [
        Activation::Identity,
        Activation::Relu,
        Activation::Gelu,
        Activation::QuickGelu,
        Activation::Swish,
        Activation::HardSwish,
        Activation::HardSigmoid { slope: 0.2 },
        Activation::Sigmoid,
    ];

    /// By a series and, where that loses too much, a continued fraction.
    fn normal_distribution(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if x.abs() < 4.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= x * x / f64::from(2 * n + 1);
                sum += term;
            }
            return 0.5 + density * sum;
        }
        let z = x.abs();
        let fraction = (1..100).rev().fold(z, |below, n| z + f64::from(n) / below);
        let beyond = density / fraction;
        if x < 0.0 { beyond } else { 1.0 - beyond }
    }

    fn exact(activation: Activation, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        match activation {
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
            Activation::Gelu => x * normal_distribution(x),
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Swish => x * sigmoid(x),
            Activation::HardSwish => x * ((x + 3.0) / 6.0).clamp(0.0, 1.0),
            Activation::HardSigmoid { slope } => (f64::from(slope) * x + 0.5).clamp(0.0, 1.0),
            Activation::Sigmoid => sigmoid(x),
        }
    }

    #[test]
    fn activations_are_close_to_exact_ones_on_every_path() {
        let inputs: Vec<f32> = (-40_000..40_000).map(|step| step as f32 / 2000.0).collect();
        for vectors in Vectors::all() {
            for activation in ALL {
                let mut found = inputs.clone();
                activate(vectors, activation, &mut found);
                for (found, x) in found.iter().zip(&inputs) {
                    let exact = exact(activation, f64::from(*x));
                    let error = (f64::from(*found) - exact).abs();
                    let name = vectors.name();
                    assert!(
                        error <= 2e-6 * exact.abs().max(1.0),
                        "{activation:?} of {x} is {exact} and not {found} with {name}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_so_and_infinity_goes_to_its_limit() {
        for vectors in Vectors::all() {
            for activation in ALL {
                let mut found = [f32::NAN; 37];
                activate(vectors, activation, &mut found);
                assert!(found.iter().all(|x| x.is_nan()), "{activation:?}");
                let mut found = [f32::INFINITY; 37];
                activate(vectors, activation, &mut found);
                let limit = match activation {
                    Activation::Sigmoid | Activation::HardSigmoid { .. } => 1.0,
                    _ => f32::INFINITY,
                };
                assert!(found.iter().all(|x| *x == limit), "{activation:?}");
            }
        }
    }
}
