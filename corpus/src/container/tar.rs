//! tar: plain, or behind gzip or zstd; the shape of WebDataset shards. Old, ustar, GNU and pax
//! headers.
//!
//! Read by hand for two reasons: names and sizes in extension headers must not cost memory
//! without bound, and a cut archive must give its whole members.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use quire_core::{Stage, Trouble};

use super::packed::{Unpacked, read_exactly};
use super::{Content, Names, Place, damaged, is_furniture, too_large, truncated, unsupported};
use crate::documents::{Session, Stop};
use crate::object::{Object, ObjectReader};
use crate::unreadable::trouble_of_io;

const BLOCK: usize = 512;
const MEDIA: &str = "application/x-tar";
/// Longest extension header; real ones hold a path.
const EXTENSION_BYTES: u64 = 1 << 20;
/// How far behind an end mark further members are looked for: joined archives have some.
const BEHIND_END_BYTES: u64 = 1 << 20;

/// Reads a tar that is not packed: unwanted members cost nothing, positions are known.
pub(crate) fn read_plain(
    session: &mut Session<'_>,
    object: &Object,
    place: &Place,
) -> Result<(), Stop> {
    let shows_offsets = place.member.is_none();
    let source = Source::Plain {
        reader: object.reader(),
        object: object.clone(),
        shows_offsets,
    };
    Tar::new(source).read(session, place)
}

/// Reads a packed tar in order.
pub(crate) fn read_stream(
    session: &mut Session<'_>,
    stream: Unpacked,
    place: &Place,
) -> Result<(), Stop> {
    Tar::new(Source::Stream(stream)).read(session, place)
}

