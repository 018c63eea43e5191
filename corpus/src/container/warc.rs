//! WARC: web archives, plain or packed record by record. Members are records that hold a
//! document: `resource`, `conversion`, and the body of a successful HTTP `response`; the member's
//! name is the record's id.
//!
//! Requests, revisits, metadata and answers that are no success hold no document and are passed
//! over. A document that its crawler cut is `truncated`.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use quire_core::{Stage, Trouble};

use super::packed::{Unpacked, read_exactly, read_member};
use super::{Content, Names, Place, damaged, too_large, truncated, unsupported};
use crate::documents::{Session, Stop};
use crate::unreadable::trouble_of_io;

const MEDIA: &str = "application/warc";
/// Longest header of a record or of an HTTP answer.
const HEADER_BYTES: usize = 256 << 10;

/// Reads a WARC in order.
pub(crate) fn read(
    session: &mut Session<'_>,
    mut stream: Unpacked,
    place: &Place,
) -> Result<(), Stop> {
    let mut names = Names::default();
    let mut records = 0_u64;
    let end = loop {
        match next_record(&mut stream) {
            Ok(Some(record)) => {
                records += 1;
                if records > session.limits.members {
                    break Some(too_large(records, session.limits.members));
                }
                if let Err(e) = read_record(session, &mut stream, &record, place, &mut names)? {
                    break Some(e);
                }
            }
            Ok(None) => break None,
            Err(trouble) => break Some(trouble),
        }
    };
    match end {
        None => session.end_of_container(place, MEDIA, &names),
        Some(trouble) => {
            let message = format!("after {records} records: {}", trouble.message);
            let trouble = Trouble::new(trouble.stage, trouble.code, message);
            session.sink.fail(&place.member, MEDIA, trouble)
        }
    }
}

/// Header lines of a record or an HTTP answer.
#[derive(Debug, Default)]
struct Header {
    first: String,
    fields: Vec<(String, String)>,
}

impl Header {
    fn field(&self, name: &str) -> Option<&str> {
        let found = self
            .fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }
}

/// Reads lines up to an empty one.
fn read_header(reader: &mut impl BufRead) -> io::Result<Header> {
    let mut header = Header::default();
    let mut left = HEADER_BYTES;
    loop {
        let mut line = Vec::new();
        let count = Read::take(&mut *reader, left as u64).read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            let kind = if count == left {
                io::ErrorKind::InvalidData
            } else {
                io::ErrorKind::UnexpectedEof
            };
            return Err(kind.into());
        }
        left -= count;
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return Ok(header);
        }
        if header.first.is_empty() {
            header.first = line.to_owned();
        } else if let Some((name, value)) = line.split_once(':') {
            header
                .fields
                .push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

/// The header of the next record; `None` at the end of the archive.
fn next_record(stream: &mut Unpacked) -> Result<Option<Header>, Trouble> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::InvalidData => damaged("a record header is longer than 256 KiB"),
        io::ErrorKind::UnexpectedEof => truncated("the archive ends inside a record header"),
        _ => trouble_of_io(&e, Stage::Unpack),
    };
    // Records are separated by empty lines; readers bear more or fewer of them.
    loop {
        let buffer = stream
            .fill_buf()
            .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
        if buffer.is_empty() {
            return Ok(None);
        }
        let blank = buffer
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        if blank == 0 {
            break;
        }
        stream.consume(blank);
    }
    let header = read_header(stream).map_err(failed)?;
    if !header.first.starts_with("WARC/") {
        return Err(damaged("a record does not start with WARC/"));
    }
    Ok(Some(header))
}

/// Reads or passes over one record. The inner error ends the archive.
fn read_record(
    session: &mut Session<'_>,
    stream: &mut Unpacked,
    record: &Header,
    place: &Place,
    names: &mut Names,
) -> Result<Result<(), Trouble>, Stop> {
    let Some(length) = record.number("Content-Length") else {
        return Ok(Err(damaged("a record states no length")));
    };
    let is_answer = match record.field("WARC-Type").unwrap_or_default() {
        "response" => is_http(record),
        "resource" | "conversion" => false,
        _ => return Ok(skip(stream, length)),
    };
    let id = record
        .field("WARC-Record-ID")
        .unwrap_or("record without id");
    let id = id.trim_start_matches('<').trim_end_matches('>');
    // An answer that is no success has no name, so that a later run gives the same ones.
    let mut named = || names.give(id.as_bytes());
    if length > session.limits.member_bytes {
        let trouble = too_large(length, session.limits.member_bytes);
        let name = named();
        session.member(place, &name, |_| Err(trouble))?;
        return Ok(skip(stream, length));
    }
    let block = match read_exactly(stream, length) {
        Ok(block) => block,
        Err(e) => return Ok(Err(trouble_of_io(&e, Stage::Unpack))),
    };
    let was_cut = record.field("WARC-Truncated").map(ToOwned::to_owned);
    let body = if is_answer {
        http_body(&block)
    } else {
        Ok(Some(HttpBody::plain(block)))
    };
    let content = match body {
        Ok(None) => return Ok(Ok(())),
        Ok(Some(body)) => Ok(body),
        Err(trouble) => Err(trouble),
    };
    let name = named();
    session.member(place, &name, |session| {
        if let Some(reason) = was_cut {
            return Err(truncated(format!(
                "the crawler kept only a part of it ({reason})"
            )));
        }
        let bytes = content?.decode(session)?;
        Ok(Content {
            bytes,
            offset: None,
        })
    })?;
    Ok(Ok(()))
}

