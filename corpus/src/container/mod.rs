//! Containers: one format a file, all with the same shape. A format walks its members in order,
//! gives each a name that is unique and stable, and hands it to [`Session::member`].
//!
//! Rules that hold for all formats:
//! - Names only identify. Nothing is ever written under a member's name; shown names cannot climb
//!   or be absolute ([`Names`]).
//! - Every member gives a document or an error, except furniture: folders, `__MACOSX/`,
//!   `.DS_Store`, `Thumbs.db`, `desktop.ini`. Sidecars (`.json`, `.txt` of a WebDataset sample)
//!   are members like others and come out as `unsupported`.
//! - A container inside a container is opened once; deeper ones are `unsupported`.
//! - Damage costs what it hits: members before it are kept, the rest is one error.

mod delta;
pub(crate) mod packed;
mod parquet;
mod parquet_pages;
pub(crate) mod tar;
mod thrift;
mod warc;
mod zip;
mod zip_records;

use std::collections::HashSet;

use bytes::Bytes;
use quire_core::{Stage, Trouble, TroubleCode};
use sha2::{Digest, Sha256};

use crate::documents::{FoundDocument, Session, Stop, UNKNOWN};
use crate::media::{HEAD_BYTES, is_page_document, media_type};
use crate::object::Object;
use crate::unreadable::trouble_of_io;

/// Where in an entry something lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Name of the member that holds what is being read; `None` for the entry itself.
    pub(crate) member: Option<String>,
}

impl Place {
    /// Stands between the name of a nested container and the names of its members.
    pub(crate) const NESTED: &'static str = "!/";

    /// The entry itself.
    pub(crate) fn entry() -> Self {
        Self { member: None }
    }

    fn is_nested(&self) -> bool {
        self.member.is_some()
    }

    /// The full name of a member of the container that lies here.
    pub(crate) fn name_of(&self, member: &str) -> String {
        match &self.member {
            Some(holder) => format!("{holder}{}{member}", Self::NESTED),
            None => member.to_owned(),
        }
    }
}

/// Bytes of a member and where they lie in the entry, if they lie there as they are.
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) offset: Option<u64>,
}

/// Opens what lies at `place`: a document or a container.
pub(crate) fn open_object(
    session: &mut Session<'_>,
    object: &Object,
    place: &Place,
) -> Result<(), Stop> {
    let head = match object.head(HEAD_BYTES as u64) {
        Ok(head) => head,
        Err(e) => {
            let trouble = trouble_of_io(&e, Stage::Fetch);
            return session.sink.fail(&place.member, UNKNOWN, trouble);
        }
    };
    let media = media_type(&head);
    match media {
        "application/gzip" | "application/zstd" | "application/warc" => {
            packed::read(session, object, place)
        }
        "application/zip" => zip::read(session, object, place),
        "application/vnd.apache.parquet" => parquet::read(session, object, place),
        "application/x-tar" => tar::read_plain(session, object, place),
        media if is_page_document(media) => whole_document(session, object, place, media),
        media => session.sink.fail(&place.member, media, not_read(media)),
    }
}

/// Whether [`open_object`] opens it as a container.
fn is_container(media: &str) -> bool {
    matches!(
        media,
        "application/gzip"
            | "application/zstd"
            | "application/x-tar"
            | "application/warc"
            | "application/zip"
            | "application/vnd.apache.parquet"
    )
}

fn whole_document(
    session: &mut Session<'_>,
    object: &Object,
    place: &Place,
    media: &str,
) -> Result<(), Stop> {
    if !session.sink.wants(&place.member) {
        return Ok(());
    }
    if object.len() > session.limits.file_bytes {
        let trouble = too_large(object.len(), session.limits.file_bytes);
        return session.sink.fail(&place.member, media, trouble);
    }
    match object.read_at(0, object.len()) {
        Ok(bytes) => session.sink.send(FoundDocument {
            member: place.member.clone(),
            media_type: media.to_owned(),
            content: Ok(bytes),
            offset: None,
            length: None,
        }),
        Err(e) => session
            .sink
            .fail(&place.member, media, trouble_of_io(&e, Stage::Fetch)),
    }
}

