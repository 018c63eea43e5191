//! The likeliest of very many outputs, without writing the logits of all.

use std::ops::Range;

use rayon::prelude::*;

use crate::pointwise::{Exponential, exp, greatest, sum_of};
use crate::product::{Input, fill, is_paired};
use crate::rows::Rows;
use crate::storage::Matrix;
use crate::vectors::Vectors;

/// Outputs whose logits are held at once. Sums are made stretch by stretch, so this number is part
/// of what a result is, and the same for any number of rows.
const STRETCH: usize = 256;
/// Rows whose logits are held at once.
const ROWS: usize = 64;

/// The output with the greatest logit that was allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likeliest {
    /// The first of equals.
    pub index: usize,
    pub logit: f32,
    /// Logarithm of the sum of the exponentials of all logits, allowed or not.
    pub log_sum: f32,
}

/// For each row the likeliest output of `rows * matrix^T` that is not among its `banned` ones,
/// which are in any order. If none is allowed it is the first output of all.
///
/// # Panics
/// When shapes do not fit, or not every row has a list of banned outputs.
pub fn likeliest(
    vectors: Vectors,
    rows: &Rows,
    matrix: &Matrix,
    banned: &[Vec<u32>],
) -> Vec<Likeliest> {
    assert_eq!(rows.width(), matrix.n_columns(), "inputs of the matrix");
    assert_eq!(rows.n(), banned.len(), "banned outputs of each row");
    let paired = is_paired(matrix.stored());
    let banned: Vec<Vec<usize>> = banned.iter().map(|banned| sorted(banned)).collect();
    let mut found = Vec::with_capacity(rows.n());
    for first in (0..rows.n()).step_by(ROWS) {
        let some = first..rows.n().min(first + ROWS);
        let inputs: Vec<Input<'_>> = some.clone().map(|row| rows.blocks(row, paired)).collect();
        let banned = &banned[some];
        let stretches: Vec<Vec<Seen>> = (0..matrix.n_rows().div_ceil(STRETCH))
            .into_par_iter()
            .map(|stretch| {
                let end = matrix.n_rows().min((stretch + 1) * STRETCH);
                see(vectors, &inputs, matrix, stretch * STRETCH..end, banned)
            })
            .collect();
        found.extend((0..inputs.len()).map(|row| {
            let seen = stretches.iter().map(|rows| rows[row]);
            seen.fold(Seen::NOTHING, Seen::and).likeliest()
        }));
    }
    found
}

/// What is known of a row after some outputs.
#[derive(Debug, Clone, Copy)]
struct Seen {
    best: Option<(usize, f32)>,
    greatest: f32,
    /// Of the exponentials of all logits less the greatest.
    sum: f32,
}

impl Seen {
    const NOTHING: Self = Self {
        best: None,
        greatest: f32::NEG_INFINITY,
        sum: 0.0,
    };

    /// Takes what is known of later outputs into account.
    fn and(self, later: Self) -> Self {
        let greatest = self.greatest.max(later.greatest);
        // Where nothing but negative infinity was seen, the sum is of nothing.
        let scaled = |of: Self| match of.sum == 0.0 || of.greatest == greatest {
            true => of.sum,
            false => of.sum * exp(of.greatest - greatest),
        };
        Self {
            best: match (self.best, later.best) {
                (Some(first), Some(second)) if second.1 > first.1 => Some(second),
                (first, second) => first.or(second),
            },
            greatest,
            sum: scaled(self) + scaled(later),
        }
    }

    fn likeliest(self) -> Likeliest {
        let (index, logit) = self.best.unwrap_or((0, f32::NEG_INFINITY));
        Likeliest {
            index,
            logit,
            log_sum: self.greatest + self.sum.ln(),
        }
    }
}

fn sorted(banned: &[u32]) -> Vec<usize> {
    let mut sorted: Vec<usize> = banned.iter().map(|banned| *banned as usize).collect();
    sorted.sort_unstable();
    sorted
}

fn see(
    vectors: Vectors,
    inputs: &[Input<'_>],
    matrix: &Matrix,
    outputs: Range<usize>,
    banned: &[Vec<usize>],
) -> Vec<Seen> {
    let first = outputs.start;
    let width = outputs.len();
    let mut logits = vec![0.0; inputs.len() * width];
    fill(vectors, inputs, matrix, outputs.clone(), &mut logits);
    let rows = logits.chunks_exact_mut(width).zip(banned);
    rows.map(|(logits, banned)| {
        let (most, sum) = vectors.run_loops(
            #[inline(always)]
            || {
                let most = greatest(logits);
                // A stretch of nothing but negative infinity has no part in the sum.
                let from = if most == f32::NEG_INFINITY { 0.0 } else { most };
                (most, sum_of(logits, Exponential { less: from }))
            },
        );
        let bans = banned.partition_point(|banned| *banned < first);
        let bans = banned[bans..]
            .iter()
            .take_while(|banned| **banned < outputs.end);
        let mut best = Some(most);
        for banned in bans {
            // What is no number is never the greatest.
            logits[banned - first] = f32::NAN;
            best = None;
        }
        let best = best.or_else(|| {
            let allowed = logits.iter().copied().filter(|logit| !logit.is_nan());
            allowed.reduce(f32::max)
        });
        let place = best.and_then(|best| {
            let place = logits.iter().position(|logit| *logit == best)?;
            Some((first + place, best))
        });
        Seen {
            best: place,
            greatest: most,
            sum,
        }
    })
    .collect()
}
