//! The likeliest of very many classes, without holding the logits of all.

use super::{Ending, PackedMatrix, RowView};
use crate::buffer::Buffer;
use crate::pointwise::{Exponential, exp, greatest, sum_of};

/// Rows that pass over all weights together.
const ROWS: usize = 96;
/// Classes whose logits are held at once; whole panels.
const CLASSES: usize = 512;
/// Logits this far below the greatest add less than 1e-8 of it each.
const NEGLIGIBLE: f32 = 20.0;

impl PackedMatrix {
    /// For each row the output with the greatest logit, and its share of the softmax over all.
    ///
    /// # Panics
    /// When shapes do not fit.
    pub fn likeliest(&self, rows: RowView<'_>, n_rows: usize) -> Vec<(usize, f32)> {
        let mut logits = Buffer::take(ROWS * CLASSES);
        let mut found = Vec::with_capacity(n_rows);
        for first_row in (0..n_rows).step_by(ROWS) {
            let rows = rows.from(first_row);
            let n_rows = ROWS.min(n_rows - first_row);
            let mut best = vec![Best::NOTHING; n_rows];
            for first in (0..self.n_outputs()).step_by(CLASSES) {
                let last = self.n_outputs().min(first + CLASSES);
                self.multiply_columns(rows, n_rows, first..last, Ending::PLAIN, &mut logits);
                self.vectors().run_loops(
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
    const NOTHING: Self = Self {
        class: 0,
        logit: f32::MIN,
        sum: 0.0,
    };

    #[inline(always)]
    fn see(&mut self, first: usize, logits: &[f32]) {
        let most = greatest(logits);
        if most > self.logit {
            self.sum *= exp(self.logit - most);
            for (index, logit) in logits.iter().enumerate() {
                if *logit == most {
                    self.class = first + index;
                    break;
                }
            }
            self.logit = most;
        }
        if most > self.logit - NEGLIGIBLE {
            self.sum += sum_of(logits, Exponential { less: self.logit });
        }
    }
}
