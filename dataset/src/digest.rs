//! What a set of rows holds, as one number: equal digests mean equal content, whatever the
//! order of the rows, the cut into files, or the run that made them.
//!
//! The digest is the sum modulo 2^256 of SHA-256, as a big-endian number, over each row's
//! canonical JSON: UTF-8, no white space, keys sorted, nulls left out, strings escaped only
//! where JSON asks for it (short escapes where there are any, else `\u00xx`), a float32 as the
//! shortest decimal that reads back as the same float32, without an exponent and without `.0`,
//! binary as the hex of its SHA-256. Left out are the columns that tell of a run rather than of
//! the content: those ending in `_ms`, `attempt`, `attempts`, `job_id` and `shard_idx`.

use sha2::{Digest, Sha256};

use crate::cell::Columns;

/// A sum of row hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowsDigest([u8; 32]);

impl RowsDigest {
    pub(crate) fn add_row<R: Columns>(&mut self, row: &R, scratch: &mut Vec<u8>) {
        scratch.clear();
        row.json(tells_of_a_run, scratch);
        self.add(&Self(Sha256::digest(&*scratch).into()));
    }

    /// Adds the rows of another digest.
    pub fn add(&mut self, other: &Self) {
        let mut carry = 0_u16;
        for (byte, more) in self.0.iter_mut().zip(other.0).rev() {
            let sum = u16::from(*byte) + u16::from(more) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
    }

    /// 64 hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// The digest that these 64 hex digits say.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

fn tells_of_a_run(column: &str) -> bool {
    column.ends_with("_ms") || matches!(column, "attempt" | "attempts" | "job_id" | "shard_idx")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_wrap_and_do_not_depend_on_order() {
        let mut most = RowsDigest([0xff; 32]);
        let mut one = RowsDigest::default();
        one.0[31] = 1;
        let mut other_way = one;
        other_way.add(&most);
        most.add(&one);
        assert_eq!(most, RowsDigest::default());
        assert_eq!(other_way, RowsDigest::default());
    }

    #[test]
    fn hex_parses_back() {
        let digest = RowsDigest([0xa5; 32]);
        assert_eq!(RowsDigest::parse(&digest.to_hex()), Some(digest));
        assert_eq!(RowsDigest::parse("a5"), None);
    }
}
