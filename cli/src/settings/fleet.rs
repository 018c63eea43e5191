//! The sections of a fleet: `[fleet]`, `[coordinator]`, `[worker]` and `[http]`. What a key means
//! stands in `configs/default.toml`, once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::sections::{Problems, set};
use super::units::{Size, Span};

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpSettings {
    pub hosts: Vec<String>,
    pub private_hosts: Vec<String>,
    pub allow_http: bool,
    pub connect_timeout: Span,
    pub idle_timeout: Span,
    pub total_timeout: Span,
}

impl HttpSettings {
    /// Which web addresses may be read; `max_bytes` is what any input may have, and `spool` where
    /// large ones wait.
    pub(crate) fn allowed(
        &self,
        max_bytes: u64,
        spool: Option<PathBuf>,
    ) -> quire_corpus::HttpSettings {
        quire_corpus::HttpSettings {
            hosts: self.hosts.clone(),
            private_hosts: self.private_hosts.clone(),
            allow_http: self.allow_http,
            max_bytes,
            connect_timeout: self.connect_timeout.0,
            idle_timeout: self.idle_timeout.0,
            total_timeout: self.total_timeout.0,
            spool_folder: spool,
            ..quire_corpus::HttpSettings::default()
        }
    }
}

/// `[fleet]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FleetSettings {
    pub coordinator: String,
    pub ca_file: String,
    pub cert_file: String,
    pub key_file: String,
    pub server_name: String,
    pub allow_plaintext: bool,
}

impl FleetSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        let addresses = self.coordinator.split(',').map(str::trim);
        let fine = |address: &str| {
            let rest = address.strip_prefix("https://");
            let rest = rest.or_else(|| address.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains('@'))
        };
        problems.unless(
            addresses.clone().all(fine),
            "fleet.coordinator",
            "must be an address such as \"https://coordinator.example.org:7420\"",
        );
        problems.unless(
            self.cert_file.is_empty() == self.key_file.is_empty(),
            "fleet.cert_file",
            "and `fleet.key_file` must be set together",
        );
    }

    /// Whether every coordinator listens on this machine alone, so that paths mean the same to
    /// all who read them.
    pub(crate) fn is_on_this_machine(&self) -> bool {
        let mut addresses = self.coordinator.split(',').map(str::trim);
        addresses.all(|address| {
            let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
            let authority = rest.split('/').next().unwrap_or(rest);
            let host = match authority.strip_prefix('[') {
                Some(rest) => rest.split(']').next().unwrap_or(rest),
                None => authority
                    .rsplit_once(':')
                    .map_or(authority, |(host, _)| host),
            };
            let ip = host.parse::<std::net::IpAddr>();
            host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
        })
    }
}

/// `[coordinator]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoordinatorSettings {
    pub listen: String,
    pub store: String,
    pub metrics_listen: String,
    pub scratch: String,
    pub cert_file: String,
    pub key_file: String,
    pub client_ca_file: String,
    pub allow_plaintext: bool,
    pub identities: Vec<IdentitySettings>,
    pub heartbeat_period: Span,
    pub session_ttl: Span,
    pub progress_timeout: Span,
    pub reap_period: Span,
    pub publish_period: Span,
    pub quarantine_pause: f64,
    pub oldest_worker: String,
}

/// One of `[[coordinator.identities]]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdentitySettings {
    /// Common name, DNS name or URI of the certificate.
    pub identity: String,
    pub roles: BTreeSet<RoleName>,
    #[serde(default)]
    pub tenant: Option<String>,
}

/// What an identity may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoleName {
    Submitter,
    Worker,
    Admin,
}

/// What stands before the path of a SQLite database.
pub(crate) const SQLITE: &str = "sqlite:";

/// Where a coordinator keeps what it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreAddress {
    /// A file of this machine, used by one coordinator.
    Sqlite(PathBuf),
    /// A database server, without a password.
    Postgres(String),
}

impl StoreAddress {
    /// Understands `sqlite:PATH` and `postgres://user@host/database`.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(path) = text.strip_prefix(SQLITE) {
            // `sqlite:///path`, as other tools write it, means `/path`.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err("names no file; write it \"sqlite:PATH\"")
            } else {
                Ok(Self::Sqlite(path.into()))
            };
        }
        let rest = text.strip_prefix("postgres://");
        let Some(rest) = rest.or_else(|| text.strip_prefix("postgresql://")) else {
            return Err("must be \"sqlite:PATH\" or \"postgres://user@host:5432/database\"");
        };
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        if user.is_some_and(|user| user.contains(':')) || rest.contains("password=") {
            return Err(
                "must hold no password: set QUIRE_DATABASE_PASSWORD in the environment instead",
            );
        }
        Ok(Self::Postgres(text.to_owned()))
    }

    /// Whether this text means a store, and not the place of a dataset.
    pub(crate) fn is_meant_by(text: &str) -> bool {
        [SQLITE, "postgres:", "postgresql:"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
    }
}

impl std::fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{SQLITE}{}", path.display()),
            Self::Postgres(url) => f.write_str(url),
        }
    }
}

