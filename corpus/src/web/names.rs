//! From host names to addresses that may be connected to.
//!
//! The answer that was checked is the one that is connected to: the HTTP client gets its
//! addresses from here and asks nobody else, so a name that means something else a moment later
//! gains nothing.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use super::guard::{Reach, reach};
use super::settings::HostPattern;

/// Finds the addresses of a host. The system's resolver does, and tests put their own here.
pub trait NameResolver: Send + Sync + fmt::Debug {
    /// All addresses of `name`; never empty if it succeeds.
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct SystemNames;

impl NameResolver for SystemNames {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Why no address of a host may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has this address, which is not public.
    Address(IpAddr),
    /// It has none.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip) => write!(f, "its address {ip} may not be read from"),
            Self::Unknown => f.write_str("the host is not known"),
        }
    }
}

impl Error for Refusal {}

/// Lets through only addresses that the settings allow.
#[derive(Debug, Clone)]
pub(super) struct CheckedNames {
    names: Arc<dyn NameResolver>,
    /// Hosts that may have private addresses.
    private: Arc<[HostPattern]>,
}

impl CheckedNames {
    pub(super) fn new(names: Arc<dyn NameResolver>, patterns: &[HostPattern]) -> Self {
        let private = patterns.iter().filter(|pattern| pattern.may_be_private);
        Self {
            names,
            private: private.cloned().collect(),
        }
    }

    /// Whether a connection to `ip`, for `host`, may be.
    pub(super) fn check(&self, host: Option<Host<&str>>, ip: IpAddr) -> Result<(), Refusal> {
        let is_named = || {
            let mut private = self.private.iter();
            private.any(|pattern| pattern.names(host.clone()))
        };
        match reach(ip) {
            Reach::Public => Ok(()),
            Reach::Private if is_named() => Ok(()),
            Reach::Private | Reach::Never => Err(Refusal::Address(ip)),
        }
    }

    /// Addresses of `name`. One that is refused condemns all: honest hosts have none.
    async fn resolve_checked(self, name: String) -> Result<Vec<IpAddr>, Refusal> {
        let found = self.names.resolve(name.clone()).await;
        let found = found.map_err(|_| Refusal::Unknown)?;
        if found.is_empty() {
            return Err(Refusal::Unknown);
        }
        for &ip in &found {
            self.check(Some(Host::Domain(&name)), ip)?;
        }
        Ok(found)
    }
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let checked = self.clone().resolve_checked(name.as_str().to_owned());
        Box::pin(async move {
            let found = checked.await?;
            // Port 0 stands for the one in the address that is read.
            let found = found.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(found) as Addrs)
        })
    }
}