/// Why a media type is not read.
pub(crate) fn not_read(media: &str) -> Trouble {
    let unsupported =
        |message: String| Trouble::new(Stage::Open, TroubleCode::Unsupported, message);
    match media {
        "application/x-empty" => Trouble::new(Stage::Open, TroubleCode::Damaged, "empty file"),
        UNKNOWN => unsupported("is of no format that is known".into()),
        "application/x-ndjson" => unsupported(
            "JSON lines are read as lists of addresses only; these name none, or lie where no \
             list is looked for"
                .into(),
        ),
        media => unsupported(format!("{media} is not read")),
    }
}

pub(crate) fn too_large(bytes: u64, limit: u64) -> Trouble {
    let message = format!("{bytes} bytes are more than the limit of {limit}");
    Trouble::new(Stage::Unpack, TroubleCode::TooLarge, message)
}

pub(crate) fn damaged(message: impl Into<String>) -> Trouble {
    Trouble::new(Stage::Unpack, TroubleCode::Damaged, message)
}

pub(crate) fn truncated(message: impl Into<String>) -> Trouble {
    Trouble::new(Stage::Unpack, TroubleCode::Truncated, message)
}

pub(crate) fn unsupported(message: impl Into<String>) -> Trouble {
    Trouble::new(Stage::Unpack, TroubleCode::Unsupported, message)
}

impl Session<'_> {
    /// Hands on one member of the container at `place`. `read` gets its bytes and is called only
    /// if somebody wants them.
    pub(crate) fn member(
        &mut self,
        place: &Place,
        name: &str,
        read: impl FnOnce(&Self) -> Result<Content, Trouble>,
    ) -> Result<(), Stop> {
        let member = Some(place.name_of(name));
        if !self.sink.wants(&member) {
            return Ok(());
        }
        let content = match read(self) {
            Ok(content) => content,
            Err(trouble) => return self.sink.fail(&member, UNKNOWN, trouble),
        };
        let media = media_type(&content.bytes[..content.bytes.len().min(HEAD_BYTES)]);
        if is_page_document(media) {
            let length = content.offset.map(|_| content.bytes.len() as u64);
            return self.sink.send(FoundDocument {
                member,
                media_type: media.to_owned(),
                content: Ok(content.bytes),
                offset: content.offset,
                length,
            });
        }
        if !is_container(media) {
            return self.sink.fail(&member, media, not_read(media));
        }
        if place.is_nested() {
            let trouble = unsupported("containers inside containers are opened one level deep");
            return self.sink.fail(&member, media, trouble);
        }
        open_object(self, &Object::Memory(content.bytes), &Place { member })
    }

    /// Ends a container that held nothing to report: that itself is reported.
    pub(crate) fn end_of_container(
        &mut self,
        place: &Place,
        media: &str,
        names: &Names,
    ) -> Result<(), Stop> {
        if names.count > 0 {
            return Ok(());
        }
        let trouble = unsupported("the container holds no document");
        self.sink.fail(&place.member, media, trouble)
    }
}

/// Names of the members of one container: shown, made harmless and made unique.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Hashes of names given so far; names themselves may be long.
    given: HashSet<[u8; 16]>,
    pub(crate) count: u64,
}

impl Names {
    /// Longer names are cut; nothing but a hostile archive has them.
    const NAME_BYTES: usize = 1024;

