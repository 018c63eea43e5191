//! gzip and zstd: a packed tar, WARC or document. Packing alone is no level of nesting. Plain
//! WARC comes this way too, since it is read in order.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use quire_core::{Stage, Trouble, TroubleCode};

use super::{Place, not_read, open_object, tar, too_large, unsupported, warc};
use crate::documents::{FoundDocument, Session, Stop, UNKNOWN};
use crate::limits::Limits;
use crate::media::{HEAD_BYTES, is_page_document, media_type};
use crate::object::Object;
use crate::unreadable::{TroubleError, trouble_of_io};

/// What one entry may unpack to altogether, nested containers included. A cheap clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    used: Arc<AtomicU64>,
    allowed: u64,
}

impl Budget {
    pub(crate) fn of(entry: &Object, limits: &Limits) -> Self {
        Self {
            used: Arc::default(),
            allowed: limits.entry_budget(entry.len()),
        }
    }

    /// Takes note of unpacked bytes; an error once they are beyond all measure.
    pub(crate) fn spend(&self, bytes: u64) -> Result<(), Trouble> {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.check()
    }

    /// An error if the budget is spent: the rest of a container is not read then.
    pub(crate) fn check(&self) -> Result<(), Trouble> {
        if self.used.load(Ordering::Relaxed) <= self.allowed {
            return Ok(());
        }
        let message = format!("the entry unpacks to more than {} bytes", self.allowed);
        Err(Trouble::new(Stage::Unpack, TroubleCode::Bomb, message))
    }

    /// `reader`, with all that is read from it counted.
    pub(crate) fn guard<R: Read>(&self, reader: R) -> Guarded<R> {
        Guarded {
            reader,
            budget: self.clone(),
        }
    }
}

/// A reader of unpacked bytes that ends with a trouble when the budget is spent.
#[derive(Debug)]
pub(crate) struct Guarded<R> {
    reader: R,
    budget: Budget,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.budget
            .spend(count as u64)
            .map_err(TroubleError::wrap)?;
        Ok(count)
    }
}

/// An object in order, unpacked if it is packed, with its start already read.
pub(crate) struct Unpacked {
    head: Bytes,
    reader: BufReader<io::Chain<Cursor<Bytes>, Box<dyn Read>>>,
}

impl Unpacked {
    pub(crate) fn open(object: &Object, budget: &Budget) -> io::Result<Self> {
        let magic = object.head(4)?;
        let mut reader: Box<dyn Read> = match media_type(&magic) {
            "application/gzip" => Box::new(budget.guard(MultiGzDecoder::new(object.reader()))),
            "application/zstd" => {
                Box::new(budget.guard(zstd::stream::read::Decoder::new(object.reader())?))
            }
            _ => Box::new(object.reader()),
        };
        let mut head = Vec::new();
        let read = Read::take(&mut reader, HEAD_BYTES as u64).read_to_end(&mut head);
        let head = Bytes::from(head);
        // A stream cut right in its start may still hold whole members; if it holds nothing at
        // all, the error is all there is.
        let rest: Box<dyn Read> = match read {
            Ok(_) => reader,
            Err(e) if head.is_empty() => return Err(e),
            Err(e) => Box::new(Broken(Some(e))),
        };
        let chain = Cursor::new(head.clone()).chain(rest);
        Ok(Self {
            head,
            reader: BufReader::with_capacity(HEAD_BYTES, chain),
        })
    }

    /// The first bytes, unpacked.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl BufRead for Unpacked {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}

/// Repeats an error that was met early, at the place where it belongs.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self
            .0
            .take()
            .unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()))
    }
}

/// Reads exactly `len` bytes of an unpacked member. Memory grows with what is really there.
pub(crate) fn read_exactly(reader: &mut impl Read, len: u64) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(len.min(1 << 20) as usize);
    reader.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.into())
}

/// Reads a packed stream to its end, within the limits of one member.
///
/// `packed` is the size of what it unpacks from, if known: a bomb is told by the ratio.
pub(crate) fn read_member(
    reader: &mut impl Read,
    packed: Option<u64>,
    limits: &Limits,
) -> Result<Bytes, Trouble> {
    let mut bytes = Vec::new();
    // The check comes each time so many bytes are there, which bounds what a bomb costs.
    let step = (8 << 20).min(limits.member_floor_bytes.max(1));
    loop {
        let before = bytes.len();
        Read::take(&mut *reader, step)
            .read_to_end(&mut bytes)
            .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
        if bytes.len() == before {
            return Ok(bytes.into());
        }
        let unpacked = bytes.len() as u64;
        if packed.is_some_and(|packed| limits.is_bomb(packed, unpacked)) {
            return Err(bomb(unpacked, packed.unwrap_or_default()));
        }
        if unpacked > limits.member_bytes {
            return Err(too_large(unpacked, limits.member_bytes));
        }
    }
}

pub(crate) fn bomb(unpacked: u64, packed: u64) -> Trouble {
    let message = format!("{packed} bytes unpack to {unpacked} or more");
    Trouble::new(Stage::Unpack, TroubleCode::Bomb, message)
}

/// Opens a packed object: a tar or WARC is read as a stream, a document becomes itself.
pub(crate) fn read(session: &mut Session<'_>, object: &Object, place: &Place) -> Result<(), Stop> {
    let mut stream = match Unpacked::open(object, &session.budget) {
        Ok(stream) => stream,
        Err(e) => {
            let media = object.head(4).map_or(UNKNOWN, |magic| media_type(&magic));
            return session
                .sink
                .fail(&place.member, media, trouble_of_io(&e, Stage::Unpack));
        }
    };
    let media = media_type(stream.head());
    match media {
        "application/x-tar" => return tar::read_stream(session, stream, place),
        "application/warc" => return warc::read(session, stream, place),
        "application/gzip" | "application/zstd" => {
            let trouble = unsupported("is packed twice");
            return session.sink.fail(&place.member, media, trouble);
        }
        _ => {}
    }
    let is_archive = matches!(media, "application/zip" | "application/vnd.apache.parquet");
    if !is_page_document(media) && !is_archive {
        return session.sink.fail(&place.member, media, not_read(media));
    }
    match read_member(&mut stream, Some(object.len()), session.limits) {
        // Formats read from their end need the whole object at hand.
        Ok(bytes) if is_archive => open_object(session, &Object::Memory(bytes), place),
        Ok(bytes) => session.sink.send(FoundDocument {
            member: place.member.clone(),
            media_type: media.to_owned(),
            content: Ok(bytes),
            offset: None,
            length: None,
        }),
        Err(trouble) => session.sink.fail(&place.member, media, trouble),
    }
}