/// A response to anything but HTTP (DNS, say) is kept as it is.
fn is_http(record: &Header) -> bool {
    record
        .field("Content-Type")
        .is_none_or(|media| media.to_ascii_lowercase().starts_with("application/http"))
}

fn skip(stream: &mut Unpacked, length: u64) -> Result<(), Trouble> {
    let skipped = io::copy(&mut stream.take(length), &mut io::sink())
        .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
    if skipped == length {
        Ok(())
    } else {
        Err(truncated("the archive ends inside a record"))
    }
}

/// Body of an HTTP answer, still as it was sent.
struct HttpBody {
    bytes: Bytes,
    is_chunked: bool,
    encoding: String,
}

impl HttpBody {
    fn plain(bytes: Bytes) -> Self {
        Self {
            bytes,
            is_chunked: false,
            encoding: String::new(),
        }
    }

    /// Undoes transfer and content encoding. Many crawlers store the decoded body and keep the
    /// headers, so an encoding that the body does not show is taken for undone.
    fn decode(self, session: &Session<'_>) -> Result<Bytes, Trouble> {
        let mut bytes = self.bytes;
        if self.is_chunked
            && let Some(whole) = join_chunks(&bytes)
        {
            bytes = whole;
        }
        let packed = Some(bytes.len() as u64);
        let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
        let guard = &session.budget;
        match self.encoding.as_str() {
            "gzip" | "x-gzip" if is_gzip => {
                let decoder = MultiGzDecoder::new(&bytes[..]);
                read_member(&mut guard.guard(decoder), packed, session.limits)
            }
            "deflate" if bytes.first().is_some_and(|byte| byte & 0x0f == 8) => {
                let decoder = ZlibDecoder::new(&bytes[..]);
                read_member(&mut guard.guard(decoder), packed, session.limits)
            }
            "br" => {
                // Nothing in the bytes shows it, so only what is no document needs the excuse.
                let media = crate::media::media_type(&bytes[..bytes.len().min(1024)]);
                if crate::media::is_page_document(media) {
                    Ok(bytes)
                } else {
                    Err(unsupported("content encoding br is not read"))
                }
            }
            _ => Ok(bytes),
        }
    }
}

/// The body of an HTTP answer; `None` if the answer is no success.
fn http_body(block: &Bytes) -> Result<Option<HttpBody>, Trouble> {
    let mut reader = io::Cursor::new(block);
    let header =
        read_header(&mut reader).map_err(|_| damaged("the HTTP header of a record has no end"))?;
    let status = header
        .first
        .split_ascii_whitespace()
        .nth(1)
        .unwrap_or_default();
    if !header.first.starts_with("HTTP/") {
        return Err(damaged("an HTTP response without a status line"));
    }
    if status != "200" && status != "203" {
        return Ok(None);
    }
    let lower = |name: &str| header.field(name).unwrap_or_default().to_ascii_lowercase();
    Ok(Some(HttpBody {
        bytes: block.slice(reader.position() as usize..),
        is_chunked: lower("Transfer-Encoding").contains("chunked"),
        encoding: lower("Content-Encoding"),
    }))
}

/// Joins chunks; `None` if the body is not chunked (any more).
fn join_chunks(body: &Bytes) -> Option<Bytes> {
    let mut whole = Vec::with_capacity(body.len());
    let mut at = 0;
    loop {
        let line_end = at
            + body
                .get(at..)?
                .iter()
                .take(64)
                .position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(&body[at..line_end]).ok()?;
        let digits = line.split(';').next()?.trim();
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            return Some(whole.into());
        }
        let start = line_end + 1;
        let end = start.checked_add(size)?;
        whole.extend_from_slice(body.get(start..end)?);
        // A line break follows each chunk.
        at = end
            + body
                .get(end..)?
                .iter()
                .take(2)
                .position(|&byte| byte == b'\n')?
            + 1;
    }
}
