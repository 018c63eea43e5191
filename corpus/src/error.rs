//! What stops listing or opening as a whole. Trouble with one object or document is data
//! (`quire_core::Trouble`) and never ends up here.

use std::path::PathBuf;

use quire_core::{Fault, Faulty};
use thiserror::Error;

use crate::secrets::query_holds_secret;

/// Shorthand for this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why inputs could not be listed or a store could not be opened.
#[derive(Debug, Error)]
pub enum Error {
    /// No object lies at an input, or no name matches its pattern.
    #[error("input {input:?} matches nothing: {reason}")]
    NothingFound { input: String, reason: String },
    /// An address that cannot be understood or is refused.
    #[error("address {address:?}: {reason}")]
    Address { address: String, reason: String },
    /// A setting of a store is wrong.
    #[error("setting {key}: {reason}")]
    Settings { key: String, reason: String },
    /// A store refused or failed as a whole.
    #[error("store of {uri}: {message}")]
    Store {
        uri: String,
        message: String,
        lasting: bool,
    },
    /// The local file system refused or failed as a whole.
    #[error("local path {}", path.display())]
    Local {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A thread of ours ended without an answer.
    #[error("listing ended without an answer: {reason}")]
    Lost { reason: String },
}

impl Error {
    /// A failure of an object store at `uri`; credentials never enter the message.
    pub(crate) fn store(uri: &str, source: &object_store::Error) -> Self {
        let message = scrub(&source.to_string());
        let is_refused = matches!(
            source,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        );
        let holds = |signs: &[&str]| signs.iter().any(|sign| message.contains(sign));
        // None of these has a variant of its own where a bucket is listed.
        let is_missing = holds(&["NoSuchBucket", "ContainerNotFound", "404 Not Found"]);
        let is_refused = is_refused || holds(&["403 Forbidden", "401 Unauthorized"]);
        let is_elsewhere = holds(&["incorrectly configured region"]);
        let what = if is_missing {
            "there is no such bucket"
        } else if is_refused {
            "access is denied with the credentials of this environment"
        } else if is_elsewhere {
            "the bucket is in another region than the settings say"
        } else {
            ""
        };
        Self::Store {
            uri: uri.to_owned(),
            lasting: !what.is_empty(),
            message: match (what, code_of(&message)) {
                ("", _) => message,
                (what, Some(code)) => format!("{what} ({code})"),
                (what, None) => what.to_owned(),
            },
        }
    }
}

/// The word for programs in a store's answer: `<Code>AccessDenied</Code>`.
fn code_of(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(code)
}

impl Faulty for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::NothingFound { .. }
            | Self::Address { .. }
            | Self::Settings { .. }
            | Self::Store { lasting: true, .. }
            | Self::Local { .. } => Fault::Config,
            Self::Store { .. } => Fault::Unavailable,
            Self::Lost { .. } => Fault::Bug,
        }
    }
}

/// Takes queries and user names out of the addresses in a message, since both may hold secrets.
pub(crate) fn scrub(message: &str) -> String {
    let mut clean = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.find("://") {
        clean.push_str(&rest[..at + 3]);
        rest = &rest[at + 3..];
        let ends_address = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ')' | '>');
        let end = rest.find(ends_address).unwrap_or(rest.len());
        let address = &rest[..end];
        // A fragment may hold a token, too, but also be a part of a key.
        let fragment = address.find('#').filter(|at| address[*at..].contains('='));
        let query = address.find('?').unwrap_or(address.len());
        let query = fragment.map_or(query, |at| at.min(query));
        let authority = address[..query].find('/').unwrap_or(query);
        let host = address[..authority].rfind('@').map_or(0, |at| at + 1);
        clean.push_str(&address[host..query]);
        rest = &rest[end..];
    }
    clean.push_str(rest);
    // What has no scheme, because somebody left it out.
    if query_holds_secret(&clean)
        && let Some((before, _)) = clean.split_once('?')
    {
        return before.to_owned();
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::scrub;

    #[test]
    fn messages_lose_queries_and_user_names() {
        let check = |from: &str, to: &str| assert_eq!(scrub(from), to);
        check("no address", "no address");
        check("GET https://h/p?sig=abc failed", "GET https://h/p failed");
        check(
            "at (https://me:pw@h/p/q?x=1) and s3://b/k",
            "at (https://h/p/q) and s3://b/k",
        );
        check("https://h?sig=a", "https://h");
        check("https://h/a#access_token=b", "https://h/a");
        check("s3://b/what#1.pdf", "s3://b/what#1.pdf");
        check("h/p?X-Amz-Signature=abc", "h/p");
    }
}
