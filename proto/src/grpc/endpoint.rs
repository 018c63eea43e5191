//! Where coordinators are, and how to know them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use quire_core::Fault;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::calls::{CallError, Reason};

/// A coordinator that does not take a connection in this time is away.
const CONNECT: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A broken network shows within the sum of both, also when nothing is called.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the coordinators are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host:port`, or `http://` on loopback; several, separated by commas, are tried in
    /// turn.
    pub url: String,
    /// How to know the coordinator and be known by it; the system's roots and no certificate if
    /// unset.
    pub tls: Option<ClientTls>,
    /// Allows `http://` to other machines: whoever can listen there reads and changes everything.
    pub allow_plaintext: bool,
}

/// Certificates of the calling side, as PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Who signs coordinators; the system's roots if unset.
    pub ca_pem: Option<Vec<u8>>,
    /// The caller's own certificate chain.
    pub cert_pem: Option<Vec<u8>>,
    /// Its private key.
    pub key_pem: Option<Vec<u8>>,
    /// The name the coordinator's certificate must have; the URL's host if unset.
    pub server_name: Option<String>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("has_ca", &self.ca_pem.is_some())
            .field("has_certificate", &self.cert_pem.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    /// One lazy channel for each URL.
    pub(super) fn channels(&self) -> Result<Vec<(String, Channel)>, CallError> {
        let urls: Vec<&str> = self
            .url
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .collect();
        if urls.is_empty() {
            return Err(wrong("the URL of the coordinator is empty"));
        }
        urls.into_iter()
            .map(|url| Ok((url.to_owned(), self.channel(url)?)))
            .collect()
    }

    fn channel(&self, url: &str) -> Result<Channel, CallError> {
        let endpoint = Channel::from_shared(url.to_owned())
            .map_err(|_| wrong(format!("{url} is not a URL; write https://host:port")))?;
        let uri = endpoint.uri();
        let Some(host) = uri.host() else {
            return Err(wrong(format!(
                "{url} names no host; write https://host:port"
            )));
        };
        let host = host.to_owned();
        let endpoint = match uri.scheme_str() {
            Some("https") => endpoint
                .tls_config(self.tls_config(&host)?)
                .map_err(|error| CallError::new(Reason::IdentityUnknown, told(url, &error)))?,
            Some("http") if self.allow_plaintext || is_loopback(&host) => endpoint,
            Some("http") => {
                return Err(wrong(format!(
                    "{url} would be spoken to without TLS from another machine: write https://, \
                     or allow plaintext if nobody else can reach this network"
                )));
            }
            _ => {
                return Err(wrong(format!(
                    "{url} has a scheme that coordinators do not speak; write https://host:port"
                )));
            }
        };
        let endpoint = endpoint
            .user_agent(concat!("quire/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| wrong(told(url, &error)))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        Ok(endpoint.connect_lazy())
    }

    fn tls_config(&self, host: &str) -> Result<ClientTlsConfig, CallError> {
        let tls = self.tls.clone().unwrap_or_default();
        let name = tls.server_name.as_deref().unwrap_or(host);
        let mut config = ClientTlsConfig::new()
            .domain_name(name.trim_start_matches('[').trim_end_matches(']'))
            .timeout(HANDSHAKE);
        config = match tls.ca_pem {
            Some(pem) => {
                must_hold(&pem, "CERTIFICATE", "the file of the coordinator's CA")?;
                config.ca_certificate(Certificate::from_pem(pem))
            }
            None => config.with_native_roots(),
        };
        match (tls.cert_pem, tls.key_pem) {
            (Some(cert), Some(key)) => {
                must_hold(&cert, "CERTIFICATE", "the caller's certificate file")?;
                must_hold(&key, "PRIVATE KEY", "the caller's key file")?;
                Ok(config.identity(Identity::from_pem(cert, key)))
            }
            (None, None) => Ok(config),
            (Some(_), None) => Err(identity("the caller's certificate is set without its key")),
            (None, Some(_)) => Err(identity("the caller's key is set without its certificate")),
        }
    }
}

/// A PEM file without the thing it is read for would only show as a failed handshake.
fn must_hold(pem: &[u8], what: &str, file: &str) -> Result<(), CallError> {
    let text = String::from_utf8_lossy(pem);
    let holds = text
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.contains(what));
    if holds {
        Ok(())
    } else {
        Err(identity(format!("{file} holds no {what} in PEM")))
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A wrong setting of the calling side.
fn wrong(message: impl Into<String>) -> CallError {
    let mut error = CallError::new(Reason::Malformed, message);
    error.fault = Fault::Config;
    error
}

fn identity(message: impl Into<String>) -> CallError {
    CallError::new(Reason::IdentityUnknown, message)
}

fn told(url: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{url}: {error}");
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(url: &str, allow_plaintext: bool) -> Result<usize, CallError> {
        let endpoint = Endpoint {
            url: url.to_owned(),
            tls: None,
            allow_plaintext,
        };
        endpoint.channels().map(|channels| channels.len())
    }

    #[tokio::test]
    async fn plaintext_stays_on_this_machine_unless_it_is_allowed() {
        for url in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            assert_eq!(channels(url, false), Ok(1), "{url}");
        }
        for url in ["http://10.0.0.1:7420", "http://coordinator:7420"] {
            let error = channels(url, false).unwrap_err();
            assert_eq!(error.fault, Fault::Config);
            assert!(error.message.contains("https://"), "{error}");
            assert_eq!(channels(url, true), Ok(1));
        }
    }

    #[tokio::test]
    async fn several_urls_are_several_ways() {
        let url = "http://127.0.0.1:1, http://127.0.0.1:2,";
        assert_eq!(channels(url, false), Ok(2));
    }

    #[tokio::test]
    async fn what_is_no_url_is_a_wrong_setting() {
        for url in [
            "",
            " , ",
            "coordinator:7420",
            "ftp://a:1",
            "http://",
            "7420",
            "http://a b",
        ] {
            let error = channels(url, true).unwrap_err();
            assert_eq!(error.fault, Fault::Config, "{url}: {error}");
        }
    }

    #[tokio::test]
    async fn half_an_identity_is_a_wrong_setting() {
        let pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
        for tls in [
            ClientTls {
                cert_pem: Some(pem.clone()),
                ..Default::default()
            },
            ClientTls {
                key_pem: Some(pem.clone()),
                ..Default::default()
            },
            ClientTls {
                ca_pem: Some(b"not a certificate".to_vec()),
                ..Default::default()
            },
        ] {
            let endpoint = Endpoint {
                url: "https://coordinator:7420".to_owned(),
                tls: Some(tls),
                allow_plaintext: false,
            };
            let error = endpoint.channels().unwrap_err();
            assert_eq!(error.fault, Fault::Config, "{error}");
        }
    }
}
