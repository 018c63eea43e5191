//! Pages of one Parquet column, checked before the Parquet library unpacks or decodes them.
//!
//! The library believes the counts and sizes that a page states and unpacks some codecs without a
//! bound. A hostile page could make it take all memory, so each page's header is read here first
//! and what it claims is held against what is there.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use quire_core::Trouble;

use super::packed::{Budget, bomb};
use super::{damaged, delta, thrift, too_large, unsupported};
use crate::limits::Limits;
use crate::object::{Object, ObjectReader};
use crate::unreadable::TroubleError;

/// Longest page header: statistics may hold a whole value or two.
const HEADER_BYTES: u64 = 16 << 20;
/// Most values of one page. Writers make pages of some megabytes, so images come by the dozen.
const PAGE_VALUES: i64 = 4 << 20;
/// Longest page in the old LZ4 framing, whose real size cannot be known beforehand.
const OLD_LZ4_BYTES: u64 = 2 << 20;
/// Bytes that the brotli decoder is fed at once.
const BROTLI_BUFFER: usize = 64 << 10;
/// Bytes fetched at once where each request costs a trip.
const WINDOW_BYTES: u64 = 8 << 20;

/// An object as the Parquet library wants it, reading ahead in stores.
#[derive(Debug)]
pub(crate) struct Chunks {
    object: Object,
    window: Mutex<(u64, Bytes)>,
}

impl Chunks {
    pub(crate) fn new(object: Object) -> Self {
        Self {
            object,
            window: Mutex::default(),
        }
    }

    /// `len` bytes from `at` on.
    pub(crate) fn bytes(&self, at: u64, len: u64) -> io::Result<Bytes> {
        if !matches!(self.object, Object::Remote(_)) || len > WINDOW_BYTES {
            return self.object.read_at(at, len);
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, bytes) = &*window;
        let is_inside = at >= *start && at.saturating_add(len) <= start + bytes.len() as u64;
        if !is_inside {
            let ahead = self
                .object
                .len()
                .saturating_sub(at)
                .min(WINDOW_BYTES)
                .max(len);
            *window = (at, self.object.read_at(at, ahead)?);
        }
        let (start, bytes) = &*window;
        let from = (at - start) as usize;
        Ok(bytes.slice(from..from + len as usize))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.object.len()
    }
}

impl ChunkReader for Chunks {
    type T = Window;

    fn get_read(&self, start: u64) -> Result<Window> {
        // The library reads page headers this way: a little at a time from the window.
        let left = self.object.len().saturating_sub(start);
        let bytes = self.bytes(start, left.min(4096))?;
        let mut rest = self.object.reader();
        io::Seek::seek(&mut rest, io::SeekFrom::Start(start + bytes.len() as u64))?;
        Ok(Window {
            near: io::Cursor::new(bytes),
            rest,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        Ok(self.bytes(start, length as u64)?)
    }
}

/// Bytes at hand, then the object itself.
#[derive(Debug)]
pub(crate) struct Window {
    near: io::Cursor<Bytes>,
    rest: ObjectReader,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.near.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}

/// Hands on pages whose claims hold.
pub(crate) struct CheckedPages {
    inner: Box<dyn PageReader>,
    chunks: Arc<Chunks>,
    /// Where the next page starts, and where the column ends.
    at: u64,
    end: u64,
    /// The header at this position has been checked; the next page starts there.
    checked: Option<(u64, u64)>,
    compression: Compression,
    max_rep_level: i16,
    max_def_level: i16,
    limits: Limits,
    budget: Budget,
}

/// What [`CheckedPages`] must know of its column.
pub(crate) struct ColumnShape {
    /// Byte range of the column in the file.
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) compression: Compression,
    pub(crate) max_rep_level: i16,
    pub(crate) max_def_level: i16,
}

impl CheckedPages {
    pub(crate) fn new(
        inner: Box<dyn PageReader>,
        chunks: Arc<Chunks>,
        shape: &ColumnShape,
        limits: &Limits,
        budget: &Budget,
    ) -> Self {
        Self {
            inner,
            chunks,
            at: shape.at,
            end: shape.at.saturating_add(shape.len),
            checked: None,
            compression: shape.compression,
            max_rep_level: shape.max_rep_level,
            max_def_level: shape.max_def_level,
            limits: limits.clone(),
            budget: budget.clone(),
        }
    }

