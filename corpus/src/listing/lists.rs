//! Lists of addresses: plain ones (`@list.txt`, one a line) and JSON lines.
//!
//! A JSON-lines file is taken for a list if an input names it or its name says so (`.jsonl`,
//! `.ndjson`, also with `.gz` or `.zst`), its content is JSON lines, and its first row
//! names an address. Rows name it in `uri`, `path`, `file`, `file_name`, `image`, `pdf`,
//! `document` or `url`, and may give a `license`. JSON lines that name none are rows of something
//! else: one `unsupported` entry, which `documents` reports.

use std::io::{self, BufRead};

use futures::StreamExt;
use quire_core::{Stage, Trouble, TroubleCode};
use serde_json::Value;
use tokio::runtime::Handle;

use super::{Candidate, Findings, blocking, local, local_paths, remote, web};
use crate::address::{Address, split_scheme};
use crate::container::packed::{Budget, Unpacked};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::media;
use crate::object::Object;
use crate::stores::Stores;
use crate::unreadable::trouble_of_io;

/// Longest line of a list.
const LINE_BYTES: u64 = 1 << 20;
/// Objects of a list asked for at once.
const LOOKUPS: usize = 32;
/// Fields that may hold the address, most telling first.
const ADDRESS_FIELDS: [&str; 9] = [
    "uri",
    "path",
    "file",
    "file_name",
    "filename",
    "image",
    "pdf",
    "document",
    "url",
];

/// Whether a name says that this may be JSON lines.
pub(super) fn has_list_name(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let stem = name
        .strip_suffix(b".gz")
        .or(name.strip_suffix(b".zst"))
        .unwrap_or(&name);
    [&b".jsonl"[..], b".ndjson"]
        .iter()
        .any(|end| stem.ends_with(end))
}

/// One line of a list that names an address, or the reason why it does not.
struct Row {
    line: u64,
    content: Result<(String, Option<String>), Trouble>,
}

/// Reads `@FILE`. The text says why nothing was found.
pub(super) async fn read_plain_list(
    stores: &Stores,
    list: &Address,
    excluded: &[Address],
    found: &mut Findings,
) -> Result<&'static str> {
    let reader = (stores.clone(), list.clone(), Handle::current());
    let rows = blocking(move || {
        let (stores, list, runtime) = reader;
        let object = open(&stores, &list, None, &runtime)?;
        plain_rows(&object)
    })
    .await?
    .map_err(|trouble: Trouble| Error::NothingFound {
        input: format!("@{}", list.uri()),
        reason: trouble.to_string(),
    })?;
    if matches!(&rows[..], [only] if only.content.is_err()) {
        // One line that is no text: somebody put @ before a document.
        let reason = rows[0].content.as_ref().err().map(ToString::to_string);
        let input = format!("@{}", list.uri());
        return Err(Error::NothingFound {
            input,
            reason: reason.unwrap_or_default(),
        });
    }
    add_rows(stores, list, rows, excluded, found).await?;
    Ok("the list names nothing")
}

/// Replaces JSON-lines lists among the findings by what they name.
pub(super) async fn expand(
    stores: &Stores,
    found: &mut Findings,
    excluded: &[Address],
) -> Result<()> {
    let (lists, plain): (Vec<Candidate>, Vec<Candidate>) = found
        .candidates
        .drain(..)
        .partition(|candidate| candidate.may_be_list);
    found.candidates = plain;
    for candidate in lists {
        let reader = (
            stores.clone(),
            candidate.address.clone(),
            candidate.etag.clone(),
        );
        let runtime = Handle::current();
        let rows = blocking(move || {
            let (stores, list, etag) = reader;
            // What cannot be opened now cannot be opened later: `documents` says why then.
            let object = open(&stores, &list, etag, &runtime).ok()?;
            json_rows(&object)
        })
        .await?;
        match rows {
            Some(rows) => add_rows(stores, &candidate.address, rows, excluded, found).await?,
            None => found.candidates.push(candidate),
        }
    }
    Ok(())
}

fn open(
    stores: &Stores,
    list: &Address,
    etag: Option<String>,
    runtime: &Handle,
) -> Result<Object, Trouble> {
    Object::open(stores, &Entry::new(list.uri(), 0, etag), runtime)
}

/// Lines of a plain list. Empty ones are skipped; there are no comments.
fn plain_rows(object: &Object) -> Result<Vec<Row>, Trouble> {
    let mut reader = Unpacked::open(object, &Budget::of(object, &Limits::default()))
        .map_err(|e| trouble_of_io(&e, Stage::Fetch))?;
    let mut rows = Vec::new();
    each_line(&mut reader, |line, bytes| {
        let content = match bytes.map(std::str::from_utf8) {
            Ok(Ok(text)) if text.contains('\0') => Err(not_text()),
            Ok(Ok("")) => return true,
            Ok(Ok(text)) => Ok((text.to_owned(), None)),
            Ok(Err(_)) => Err(not_text()),
            Err(trouble) => Err(trouble),
        };
        let goes_on = content.is_ok();
        rows.push(Row { line, content });
        goes_on
    });
    Ok(rows)
}

