//! Addresses of objects: what people type, and the one canonical URI that stands for it in rows.
//!
//! A local path becomes `file:///absolute/path` with every byte outside a small safe set percent
//! encoded, so that names in any script, with line breaks or without valid UTF-8, come back
//! unchanged. Keys of object stores are taken and shown literally, as the stores' own command
//! lines do.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::error::{Error, Result, scrub};
use crate::secrets::query_holds_secret;

const NO_CREDENTIALS: &str = "credentials do not belong in an address";
const NO_SIGNED_QUERIES: &str =
    "a signature, token or key does not belong in an address, since addresses are kept";
const NO_LOCAL_FILES: &str = "a list that lies elsewhere cannot name files of this machine";

/// Which protocol an object store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// S3 and compatible stores: `s3://bucket/key`.
    S3,
    /// Google Cloud Storage: `gs://bucket/key`.
    Gcs,
    /// Azure Blob Storage: `az://container/key`.
    Azure,
}

impl Scheme {
    /// The canonical spelling in URIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "s3" | "s3a" => Some(Self::S3),
            "gs" | "gcs" => Some(Self::Gcs),
            "az" | "azure" => Some(Self::Azure),
            _ => None,
        }
    }
}

/// Where an object, a folder or a prefix lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An absolute path of the local file system without `.` and `..`.
    Local(PathBuf),
    /// A key or prefix in a bucket; the key has no leading slash.
    Remote {
        scheme: Scheme,
        bucket: String,
        key: String,
    },
    /// An `https://` or `http://` address without credentials and fragment: an input only. Which
    /// hosts may be read is for the settings to say.
    Web(Url),
}

impl Address {
    /// Understands a URI or a plain local path (relative ones from the working directory).
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |reason: &str| Error::Address {
            address: scrub(text),
            reason: reason.to_owned(),
        };
        if text.is_empty() {
            return Err(refuse("is empty"));
        }
        let Some((scheme, rest)) = split_scheme(text) else {
            return Self::local(Path::new(text));
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(refuse("a file URI needs an absolute path: file:///path"));
                }
                let bytes = percent_decode(path).ok_or_else(|| refuse("bad percent encoding"))?;
                Self::local(Path::new(&OsString::from_vec(bytes)))
            }
            "http" | "https" => web(text),
            _ => {
                let scheme = Scheme::parse(&scheme)
                    .ok_or_else(|| refuse("scheme is not one of file, s3, gs, az"))?;
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.contains('@') {
                    return Err(refuse(NO_CREDENTIALS));
                }
                if bucket.is_empty() || bucket.contains(['?', '#', ':', '%']) {
                    return Err(refuse("names no bucket"));
                }
                if query_holds_secret(key) {
                    return Err(refuse(NO_SIGNED_QUERIES));
                }
                Ok(Self::Remote {
                    scheme,
                    bucket: bucket.to_owned(),
                    key: key.to_owned(),
                })
            }
        }
    }

    /// A local path made absolute.
    ///
    /// `..` is resolved through the file system where the path exists, since after a symbolic
    /// link it does not mean what the text suggests.
    pub fn local(path: &Path) -> Result<Self> {
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(Error::Address {
                address: path.to_string_lossy().into_owned(),
                reason: "a path cannot hold a zero byte".into(),
            });
        }
        let absolute = std::path::absolute(path).map_err(|source| Error::Local {
            path: path.to_owned(),
            source,
        })?;
        if !absolute
            .components()
            .any(|part| part == Component::ParentDir)
        {
            return Ok(Self::Local(absolute.components().collect()));
        }
        if let Ok(real) = std::fs::canonicalize(&absolute) {
            return Ok(Self::Local(real));
        }
        let mut plain = PathBuf::new();
        for part in absolute.components() {
            match part {
                Component::ParentDir => {
                    plain.pop();
                }
                Component::CurDir => {}
                other => plain.push(other),
            }
        }
        Ok(Self::Local(plain))
    }

    /// The canonical URI: no credentials, no relative parts; a query only of a web address, and
    /// only one that holds nothing secret.
    pub fn uri(&self) -> String {
        match self {
            Self::Local(path) => {
                format!("file://{}", percent_encode(path.as_os_str().as_bytes()))
            }
            Self::Remote {
                scheme,
                bucket,
                key,
            } => {
                format!("{}://{bucket}/{key}", scheme.as_str())
            }
            Self::Web(url) => url.as_str().to_owned(),
        }
    }

    /// The address of `text` as a list at this address means it: absolute as it stands, relative
    /// from the folder that holds the list.
    pub fn within_list(&self, text: &str) -> Result<Self> {
        if split_scheme(text).is_some() {
            let address = Self::parse(text)?;
            if !matches!(self, Self::Local(_)) && matches!(address, Self::Local(_)) {
                return Err(Error::Address {
                    address: scrub(text),
                    reason: NO_LOCAL_FILES.into(),
                });
            }
            return Ok(address);
        }
        if query_holds_secret(text) {
            return Err(Error::Address {
                address: scrub(text),
                reason: NO_SIGNED_QUERIES.into(),
            });
        }
        match self {
            Self::Web(list) => match list.join(text) {
                Ok(url) => web(url.as_str()),
                Err(_) => Err(Error::Address {
                    address: scrub(text),
                    reason: "is no web address".into(),
                }),
            },
            Self::Local(list) => {
                let folder = list.parent().unwrap_or(Path::new("/"));
                Self::local(&folder.join(text))
            }
            Self::Remote {
                scheme,
                bucket,
                key,
            } => {
                let refuse = |reason: &str| Error::Address {
                    address: text.to_owned(),
                    reason: reason.to_owned(),
                };
                if text.starts_with('/') {
                    return Err(refuse(NO_LOCAL_FILES));
                }
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                let mut parts: Vec<&str> =
                    folder.split('/').filter(|part| !part.is_empty()).collect();
                for part in text.split('/') {
                    match part {
                        "" | "." => {}
                        ".." => {
                            parts
                                .pop()
                                .ok_or_else(|| refuse("climbs out of the bucket"))?;
                        }
                        other => parts.push(other),
                    }
                }
                Ok(Self::Remote {
                    scheme: *scheme,
                    bucket: bucket.clone(),
                    key: parts.join("/"),
                })
            }
        }
    }
}

