//! Who may call: certificates, identities, and when plain connections are fine.

use std::net::SocketAddr;

use quire_coordinator::grpc::{GrpcConfig, IdentityMap, ServerTls};
use quire_coordinator::{Caller, Role};

use crate::failure::{Failure, Outcome};
use crate::fleet::pem;
use crate::settings::{CoordinatorSettings, RoleName};

/// Certificates and identities of the settings.
pub(super) fn config(settings: &CoordinatorSettings) -> Outcome<GrpcConfig> {
    let cert = pem(&settings.cert_file, "coordinator.cert_file")?;
    let key = pem(&settings.key_file, "coordinator.key_file")?;
    let client_ca = pem(&settings.client_ca_file, "coordinator.client_ca_file")?;
    let tls = match (cert, key, client_ca) {
        (Some(cert_pem), Some(key_pem), Some(client_ca_pem)) => Some(ServerTls {
            cert_pem,
            key_pem,
            client_ca_pem,
        }),
        _ => None,
    };
    if tls.is_some() && settings.identities.is_empty() {
        let what = "`coordinator.identities` names nobody, so nobody could call";
        return Err(Failure::usage(what).hint(
            "name at least one certificate with the role admin; configs/cluster.toml shows how",
        ));
    }
    Ok(GrpcConfig {
        tls,
        identities: identities(settings),
        allow_plaintext: settings.allow_plaintext,
        ..GrpcConfig::default()
    })
}

fn identities(settings: &CoordinatorSettings) -> IdentityMap {
    let mut map = IdentityMap::new();
    for entry in &settings.identities {
        let roles = entry.roles.iter().map(|role| match role {
            RoleName::Submitter => Role::Submitter,
            RoleName::Worker => Role::Worker,
            RoleName::Admin => Role::Admin,
        });
        let caller = Caller {
            tenant: entry.tenant.clone(),
            roles: roles.collect(),
        };
        map.insert(&entry.identity, caller);
    }
    map
}

/// Off this machine everybody who reaches the port could do everything.
pub(super) fn refuse_plaintext(settings: &CoordinatorSettings, address: SocketAddr) -> Outcome<()> {
    let is_plain = settings.cert_file.is_empty();
    if !is_plain || settings.allow_plaintext || address.ip().is_loopback() {
        return Ok(());
    }
    let what = format!("{address} is reached from other machines, and there is no TLS");
    Err(Failure::usage(what).hint(
        "set `coordinator.cert_file`, `key_file` and `client_ca_file`; or, where nobody else \
         reaches this network, say --allow-plaintext",
    ))
}
