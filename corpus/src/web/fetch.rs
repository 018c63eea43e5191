//! Requests: one address, its redirects, and another attempt where that makes sense.

use std::time::Duration;

use quire_core::{Stage, Trouble, TroubleCode};
use reqwest::header::{ACCEPT_ENCODING, LOCATION};
use reqwest::{Response, StatusCode};
use url::Url;

use super::answer::{Failed, WebMeta, check_unchanged, failed_request, failed_status};
use super::spool::Spool;
use super::{Purpose, Web, trouble_of_refusal};
use crate::object::Object;

/// Waits between attempts: a server that restarts is back, and one that is overloaded is not
/// made worse.
const WAITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// An object, or what is known of it.
struct Answer {
    meta: WebMeta,
    object: Option<Object>,
}

impl Web {
    /// Looks whether the object is there.
    pub(crate) async fn look(&self, url: &Url) -> Result<WebMeta, Trouble> {
        let looked = self.ask(url, Purpose::Look, None).await;
        let Err(refused) = &looked else {
            return looked.map(|answer| answer.meta);
        };
        // Some servers answer no HEAD, or sign only what is read.
        if matches!(refused.code, TroubleCode::Denied | TroubleCode::Other) {
            let read = self.ask(url, Purpose::LookByGet, None).await;
            return read.map(|answer| answer.meta);
        }
        looked.map(|answer| answer.meta)
    }

    /// Reads the object whole and refuses it if it has changed since it was listed.
    ///
    /// Large objects are written to a file as they come, which blocks: for threads that may.
    pub(crate) async fn read(
        &self,
        url: &Url,
        known_etag: Option<&str>,
    ) -> Result<Object, Trouble> {
        let answer = self.ask(url, Purpose::Read, known_etag).await?;
        let nothing = || Trouble::new(Stage::Fetch, TroubleCode::Other, "nothing was read");
        answer.object.ok_or_else(nothing)
    }

    /// Asks until there is an answer that lasts, or no more time.
    async fn ask(
        &self,
        url: &Url,
        purpose: Purpose,
        known_etag: Option<&str>,
    ) -> Result<Answer, Trouble> {
        let attempts = async {
            let mut waits = WAITS.into_iter();
            loop {
                let failed = match self.attempt(url, purpose, known_etag).await {
                    Ok(answer) => return Ok(answer),
                    Err(failed) => failed,
                };
                let (Some(asked), Some(wait)) = (failed.again, waits.next()) else {
                    return Err(failed.trouble);
                };
                tokio::time::sleep(wait.max(asked)).await;
            }
        };
        let in_time = tokio::time::timeout(self.settings.total_timeout, attempts).await;
        in_time.unwrap_or_else(|_| {
            let message = "reading takes longer than `http.total_timeout`";
            Err(Trouble::new(Stage::Fetch, TroubleCode::Timeout, message))
        })
    }

    async fn attempt(
        &self,
        url: &Url,
        purpose: Purpose,
        known_etag: Option<&str>,
    ) -> Result<Answer, Failed> {
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|_| Failed::lasting(TroubleCode::Other, "reading has ended"))?;
        let response = self.follow(url, purpose).await?;
        if !matches!(
            response.status(),
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION
        ) {
            return Err(failed_status(&response));
        }
        let meta = WebMeta::of(&response);
        let object = match purpose {
            Purpose::Look | Purpose::LookByGet => None,
            Purpose::Read => {
                check_unchanged(known_etag, &response)?;
                Some(self.body(response, meta.bytes).await?)
            }
        };
        Ok(Answer { meta, object })
    }

    /// The answer at the end of all redirects.
    async fn follow(&self, url: &Url, purpose: Purpose) -> Result<Response, Failed> {
        let mut at = url.clone();
        for _ in 0..=self.settings.max_redirects {
            if let Some(reason) = self.refusal(&at) {
                let whither = if at == *url { "" } else { "a redirect: " };
                return Err(Failed::lasting(
                    TroubleCode::Denied,
                    format!("{whither}{reason}"),
                ));
            }
            let client = self.client().map_err(|trouble| Failed {
                trouble,
                again: None,
            })?;
            let request = client
                .request(purpose.method(), at.clone())
                // Bytes as they are: packing on the way would change sizes and tags.
                .header(ACCEPT_ENCODING, "identity");
            let response = request.send().await.map_err(|e| failed_request(&e))?;
            // Cannot fail while the client asks our resolver; if it ever stops, nothing leaks.
            if let Some(peer) = response.remote_addr() {
                let checked = self.names.check(at.host(), peer.ip());
                checked.map_err(|refused| Failed {
                    trouble: trouble_of_refusal(&refused),
                    again: None,
                })?;
            }
            match redirect(&at, &response)? {
                Some(next) => at = next,
                None => return Ok(response),
            }
        }
        let message = "more redirects than `http.max_redirects`";
        Err(Failed::lasting(TroubleCode::Other, message))
    }

    async fn body(&self, mut response: Response, stated: u64) -> Result<Object, Failed> {
        let too_large = || {
            let most = self.settings.max_bytes;
            let message = format!("the answer is larger than `http.max_bytes` ({most})");
            Failed::lasting(TroubleCode::TooLarge, message)
        };
        if stated > self.settings.max_bytes {
            return Err(too_large());
        }
        let mut spool = Spool::new(self.settings.spool_folder.clone());
        loop {
            let chunk = response.chunk().await.map_err(|e| {
                if e.is_timeout() {
                    let message = "the server fell silent while it answered";
                    return Failed::passing(TroubleCode::Timeout, message);
                }
                Failed::passing(TroubleCode::Truncated, "the answer ends before its end")
            })?;
            let Some(chunk) = chunk else {
                return Ok(spool.into_object());
            };
            if spool.len() + chunk.len() as u64 > self.settings.max_bytes {
                return Err(too_large());
            }
            spool.write(&chunk).map_err(|e| {
                let message = format!("no room for a temporary file: {e}");
                Failed::lasting(TroubleCode::Other, message)
            })?;
        }
    }
}

/// Where an answer sends us, if it does.
fn redirect(at: &Url, response: &Response) -> Result<Option<Url>, Failed> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION);
    let next = location
        .and_then(|location| location.to_str().ok())
        .and_then(|location| at.join(location).ok());
    let Some(mut next) = next else {
        let message = "a redirect that leads nowhere";
        return Err(Failed::lasting(TroubleCode::Other, message));
    };
    if at.scheme() == "https" && next.scheme() != "https" {
        let message = "a redirect from https to something less";
        return Err(Failed::lasting(TroubleCode::Denied, message));
    }
    next.set_fragment(None);
    Ok(Some(next))
}