impl CoordinatorSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        is_address(&self.listen, "coordinator.listen", problems);
        if let Some(listen) = set(&self.metrics_listen) {
            is_address(&listen, "coordinator.metrics_listen", problems);
        }
        if let Some(store) = set(&self.store)
            && let Err(wrong) = StoreAddress::parse(&store)
        {
            problems.unless(false, "coordinator.store", wrong);
        }
        problems.unless(
            self.cert_file.is_empty() == self.key_file.is_empty(),
            "coordinator.cert_file",
            "and `coordinator.key_file` must be set together",
        );
        problems.unless(
            self.cert_file.is_empty() == self.client_ca_file.is_empty(),
            "coordinator.client_ca_file",
            "and `coordinator.cert_file` must be set together: callers show certificates, too",
        );
        self.validate_identities(problems);
        self.validate_times(problems);
        let share = (0.0..=1.0).contains(&self.quarantine_pause);
        problems.unless(
            share,
            "coordinator.quarantine_pause",
            "must be between 0 and 1",
        );
    }

    fn validate_identities(&self, problems: &mut Problems) {
        let key = "coordinator.identities";
        let named = |identity: &IdentitySettings| !identity.identity.trim().is_empty();
        problems.unless(
            self.identities.iter().all(named),
            key,
            "must each have a name in `identity`",
        );
        let has_role = |identity: &IdentitySettings| !identity.roles.is_empty();
        problems.unless(
            self.identities.iter().all(has_role),
            key,
            "must each have one of the roles submitter, worker and admin",
        );
        let names: BTreeSet<&str> = self
            .identities
            .iter()
            .map(|identity| identity.identity.as_str())
            .collect();
        problems.unless(
            names.len() == self.identities.len(),
            key,
            "must not name one identity twice",
        );
    }

    fn validate_times(&self, problems: &mut Problems) {
        let beat = self.heartbeat_period.0;
        problems.unless(
            beat >= Duration::from_millis(100),
            "coordinator.heartbeat_period",
            "must be at least 100ms",
        );
        problems.unless(
            self.session_ttl.0 >= beat * 3,
            "coordinator.session_ttl",
            "must be three heartbeat periods at least, or a late one ends a session",
        );
        problems.unless(
            self.progress_timeout.0 >= self.session_ttl.0,
            "coordinator.progress_timeout",
            "must be as long as `coordinator.session_ttl` at least",
        );
        for (period, key) in [
            (self.reap_period, "coordinator.reap_period"),
            (self.publish_period, "coordinator.publish_period"),
        ] {
            let fine = period.0 >= Duration::from_millis(100);
            problems.unless(fine, key, "must be at least 100ms");
        }
    }
}

/// `[worker]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorkerSettings {
    pub slots: usize,
    pub prefetch: usize,
    pub prefetch_bytes: Size,
    pub name: String,
    pub node: String,
    pub metrics_listen: String,
    pub scratch: String,
    pub drain_deadline: Span,
}

impl WorkerSettings {
    pub(super) fn validate(&self, problems: &mut Problems) {
        problems.unless(self.slots <= 1024, "worker.slots", "must be at most 1024");
        problems.unless(self.prefetch <= 2, "worker.prefetch", "must be at most 2");
        if let Some(listen) = set(&self.metrics_listen) {
            is_address(&listen, "worker.metrics_listen", problems);
        }
        for (name, key) in [(&self.name, "worker.name"), (&self.node, "worker.node")] {
            let fine = name.chars().count() <= 200 && !name.chars().any(char::is_control);
            problems.unless(fine, key, "must be one line of at most 200 characters");
        }
    }
}

fn is_address(text: &str, key: &'static str, problems: &mut Problems) {
    let host_and_port = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let fine = text.parse::<SocketAddr>().is_ok() || (host_and_port && !text.contains('/'));
    problems.unless(
        fine,
        key,
        "must be an address and a port, \"127.0.0.1:7420\"",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(coordinator: &str) -> FleetSettings {
        FleetSettings {
            coordinator: coordinator.to_owned(),
            ca_file: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            server_name: String::new(),
            allow_plaintext: false,
        }
    }

    #[test]
    fn coordinators_of_this_machine_are_known() {
        for (address, here) in [
            ("http://127.0.0.1:7420", true),
            ("http://localhost:7420", true),
            ("http://[::1]:7420", true),
            ("http://127.0.0.1:1,http://127.0.0.1:2", true),
            ("http://127.0.0.1:1, https://far.example.org:7420", false),
            ("https://10.0.0.7:7420", false),
            ("https://localhost.example.org", false),
        ] {
            assert_eq!(fleet(address).is_on_this_machine(), here, "{address}");
        }
    }

    #[test]
    fn store_is_a_file_or_a_server_without_a_password() {
        let sqlite = |path: &str| Ok(StoreAddress::Sqlite(path.into()));
        assert_eq!(StoreAddress::parse("sqlite:a.db"), sqlite("a.db"));
        assert_eq!(StoreAddress::parse("sqlite:///a/b.db"), sqlite("/a/b.db"));
        for fine in [
            "postgres://quire@db:5432/quire",
            "postgresql://db/quire?sslmode=require",
        ] {
            assert_eq!(
                StoreAddress::parse(fine),
                Ok(StoreAddress::Postgres(fine.into()))
            );
        }
        for refused in [
            "",
            "sqlite:",
            "mysql://a/b",
            "/a/b.db",
            "postgres://quire:sesame@db/quire",
            "postgres://db/quire?password=sesame",
        ] {
            let wrong = StoreAddress::parse(refused).unwrap_err();
            assert!(!wrong.contains("sesame"), "{wrong}");
        }
    }
}