    /// Checks the header of the next page and tells where the page after it starts.
    fn check_next(&mut self) -> Result<Option<u64>> {
        if self.at >= self.end {
            return Ok(None);
        }
        if let Some((at, next)) = self.checked
            && at == self.at
        {
            return Ok(Some(next));
        }
        let next = self.check_page().map_err(external)?;
        self.checked = Some((self.at, next));
        Ok(Some(next))
    }

    fn check_page(&self) -> Result<u64, Trouble> {
        let (header, header_len) = self.read_header()?;
        let content_at = self.at + header_len;
        let left = self.end.saturating_sub(content_at);
        let stated = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok());
        let (Some(packed), Some(unpacked)) = (stated(header.packed), stated(header.unpacked))
        else {
            return Err(damaged("a page states no size"));
        };
        if packed > left {
            return Err(damaged("a page is longer than its column"));
        }
        if self.limits.is_bomb(packed, unpacked) {
            return Err(bomb(unpacked, packed));
        }
        if unpacked.max(packed) > self.limits.member_bytes {
            return Err(too_large(unpacked.max(packed), self.limits.member_bytes));
        }
        let values = header.values.unwrap_or(0);
        if !(0..=PAGE_VALUES).contains(&values) {
            return Err(damaged(format!("a page states {values} values")));
        }
        // Each value of a dictionary has its length, four bytes, in front.
        if header.is_dictionary && u64::try_from(values * 4).unwrap_or(u64::MAX) > unpacked {
            return Err(damaged("a dictionary states more values than it holds"));
        }
        // Pages of the second version have their levels unpacked in front.
        let levels = u64::try_from(header.level_bytes)
            .ok()
            .filter(|&levels| levels <= packed);
        let levels = levels.ok_or_else(|| damaged("a page's levels are longer than the page"))?;
        if !header.is_plain {
            self.check_codec(content_at + levels, packed - levels, unpacked)?;
        }
        Ok(content_at + packed)
    }

    /// Codecs that the library unpacks without a bound are unpacked into nothing first.
    fn check_codec(&self, at: u64, packed: u64, unpacked: u64) -> Result<(), Trouble> {
        let failed = |e: io::Error| damaged(format!("a page cannot be unpacked: {e}"));
        let unpacks_to = |reader: &mut dyn Read| {
            io::copy(&mut reader.take(unpacked + 1), &mut io::sink()).map_err(failed)
        };
        let bytes = || self.chunks.bytes(at, packed).map_err(failed);
        let size = match self.compression {
            Compression::GZIP(_) => unpacks_to(&mut MultiGzDecoder::new(&bytes()?[..]))?,
            Compression::BROTLI(_) => {
                unpacks_to(&mut brotli::Decompressor::new(&bytes()?[..], BROTLI_BUFFER))?
            }
            Compression::LZ4 if packed > OLD_LZ4_BYTES => {
                return Err(unsupported(
                    "long pages in the old LZ4 framing are not read",
                ));
            }
            Compression::LZO => return Err(unsupported("pages packed by LZO are not read")),
            _ => return Ok(()),
        };
        if size > unpacked {
            Err(bomb(size, packed))
        } else {
            Ok(())
        }
    }

    fn read_header(&self) -> Result<(PageHeader, u64), Trouble> {
        let mut window = 4096;
        loop {
            let len = window
                .min(self.end.saturating_sub(self.at))
                .min(HEADER_BYTES);
            let bytes = self
                .chunks
                .bytes(self.at, len)
                .map_err(|e| crate::unreadable::trouble_of_io(&e, quire_core::Stage::Unpack))?;
            let mut header = PageHeader::default();
            match thrift::visit_integers(&bytes, &mut |outer, inner, value| {
                header.set(outer, inner, value);
            }) {
                Ok(header_len) => return Ok((header, header_len as u64)),
                Err(thrift::Failure::Short) if len == window => window *= 16,
                Err(_) => return Err(damaged("a page header makes no sense")),
            }
        }
    }

