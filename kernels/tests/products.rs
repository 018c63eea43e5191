//! Products, norms and the choice of the likeliest against the same in f64, for every kind of
//! instructions that this CPU has.

mod random;

use proptest::prelude::*;
use quire_kernels::{
    Gate, Likeliest, Matrix, Product, Rows, Stored, Vectors, gate, likeliest, multiply, rms_norm,
    softmax,
};
use random::{Random, TYPES, stored_matrix};

/// A product in f64, and the sum of its terms without their signs, by which errors are measured.
fn exact(row: &[f32], weights: &[f32]) -> (f64, f64) {
    let terms = row.iter().zip(weights);
    let terms = terms.map(|(value, weight)| f64::from(*value) * f64::from(*weight));
    terms.fold((0.0, 0.0), |(sum, size), term| {
        (sum + term, size + f64::abs(term))
    })
}

#[track_caller]
fn assert_close(found: f32, exact: f64, size: f64) {
    let error = (f64::from(found) - exact).abs();
    assert!(error <= 2e-6 * size + 1e-30, "{found} for {exact}");
}

fn product(vectors: Vectors, rows: &Rows, chosen: Option<&[usize]>, matrix: &Matrix) -> Rows {
    let n = chosen.map_or(rows.n(), <[usize]>::len);
    let mut out = Rows::zeros(n, matrix.n_rows());
    multiply(
        vectors,
        vec![Product {
            rows,
            chosen,
            matrix,
            out: &mut out,
            adds: false,
        }],
    );
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_of_any_shape_are_right(
        seed in any::<u64>(), n in 0usize..30, inputs in 0usize..180, outputs in 0usize..70,
    ) {
        let mut random = Random(seed);
        for stored in TYPES {
            let (matrix, weights) = stored_matrix(&mut random, stored, outputs, inputs);
            let rows = random.rows(n, inputs);
            for vectors in Vectors::all() {
                let found = product(vectors, &rows, None, &matrix);
                for row in 0..n {
                    for output in 0..outputs {
                        let (sum, size) = exact(rows.row(row), &weights[output * inputs..][..inputs]);
                        assert_close(found.row(row)[output], sum, size);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_gives_the_same_alone_and_in_company(
        seed in any::<u64>(), n in 1usize..40, blocks in 1usize..6, outputs in 1usize..40,
    ) {
        let mut random = Random(seed);
        for stored in TYPES {
            let (matrix, _) = stored_matrix(&mut random, stored, outputs, 32 * blocks - 5);
            let rows = random.rows(n, 32 * blocks - 5);
            for vectors in Vectors::all() {
                let together = product(vectors, &rows, None, &matrix);
                for row in 0..n {
                    let alone = product(vectors, &rows, Some(&[row]), &matrix);
                    prop_assert_eq!(alone.row(0), together.row(row));
                }
            }
        }
    }

    #[test]
    fn likeliest_is_the_greatest_that_is_allowed(
        seed in any::<u64>(), n in 1usize..5, inputs in 1usize..70, outputs in 1usize..900,
        bans in prop::collection::vec(0u32..1000, 0..40),
    ) {
        let mut random = Random(seed);
        let (matrix, weights) = stored_matrix(&mut random, Stored::Bf16, outputs, inputs);
        let rows = random.rows(n, inputs);
        let banned = vec![bans.clone(); n];
        for vectors in Vectors::all() {
            for (row, found) in likeliest(vectors, &rows, &matrix, &banned).iter().enumerate() {
                let logits: Vec<f64> = (0..outputs)
                    .map(|output| exact(rows.row(row), &weights[output * inputs..][..inputs]).0)
                    .collect();
                let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                prop_assert!((f64::from(found.log_sum) - log_sum).abs() < 1e-4);
                let allowed = (0..outputs).filter(|output| !bans.contains(&(*output as u32)));
                let Some(best) = allowed.max_by(|a, b| logits[*a].total_cmp(&logits[*b])) else {
                    prop_assert_eq!(found.index, 0);
                    continue;
                };
                prop_assert!(!bans.contains(&(found.index as u32)));
                prop_assert!((logits[found.index] - logits[best]).abs() < 1e-4);
                prop_assert!((f64::from(found.logit) - logits[best]).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn products_are_added_to_what_is_there_and_only_chosen_rows_are_read() {
    let mut random = Random(3);
    let (matrix, weights) = stored_matrix(&mut random, Stored::Bf16, 130, 64);
    let rows = random.rows(9, 64);
    let before = random.rows(3, 130);
    for vectors in Vectors::all() {
        let mut out = before.clone();
        multiply(
            vectors,
            vec![Product {
                rows: &rows,
                chosen: Some(&[7, 0, 7]),
                matrix: &matrix,
                out: &mut out,
                adds: true,
            }],
        );
        for (index, row) in [7, 0, 7].into_iter().enumerate() {
            for output in 0..130 {
                let (sum, size) = exact(rows.row(row), &weights[output * 64..][..64]);
                let old = f64::from(before.row(index)[output]);
                assert_close(out.row(index)[output], sum + old, size + old.abs());
            }
        }
    }
}

#[test]
fn gated_middle_is_silu_of_one_product_times_the_other() {
    let mut random = Random(4);
    let (inputs, outputs) = (96, 75);
    for stored in TYPES {
        let (gates, gate_weights) = stored_matrix(&mut random, stored, outputs, inputs);
        let (ups, up_weights) = stored_matrix(&mut random, stored, outputs, inputs);
        let rows = random.rows(7, inputs);
        for vectors in Vectors::all() {
            let mut out = Rows::zeros(7, outputs);
            gate(
                vectors,
                vec![Gate {
                    rows: &rows,
                    chosen: None,
                    gate: &gates,
                    up: &ups,
                    out: &mut out,
                }],
            );
            for (row, found) in out.iter().enumerate() {
                for (output, found) in found.iter().enumerate() {
                    let weights = output * inputs..(output + 1) * inputs;
                    let (g, _) = exact(rows.row(row), &gate_weights[weights.clone()]);
                    let (u, _) = exact(rows.row(row), &up_weights[weights]);
                    let exact = g / (1.0 + (-g).exp()) * u;
                    assert!((f64::from(*found) - exact).abs() < 1e-4, "{found} {exact}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_and_infinities_are_carried() {
    let n_inputs = 40;
    for stored in TYPES {
        let mut weights = vec![1.0f32; 3 * n_inputs];
        weights[5] = f32::INFINITY;
        weights[n_inputs + 38] = f32::NEG_INFINITY;
        weights[2 * n_inputs + 39] = f32::NAN;
        let matrix = random::matrix_of(&weights, stored, 3, n_inputs);
        let mut values = vec![1.0; 2 * n_inputs];
        values[n_inputs + 7] = f32::NAN;
        let rows = Rows::from_values(&values, n_inputs);
        for vectors in Vectors::all() {
            let found = product(vectors, &rows, None, &matrix);
            let name = vectors.name();
            assert_eq!(found.row(0)[0], f32::INFINITY, "{stored:?} {name}");
            assert_eq!(found.row(0)[1], f32::NEG_INFINITY, "{stored:?} {name}");
            assert!(found.row(0)[2].is_nan(), "{stored:?} {name}");
            assert!(found.row(1).iter().all(|value| value.is_nan()));
            let best = likeliest(vectors, &rows, &matrix, &[vec![], vec![]]);
            assert_eq!(best[0].index, 0);
            assert!(best.iter().all(|best| best.log_sum.is_nan()));
        }
    }
}

#[test]
fn every_f16_is_widened_exactly() {
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    // One input that is not zero, so that each output is one weight.
    let matrix = Matrix::new(bytes.clone(), Stored::F16, 1 << 16, 1);
    let one = Rows::from_values(&[1.0], 1);
    for vectors in Vectors::all() {
        let found = product(vectors, &one, None, &matrix);
        for (found, bits) in found.row(0).iter().zip(0..=u16::MAX) {
            let exact = half::f16::from_bits(bits).to_f32();
            let same = *found == exact || found.is_nan() && exact.is_nan();
            assert!(same, "{found} for {exact} with {}", vectors.name());
        }
    }
}

#[test]
fn bytes_at_odd_places_give_the_same() {
    let mut random = Random(5);
    let rows = random.rows(3, 64);
    for stored in TYPES {
        let (matrix, _) = stored_matrix(&mut random, stored, 20, 64);
        let mut bytes = vec![0];
        bytes.extend(matrix.bytes());
        let bytes: &'static [u8] = bytes.leak();
        let odd = Matrix::new(&bytes[1..], stored, 20, 64);
        for vectors in Vectors::all() {
            let (even, odd) = (
                product(vectors, &rows, None, &matrix),
                product(vectors, &rows, None, &odd),
            );
            assert_eq!(even.to_vec(), odd.to_vec());
        }
    }
}

#[test]
fn of_equal_logits_the_first_is_chosen_and_bans_move_on() {
    let matrix = random::matrix_of(&vec![0.5; 700 * 32], Stored::Bf16, 700, 32);
    let rows = Rows::from_values(&[0.25; 32], 32);
    for vectors in Vectors::all() {
        let choose = |banned: Vec<u32>| likeliest(vectors, &rows, &matrix, &[banned])[0];
        assert_eq!(choose(vec![]).index, 0);
        assert_eq!(choose((0..300).rev().collect()).index, 300);
        let Likeliest { logit, log_sum, .. } = choose(vec![0, 9_999]);
        assert_eq!(logit, 4.0);
        assert!((log_sum - (4.0 + 700f32.ln())).abs() < 1e-5);
    }
}

#[test]
fn norms_and_softmax_are_those_of_f64() {
    let mut random = Random(6);
    for width in [1, 16, 33, 1280] {
        let rows = random.rows(11, width);
        let weight: Vec<f32> = (0..width).map(|_| random.value()).collect();
        for vectors in Vectors::all() {
            let normed = rms_norm(vectors, &rows, &weight, 1e-6);
            let mut probable = rows.clone();
            softmax(vectors, &mut probable);
            for index in 0..11 {
                let row: Vec<f64> = rows
                    .row(index)
                    .iter()
                    .map(|value| f64::from(*value))
                    .collect();
                let mean = row.iter().map(|value| value * value).sum::<f64>() / width as f64;
                let total: f64 = row.iter().map(|value| value.exp()).sum();
                for (place, value) in row.iter().enumerate() {
                    let exact = value / (mean + 1e-6).sqrt() * f64::from(weight[place]);
                    assert!((f64::from(normed.row(index)[place]) - exact).abs() < 1e-5);
                    let exact = value.exp() / total;
                    assert!((f64::from(probable.row(index)[place]) - exact).abs() < 1e-6);
                }
            }
        }
    }
}
