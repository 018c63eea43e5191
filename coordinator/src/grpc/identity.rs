//! Who calls: names in a client certificate, and what the settings let each of them do.

use std::collections::BTreeMap;

use quire_proto::{CallError, Reason};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::caller::Caller;

/// What each identity may do.
///
/// An identity is a name in the caller's certificate: a URI or DNS name of its alternative names,
/// or the common name of its subject. One `*` in an entry stands for any text, so that the nodes
/// of a fleet need one entry: `*.workers.example` or `spiffe://cluster/ns/quire/*`.
#[derive(Debug, Clone, Default)]
pub struct IdentityMap {
    entries: BTreeMap<String, Caller>,
}

impl IdentityMap {
    /// A map that knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets whoever is named so act as `caller`; replaces an earlier entry.
    pub fn insert(&mut self, identity: impl Into<String>, caller: Caller) {
        self.entries.insert(identity.into(), caller);
    }

    /// Whether it knows nobody.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Who the one with these names is. Whole names win over patterns, longer patterns over
    /// shorter ones, and earlier names over later ones.
    fn caller(&self, names: &[String]) -> Option<&Caller> {
        let whole = names.iter().find_map(|name| self.entries.get(name));
        whole.or_else(|| {
            names
                .iter()
                .flat_map(|name| self.entries.iter().filter(|(entry, _)| fits(entry, name)))
                .max_by_key(|(entry, _)| entry.len())
                .map(|(_, caller)| caller)
        })
    }
}

impl<I: Into<String>> FromIterator<(I, Caller)> for IdentityMap {
    fn from_iter<T: IntoIterator<Item = (I, Caller)>>(entries: T) -> Self {
        let entries = entries.into_iter();
        Self {
            entries: entries
                .map(|(name, caller)| (name.into(), caller))
                .collect(),
        }
    }
}

fn fits(entry: &str, name: &str) -> bool {
    entry.split_once('*').is_some_and(|(head, tail)| {
        name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
    })
}

/// The other end of a connection, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// Without TLS: only on loopback, or where the settings say that the network is trusted.
    Plaintext,
    /// With TLS and no certificate.
    Nameless,
    /// With a certificate that the client CA signed, which holds these names.
    Named(Vec<String>),
}

impl Peer {
    /// Whose certificate chain this is. The handshake has checked it already.
    pub(super) fn of_certificates(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        match certificates.and_then(<[_]>::first) {
            Some(certificate) => Self::Named(names(certificate)),
            None => Self::Nameless,
        }
    }

    /// Who that is to us.
    pub(super) fn caller(&self, identities: &IdentityMap) -> Result<Caller, CallError> {
        let unknown = |message: String| Err(CallError::new(Reason::IdentityUnknown, message));
        match self {
            Self::Plaintext => Ok(Caller::local()),
            Self::Nameless => unknown(
                "this coordinator asks for a client certificate, and none was shown".to_owned(),
            ),
            Self::Named(names) => match identities.caller(names) {
                Some(caller) => Ok(caller.clone()),
                None if names.is_empty() => unknown(
                    "the client certificate holds no name: it needs a common name, or a DNS or \
                     URI alternative name"
                        .to_owned(),
                ),
                None => unknown(format!(
                    "none of the client certificate's names is among the coordinator's \
                     identities: {}",
                    names.join(", ")
                )),
            },
        }
    }
}

/// URIs, DNS names and common names of a certificate, in this order.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternative.map_or(&[][..], |names| &names.value.general_names);
    let uris = alternative.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    let hosts = alternative.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some((*host).to_owned()),
        _ => None,
    });
    let common = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .map(str::to_owned);
    uris.chain(hosts).chain(common).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Role;

    fn caller(role: Role) -> Caller {
        Caller {
            tenant: None,
            roles: [role].into(),
        }
    }

    fn map() -> IdentityMap {
        [
            ("ops", caller(Role::Admin)),
            ("*.workers.example", caller(Role::Worker)),
            ("spiffe://x/team/*", caller(Role::Submitter)),
            ("spiffe://x/team/root-*", caller(Role::Admin)),
        ]
        .into_iter()
        .collect()
    }

    fn role_of(names: &[&str]) -> Option<Role> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let map = map();
        let caller = map.caller(&names)?;
        caller.roles.iter().next().copied()
    }

    #[test]
    fn identities_are_whole_names_or_patterns() {
        for (names, expected) in [
            (&["ops"][..], Some(Role::Admin)),
            (&["node-7.workers.example"], Some(Role::Worker)),
            (&["workers.example"], None),
            (&["node-7.workers.example.evil"], None),
            (&["Ops"], None),
            (&["ops2"], None),
            (&[], None),
            (&["spiffe://x/team/nlp"], Some(Role::Submitter)),
            (&["spiffe://x/team/root-1"], Some(Role::Admin)),
            (&["unknown", "ops"], Some(Role::Admin)),
            (&["node-7.workers.example", "ops"], Some(Role::Admin)),
        ] {
            assert_eq!(role_of(names), expected, "{names:?}");
        }
    }

    #[test]
    fn names_of_a_certificate_are_read_in_order() {
        let mut params = rcgen::CertificateParams::new(vec!["node-7".to_owned()]).unwrap();
        let uri = rcgen::string::Ia5String::try_from("spiffe://x/worker").unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "grüße");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(
            names(certificate.der()),
            ["spiffe://x/worker", "node-7", "grüße"]
        );
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_names() {
        assert!(names(&CertificateDer::from(vec![1, 2, 3])).is_empty());
    }

    #[test]
    fn callers_without_a_known_name_are_told_which_names_they_showed() {
        assert_eq!(Peer::Plaintext.caller(&map()), Ok(Caller::local()));
        let error = Peer::Nameless.caller(&map()).unwrap_err();
        assert_eq!(error.reason, Reason::IdentityUnknown);
        let peer = Peer::Named(vec!["stranger".to_owned()]);
        let error = peer.caller(&map()).unwrap_err();
        assert!(error.message.contains("stranger"), "{error}");
    }
}
