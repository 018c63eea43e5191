//! Just enough of thrift's compact protocol to look at a Parquet page header before the Parquet
//! library does: the integers of the outer structure and of the structures in it.

/// Deepest nesting of structures; page headers have three levels.
const DEPTH: u32 = 16;

/// Why a header could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The bytes end before the header does.
    Short,
    /// The bytes are no header.
    Malformed,
}

/// Integers of a structure: `visit(outer field, inner field or 0, value)`.
///
/// Returns how many bytes the structure takes. No memory is taken, whatever lengths it states.
pub(crate) fn visit_integers(
    bytes: &[u8],
    visit: &mut dyn FnMut(i16, i16, i64),
) -> Result<usize, Failure> {
    let mut walker = Walker { bytes, at: 0 };
    walker.structure(&mut |path, value| match *path {
        [outer] => visit(outer, 0, value),
        [outer, inner] => visit(outer, inner, value),
        _ => {}
    })?;
    Ok(walker.at)
}

struct Walker<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walker<'_> {
    fn byte(&mut self) -> Result<u8, Failure> {
        let byte = *self.bytes.get(self.at).ok_or(Failure::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Failure> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Failure::Malformed)
    }

    fn zigzag(&mut self) -> Result<i64, Failure> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn structure(&mut self, visit: &mut dyn FnMut(&[i16], i64)) -> Result<(), Failure> {
        let mut path = Vec::new();
        self.fields(&mut path, visit)
    }

    fn fields(
        &mut self,
        path: &mut Vec<i16>,
        visit: &mut dyn FnMut(&[i16], i64),
    ) -> Result<(), Failure> {
        if path.len() >= DEPTH as usize {
            return Err(Failure::Malformed);
        }
        let mut last = 0_i16;
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Ok(());
            }
            last = match header >> 4 {
                0 => i16::try_from(self.zigzag()?).map_err(|_| Failure::Malformed)?,
                delta => last
                    .checked_add(i16::from(delta))
                    .ok_or(Failure::Malformed)?,
            };
            path.push(last);
            match header & 0x0f {
                kind @ (1 | 2) => visit(path, i64::from(kind == 1)),
                3 => {
                    let value = self.byte()?;
                    visit(path, i64::from(value.cast_signed()));
                }
                4..=6 => {
                    let value = self.zigzag()?;
                    visit(path, value);
                }
                kind => self.value(kind, path, visit)?,
            }
            path.pop();
        }
    }

    /// Steps over a value that is no integer of a structure, visiting structures in it.
    fn value(
        &mut self,
        kind: u8,
        path: &mut Vec<i16>,
        visit: &mut dyn FnMut(&[i16], i64),
    ) -> Result<(), Failure> {
        match kind {
            1..=3 => self.byte().map(|_| ()),
            4..=6 => self.varint().map(|_| ()),
            7 => self.skip(8),
            8 => {
                let len = self.varint()?;
                self.skip(len)
            }
            9 | 10 => {
                let header = self.byte()?;
                let count = match header >> 4 {
                    15 => self.varint()?,
                    count => u64::from(count),
                };
                // Each element takes a byte at least, so a false count ends with the bytes.
                for _ in 0..count {
                    self.value(header & 0x0f, path, &mut |_, _| {})?;
                }
                Ok(())
            }
            12 => self.fields(path, visit),
            13 => self.skip(16),
            _ => Err(Failure::Malformed),
        }
    }

    fn skip(&mut self, len: u64) -> Result<(), Failure> {
        let len = usize::try_from(len).map_err(|_| Failure::Malformed)?;
        let end = self.at.checked_add(len).ok_or(Failure::Malformed)?;
        if end > self.bytes.len() {
            return Err(Failure::Short);
        }
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_both_levels_are_seen() {
        // {1: i32 2, 5: {1: i32 -3, 2: binary "ab"}, 6: [i32 1, i32 2]}
        let bytes = [
            0x15, 4, 0x4c, 0x15, 5, 0x18, 2, b'a', b'b', 0, 0x19, 0x25, 2, 4, 0, 99,
        ];
        let mut seen = Vec::new();
        let len = visit_integers(&bytes, &mut |outer, inner, value| {
            seen.push((outer, inner, value))
        });
        assert_eq!(len, Ok(15));
        assert_eq!(seen, [(1, 0, 2), (5, 1, -3)]);
    }

    #[test]
    fn false_lengths_and_endless_nesting_end() {
        let mut nothing = |_: i16, _: i16, _: i64| {};
        assert_eq!(
            visit_integers(&[0x18, 0xff, 0xff, 0x03], &mut nothing),
            Err(Failure::Short)
        );
        assert_eq!(
            visit_integers(&[0x1c; 100], &mut nothing),
            Err(Failure::Malformed)
        );
        assert_eq!(
            visit_integers(&[0x15, 0xff], &mut nothing),
            Err(Failure::Short)
        );
    }
}