fn not_text() -> Trouble {
    Trouble::new(
        Stage::Fetch,
        TroubleCode::Damaged,
        "the list is not UTF-8 text from here on",
    )
}

/// Rows of a JSON-lines list; `None` if the object is something else.
fn json_rows(object: &Object) -> Option<Vec<Row>> {
    let mut reader = Unpacked::open(object, &Budget::of(object, &Limits::default())).ok()?;
    // One row alone cannot be told from a JSON file; its first line decides below.
    if !matches!(
        media::media_type(reader.head()),
        "application/x-ndjson" | "application/json"
    ) {
        return None;
    }
    let mut rows = Vec::new();
    let mut is_list = None;
    each_line(&mut reader, |line, bytes| {
        let content = bytes.and_then(|bytes| {
            if bytes.is_empty() {
                return Ok(None);
            }
            let row: Value = serde_json::from_slice(bytes).map_err(|e| {
                let message = format!("line {line} is no JSON: {e}");
                Trouble::new(Stage::Fetch, TroubleCode::Damaged, message)
            })?;
            let address = address_of(&row).ok_or_else(|| {
                let message = format!("line {line} names no address");
                Trouble::new(Stage::Fetch, TroubleCode::Unsupported, message)
            })?;
            let license = row
                .get("license")
                .and_then(Value::as_str)
                .map(ToOwned::to_owned);
            Ok(Some((address, license)))
        });
        let content = match content {
            Ok(None) => return true,
            Ok(Some(found)) => Ok(found),
            Err(trouble) => Err(trouble),
        };
        // The first row decides what kind of file this is.
        let goes_on = *is_list.get_or_insert(content.is_ok());
        rows.push(Row { line, content });
        goes_on
    });
    (is_list == Some(true)).then_some(rows)
}

/// The address a row names. A web address beside a text is where the text came from, no document.
fn address_of(row: &Value) -> Option<String> {
    let text = |field: &str| {
        row.get(field)?
            .as_str()
            .filter(|text| !text.trim().is_empty())
    };
    let address = ADDRESS_FIELDS.iter().find_map(|field| text(field))?;
    let is_web = split_scheme(address).is_some_and(|(scheme, _)| scheme.starts_with("http"));
    let has_text = ["text", "content", "contents", "body"]
        .iter()
        .any(|f| text(f).is_some());
    if address.contains('\n') || (is_web && has_text) {
        return None;
    }
    Some(address.to_owned())
}

/// Calls `line` with the number (from 1) and content of each line, until it says `false`.
///
/// Memory stays bounded: a line that is too long, or a failure to read, ends the list with a
/// trouble.
fn each_line(reader: &mut impl BufRead, mut line: impl FnMut(u64, Result<&[u8], Trouble>) -> bool) {
    let mut buffer = Vec::new();
    for number in 1.. {
        buffer.clear();
        match io::Read::take(&mut *reader, LINE_BYTES).read_until(b'\n', &mut buffer) {
            Ok(0) => return,
            Ok(n) if n as u64 == LINE_BYTES && !buffer.ends_with(b"\n") => {
                let message = "a line of the list is longer than 1 MiB; the rest is not read";
                let trouble = Trouble::new(Stage::Fetch, TroubleCode::TooLarge, message);
                line(number, Err(trouble));
                return;
            }
            Ok(_) => {
                let text = buffer.strip_suffix(b"\n").unwrap_or(&buffer);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
                if !line(number, Ok(text)) {
                    return;
                }
            }
            Err(e) => {
                line(number, Err(trouble_of_io(&e, Stage::Fetch)));
                return;
            }
        }
    }
}

/// Looks up what the rows name, several at a time, in order.
async fn add_rows(
    stores: &Stores,
    list: &Address,
    rows: Vec<Row>,
    excluded: &[Address],
    found: &mut Findings,
) -> Result<()> {
    let mut lookups = futures::stream::iter(rows)
        .map(|row| look_up(stores, list, row, excluded))
        .buffered(LOOKUPS);
    while let Some(fresh) = lookups.next().await {
        found.append(fresh?);
    }
    Ok(())
}

async fn look_up(
    stores: &Stores,
    list: &Address,
    row: Row,
    excluded: &[Address],
) -> Result<Findings> {
    // A fragment cannot meet another address: `#` is encoded in paths.
    let line_uri = format!("{}#line={}", list.uri(), row.line);
    let mut found = Findings::default();
    let (text, license) = match row.content {
        Ok(content) => content,
        Err(trouble) => {
            found.troubles.push((line_uri, trouble));
            return Ok(found);
        }
    };
    match list.within_list(&text) {
        Ok(Address::Local(path)) => {
            let excluded = local_paths(excluded);
            blocking(move || local::add_listed(path, license, &excluded)).await
        }
        Ok(Address::Web(url)) => Ok(web::add_listed(stores, &url, license).await),
        Ok(remote) => Ok(remote::add_listed(stores, &remote, license, excluded).await),
        Err(e) => {
            let message = e.to_string();
            let trouble = Trouble::new(Stage::Fetch, TroubleCode::Unsupported, message);
            found.troubles.push((line_uri, trouble));
            Ok(found)
        }
    }
}