    /// The name to show for a member. A name that comes again gets `#2`, `#3`, ...
    pub(crate) fn give(&mut self, raw: &[u8]) -> String {
        let shown = shown_name(raw);
        self.count += 1;
        if self.given.insert(hash_of(&shown)) {
            return shown;
        }
        // Many equal names must not cost a search each, so the count of members is tried early.
        let tries = (2..10).chain(self.count..);
        for number in tries {
            let name = format!("{shown}#{number}");
            if self.given.insert(hash_of(&name)) {
                return name;
            }
        }
        shown
    }
}

fn hash_of(name: &str) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&Sha256::digest(name.as_bytes())[..16]);
    hash
}

/// A member's name as rows show it: `/` between parts, no empty parts, no `.` and `..`, control
/// characters and bytes that are no UTF-8 as `%XX`.
pub(crate) fn shown_name(raw: &[u8]) -> String {
    let mut text = String::new();
    for part in raw.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => text.push('/'),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        text.push_str(&format!("%{byte:02X}"));
                    }
                }
                c => text.push(c),
            }
        }
        for byte in part.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    // The mark of nested names must not come from a member's own name.
    let mut name = parts.join("/").replace(Place::NESTED, "!%2F");
    if name.len() > Names::NAME_BYTES {
        let hash = hex::encode(hash_of(&name));
        let end = (0..=Names::NAME_BYTES)
            .rev()
            .find(|&at| name.is_char_boundary(at));
        name.truncate(end.unwrap_or(0));
        name = format!("{name}~{hash}");
    }
    if name.is_empty() {
        "unnamed".to_owned()
    } else {
        name
    }
}

/// What packing programs leave in archives and nobody put there: no document, no error.
pub(crate) fn is_furniture(raw: &[u8]) -> bool {
    if raw.is_empty() || raw.ends_with(b"/") || raw.ends_with(b"\\") {
        return true;
    }
    let mut parts = raw.split(|byte| matches!(byte, b'/' | b'\\'));
    if parts.clone().any(|part| part == b"__MACOSX") {
        return true;
    }
    let last = parts.next_back().unwrap_or_default();
    [&b".DS_Store"[..], b"Thumbs.db", b"desktop.ini"].contains(&last)
}

#[cfg(test)]
mod tests {
    use super::{Names, is_furniture, shown_name};

    #[test]
    fn shown_names_cannot_climb_or_hide() {
        let check = |raw: &[u8], wanted: &str| assert_eq!(shown_name(raw), wanted);
        check(b"./0001.png", "0001.png");
        check(b"../../etc/passwd", "etc/passwd");
        check(b"/abs//x", "abs/x");
        check(b"..\\..\\win\\x", "win/x");
        check("文件/页.png".as_bytes(), "文件/页.png");
        check(b"\xb2\xe2.png", "%B2%E2.png");
        check(b"a\nb\0c", "a%0Ab%00c");
        check(b"a.zip!/b", "a.zip!%2Fb");
        check(b"..", "unnamed");
        assert!(shown_name(&b"x".repeat(100_000)).len() < 1100);
    }

    #[test]
    fn equal_names_become_distinct_ones_that_never_meet() {
        let mut names = Names::default();
        let given: Vec<String> = [&b"a"[..], b"a", b"a#2", b"a", b"../a"]
            .iter()
            .map(|raw| names.give(raw))
            .collect();
        assert_eq!(given, ["a", "a#2", "a#2#2", "a#3", "a#4"]);
    }

    #[test]
    fn a_hundred_thousand_equal_names_are_quick() {
        let mut names = Names::default();
        for _ in 0..100_000 {
            names.give(b"same");
        }
        assert_eq!(names.given.len(), 100_000);
    }

    #[test]
    fn only_what_packers_leave_is_furniture() {
        for name in ["folder/", "__MACOSX/._a.png", "x/.DS_Store", "Thumbs.db"] {
            assert!(is_furniture(name.as_bytes()), "{name}");
        }
        for name in ["a.txt", ".hidden", "0001.json", "x/thumbs"] {
            assert!(!is_furniture(name.as_bytes()), "{name}");
        }
    }
}
