//! Directories of a TIFF file (and of EXIF, which is one): tags and their values, classic and big,
//! in either byte order. Every offset comes from the file and is checked.

use std::collections::HashSet;

/// The tags that are read here.
pub(crate) mod tag {
    pub(crate) const NEW_SUBFILE_TYPE: u16 = 254;
    pub(crate) const WIDTH: u16 = 256;
    pub(crate) const HEIGHT: u16 = 257;
    pub(crate) const BITS_PER_SAMPLE: u16 = 258;
    pub(crate) const COMPRESSION: u16 = 259;
    pub(crate) const PHOTOMETRIC: u16 = 262;
    pub(crate) const FILL_ORDER: u16 = 266;
    pub(crate) const STRIP_OFFSETS: u16 = 273;
    pub(crate) const ORIENTATION: u16 = 274;
    pub(crate) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(crate) const ROWS_PER_STRIP: u16 = 278;
    pub(crate) const STRIP_BYTE_COUNTS: u16 = 279;
    pub(crate) const X_RESOLUTION: u16 = 282;
    pub(crate) const Y_RESOLUTION: u16 = 283;
    pub(crate) const PLANAR_CONFIGURATION: u16 = 284;
    pub(crate) const T4_OPTIONS: u16 = 292;
    pub(crate) const RESOLUTION_UNIT: u16 = 296;
    pub(crate) const PREDICTOR: u16 = 317;
    pub(crate) const COLOR_MAP: u16 = 320;
    pub(crate) const TILE_WIDTH: u16 = 322;
    pub(crate) const TILE_LENGTH: u16 = 323;
    pub(crate) const TILE_OFFSETS: u16 = 324;
    pub(crate) const TILE_BYTE_COUNTS: u16 = 325;
    pub(crate) const EXTRA_SAMPLES: u16 = 338;
    pub(crate) const SAMPLE_FORMAT: u16 = 339;
    pub(crate) const JPEG_TABLES: u16 = 347;
    pub(crate) const YCBCR_SUBSAMPLING: u16 = 530;
}

/// A list of values longer than this is not a list of anything real.
const MAX_VALUES: u64 = 1 << 22;
/// Frames of one file that are looked at.
const MAX_FRAMES: usize = 100_000;

/// One directory: its entries, and where the next one lies.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    entries: Vec<Entry>,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where the values lie in the file.
    at: u64,
}

/// Reads tags out of the bytes of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TagReader<'b> {
    bytes: &'b [u8],
    pub(crate) is_little_endian: bool,
    is_big: bool,
}

impl<'b> TagReader<'b> {
    /// `None` unless the bytes start as a TIFF does.
    pub(crate) fn new(bytes: &'b [u8]) -> Option<Self> {
        let is_little_endian = match bytes.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let reader = Self {
            bytes,
            is_little_endian,
            is_big: false,
        };
        match reader.u16_at(2)? {
            42 => Some(reader),
            43 if reader.u16_at(4)? == 8 => Some(Self {
                is_big: true,
                ..reader
            }),
            _ => None,
        }
    }

    /// Where the first directory lies.
    pub(crate) fn first_directory(&self) -> Option<u64> {
        if self.is_big {
            self.u64_at(8)
        } else {
            self.u32_at(4).map(u64::from)
        }
    }

    /// The directory at `at`.
    pub(crate) fn directory(&self, at: u64) -> Option<Directory> {
        let (n_entries, mut entry_at, entry_bytes) = if self.is_big {
            (self.u64_at(at)?, at.checked_add(8)?, 20)
        } else {
            (u64::from(self.u16_at(at)?), at.checked_add(2)?, 12)
        };
        if n_entries.checked_mul(entry_bytes)? > self.bytes.len() as u64 {
            return None;
        }
        let mut entries = Vec::with_capacity(n_entries as usize);
        for _ in 0..n_entries {
            entries.push(self.entry(entry_at)?);
            entry_at = entry_at.checked_add(entry_bytes)?;
        }
        let next = if self.is_big {
            self.u64_at(entry_at)
        } else {
            self.u32_at(entry_at).map(u64::from)
        };
        // Some writers end the file where the last offset should be.
        Some(Directory {
            entries,
            next: next.unwrap_or(0),
        })
    }

    /// All directories of the chain, and whether it ends as it should.
    pub(crate) fn chain(&self) -> (Vec<Directory>, bool) {
        let mut seen = HashSet::new();
        let mut directories = Vec::new();
        let mut at = self.first_directory().unwrap_or(0);
        while at != 0 {
            let is_new = seen.insert(at) && directories.len() < MAX_FRAMES;
            let Some(directory) = is_new.then(|| self.directory(at)).flatten() else {
                return (directories, false);
            };
            at = directory.next;
            directories.push(directory);
        }
        (directories, true)
    }

