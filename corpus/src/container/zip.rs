//! zip: by its central directory, or, when that is lost, by the local headers in front of the
//! members. Stored, deflate and zstd; zip64.
//!
//! Read by hand so that equal names stay apart, a cut archive gives what it holds, and nothing is
//! believed before it is checked.

use std::io::{self, BufReader, Seek, SeekFrom};

use bytes::Bytes;
use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use quire_core::{Stage, Trouble, TroubleCode};

use super::packed::{bomb, read_member};
use super::zip_records::{CentralRecord, Directory, LOCAL_MARK, LocalHeader, find_directory};
use super::{
    Content, Names, Place, damaged, is_furniture, not_read, too_large, truncated, unsupported,
};
use crate::documents::{Session, Stop};
use crate::media::{declared_zip_type, office_type};
use crate::object::Object;
use crate::unreadable::trouble_of_io;

const MEDIA: &str = "application/zip";
/// Largest central directory that is held in memory: a million members with long names.
const DIRECTORY_BYTES: u64 = 256 << 20;

/// Reads the zip at `place`, or reports it as what it is besides a zip (Office, books).
pub(crate) fn read(session: &mut Session<'_>, object: &Object, place: &Place) -> Result<(), Stop> {
    let mut names = Names::default();
    let directory = match find_directory(object) {
        Ok(Some(directory)) => directory,
        Ok(None) => return read_without_directory(session, object, place),
        Err(e) => {
            return session
                .sink
                .fail(&place.member, MEDIA, trouble_of_io(&e, Stage::Unpack));
        }
    };
    if directory.len > DIRECTORY_BYTES {
        let trouble = too_large(directory.len, DIRECTORY_BYTES);
        return session.sink.fail(&place.member, MEDIA, trouble);
    }
    let records = match object.read_at(directory.at, directory.len) {
        Ok(records) => records,
        Err(e) => {
            return session
                .sink
                .fail(&place.member, MEDIA, trouble_of_io(&e, Stage::Unpack));
        }
    };
    if let Some(media) = format_of_parts(object, &records, &directory) {
        return session.sink.fail(&place.member, media, not_read(media));
    }
    let mut at = 0;
    while let Some((record, next)) = CentralRecord::parse(&records, at) {
        at = next;
        if names.count >= session.limits.members {
            let trouble = too_large(names.count + 1, session.limits.members);
            return session.sink.fail(&place.member, MEDIA, trouble);
        }
        if let Err(trouble) = session.budget.check() {
            return session.sink.fail(&place.member, MEDIA, trouble);
        }
        if is_furniture(&record.name) {
            continue;
        }
        let name = names.give(&record.name);
        session.member(place, &name, |session| {
            read_record(session, object, place, &record, directory.shift)
        })?;
    }
    if at < records.len() {
        let message = format!(
            "the central directory is damaged after {} members",
            names.count
        );
        return session.sink.fail(&place.member, MEDIA, damaged(message));
    }
    session.end_of_container(place, MEDIA, &names)
}

/// Media type of a document format that is made of zip, by the names and the declaration in it.
fn format_of_parts(
    object: &Object,
    records: &Bytes,
    directory: &Directory,
) -> Option<&'static str> {
    let mut names: Vec<Bytes> = Vec::new();
    let mut at = 0;
    while let Some((record, next)) = CentralRecord::parse(records, at) {
        if names.is_empty() && &record.name[..] == b"mimetype" && record.packed < 256 {
            let header = LocalHeader::read(object, record.header_at + directory.shift).ok()?;
            let content = object.read_at(header.content_at, record.packed).ok()?;
            let media = declared_zip_type(&content);
            return (media != MEDIA).then_some(media);
        }
        names.push(record.name);
        at = next;
        // Office files list their parts early; archives of millions need not be searched whole.
        if names.len() >= 1000 {
            break;
        }
    }
    office_type(|part| names.iter().any(|name| name.starts_with(part)))
}

fn read_record(
    session: &Session<'_>,
    object: &Object,
    place: &Place,
    record: &CentralRecord,
    shift: u64,
) -> Result<Content, Trouble> {
    if record.is_encrypted {
        return Err(encrypted());
    }
    if record.is_link {
        return Err(unsupported("is a link; links in archives are not followed"));
    }
    let limits = session.limits;
    if limits.is_bomb(record.packed, record.unpacked) {
        return Err(bomb(record.unpacked, record.packed));
    }
    if record.unpacked.max(record.packed) > limits.member_bytes {
        return Err(too_large(
            record.unpacked.max(record.packed),
            limits.member_bytes,
        ));
    }
    let header_at = record
        .header_at
        .checked_add(shift)
        .ok_or_else(lost_header)?;
    let header = LocalHeader::read(object, header_at).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => lost_header(),
        _ => trouble_of_io(&e, Stage::Unpack),
    })?;
    let packed = object
        .read_at(header.content_at, record.packed)
        .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
    let is_stored = record.method == 0;
    let bytes = unpack(session, record.method, packed)?;
    if bytes.len() as u64 != record.unpacked {
        let message = format!(
            "unpacks to {} bytes, not to {}",
            bytes.len(),
            record.unpacked
        );
        return Err(damaged(message));
    }
    check_crc(&bytes, record.crc)?;
    let shows_offset = is_stored && place.member.is_none();
    Ok(Content {
        bytes,
        offset: shows_offset.then_some(header.content_at),
    })
}

