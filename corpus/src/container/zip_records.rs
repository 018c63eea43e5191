//! Records of a zip archive: end of central directory, central records, local headers.

use std::io;

use bytes::Bytes;

use crate::object::Object;

/// Starts a local header.
pub(crate) const LOCAL_MARK: [u8; 4] = *b"PK\x03\x04";
const CENTRAL_MARK: &[u8] = b"PK\x01\x02";
const END_MARK: &[u8] = b"PK\x05\x06";
const END64_MARK: &[u8] = b"PK\x06\x06";
const END64_LOCATOR_MARK: &[u8] = b"PK\x06\x07";
const END_BYTES: usize = 22;
/// The end record may be followed by a comment of up to 64 KiB.
const END_SEARCH_BYTES: u64 = (1 << 16) + END_BYTES as u64;
/// Stands for "see the zip64 field".
const SEE_64: u64 = 0xffff_ffff;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Where the central directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// Bytes in front of the archive proper; every stated position is off by them.
    pub(crate) shift: u64,
}

/// Finds the central directory; `None` if the archive has no usable end record.
pub(crate) fn find_directory(object: &Object) -> io::Result<Option<Directory>> {
    let tail_len = object.len().min(END_SEARCH_BYTES);
    let tail_at = object.len() - tail_len;
    let tail = object.read_at(tail_at, tail_len)?;
    let marks = (0..tail.len().saturating_sub(END_BYTES - 1)).rev();
    for at in marks.filter(|&at| tail[at..].starts_with(END_MARK)) {
        let (Some(len), Some(stated_at)) = (u32_at(&tail, at + 12), u32_at(&tail, at + 16)) else {
            continue;
        };
        let (mut len, mut stated_at) = (u64::from(len), u64::from(stated_at));
        let mut end_at = tail_at + at as u64;
        if let Some((len64, at64, end64)) = zip64_end(object, end_at)? {
            (len, stated_at, end_at) = (len64, at64, end64);
        }
        // The directory ends where its end record starts, whatever stands before the archive.
        let Some(real_at) = end_at.checked_sub(len) else {
            continue;
        };
        for candidate in [stated_at, real_at] {
            let fits = candidate.checked_add(len).is_some_and(|end| end <= end_at);
            let shift = candidate.checked_sub(stated_at);
            let (true, Some(shift)) = (fits, shift) else {
                continue;
            };
            let starts_well = len == 0
                || object
                    .read_at(candidate, 4)
                    .is_ok_and(|mark| mark == CENTRAL_MARK);
            if starts_well {
                return Ok(Some(Directory {
                    at: candidate,
                    len,
                    shift,
                }));
            }
        }
    }
    Ok(None)
}

/// Size, stated position and own position of the zip64 end record before the end record.
fn zip64_end(object: &Object, end_at: u64) -> io::Result<Option<(u64, u64, u64)>> {
    let Some(locator_at) = end_at.checked_sub(20) else {
        return Ok(None);
    };
    let locator = object.read_at(locator_at, 20)?;
    if !locator.starts_with(END64_LOCATOR_MARK) {
        return Ok(None);
    }
    // The record stands right before its locator; the stated position is off after a prefix.
    let stated = u64_at(&locator, 8).unwrap_or_default();
    for at in [stated, locator_at.saturating_sub(56)] {
        let Ok(record) = object.read_at(at, 56) else {
            continue;
        };
        if record.starts_with(END64_MARK)
            && let (Some(len), Some(stated_at)) = (u64_at(&record, 40), u64_at(&record, 48))
        {
            return Ok(Some((len, stated_at, at)));
        }
    }
    Ok(None)
}

/// What the central directory says of one member.
#[derive(Debug, Clone)]
pub(crate) struct CentralRecord {
    pub(crate) name: Bytes,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u64,
    pub(crate) unpacked: u64,
    pub(crate) header_at: u64,
    pub(crate) is_encrypted: bool,
    /// A symbolic link, as Unix packers mark it.
    pub(crate) is_link: bool,
}

