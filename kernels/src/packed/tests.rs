//! Products of every kind against f64.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, too")]

use proptest::prelude::*;

use super::*;
use crate::activation::activate;
use crate::activation::tests::ALL;

/// Values from -1 to 1 that differ from place to place.
fn value(index: usize) -> f32 {
    (index * 7919 % 2003) as f32 / 1001.0 - 1.0
}

/// A product whose rows lie in pieces with something between them that may not be read.
#[derive(Debug, Clone)]
struct Case {
    n_rows: usize,
    n_pieces: usize,
    piece: usize,
    n_outputs: usize,
    between: usize,
    offset: usize,
    adds: bool,
    activation: Activation,
    rounding: Rounding,
}

fn cases() -> impl Strategy<Value = Case> {
    let activation = prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Gelu),
        Just(Activation::HardSwish),
    ];
    let sizes = (0usize..40, 1usize..4, 1usize..140, 1usize..110);
    (
        sizes,
        0usize..9,
        0usize..9,
        any::<bool>(),
        activation,
        prop::sample::select(&Rounding::ALL[..]),
    )
        .prop_map(
            |(
                (n_rows, n_pieces, piece, n_outputs),
                between,
                offset,
                adds,
                activation,
                rounding,
            )| {
                Case {
                    n_rows,
                    n_pieces,
                    piece,
                    n_outputs,
                    between,
                    offset,
                    adds,
                    activation,
                    rounding,
                }
            },
        )
}

/// By how much a value may differ from an exact one, given the sum of the magnitudes of products.
fn tolerance(matrix: &PackedMatrix, magnitudes: f64, greatest: f64) -> f64 {
    let relative = match matrix.kept() {
        "f32" => return 1e-5 * magnitudes + 5e-6,
        // Either side is rounded to eight bits.
        "bf16" => return magnitudes * 2.0 / 256.0 + 1e-5,
        _ => 1.0 / 6000.0,
    };
    // Rows are rounded to a share of their greatest value, columns likewise.
    greatest * relative + 1e-5
}

fn check(vectors: Vectors, case: &Case) {
    let Case {
        n_rows,
        n_pieces,
        piece,
        n_outputs,
        ..
    } = *case;
    let n_inputs = n_pieces * piece;
    let weight = |input: usize, output: usize| value(3 * input + 17 * output);
    let shape = [n_inputs, n_outputs];
    let matrix = PackedMatrix::new(vectors, shape, weight, value, case.rounding);
    let (stride, piece_stride) = (piece + case.between, n_rows * (piece + case.between) + 5);
    // Begins where vectors do not.
    let mut values = vec![f32::NAN; case.offset + n_pieces * piece_stride];
    let input = |row: usize, input: usize| value(row * 31 + input * 5 + 1);
    for row in 0..n_rows {
        for place in 0..n_inputs {
            let at = place / piece * piece_stride + row * stride + place % piece;
            values[case.offset + at] = input(row, place);
        }
    }
    let rows = RowView::whole(&values[case.offset..], stride).in_pieces(n_pieces, piece_stride);
    let end = case.offset + n_rows * n_outputs;
    let mut out: Vec<f32> = (0..end + PANEL).map(value).collect();
    let before = out.clone();
    let ending = Ending {
        activation: case.activation,
        adds: case.adds,
    };
    matrix.multiply(rows, n_rows, ending, &mut out[case.offset..end]);
    assert_eq!(out[..case.offset], before[..case.offset], "{case:?}");
    assert_eq!(out[end..], before[end..], "{case:?}");
    for (index, found) in out[case.offset..end].iter().enumerate() {
        let (row, output) = (index / n_outputs, index % n_outputs);
        let products: Vec<f64> = (0..n_inputs)
            .map(|place| f64::from(input(row, place)) * f64::from(weight(place, output)))
            .collect();
        let mut sum = products.iter().sum::<f64>() + f64::from(value(output));
        if case.adds {
            sum += f64::from(before[case.offset + index]);
        }
        let mut exact = [sum as f32];
        case.activation.apply(&mut exact);
        let magnitudes: f64 = products.iter().map(|product| product.abs()).sum();
        let tolerance = 1.2 * tolerance(&matrix, magnitudes, n_inputs as f64);
        let error = f64::from((found - exact[0]).abs());
        assert!(
            error <= tolerance,
            "{found} for {} at {row}, {output} of {case:?} with {} in {}: {error} above {tolerance}",
            exact[0],
            vectors.name(),
            matrix.kept(),
        );
    }
}

proptest! {
    #[test]
    fn products_are_close_to_exact_ones_on_every_path(case in cases()) {
        for vectors in Vectors::all() {
            check(vectors, &case);
        }
    }
}

#[test]
fn what_is_no_number_reaches_all_outputs_of_its_row_and_no_other() {
    for vectors in Vectors::all() {
        for rounding in Rounding::ALL {
            for bad in [f32::NAN, f32::INFINITY] {
                let weight = |input: usize, output: usize| value(3 * input + output) + 2.0;
                let matrix = PackedMatrix::new(vectors, [98, 45], weight, value, rounding);
                let mut rows = vec![1.0; 15 * 98];
                rows[7 * 98 + 97] = bad;
                let mut out = vec![0.0; 15 * 45];
                matrix.multiply(RowView::whole(&rows, 98), 15, Ending::PLAIN, &mut out);
                for (row, out) in out.chunks_exact(45).enumerate() {
                    let all = out.iter().all(|value| value.is_finite() == (row != 7));
                    assert!(all, "{row} with {} in {}", vectors.name(), matrix.kept());
                }
            }
        }
    }
}

