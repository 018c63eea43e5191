//! The likeliest of very many classes, without holding the logits of all.

use super::buffer::Buffer;
use super::pointwise::{exp, greatest, sum};
use super::product::{PackedMatrix, Rows, multiply_columns};
use super::simd::run_loops;

/// Rows that pass over all weights together.
const ROWS: usize = 96;
/// Classes whose logits are held at once; whole panels.
const CLASSES: usize = 512;
/// Logits this far below the greatest add less than 1e-8 of it each.
const NEGLIGIBLE: f32 = 20.0;

/// See [`FeatureMap::likeliest`](crate::nn::FeatureMap::likeliest).
pub(super) fn likeliest(rows: Rows<'_>, n_rows: usize, matrix: &PackedMatrix) -> Vec<(usize, f32)> {
    let mut logits = Buffer::take(ROWS * CLASSES);
    let mut found = Vec::with_capacity(n_rows);
    for first_row in (0..n_rows).step_by(ROWS) {
        let rows = rows.from(first_row);
        let n_rows = ROWS.min(n_rows - first_row);
        let mut best = vec![
            Best {
                class: 0,
                logit: f32::MIN,
                sum: 0.0
            };
            n_rows
        ];
        for first in (0..matrix.n_outputs()).step_by(CLASSES) {
            let last = matrix.n_outputs().min(first + CLASSES);
            multiply_columns(rows, n_rows, matrix, first..last, &mut logits, false);
            run_loops(
                #[inline(always)]
                || {
                    let logits = logits.chunks_exact(last - first);
                    for (best, logits) in best.iter_mut().zip(logits) {
                        best.see(first, logits);
                    }
                },
            );
        }
        found.extend(best.iter().map(|best| (best.class, 1.0 / best.sum)));
    }
    found
}

/// The best class so far.
#[derive(Debug, Clone, Copy)]
struct Best {
    class: usize,
    logit: f32,
    /// Of the exponentials of all logits less the greatest.
    sum: f32,
}

impl Best {
    #[inline(always)]
    fn see(&mut self, first: usize, logits: &[f32]) {
        let most = greatest(logits);
        if most > self.logit {
            self.sum *= exp(self.logit - most);
            self.class = first + logits.iter().position(|&logit| logit == most).unwrap_or(0);
            self.logit = most;
        }
        if most > self.logit - NEGLIGIBLE {
            let greatest = self.logit;
            self.sum += sum(logits, |logit| exp(logit - greatest));
        }
    }
}
