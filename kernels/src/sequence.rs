//! Multi-head self-attention of one short sequence, on the calling thread.

use crate::buffer::Buffer;
use crate::pointwise::{dot, make_softmax};
use crate::vectors::Vectors;

/// Lets every step of a sequence see every other.
///
/// # Shapes
/// - `sequence`: `[n_steps, 3 * n_heads * width]`, queries, keys and values one after the other
/// - `out`: `[n_steps, n_heads * width]`
pub fn attend_sequence(
    vectors: Vectors,
    sequence: &[f32],
    n_steps: usize,
    n_heads: usize,
    out: &mut [f32],
) {
    let channels = out.len() / n_steps;
    let width = channels / n_heads;
    // Keys and values of a head with the steps side by side.
    let mut turned = Buffer::take(2 * width * n_steps);
    let mut scores = Buffer::take(n_steps);
    vectors.run_loops(
        #[inline(always)]
        || {
            for head in 0..n_heads {
                let (keys, values) = turned.split_at_mut(width * n_steps);
                for (step, row) in sequence.chunks_exact(3 * channels).enumerate() {
                    for index in 0..width {
                        keys[index * n_steps + step] = row[channels + head * width + index];
                        values[index * n_steps + step] = row[2 * channels + head * width + index];
                    }
                }
                for step in 0..n_steps {
                    let query = &sequence[step * 3 * channels + head * width..][..width];
                    score(query, keys, &mut scores);
                    make_softmax(&mut scores);
                    let out = &mut out[step * channels + head * width..][..width];
                    for (out, values) in out.iter_mut().zip(values.chunks_exact(n_steps)) {
                        *out = dot(&scores, values);
                    }
                }
            }
        },
    );
}

/// Products of a query with all keys, over the root of the width.
#[inline(always)]
fn score(query: &[f32], keys: &[f32], scores: &mut [f32]) {
    let scale = 1.0 / (query.len() as f32).sqrt();
    scores.fill(0.0);
    for (query, keys) in query.iter().zip(keys.chunks_exact(scores.len())) {
        let query = query * scale;
        for (score, key) in scores.iter_mut().zip(keys) {
            *score = query.mul_add(*key, *score);
        }
    }
}