/// Whether a block is a tar header: its checksum fits its bytes.
pub(crate) fn has_valid_checksum(block: &[u8]) -> bool {
    let (Some(field), Some(name)) = (block.get(148..156), block.first()) else {
        return false;
    };
    let Some(stated) = octal(field) else {
        return false;
    };
    let bytes = block.iter().take(BLOCK).enumerate();
    let byte_at = |(at, &byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { byte };
    let (mut unsigned, mut signed) = (0_u64, 0_i64);
    for byte in bytes.map(byte_at) {
        unsigned += u64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    // Without a name it may be anything whose few bytes happen to add up.
    *name != 0 && (stated == unsigned || i64::try_from(stated) == Ok(signed))
}

enum Source {
    Plain {
        reader: ObjectReader,
        object: Object,
        shows_offsets: bool,
    },
    Stream(Unpacked),
}

impl Source {
    /// Fills `block` as far as the archive goes; tells how many bytes came.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> io::Result<usize> {
        let reader: &mut dyn Read = match self {
            Self::Plain { reader, .. } => reader,
            Self::Stream(stream) => stream,
        };
        let mut filled = 0;
        while filled < BLOCK {
            match reader.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    /// The next `len` bytes and where they lie in the entry.
    fn take(&mut self, len: u64) -> io::Result<Content> {
        match self {
            Self::Plain {
                reader,
                object,
                shows_offsets,
            } => {
                let at = reader.position();
                let bytes = object.read_at(at, len)?;
                reader.seek(SeekFrom::Start(at.saturating_add(len)))?;
                Ok(Content {
                    bytes,
                    offset: shows_offsets.then_some(at),
                })
            }
            Self::Stream(stream) => Ok(Content {
                bytes: read_exactly(stream, len)?,
                offset: None,
            }),
        }
    }

    /// Steps over `len` bytes; `UnexpectedEof` if there are fewer.
    fn skip(&mut self, len: u64) -> io::Result<()> {
        match self {
            Self::Plain { reader, object, .. } => {
                let target = reader.position().saturating_add(len);
                if target > object.len() {
                    reader.seek(SeekFrom::End(0))?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                reader.seek(SeekFrom::Start(target)).map(|_| ())
            }
            Self::Stream(stream) => {
                let skipped = io::copy(&mut stream.take(len), &mut io::sink())?;
                if skipped == len {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
        }
    }
}

/// What extension headers said about the next member.
#[derive(Default)]
struct Extensions {
    path: Option<Bytes>,
    size: Option<u64>,
    is_sparse: bool,
}

struct Tar {
    source: Source,
    names: Names,
    /// Members that were read or passed over whole.
    whole: u64,
    next: Extensions,
}

/// Why reading ends.
enum End {
    /// The whole container was walked.
    Whole,
    /// The rest cannot be read.
    Broken(Trouble),
    /// Nobody wants more.
    Stopped,
}

impl From<Stop> for End {
    fn from(_: Stop) -> Self {
        Self::Stopped
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(trouble_of_io(&error, Stage::Unpack))
    }
}

impl Tar {
    fn new(source: Source) -> Self {
        Self {
            source,
            names: Names::default(),
            whole: 0,
            next: Extensions::default(),
        }
    }

    fn read(mut self, session: &mut Session<'_>, place: &Place) -> Result<(), Stop> {
        let mut block = [0; BLOCK];
        let end = loop {
            if let Err(end) = self.step(&mut block, session, place) {
                break end;
            }
        };
        match end {
            End::Stopped => Err(Stop),
            End::Whole => session.end_of_container(place, MEDIA, &self.names),
            End::Broken(trouble) => {
                let message = format!("after {} members: {}", self.whole, trouble.message);
                let trouble = Trouble::new(trouble.stage, trouble.code, message);
                session.sink.fail(&place.member, MEDIA, trouble)
            }
        }
    }

    /// Reads one header and what belongs to it.
    fn step(
        &mut self,
        block: &mut [u8; BLOCK],
        session: &mut Session<'_>,
        place: &Place,
    ) -> Result<(), End> {
        match self.source.read_block(block)? {
            0 => return Err(End::Broken(truncated("the archive has no end mark"))),
            BLOCK => {}
            _ => return Err(End::Broken(truncated("the archive ends inside a header"))),
        }
        if block.iter().all(|&byte| byte == 0) {
            self.behind_end_mark(block)?;
        }
        if !has_valid_checksum(block) && !is_nameless_header(block) {
            return Err(End::Broken(damaged("a header's checksum does not fit")));
        }
        if self.names.count >= session.limits.members {
            return Err(End::Broken(too_large(
                self.names.count + 1,
                session.limits.members,
            )));
        }
        let size = number(&block[124..136]);
        let size = size.ok_or_else(|| End::Broken(damaged("a header states no size")))?;
        match block[156] {
            b'x' | b'L' => self.extension(block[156], size),
            // Global headers and long link names say nothing about names or sizes of members.
            b'g' | b'K' | b'V' | b'M' | b'N' => self.skip_padded(size),
            kind => {
                self.member(block, kind, size, session, place)?;
                self.whole += 1;
                Ok(())
            }
        }
    }

    /// Looks for members behind an end mark, leaving the first one's header in `block`.
    fn behind_end_mark(&mut self, block: &mut [u8; BLOCK]) -> Result<(), End> {
        let mut passed = 0;
        while passed < BEHIND_END_BYTES {
            // Bytes behind the end mark are nobody's, so trouble with them is none.
            match self.source.read_block(block) {
                Ok(BLOCK) if has_valid_checksum(block) => return Ok(()),
                Ok(BLOCK) => passed += BLOCK as u64,
                Ok(_) => break,
                Err(e) => {
                    let trouble = trouble_of_io(&e, Stage::Unpack);
                    let is_cut = trouble.code == quire_core::TroubleCode::Truncated;
                    return Err(if is_cut {
                        End::Broken(trouble)
                    } else {
                        End::Whole
                    });
                }
            }
        }
        Err(End::Whole)
    }

    fn extension(&mut self, kind: u8, size: u64) -> Result<(), End> {
        if size > EXTENSION_BYTES {
            return Err(End::Broken(damaged(format!(
                "an extension header of {size} bytes"
            ))));
        }
        let content = self.source.take(size)?.bytes;
        self.skip_padding(size)?;
        if kind == b'L' {
            let end = content
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(content.len());
            self.next.path = Some(content.slice(..end));
        } else {
            pax_records(&content, &mut self.next);
        }
        Ok(())
    }

    fn member(
        &mut self,
        block: &[u8; BLOCK],
        kind: u8,
        size: u64,
        session: &mut Session<'_>,
        place: &Place,
    ) -> Result<(), End> {
        let extensions = std::mem::take(&mut self.next);
        let size = extensions.size.unwrap_or(size);
        let raw = extensions.path.unwrap_or_else(|| header_path(block));
        // Links and devices have no content, whatever size their header states.
        let is_file = !matches!(kind, b'1'..=b'6');
        let is_sparse = kind == b'S' || extensions.is_sparse;
        if kind == b'S' && block[482] == 1 {
            self.skip_sparse_maps()?;
        }
        if kind == b'5' || is_furniture(&raw) {
            return if is_file {
                self.skip_padded(size)
            } else {
                Ok(())
            };
        }
        let name = self.names.give(&raw);
        let limit = session.limits.member_bytes;
        let refusal = match kind {
            b'1' | b'2' => Some(unsupported("is a link; links in archives are not followed")),
            b'3' | b'4' | b'6' => Some(unsupported("is a device or pipe")),
            _ if is_sparse => Some(unsupported("is stored as a sparse file")),
            _ if size > limit => Some(too_large(size, limit)),
            _ => None,
        };
        let is_wanted = session.sink.wants(&Some(place.name_of(&name)));
        if let Some(trouble) = refusal {
            session.member(place, &name, |_| Err(trouble))?;
            return if is_file {
                self.skip_padded(size)
            } else {
                Ok(())
            };
        }
        if !is_wanted {
            return self.skip_padded(size);
        }
        match self.source.take(size) {
            Ok(content) => {
                session.member(place, &name, |_| Ok(content))?;
                self.skip_padding(size)
            }
            Err(e) => {
                let trouble = trouble_of_io(&e, Stage::Unpack);
                let message = format!("member {name:?}: {}", trouble.message);
                Err(End::Broken(Trouble::new(
                    trouble.stage,
                    trouble.code,
                    message,
                )))
            }
        }
    }

    /// GNU sparse files may have further blocks of their map between header and content.
    fn skip_sparse_maps(&mut self) -> Result<(), End> {
        let mut block = [0; BLOCK];
        loop {
            if self.source.read_block(&mut block)? < BLOCK {
                return Err(End::Broken(truncated(
                    "the archive ends inside a sparse map",
                )));
            }
            if block[504] != 1 {
                return Ok(());
            }
        }
    }

    fn skip_padded(&mut self, size: u64) -> Result<(), End> {
        self.source.skip(size)?;
        self.skip_padding(size)
    }

    /// Content fills whole blocks. A last member without its padding is whole all the same.
    fn skip_padding(&mut self, size: u64) -> Result<(), End> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        match self.source.skip(padding) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(End::Broken(truncated(
                "the archive ends inside a member's padding",
            ))),
            other => Ok(other?),
        }
    }
}

/// A member with an empty name field: its name stands in an extension header.
fn is_nameless_header(block: &[u8; BLOCK]) -> bool {
    let mut named = *block;
    let Some(stated) = octal(&block[148..156]) else {
        return false;
    };
    named[148..156].fill(b' ');
    block[0] == 0
        && block[257..262] == *b"ustar"
        && stated == named.iter().map(|&byte| u64::from(byte)).sum::<u64>()
}

/// The path of a header: `prefix/name` in ustar, `name` alone elsewhere.
fn header_path(block: &[u8; BLOCK]) -> Bytes {
    let until_zero = |field: &[u8]| {
        let end = field
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(field.len());
        field[..end].to_vec()
    };
    let name = until_zero(&block[..100]);
    let is_ustar = block[257..263] == *b"ustar\0";
    let prefix = if is_ustar {
        until_zero(&block[345..500])
    } else {
        Vec::new()
    };
    if prefix.is_empty() {
        return name.into();
    }
    [prefix, b"/".to_vec(), name].concat().into()
}

/// `LENGTH KEY=VALUE\n` records; anything that does not fit ends them.
fn pax_records(content: &Bytes, next: &mut Extensions) {
    let mut at = 0;
    while let Some(space) = content[at..].iter().position(|&byte| byte == b' ') {
        let length = std::str::from_utf8(&content[at..at + space]).ok();
        let Some(length) = length.and_then(|digits| digits.parse::<usize>().ok()) else {
            return;
        };
        let (start, end) = (at + space + 1, at.saturating_add(length));
        if end <= start || end > content.len() {
            return;
        }
        let record = content.slice(start..end - 1);
        if let Some(equals) = record.iter().position(|&byte| byte == b'=') {
            let value = record.slice(equals + 1..);
            match &record[..equals] {
                b"path" => next.path = Some(value),
                b"size" => {
                    let digits = std::str::from_utf8(&value).ok();
                    next.size = digits.and_then(|digits| digits.parse().ok());
                }
                key if key.starts_with(b"GNU.sparse.") => next.is_sparse = true,
                _ => {}
            }
        }
        at = end;
    }
}

/// A number field: octal digits, or base 256 behind a set top bit.
fn number(field: &[u8]) -> Option<u64> {
    if field.first()? & 0x80 == 0 {
        return octal(field);
    }
    let mut value = u64::from(field[0] & 0x7f);
    for &byte in &field[1..] {
        value = value.checked_mul(256)?.checked_add(u64::from(byte))?;
    }
    Some(value)
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(|c| c == ' ' || c == '\0');
    if digits.is_empty() {
        Some(0)
    } else {
        u64::from_str_radix(digits, 8).ok()
    }
}