    /// The page with plain values, if they were delta encoded.
    fn without_delta(&self, page: Page) -> Result<Page, Trouble> {
        let (levels, encoding, num_values) = match &page {
            Page::DataPage {
                buf,
                encoding,
                num_values,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                ..
            } => (self.level_bytes(buf), *encoding, *num_values),
            Page::DataPageV2 {
                encoding,
                num_values,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let levels = def_levels_byte_len.checked_add(*rep_levels_byte_len);
                (levels.map(|levels| levels as usize), *encoding, *num_values)
            }
            // Levels of the oldest kind never stand before delta encodings.
            Page::DataPage {
                encoding: Encoding::PLAIN | Encoding::RLE_DICTIONARY,
                ..
            }
            | Page::DataPage {
                encoding: Encoding::PLAIN_DICTIONARY,
                ..
            }
            | Page::DictionaryPage { .. } => return Ok(page),
            Page::DataPage { .. } => {
                return Err(unsupported("a page's encodings do not go together"));
            }
        };
        let max_values = num_values as usize;
        let max_bytes = usize::try_from(self.limits.member_bytes).unwrap_or(usize::MAX);
        let decode = |values: &[u8]| match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => delta::plain_of_lengths(values, max_values),
            _ => delta::plain_of_suffixes(values, max_values, max_bytes),
        };
        if !matches!(
            encoding,
            Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY
        ) {
            return Ok(page);
        }
        let (levels, values) = levels
            .and_then(|levels| page.buffer().split_at_checked(levels))
            .ok_or_else(|| damaged("a page's levels are longer than the page"))?;
        // A page of nulls may hold nothing at all.
        let plain = if values.is_empty() {
            Some(Vec::new())
        } else {
            decode(values)
        };
        let plain = plain.ok_or_else(|| damaged("a page's delta encoding makes no sense"))?;
        let plain = Bytes::from([levels, &plain].concat());
        Ok(with_plain_values(page, plain))
    }

    /// Length of the levels in front of the values of a first-version page.
    fn level_bytes(&self, content: &[u8]) -> Option<usize> {
        let mut at = 0_usize;
        for max_level in [self.max_rep_level, self.max_def_level] {
            if max_level > 0 {
                let len = content.get(at..at + 4)?.try_into().ok()?;
                at = at
                    .checked_add(4)?
                    .checked_add(u32::from_le_bytes(len) as usize)?;
            }
        }
        Some(at)
    }
}

fn with_plain_values(mut page: Page, plain: Bytes) -> Page {
    match &mut page {
        Page::DataPage { buf, encoding, .. } | Page::DataPageV2 { buf, encoding, .. } => {
            (*buf, *encoding) = (plain, Encoding::PLAIN);
        }
        Page::DictionaryPage { .. } => {}
    }
    page
}

/// The claims of a page header.
#[derive(Debug, Default)]
struct PageHeader {
    packed: Option<i64>,
    unpacked: Option<i64>,
    values: Option<i64>,
    is_dictionary: bool,
    /// Levels in front of the packed values.
    level_bytes: i64,
    /// The page says that it is not packed, whatever the column says.
    is_plain: bool,
}

impl PageHeader {
    /// Field numbers are those of `PageHeader` in the Parquet format's definition.
    fn set(&mut self, outer: i16, inner: i16, value: i64) {
        match (outer, inner) {
            (2, 0) => self.unpacked = Some(value),
            (3, 0) => self.packed = Some(value),
            (5 | 8, 1) => self.values = Some(value),
            (7, 1) => {
                self.values = Some(value);
                self.is_dictionary = true;
            }
            (8, 5 | 6) => self.level_bytes = self.level_bytes.saturating_add(value),
            (8, 7) => self.is_plain = value == 0,
            _ => {}
        }
    }
}

fn external(trouble: Trouble) -> ParquetError {
    ParquetError::External(Box::new(TroubleError::wrap(trouble)))
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(next) = self.check_next()? else {
            return Ok(None);
        };
        let page = self.inner.get_next_page()?;
        self.at = next;
        let Some(page) = page else { return Ok(None) };
        let page = self.without_delta(page).map_err(external)?;
        self.budget
            .spend(page.buffer().len() as u64)
            .map_err(external)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        if self.check_next()?.is_none() {
            return Ok(None);
        }
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        let Some(next) = self.check_next()? else {
            return Ok(());
        };
        self.inner.skip_next_page()?;
        self.at = next;
        Ok(())
    }
}
