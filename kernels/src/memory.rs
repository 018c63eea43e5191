//! Memory read from one end to the other.

use pulp::bytemuck;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::vectors::Vectors;

/// Bytes that a thread reads at a time.
const PART: usize = 1 << 20;

/// Reads all bytes on all threads and gives a number that depends on each of them.
///
/// Afterwards a mapped file is in memory, as far as there is room. The time it takes, with the
/// bytes there already, is the least that anything which needs them all can take.
pub fn read_through(vectors: Vectors, bytes: &[u8]) -> u64 {
    bytes
        .par_chunks(PART)
        .map(|part| vectors.run(Sum(part)))
        .reduce(|| 0, u64::wrapping_add)
}

struct Sum<'a>(&'a [u8]);

impl WithSimd for Sum<'_> {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        // Sums that do not wait for each other.
        const SUMS: usize = 8;
        let (before, words, after) = bytemuck::pod_align_to::<u8, u64>(self.0);
        let (vectors, rest) = S::as_simd_u64s(words);
        let (blocks, last) = vectors.as_chunks::<SUMS>();
        let mut sums = [simd.splat_u64s(0); SUMS];
        for block in blocks {
            for index in 0..SUMS {
                sums[index] = simd.add_u64s(sums[index], block[index]);
            }
        }
        for (sum, vector) in sums.iter_mut().zip(last) {
            *sum = simd.add_u64s(*sum, *vector);
        }
        let sums: &[u64] = bytemuck::cast_slice(&sums);
        let bytes = before.iter().chain(after).map(|byte| u64::from(*byte));
        sums.iter()
            .chain(rest)
            .copied()
            .chain(bytes)
            .fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let mut bytes = vec![0u8; PART + 300];
        for place in [0, 255, PART - 1, PART, PART + 299] {
            let before = read_through(Vectors::widest(), &bytes);
            bytes[place] += 1;
            assert_ne!(read_through(Vectors::widest(), &bytes), before, "{place}");
        }
    }
}
