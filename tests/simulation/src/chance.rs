//! What happens by chance, as a function of the seed and of what it happens to: the order in
//! which things ask does not matter.

use std::ops::Range;

/// The chances of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance {
    seed: u64,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// A number for something, the same each time.
    pub(crate) fn number(self, of: &str) -> u64 {
        let mut state = mix(self.seed ^ 0x5157_4952_4521);
        for byte in of.bytes() {
            state = mix(state ^ u64::from(byte));
        }
        state
    }

    /// A number from 0 to 1.
    pub(crate) fn share(self, of: &str) -> f64 {
        (self.number(of) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of a range that is not empty.
    pub(crate) fn within(self, of: &str, range: Range<u64>) -> u64 {
        range.start + self.number(of) % (range.end - range.start)
    }
}

/// A number that has nothing to do with its neighbors' (SplitMix64's last step).
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
