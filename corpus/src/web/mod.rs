//! Objects at web addresses, as inputs only.
//!
//! Whoever submits a job names addresses that machines of the fleet then connect to, so every
//! step is checked: the host against the settings, each network address at the moment of
//! connecting, each redirect like the address itself. Nothing is sent that could be a secret: no
//! credentials, no cookies, no referrer, and no proxy is used, since a proxy would choose the
//! address itself.

mod answer;
mod fetch;
mod guard;
mod names;
mod settings;
mod spool;

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use quire_core::{Stage, Trouble, TroubleCode};
use reqwest::redirect::Policy;
use reqwest::{Client, Method};
use url::{Host, Url};

use crate::error::{Error, Result, scrub};

pub use names::NameResolver;
pub(crate) use names::SystemNames;
use names::{CheckedNames, Refusal};
use settings::HostPattern;
pub use settings::HttpSettings;

/// Requests in flight at once, over all hosts.
const REQUESTS: usize = 32;

/// Reads web addresses under the rules of the settings.
#[derive(Debug)]
pub(crate) struct Web {
    settings: HttpSettings,
    patterns: Vec<HostPattern>,
    names: CheckedNames,
    /// Made when an address first needs it, since it loads the system's certificates.
    client: OnceLock<std::result::Result<Client, String>>,
    turns: tokio::sync::Semaphore,
}

impl Web {
    /// Checks the settings.
    pub(crate) fn open(settings: &HttpSettings, names: Arc<dyn NameResolver>) -> Result<Self> {
        let patterns = settings.patterns()?;
        Ok(Self {
            settings: settings.clone(),
            names: CheckedNames::new(names, &patterns),
            patterns,
            client: OnceLock::new(),
            turns: tokio::sync::Semaphore::new(REQUESTS),
        })
    }

    /// Whether the settings allow `url` as far as it can be told without asking anybody.
    pub(crate) fn allow(&self, url: &Url) -> Result<()> {
        self.refusal(url).map_or(Ok(()), |reason| {
            Err(Error::Address {
                address: scrub(url.as_str()),
                reason,
            })
        })
    }

    /// Why `url` may not be read, if it may not.
    fn refusal(&self, url: &Url) -> Option<String> {
        let is_plain = url.scheme() == "http";
        if !is_plain && url.scheme() != "https" {
            return Some("only https:// and http:// are read".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Some("credentials do not belong in an address".into());
        }
        let host = url.host();
        if !self.patterns.iter().any(|pattern| pattern.allows(url)) {
            let name = host.as_ref().map(ToString::to_string).unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}"));
            return Some(format!(
                "host {name}{} is not one of `http.hosts`",
                port.unwrap_or_default()
            ));
        }
        if is_plain && !self.settings.allow_http {
            return Some("http:// needs `http.allow_http = true`; use https://".into());
        }
        // The client asks no resolver about a host that is a number already.
        let number = match host {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        let refused = self.names.check(url.host(), number?).err()?;
        Some(refused.to_string())
    }

    fn client(&self) -> Result<&Client, Trouble> {
        let client = self.client.get_or_init(|| {
            Client::builder()
                .redirect(Policy::none())
                .no_proxy()
                .referer(false)
                .dns_resolver(self.names.clone())
                .connect_timeout(self.settings.connect_timeout)
                .read_timeout(self.settings.idle_timeout)
                .user_agent(concat!("quire/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|e| scrub(&e.to_string()))
        });
        client.as_ref().map_err(|reason| {
            let message = format!("no web client could be made: {reason}");
            Trouble::new(Stage::Fetch, TroubleCode::Other, message)
        })
    }
}

/// What `refused` means for the object behind it.
fn trouble_of_refusal(refused: &Refusal) -> Trouble {
    let code = match refused {
        Refusal::Address(_) => TroubleCode::Denied,
        // Names come and go with their servers; another day may go better.
        Refusal::Unknown => TroubleCode::Timeout,
    };
    Trouble::new(Stage::Fetch, code, refused.to_string())
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To see that the object is there.
    Look,
    /// The same, of a server that answers no `HEAD`.
    LookByGet,
    Read,
}

impl Purpose {
    fn method(self) -> Method {
        match self {
            Self::Look => Method::HEAD,
            Self::LookByGet | Self::Read => Method::GET,
        }
    }
}