impl CentralRecord {
    /// The record at `at` and where the next one starts; `None` where no record stands.
    pub(crate) fn parse(records: &Bytes, at: usize) -> Option<(Self, usize)> {
        let record = records.get(at..)?;
        if !record.starts_with(CENTRAL_MARK) {
            return None;
        }
        let name_end = 46 + usize::from(u16_at(record, 28)?);
        let extra_end = name_end + usize::from(u16_at(record, 30)?);
        let end = extra_end + usize::from(u16_at(record, 32)?);
        if record.len() < end {
            return None;
        }
        let mut packed = u64::from(u32_at(record, 20)?);
        let mut unpacked = u64::from(u32_at(record, 24)?);
        let mut header_at = u64::from(u32_at(record, 42)?);
        let extra = &record[name_end..extra_end];
        zip64_sizes(extra, [&mut unpacked, &mut packed, &mut header_at]);
        let unix_mode = u32_at(record, 38)? >> 16;
        let record = Self {
            name: unicode_name(extra).unwrap_or_else(|| records.slice(at + 46..at + name_end)),
            method: u16_at(record, 10)?,
            crc: u32_at(record, 16)?,
            packed,
            unpacked,
            header_at,
            is_encrypted: u16_at(record, 8)? & 1 == 1,
            is_link: unix_mode & 0o170_000 == 0o120_000,
        };
        Some((record, at + end))
    }
}

/// What stands right before a member's content.
#[derive(Debug, Clone)]
pub(crate) struct LocalHeader {
    pub(crate) name: Bytes,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u64,
    pub(crate) unpacked: u64,
    pub(crate) content_at: u64,
    pub(crate) is_encrypted: bool,
    /// Sizes and checksum stand behind the content instead.
    pub(crate) has_late_sizes: bool,
}

impl LocalHeader {
    /// The header at `at`; `InvalidData` if none stands there.
    pub(crate) fn read(object: &Object, at: u64) -> io::Result<Self> {
        let header = object.read_at(at, 30)?;
        if !header.starts_with(&LOCAL_MARK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let short = |field: usize| {
            u16_at(&header, field).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        let word = |field: usize| {
            u32_at(&header, field).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        let (name_len, extra_len) = (u64::from(short(26)?), u64::from(short(28)?));
        let names = object.read_at(at + 30, name_len + extra_len)?;
        let extra = &names[name_len as usize..];
        let mut packed = u64::from(word(18)?);
        let mut unpacked = u64::from(word(22)?);
        zip64_sizes(extra, [&mut unpacked, &mut packed, &mut 0]);
        let flags = short(6)?;
        Ok(Self {
            name: unicode_name(extra).unwrap_or_else(|| names.slice(..name_len as usize)),
            method: short(8)?,
            crc: word(14)?,
            packed,
            unpacked,
            content_at: at + 30 + name_len + extra_len,
            is_encrypted: flags & 1 == 1,
            has_late_sizes: flags & 8 == 8 && packed == 0,
        })
    }
}

/// Calls `field` with the kind and content of each extra field.
fn extra_field(extra: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = extra;
    while let (Some(kind), Some(len)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let end = 4 + usize::from(len);
        let content = rest.get(4..end)?;
        if kind == wanted {
            return Some(content);
        }
        rest = &rest[end..];
    }
    None
}

/// Replaces sizes and position that did not fit in 32 bits, in the order the field holds them.
fn zip64_sizes(extra: &[u8], values: [&mut u64; 3]) {
    let Some(field) = extra_field(extra, 0x0001) else {
        return;
    };
    let mut at = 0;
    for value in values {
        if *value == SEE_64
            && let Some(wide) = u64_at(field, at)
        {
            *value = wide;
            at += 8;
        }
    }
}

/// The name in UTF-8 that some packers add beside one in an old encoding.
fn unicode_name(extra: &[u8]) -> Option<Bytes> {
    let name = extra_field(extra, 0x7075)?.get(5..)?;
    let is_usable = !name.is_empty() && std::str::from_utf8(name).is_ok();
    is_usable.then(|| Bytes::copy_from_slice(name))
}
