//! Parquet's two delta encodings of byte arrays, rewritten as plain ones.
//!
//! They state counts and lengths of their own, which the Parquet library takes at their word: a
//! changed byte makes it ask for terabytes, which no caller can catch. Both are simple, so they
//! are decoded here within the bounds of the page, and the library sees plain values only.

/// `DELTA_LENGTH_BYTE_ARRAY` as plain values: lengths first, then all bytes. `None` if it makes no
/// sense or holds more than `max_values`.
pub(crate) fn plain_of_lengths(bytes: &[u8], max_values: usize) -> Option<Vec<u8>> {
    let (lengths, at) = integers(bytes, max_values)?;
    let mut content = bytes.get(at..)?;
    let mut plain = Vec::with_capacity(lengths.len() * 4 + content.len());
    for length in lengths {
        let (value, rest) = content.split_at_checked(usize::try_from(length).ok()?)?;
        content = rest;
        push_plain(&mut plain, &[value])?;
    }
    Some(plain)
}

/// `DELTA_BYTE_ARRAY` as plain values: each keeps so many bytes of the one before. `None` if it
/// makes no sense, holds more than `max_values` or grows beyond `max_bytes`.
pub(crate) fn plain_of_suffixes(
    bytes: &[u8],
    max_values: usize,
    max_bytes: usize,
) -> Option<Vec<u8>> {
    let (prefixes, suffixes_at) = integers(bytes, max_values)?;
    let bytes = bytes.get(suffixes_at..)?;
    let (lengths, at) = integers(bytes, max_values)?;
    if prefixes.len() != lengths.len() {
        return None;
    }
    let mut content = bytes.get(at..)?;
    let mut plain = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    for (prefix, length) in prefixes.into_iter().zip(lengths) {
        let prefix = usize::try_from(prefix)
            .ok()
            .filter(|&prefix| prefix <= last.len())?;
        let (suffix, rest) = content.split_at_checked(usize::try_from(length).ok()?)?;
        content = rest;
        last.truncate(prefix);
        last.extend_from_slice(suffix);
        push_plain(&mut plain, &[&last])?;
        if plain.len() > max_bytes {
            return None;
        }
    }
    Some(plain)
}

fn push_plain(plain: &mut Vec<u8>, parts: &[&[u8]]) -> Option<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    plain.extend_from_slice(&u32::try_from(length).ok()?.to_le_bytes());
    for part in parts {
        plain.extend_from_slice(part);
    }
    Some(())
}

/// `DELTA_BINARY_PACKED` integers and where they end.
fn integers(bytes: &[u8], max_values: usize) -> Option<(Vec<i64>, usize)> {
    let mut input = Input { bytes, at: 0 };
    let block = input.varint()?;
    let miniblocks = input.varint()?;
    let count = usize::try_from(input.varint()?)
        .ok()
        .filter(|&count| count <= max_values)?;
    let first = input.zigzag()?;
    let is_sensible = (1..=4096).contains(&miniblocks) && (1..=1 << 20).contains(&block);
    if !is_sensible || block % miniblocks != 0 || (block / miniblocks) % 8 != 0 {
        return None;
    }
    let per_miniblock = usize::try_from(block / miniblocks).ok()?;
    let mut values = Vec::new();
    let mut last = first;
    if count > 0 {
        values.push(first);
    }
    while values.len() < count {
        let min_delta = input.zigzag()?;
        let widths = input.take(usize::try_from(miniblocks).ok()?)?;
        for &width in widths {
            if values.len() == count {
                break;
            }
            let packed = input.take(per_miniblock / 8 * usize::from(width))?;
            for index in 0..per_miniblock.min(count - values.len()) {
                let delta = bits(packed, index * usize::from(width), width)?;
                last = last
                    .wrapping_add(min_delta)
                    .wrapping_add(delta.cast_signed());
                values.push(last);
            }
        }
    }
    Some((values, input.at))
}

/// `width` bits from bit `at` on, lowest first.
fn bits(packed: &[u8], at: usize, width: u8) -> Option<u64> {
    if width > 64 {
        return None;
    }
    let mut value = 0_u64;
    let mut have = 0;
    while have < u32::from(width) {
        let bit = at + have as usize;
        let (byte, skipped) = (*packed.get(bit / 8)?, (bit % 8) as u32);
        let count = (8 - skipped).min(u32::from(width) - have);
        let piece = (u64::from(byte) >> skipped) & ((1 << count) - 1);
        value |= piece << have;
        have += count;
    }
    Some(value)
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header of block 128 with 4 miniblocks, `count` values, the first one `first`; then one
    /// block of deltas of zero.
    fn constant(count: u8, first: u8) -> Vec<u8> {
        vec![0x80, 1, 4, count, first * 2, 0, 0, 0, 0, 0]
    }

    #[test]
    fn lengths_become_plain_values() {
        let bytes = [constant(2, 3), b"abcdef".to_vec()].concat();
        let plain = plain_of_lengths(&bytes, 2).unwrap();
        assert_eq!(plain, b"\x03\0\0\0abc\x03\0\0\0def");
    }

    #[test]
    fn suffixes_become_plain_values() {
        // Prefixes 0 and 1 (a delta of one, in no bits), suffixes of two bytes each.
        let prefixes = vec![0x80, 1, 4, 2, 0, 2, 0, 0, 0, 0];
        let bytes = [prefixes, constant(2, 2), b"abcd".to_vec()].concat();
        let plain = plain_of_suffixes(&bytes, 2, 100).unwrap();
        assert_eq!(plain, b"\x02\0\0\0ab\x03\0\0\0acd");
        assert_eq!(plain_of_suffixes(&bytes, 2, 8), None);
    }

    #[test]
    fn counts_and_lengths_beyond_the_page_are_refused() {
        let endless = [0x80, 1, 4, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0];
        assert_eq!(plain_of_lengths(&endless, 1000), None);
        assert_eq!(plain_of_suffixes(&endless, 1000, 1000), None);
        let short = [constant(2, 60), b"abc".to_vec()].concat();
        assert_eq!(plain_of_lengths(&short, 2), None);
        let huge_block = [0x80, 0x80, 0x80, 0x80, 0x10, 1, 2, 0, 0, 64];
        assert_eq!(plain_of_lengths(&huge_block, 1000), None);
        assert_eq!(plain_of_lengths(&[], 10), None);
    }
}