#[test]
fn products_end_as_activations_do_by_themselves() {
    const WIDTH: usize = 19;
    let special = [
        0.0,
        -0.0,
        1e-42,
        -2.5,
        4.999,
        5.001,
        -5.001,
        1e30,
        -1e30,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];
    for vectors in Vectors::all() {
        for activation in ALL {
            let matrix =
                PackedMatrix::new(vectors, [1, WIDTH], |_, _| 1.0, |_| 0.0, Rounding::None);
            let mut out = [0.0; 12 * WIDTH];
            let rows = RowView::whole(&special, 1);
            matrix.multiply(rows, special.len(), activation.into(), &mut out);
            let mut alone = special;
            activate(vectors, activation, &mut alone);
            for (index, found) in out.iter().enumerate() {
                let wanted = alone[index / WIDTH];
                // GELU is taken from other polynomials in some products.
                let is_close = (found - wanted).abs() <= 6e-6 * wanted.abs().max(1.0);
                assert!(
                    is_close || *found == wanted || (found.is_nan() && wanted.is_nan()),
                    "{activation:?} of {} is {wanted} and not {found} with {}",
                    special[index / WIDTH],
                    vectors.name(),
                );
            }
        }
    }
}

#[test]
fn rows_that_pass_through_two_matrices_are_multiplied_by_both() {
    for vectors in Vectors::all() {
        for rounding in Rounding::ALL {
            for [n_rows, n_inputs, n_middle, n_outputs] in [
                [1, 32, 64, 32],
                [40, 96, 192, 96],
                [33, 50, 70, 24],
                [0, 8, 8, 8],
            ] {
                let matrix = |shape: [usize; 2]| {
                    let weight = |input: usize, output: usize| value(3 * input + 17 * output) / 8.0;
                    PackedMatrix::new(vectors, shape, weight, value, rounding)
                };
                let (first, second) = (matrix([n_inputs, n_middle]), matrix([n_middle, n_outputs]));
                let rows: Vec<f32> = (0..n_rows * n_inputs).map(value).collect();
                let rows = RowView::whole(&rows, n_inputs);
                for activation in ALL {
                    let mut middle = vec![0.0; n_rows * n_middle];
                    first.multiply(rows, n_rows, activation.into(), &mut middle);
                    let mut wanted = vec![0.5; n_rows * n_outputs];
                    let middle = RowView::whole(&middle, n_middle);
                    second.multiply(middle, n_rows, Ending::ADDED, &mut wanted);
                    let mut found = vec![0.5; n_rows * n_outputs];
                    let passed = first.pass(rows, n_rows, activation, &second);
                    second.multiply_passed(&passed, Ending::ADDED, &mut found);
                    // The same values are rounded in the same way.
                    assert_eq!(found, wanted, "{activation:?} with {}", vectors.name());
                }
            }
        }
    }
}

#[test]
fn columns_of_a_product_are_those_of_the_whole() {
    for vectors in Vectors::all() {
        for rounding in Rounding::ALL {
            let matrix = PackedMatrix::new(
                vectors,
                [100, 150],
                |i, o| value(i + 3 * o),
                value,
                rounding,
            );
            let rows: Vec<f32> = (0..20 * 100).map(value).collect();
            let rows = RowView::whole(&rows, 100);
            let mut whole = vec![0.0; 20 * 150];
            matrix.multiply(rows, 20, Ending::PLAIN, &mut whole);
            let mut some = vec![0.0; 20 * 86];
            matrix.multiply_columns(rows, 20, 64..150, Ending::PLAIN, &mut some);
            for (whole, some) in whole.chunks_exact(150).zip(some.chunks_exact(86)) {
                assert_eq!(whole[64..], *some);
            }
        }
    }
}

#[test]
fn zeros_give_the_bias() {
    for vectors in Vectors::all() {
        for rounding in Rounding::ALL {
            let matrix = PackedMatrix::new(vectors, [0, 33], |_, _| 1.0, value, rounding);
            let mut out = [7.0; 2 * 33];
            matrix.multiply(RowView::whole(&[], 0), 2, Ending::PLAIN, &mut out);
            for out in out.chunks_exact(33) {
                assert_eq!(out, matrix.bias(), "{}", vectors.name());
            }
        }
        for (row, weight) in [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1e-42, 1.0)] {
            let matrix =
                PackedMatrix::new(vectors, [100, 33], |_, _| weight, |_| 0.5, Rounding::Coarse);
            let rows = [row; 100];
            let mut out = [0.0; 33];
            matrix.multiply(RowView::whole(&rows, 100), 1, Ending::PLAIN, &mut out);
            assert_eq!(out, [0.5; 33], "{}", vectors.name());
        }
    }
}
