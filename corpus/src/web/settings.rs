//! Which web addresses may be read, and what one may cost: `[http]` of the settings.

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use crate::error::{Error, Result};

/// `[http]` of the settings: web addresses as inputs. Nothing is allowed unless a host is named,
/// since whoever submits a job chooses what the fleet's machines connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSettings {
    /// Hosts that may be read: `example.org`, `*.example.org` (any name below, not itself), or
    /// `example.org:8443`. Without a port only the scheme's own is allowed. Each must have public
    /// addresses only.
    pub hosts: Vec<String>,
    /// Further hosts, which may have private or loopback addresses: `files.internal`,
    /// `10.1.2.3:8080`; no patterns. Addresses of metadata services, link-local and multicast
    /// ones stay refused.
    pub private_hosts: Vec<String>,
    /// Allows `http://` beside `https://`.
    pub allow_http: bool,
    /// Most bytes of one answer; larger ones are `too_large`. More than 16 MiB go to a temporary
    /// file, so this much disk may be needed for each object that is read at a time.
    pub max_bytes: u64,
    /// Most redirects of one address. Each step is checked like the address itself.
    pub max_redirects: u32,
    /// How long finding a host and connecting to it may take.
    pub connect_timeout: Duration,
    /// How long a server may be silent while it answers.
    pub idle_timeout: Duration,
    /// How long reading one object may take altogether, with all attempts.
    pub total_timeout: Duration,
    /// Folder for temporary files; `None`: the system's.
    pub spool_folder: Option<PathBuf>,
}

impl Default for HttpSettings {
    /// Reads nothing, since no host is named.
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            private_hosts: Vec::new(),
            allow_http: false,
            max_bytes: 1 << 30,
            max_redirects: 5,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(600),
            spool_folder: None,
        }
    }
}

impl HttpSettings {
    /// Checks values; messages name the dotted key.
    pub fn validate(&self) -> Result<()> {
        self.patterns().map(drop)
    }

    /// Host patterns with whether private addresses are allowed for each.
    pub(super) fn patterns(&self) -> Result<Vec<HostPattern>> {
        let wrong = |key: &str, reason: String| Error::Settings {
            key: format!("http.{key}"),
            reason,
        };
        for (key, duration) in [
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout),
            ("total_timeout", self.total_timeout),
        ] {
            if duration.is_zero() {
                return Err(wrong(key, "must be more than 0".into()));
            }
        }
        if self.max_bytes == 0 {
            return Err(wrong("max_bytes", "must be more than 0".into()));
        }
        if self.max_redirects > 20 {
            return Err(wrong("max_redirects", "must be at most 20".into()));
        }
        let mut patterns = Vec::new();
        for text in &self.hosts {
            let pattern = HostPattern::parse(text, false).map_err(|e| wrong("hosts", e))?;
            patterns.push(pattern);
        }
        for text in &self.private_hosts {
            let pattern = HostPattern::parse(text, true).map_err(|e| wrong("private_hosts", e))?;
            patterns.push(pattern);
        }
        Ok(patterns)
    }
}

/// One allowed host, or all names below one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPattern {
    host: Host<String>,
    is_suffix: bool,
    /// `None`: the scheme's own.
    port: Option<u16>,
    pub(super) may_be_private: bool,
}