/// Splits `scheme://rest`; `None` for plain paths.
pub(crate) fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let mut letters = scheme.chars();
    let starts = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    let goes_on = letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (starts && goes_on).then_some((scheme, rest))
}

/// Understands a web address.
fn web(text: &str) -> Result<Address> {
    let refuse = |address: String, reason: &str| Error::Address {
        address,
        reason: reason.to_owned(),
    };
    // What cannot be parsed may hold a password anywhere, so none of it is shown.
    let mut url = Url::parse(text).map_err(|_| {
        refuse(
            "https://...".to_owned(),
            "cannot be understood as an address",
        )
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse(scrub(url.as_str()), NO_CREDENTIALS));
    }
    if query_holds_secret(url.as_str()) {
        return Err(refuse(scrub(url.as_str()), NO_SIGNED_QUERIES));
    }
    url.set_fragment(None);
    Ok(Address::Web(url))
}

/// Everything but unreserved characters, the slash and a few harmless signs becomes `%XX`.
pub(crate) fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/!$&'()+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Undoes percent encoding; `None` if a `%` is not followed by two hex digits.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digits = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri_of(text: &str) -> String {
        Address::parse(text)
            .map(|address| address.uri())
            .unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn odd_names_survive_as_uris() {
        for name in [
            "a b%20.pdf",
            "..x",
            "发票 2024.pdf",
            "line\nbreak",
            "q?x=1#y",
            "tab\t",
            "%",
        ] {
            let path = PathBuf::from("/tmp/corpus").join(name);
            let address = Address::local(&path).unwrap();
            let uri = address.uri();
            assert!(
                uri.is_ascii() && !uri.contains(['\n', ' ', '#', '?']),
                "{uri}"
            );
            assert_eq!(Address::parse(&uri).unwrap(), Address::Local(path));
        }
        let bytes = PathBuf::from(OsString::from_vec(b"/x/\xff\xfe.pdf".to_vec()));
        let address = Address::local(&bytes).unwrap();
        assert_eq!(address.uri(), "file:///x/%FF%FE.pdf");
        assert_eq!(Address::parse("file:///x/%FF%FE.pdf").unwrap(), address);
    }

    #[test]
    fn spellings_meet_in_one_uri() {
        assert_eq!(uri_of("/a/./b//c.pdf"), "file:///a/b/c.pdf");
        assert_eq!(uri_of("file://localhost/a/b/c.pdf"), "file:///a/b/c.pdf");
        assert_eq!(uri_of("/nowhere/x/../b.pdf"), "file:///nowhere/b.pdf");
        assert_eq!(
            uri_of("s3a://bucket/a b/发票.pdf"),
            "s3://bucket/a b/发票.pdf"
        );
        assert_eq!(uri_of("S3://bucket"), "s3://bucket/");
        assert_eq!(uri_of("azure://box/k"), "az://box/k");
        assert_eq!(
            uri_of("HTTPS://Example.ORG:443/a/../b c.pdf?id=3#page=2"),
            "https://example.org/b%20c.pdf?id=3"
        );
    }

    #[test]
    fn bad_addresses_say_why_without_their_secrets() {
        let check = |text: &str, wanted: &str| {
            let said = uri_of(text);
            assert!(said.contains(wanted), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        };
        check("", "empty");
        check("https://host/a?sig=secret", "does not belong");
        check(
            "https://host/a?x=1&X-Amz-Signature=secret",
            "does not belong",
        );
        check(
            "https://box/a?sv=2024&se=2030&sig=secret%3D",
            "does not belong",
        );
        check("https://me:secret@host/a", "credentials");
        check("https://secret@host/a", "credentials");
        check("https://me:sec/secret@host/a", "cannot be understood");
        check("https://ho st/secret", "cannot be understood");
        check("ftp://host/a", "scheme is not one of");
        check("s3://key:secret@bucket/a", "credentials");
        check("s3://bucket/a?X-Amz-Signature=secret", "does not belong");
        check("az://box/a?sv=2024&sig=secret", "does not belong");
        check("s3:///a", "names no bucket");
        check("file:///a%zz", "percent");
        check("file://host/a", "absolute path");
    }

    #[test]
    fn lists_mean_paths_from_their_own_place() {
        let local = Address::Local("/data/lists/all.txt".into());
        let remote = Address::parse("s3://b/lists/all.txt").unwrap();
        let uri = |list: &Address, text| list.within_list(text).map(|a| a.uri());
        assert_eq!(
            uri(&local, "x/y.pdf").unwrap(),
            "file:///data/lists/x/y.pdf"
        );
        assert_eq!(uri(&local, "/abs.pdf").unwrap(), "file:///abs.pdf");
        assert_eq!(uri(&remote, "../x.pdf").unwrap(), "s3://b/x.pdf");
        assert_eq!(uri(&remote, "gs://c/x.pdf").unwrap(), "gs://c/x.pdf");
        assert!(uri(&remote, "../../x.pdf").is_err());
        assert!(uri(&remote, "/etc/passwd").is_err());
        assert!(uri(&remote, "file:///etc/passwd").is_err());
        let web = Address::parse("https://example.org/lists/all.txt").unwrap();
        assert_eq!(
            uri(&web, "x.pdf").unwrap(),
            "https://example.org/lists/x.pdf"
        );
        assert_eq!(uri(&web, "/y.pdf").unwrap(), "https://example.org/y.pdf");
        assert_eq!(uri(&web, "s3://b/z.pdf").unwrap(), "s3://b/z.pdf");
        assert!(uri(&web, "file:///etc/passwd").is_err());
        for list in [&local, &remote, &web] {
            let said = uri(list, "a.pdf?X-Amz-Signature=secret").unwrap_err();
            assert!(!said.to_string().contains("secret"), "{said}");
        }
    }
}
