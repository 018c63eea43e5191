//! Values from -1 to 1 for tests, the same for the same seed.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program takes what it needs"
)]

use quire_kernels::{Matrix, Rows, Stored};

pub const TYPES: [Stored; 3] = [Stored::Bf16, Stored::F16, Stored::F32];

pub struct Random(pub u64);

impl Random {
    pub fn value(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / (1 << 23) as f32 - 1.0
    }

    pub fn rows(&mut self, n: usize, width: usize) -> Rows {
        let mut rows = Rows::zeros(n, width);
        for row in rows.iter_mut() {
            row.iter_mut().for_each(|value| *value = self.value());
        }
        rows
    }
}

/// A matrix of these values, rounded to how they are stored.
pub fn matrix_of(values: &[f32], stored: Stored, n_rows: usize, n_columns: usize) -> Matrix {
    let bytes: Vec<u8> = match stored {
        Stored::Bf16 => values
            .iter()
            .flat_map(|value| half::bf16::from_f32(*value).to_le_bytes())
            .collect(),
        Stored::F16 => values
            .iter()
            .flat_map(|value| half::f16::from_f32(*value).to_le_bytes())
            .collect(),
        Stored::F32 => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    };
    Matrix::new(bytes, stored, n_rows, n_columns)
}

/// A matrix and its values as they are after rounding.
pub fn stored_matrix(
    random: &mut Random,
    stored: Stored,
    n_rows: usize,
    n_columns: usize,
) -> (Matrix, Vec<f32>) {
    let values: Vec<f32> = (0..n_rows * n_columns).map(|_| random.value()).collect();
    let matrix = matrix_of(&values, stored, n_rows, n_columns);
    let mut rounded = vec![0.0; n_rows * n_columns];
    for row in 0..n_rows {
        matrix.row(row, &mut rounded[row * n_columns..][..n_columns]);
    }
    (matrix, rounded)
}
