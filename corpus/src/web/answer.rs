//! What a server's answer says about an object. Pure but for reading headers.

use std::time::Duration;

use quire_core::{Stage, Trouble, TroubleCode};
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use super::names::Refusal;
use super::trouble_of_refusal;
use crate::object::check_etag;

/// Stands before a time of last change that serves as the entity tag of an object without one.
const MODIFIED: &str = "modified ";
/// Longest entity tag that is kept.
const ETAG_BYTES: usize = 256;
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebMeta {
    /// 0 if the server does not say.
    pub(crate) bytes: u64,
    /// Its entity tag, or else its time of last change.
    pub(crate) etag: Option<String>,
}

/// An attempt that brought nothing.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) trouble: Trouble,
    /// Another attempt makes sense, after so long at least.
    pub(super) again: Option<Duration>,
}

impl Failed {
    pub(super) fn lasting(code: TroubleCode, message: impl Into<String>) -> Self {
        Self {
            trouble: Trouble::new(Stage::Fetch, code, message),
            again: None,
        }
    }

    pub(super) fn passing(code: TroubleCode, message: impl Into<String>) -> Self {
        Self {
            again: Some(Duration::ZERO),
            ..Self::lasting(code, message)
        }
    }
}

impl WebMeta {
    pub(super) fn of(response: &Response) -> Self {
        let headers = response.headers();
        let length = text(headers, CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let modified = || text(headers, LAST_MODIFIED).map(|time| format!("{MODIFIED}{time}"));
        Self {
            bytes: length.unwrap_or(0),
            etag: text(headers, ETAG).map(str::to_owned).or_else(modified),
        }
    }
}

/// Refuses an object that has changed since it was listed as `known`.
pub(super) fn check_unchanged(known: Option<&str>, response: &Response) -> Result<(), Failed> {
    let Some(known) = known else { return Ok(()) };
    let header = match known.strip_prefix(MODIFIED) {
        Some(_) => text(response.headers(), LAST_MODIFIED),
        None => text(response.headers(), ETAG),
    };
    let known = known.strip_prefix(MODIFIED).unwrap_or(known);
    check_etag(Some(known), header).map_err(|trouble| Failed {
        trouble,
        again: None,
    })
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= ETAG_BYTES).then_some(text)
}

/// What an answer means that does not carry the object.
pub(super) fn failed_status(response: &Response) -> Failed {
    let status = response.status();
    // The server's own words may differ from one answer to the next; rows should not.
    let message = format!("the server answered {status}");
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Failed::lasting(TroubleCode::NotFound, message),
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => {
            Failed::lasting(TroubleCode::Denied, message)
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => again(response, message),
        status if status.is_server_error() => again(response, message),
        _ => Failed::lasting(TroubleCode::Other, message),
    }
}

fn again(response: &Response, message: String) -> Failed {
    let asked = text(response.headers(), RETRY_AFTER).and_then(|after| after.parse().ok());
    let wait = Duration::from_secs(asked.unwrap_or(0));
    Failed {
        // Who asks for more than we wait has no object for us now.
        again: (wait <= LONGEST_WAIT).then_some(wait),
        ..Failed::lasting(TroubleCode::Timeout, message)
    }
}

/// What a failure to connect or to get an answer means. The address never enters the message.
pub(super) fn failed_request(error: &reqwest::Error) -> Failed {
    let mut at = std::error::Error::source(error);
    while let Some(source) = at {
        if let Some(refused) = source.downcast_ref::<Refusal>() {
            let trouble = trouble_of_refusal(refused);
            let again = (trouble.code == TroubleCode::Timeout).then_some(Duration::ZERO);
            return Failed { trouble, again };
        }
        at = source.source();
    }
    let message = if error.is_timeout() {
        "the server did not answer in time"
    } else if error.is_connect() {
        "no connection to the server"
    } else {
        "the server gave no answer that could be understood"
    };
    Failed::passing(TroubleCode::Timeout, message)
}
