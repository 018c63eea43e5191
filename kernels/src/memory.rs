//! Memory read from one end to the other.

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
        .map(|part| {
            vectors.run_loops(
                #[inline(always)]
                || sum(part),
            )
        })
        .reduce(|| 0, u64::wrapping_add)
}

#[inline(always)]
fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 32];
    let (blocks, rest) = bytes.as_chunks::<256>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    let rest = rest.iter().map(|byte| u64::from(*byte));
    sums.into_iter().chain(rest).fold(0, u64::wrapping_add)
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