impl HostPattern {
    fn parse(text: &str, may_be_private: bool) -> Result<Self, String> {
        let wrong = |what: &str| format!("`{}` {what}", crate::error::scrub(text));
        let (is_suffix, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if is_suffix && may_be_private {
            return Err(wrong(
                "is a pattern; hosts with private addresses are named one by one",
            ));
        }
        let not_a_host = || wrong("is not a host such as example.org or *.example.org");
        // A bracketed IPv6 address has colons of its own.
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, Some(port)),
            _ => (rest, None),
        };
        let port = port
            .map(|port| port.parse().map_err(|_| not_a_host()))
            .transpose()?;
        let strange = |c: char| matches!(c, '/' | '@' | '?' | '#' | '*') || c.is_whitespace();
        if name.is_empty() || name.contains(strange) {
            return Err(not_a_host());
        }
        let host = Host::parse(name).map_err(|_| not_a_host())?;
        if is_suffix {
            match &host {
                Host::Domain(name) if name.contains('.') => {}
                Host::Domain(_) => return Err(wrong("allows all hosts of a top-level domain")),
                _ => return Err(not_a_host()),
            }
        }
        Ok(Self {
            host,
            is_suffix,
            port,
            may_be_private,
        })
    }

    /// Whether this allows `url`'s host and port.
    pub(super) fn allows(&self, url: &Url) -> bool {
        let port = match self.port {
            None => url.port().is_none(),
            Some(port) => url.port_or_known_default() == Some(port),
        };
        port && self.names(url.host())
    }

    /// Whether this is about a host, whatever the port.
    pub(super) fn names(&self, host: Option<Host<&str>>) -> bool {
        match (&self.host, host) {
            (Host::Domain(suffix), Some(Host::Domain(name))) if self.is_suffix => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
            (Host::Domain(own), Some(Host::Domain(name))) => own == name,
            (Host::Ipv4(own), Some(Host::Ipv4(ip))) => *own == ip,
            (Host::Ipv6(own), Some(Host::Ipv6(ip))) => *own == ip,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(hosts: &[&str], url: &str) -> bool {
        let settings = HttpSettings {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..HttpSettings::default()
        };
        let url = Url::parse(url).unwrap();
        let patterns = settings.patterns().unwrap();
        patterns.iter().any(|pattern| pattern.allows(&url))
    }

    #[test]
    fn only_named_hosts_and_ports_are_allowed() {
        let hosts = ["example.org", "*.data.example.org", "box.example.org:8443"];
        let check = |url: &str, wanted| assert_eq!(allows(&hosts, url), wanted, "{url}");
        check("https://example.org/a.pdf", true);
        check("https://EXAMPLE.org/a.pdf", true);
        check("http://example.org/a.pdf", true);
        check("https://example.org:443/a.pdf", true);
        check("https://example.org:8443/a.pdf", false);
        check("https://www.example.org/a.pdf", false);
        check("https://a.data.example.org/", true);
        check("https://a.b.data.example.org/", true);
        check("https://data.example.org/", false);
        check("https://evildata.example.org/", false);
        check("https://.data.example.org/", false);
        check("https://box.example.org:8443/", true);
        check("https://box.example.org/", false);
        check("https://example.org.evil.net/", false);
        check("https://evil.net/example.org", false);
        check("https://93.184.216.34/", false);
        assert!(allows(&["[2606:4700::1]"], "https://[2606:4700::1]/"));
        assert!(allows(&["93.184.216.34"], "https://93.184.216.34/"));
        // The same number in other clothes.
        assert!(!allows(&["127.0.0.1"], "http://[::ffff:127.0.0.1]/"));
        assert!(allows(&["127.0.0.1"], "http://2130706433/"));
        assert!(allows(
            &["bücher.example"],
            "https://xn--bcher-kva.example/"
        ));
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let check = |change: fn(&mut HttpSettings), key: &str| {
            let mut settings = HttpSettings::default();
            change(&mut settings);
            let message = settings.validate().unwrap_err().to_string();
            assert!(message.contains(key), "{message}");
            assert!(!message.contains("secret"), "{message}");
        };
        check(|s| s.hosts = vec!["*".into()], "http.hosts");
        check(|s| s.hosts = vec!["*.org".into()], "http.hosts");
        check(
            |s| s.hosts = vec!["https://example.org".into()],
            "http.hosts",
        );
        check(
            |s| s.hosts = vec!["https://me:secret@x".into()],
            "http.hosts",
        );
        check(|s| s.hosts = vec!["example.org:99999".into()], "http.hosts");
        check(|s| s.hosts = vec![String::new()], "http.hosts");
        check(|s| s.hosts = vec!["*.0.0.1".into()], "http.hosts");
        check(
            |s| s.private_hosts = vec!["*.internal.example".into()],
            "http.private_hosts",
        );
        check(|s| s.max_bytes = 0, "http.max_bytes");
        check(|s| s.idle_timeout = Duration::ZERO, "http.idle_timeout");
        check(|s| s.max_redirects = 21, "http.max_redirects");
        assert!(HttpSettings::default().validate().is_ok());
    }
}