    fn entry(&self, at: u64) -> Option<Entry> {
        let (tag, kind) = (self.u16_at(at)?, self.u16_at(at.checked_add(2)?)?);
        let count_at = at.checked_add(4)?;
        let (count, value_at, inline_bytes) = if self.is_big {
            (self.u64_at(count_at)?, at.checked_add(12)?, 8)
        } else {
            (u64::from(self.u32_at(count_at)?), at.checked_add(8)?, 4)
        };
        let fits = count
            .checked_mul(size_of_kind(kind))
            .is_some_and(|bytes| bytes <= inline_bytes);
        let at = if fits {
            value_at
        } else if self.is_big {
            self.u64_at(value_at)?
        } else {
            u64::from(self.u32_at(value_at)?)
        };
        Some(Entry {
            tag,
            kind,
            count,
            at,
        })
    }

    /// Whether the directory has `tag`.
    pub(crate) fn has(&self, directory: &Directory, tag: u16) -> bool {
        directory.entries.iter().any(|entry| entry.tag == tag)
    }

    /// The first whole number under `tag`.
    pub(crate) fn number(&self, directory: &Directory, tag: u16) -> Option<u64> {
        let entry = directory.entries.iter().find(|entry| entry.tag == tag)?;
        (entry.count > 0)
            .then(|| self.number_at(entry, 0))
            .flatten()
    }

    /// All whole numbers under `tag`.
    pub(crate) fn numbers(&self, directory: &Directory, tag: u16) -> Option<Vec<u64>> {
        let entry = directory.entries.iter().find(|entry| entry.tag == tag)?;
        let count = (entry.count <= MAX_VALUES).then_some(entry.count)?;
        let bytes = count.checked_mul(size_of_kind(entry.kind))?;
        // Asked before anything is allocated for them.
        self.slice(entry.at, bytes)?;
        (0..count).map(|nth| self.number_at(entry, nth)).collect()
    }

    /// The bytes under `tag`.
    pub(crate) fn raw(&self, directory: &Directory, tag: u16) -> Option<&'b [u8]> {
        let entry = directory.entries.iter().find(|entry| entry.tag == tag)?;
        self.slice(entry.at, entry.count.checked_mul(size_of_kind(entry.kind))?)
    }

    /// The first fraction under `tag`.
    pub(crate) fn rational(&self, directory: &Directory, tag: u16) -> Option<f32> {
        let entry = directory.entries.iter().find(|entry| entry.tag == tag)?;
        match entry.kind {
            5 => {
                let above = self.u32_at(entry.at)?;
                let below = self.u32_at(entry.at.checked_add(4)?)?;
                (below != 0).then(|| (f64::from(above) / f64::from(below)) as f32)
            }
            11 => self.u32_at(entry.at).map(f32::from_bits),
            _ => self.number_at(entry, 0).map(|number| number as f32),
        }
    }

    /// `length` bytes of the file from `at`.
    pub(crate) fn slice(&self, at: u64, length: u64) -> Option<&'b [u8]> {
        let (start, end) = (
            usize::try_from(at).ok()?,
            usize::try_from(at.checked_add(length)?).ok()?,
        );
        self.bytes.get(start..end)
    }

    /// The bytes of the file from `at`, `length` of them or as many as there are.
    pub(crate) fn slice_up_to(&self, at: u64, length: u64) -> &'b [u8] {
        let end = at.saturating_add(length).min(self.bytes.len() as u64);
        self.slice(at.min(end), end - at.min(end))
            .unwrap_or_default()
    }

    fn number_at(&self, entry: &Entry, nth: u64) -> Option<u64> {
        let at = entry
            .at
            .checked_add(nth.checked_mul(size_of_kind(entry.kind))?)?;
        match entry.kind {
            1 | 6 | 7 => self.slice(at, 1).map(|bytes| u64::from(bytes[0])),
            3 | 8 => self.u16_at(at).map(u64::from),
            4 | 9 | 13 => self.u32_at(at).map(u64::from),
            16..=18 => self.u64_at(at),
            _ => None,
        }
    }

    fn u16_at(&self, at: u64) -> Option<u16> {
        let bytes = *self.slice(at, 2)?.first_chunk()?;
        Some(if self.is_little_endian {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    }

    fn u32_at(&self, at: u64) -> Option<u32> {
        let bytes = *self.slice(at, 4)?.first_chunk()?;
        Some(if self.is_little_endian {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    }

    fn u64_at(&self, at: u64) -> Option<u64> {
        let bytes = *self.slice(at, 8)?.first_chunk()?;
        Some(if self.is_little_endian {
            u64::from_le_bytes(bytes)
        } else {
            u64::from_be_bytes(bytes)
        })
    }
}

/// Bytes of one value: byte, ascii, short, long, rational, their signed kin, float, double, ifd,
/// and the three of eight bytes.
fn size_of_kind(kind: u16) -> u64 {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 0,
    }
}