fn unpack(session: &Session<'_>, method: u16, packed: Bytes) -> Result<Bytes, Trouble> {
    let size = packed.len() as u64;
    match method {
        0 => {
            session.budget.spend(size)?;
            Ok(packed)
        }
        8 => {
            let decoder = DeflateDecoder::new(&packed[..]);
            read_member(
                &mut session.budget.guard(decoder),
                Some(size),
                session.limits,
            )
        }
        93 => {
            let decoder = zstd::stream::read::Decoder::new(&packed[..])
                .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
            read_member(
                &mut session.budget.guard(decoder),
                Some(size),
                session.limits,
            )
        }
        other => Err(unsupported(format!(
            "packed by zip method {other}, which is not read"
        ))),
    }
}

fn encrypted() -> Trouble {
    let message = "the member is encrypted";
    Trouble::new(Stage::Unpack, TroubleCode::Encrypted, message)
}

fn lost_header() -> Trouble {
    damaged("no member lies where the central directory says")
}

fn check_crc(bytes: &[u8], stated: u32) -> Result<(), Trouble> {
    let mut crc = Crc::new();
    crc.update(bytes);
    if crc.sum() == stated {
        Ok(())
    } else {
        Err(damaged("checksum does not fit the content"))
    }
}

/// Reads members one after the other from the start: all that a cut archive allows.
fn read_without_directory(
    session: &mut Session<'_>,
    object: &Object,
    place: &Place,
) -> Result<(), Stop> {
    let mut names = Names::default();
    let (mut at, mut whole) = (0, 0_u64);
    let end = loop {
        let header = match LocalHeader::read(object, at) {
            Ok(header) => header,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => break None,
            Err(e) => break Some(trouble_of_io(&e, Stage::Unpack)),
        };
        if names.count >= session.limits.members {
            break Some(too_large(names.count + 1, session.limits.members));
        }
        let name = (!is_furniture(&header.name)).then(|| names.give(&header.name));
        match content_in_order(session, object, &header) {
            Ok((content, next)) => {
                if let Some(name) = name {
                    session.member(place, &name, |_| content)?;
                }
                (at, whole) = (next, whole + 1);
            }
            Err(trouble) => {
                let message = format!("member {:?}: {}", name.unwrap_or_default(), trouble.message);
                break Some(Trouble::new(trouble.stage, trouble.code, message));
            }
        }
    };
    let why = end.map_or(String::new(), |trouble| format!(" ({})", trouble.message));
    let message = format!(
        "the archive has no central directory, as if it were cut; {whole} members are whole{why}",
    );
    session.sink.fail(&place.member, MEDIA, truncated(message))
}

/// Content behind a local header and where the next header should be. The outer error means that
/// nothing more can be read, the inner one that this member cannot.
#[allow(clippy::type_complexity, reason = "used once, explained above")]
fn content_in_order(
    session: &Session<'_>,
    object: &Object,
    header: &LocalHeader,
) -> Result<(Result<Content, Trouble>, u64), Trouble> {
    let limits = session.limits;
    if !header.has_late_sizes {
        let next = header.content_at.saturating_add(header.packed);
        if next > object.len() {
            return Err(truncated("ends before its end"));
        }
        let refusal = if header.is_encrypted {
            Some(encrypted())
        } else if limits.is_bomb(header.packed, header.unpacked) {
            Some(bomb(header.unpacked, header.packed))
        } else if header.packed.max(header.unpacked) > limits.member_bytes {
            Some(too_large(
                header.packed.max(header.unpacked),
                limits.member_bytes,
            ))
        } else {
            None
        };
        if let Some(trouble) = refusal {
            return Ok((Err(trouble), next));
        }
        let packed = object
            .read_at(header.content_at, header.packed)
            .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
        let content = unpack(session, header.method, packed).and_then(|bytes| {
            check_crc(&bytes, header.crc)?;
            Ok(Content {
                bytes,
                offset: None,
            })
        });
        return Ok((content, next));
    }
    // Sizes stand behind the content, so its end shows only where it packs its own end mark.
    if header.method != 8 || header.is_encrypted {
        return Err(unsupported("its size is not stated in front of it"));
    }
    let mut reader = object.reader();
    reader
        .seek(SeekFrom::Start(header.content_at))
        .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
    let mut decoder = DeflateDecoder::new(BufReader::new(reader));
    let bytes = read_member(&mut session.budget.guard(&mut decoder), None, limits)?;
    let packed = decoder.total_in();
    if limits.is_bomb(packed, bytes.len() as u64) {
        return Err(bomb(bytes.len() as u64, packed));
    }
    let next = behind_descriptor(object, header.content_at + packed)
        .map_err(|e| trouble_of_io(&e, Stage::Unpack))?;
    Ok((
        Ok(Content {
            bytes,
            offset: None,
        }),
        next,
    ))
}

/// Steps over the sizes behind a member: with or without a mark, in 32 or 64 bits.
fn behind_descriptor(object: &Object, at: u64) -> io::Result<u64> {
    let tail = object.read_at(at, (object.len() - at.min(object.len())).min(32))?;
    let marks: [&[u8]; 2] = [&LOCAL_MARK, b"PK\x01\x02"];
    let start = if tail.starts_with(b"PK\x07\x08") {
        4
    } else {
        0
    };
    for len in [12, 20] {
        let next = tail.get(start + len..).unwrap_or_default();
        if marks.iter().any(|mark| next.starts_with(mark)) || next.is_empty() {
            return Ok(at + (start + len) as u64);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
