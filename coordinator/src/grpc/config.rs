//! How the coordinator listens: TLS, identities and limits.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::identity::IdentityMap;
use crate::error::{Error, Result};

/// The coordinator's certificate and who signs those of its callers, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerTls {
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    pub client_ca_pem: Vec<u8>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// How the coordinator listens.
#[derive(Debug, Clone, Default)]
pub struct GrpcConfig {
    /// Unset: plaintext, where every caller may do everything.
    pub tls: Option<ServerTls>,
    /// Certificates that take their place for connections from then on. Those that cannot be used
    /// change nothing.
    pub tls_changes: Option<watch::Receiver<ServerTls>>,
    /// What the names in client certificates stand for.
    pub identities: IdentityMap,
    /// Lets it listen off loopback without TLS.
    pub allow_plaintext: bool,
    pub limits: GrpcLimits,
}

/// Bounds of what callers can make the coordinator do at once.
#[derive(Debug, Clone)]
pub struct GrpcLimits {
    /// Open connections; more wait to be accepted.
    pub connections: usize,
    /// Calls at work on one connection; more wait on the caller's side.
    pub calls_per_connection: u32,
    /// Calls at work, waiting ones included; more are told to come back.
    pub calls: usize,
    /// Watched jobs; each costs the store some queries a second.
    pub watches: usize,
    /// Connections are closed kindly at this age, so that callers spread over replicas again.
    pub connection_age: Duration,
    /// What is not done this long after a kind close is cut off.
    pub grace: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            calls_per_connection: 256,
            calls: 8192,
            watches: 512,
            connection_age: Duration::from_secs(600),
            grace: Duration::from_secs(60),
        }
    }
}

impl GrpcConfig {
    /// Refuses to listen where others could read along without TLS.
    pub(super) fn check_listener(&self, address: SocketAddr) -> Result<()> {
        if self.tls.is_some() || self.allow_plaintext || address.ip().is_loopback() {
            return Ok(());
        }
        Err(Error::Setting {
            key: "coordinator.allow_plaintext",
            message: format!(
                "{address} can be reached from other machines, and everybody who reaches it could \
                 do everything: set coordinator.cert_file, key_file and client_ca_file, or this to \
                 true if the network is trusted"
            ),
        })
    }

    /// What shakes hands with new connections now, if TLS is on.
    pub(super) fn acceptor(&self) -> Result<Option<watch::Sender<TlsAcceptor>>> {
        let acceptor = self.tls.as_ref().map(acceptor).transpose()?;
        Ok(acceptor.map(watch::Sender::new))
    }
}

/// Puts changed certificates to use, for as long as there may be more.
pub(super) async fn follow_changes(
    changes: Option<watch::Receiver<ServerTls>>,
    in_use: &watch::Sender<TlsAcceptor>,
) {
    let Some(mut changes) = changes else { return };
    while changes.changed().await.is_ok() {
        let tls = changes.borrow_and_update().clone();
        match acceptor(&tls) {
            Ok(fresh) => {
                in_use.send_replace(fresh);
                tracing::info!("the certificates have changed: new connections get the new ones");
            }
            Err(error) => {
                let reason = quire_core::chain(&error);
                tracing::warn!(
                    reason,
                    "the new certificates cannot be used; the old ones stay"
                );
            }
        }
    }
}

fn acceptor(tls: &ServerTls) -> Result<TlsAcceptor> {
    let wrong = |key: &'static str, message: String| Error::Setting { key, message };
    let chain = certificates(&tls.cert_pem, "coordinator.cert_file")?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key_pem)
        .map_err(|error| wrong("coordinator.key_file", error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&tls.client_ca_pem, "coordinator.client_ca_file")? {
        roots
            .add(root)
            .map_err(|error| wrong("coordinator.client_ca_file", error.to_string()))?;
    }
    let provider = Arc::new(ring::default_provider());
    // Who shows no certificate gets as far as the first call, which says so in words: an alert in
    // the middle of a connection reaches most callers as a reset.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| wrong("coordinator.client_ca_file", error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("coordinator.cert_file", error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong("coordinator.key_file", error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(pem: &[u8], key: &'static str) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |message: String| Error::Setting { key, message };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong("the file holds no certificate in PEM".to_owned()));
    }
    Ok(chain)
}
