//! Who may call: certificates, identities, and when plain connections are fine.

use std::net::SocketAddr;

use quire_coordinator::grpc::{GrpcConfig, IdentityMap, ServerTls};
use quire_coordinator::{Caller, Role};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Outcome};
use crate::fleet::{certificates, pem};
use crate::settings::{CoordinatorSettings, RoleName};

/// Certificates and identities of the settings.
pub(super) fn config(settings: &CoordinatorSettings) -> Outcome<GrpcConfig> {
    let tls = tls(settings)?;
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

fn tls(settings: &CoordinatorSettings) -> Outcome<Option<ServerTls>> {
    let cert = pem(&settings.cert_file, "coordinator.cert_file")?;
    let key = pem(&settings.key_file, "coordinator.key_file")?;
    let client_ca = pem(&settings.client_ca_file, "coordinator.client_ca_file")?;
    Ok(match (cert, key, client_ca) {
        (Some(cert_pem), Some(key_pem), Some(client_ca_pem)) => Some(ServerTls {
            cert_pem,
            key_pem,
            client_ca_pem,
        }),
        _ => None,
    })
}

/// Hands renewed certificates to the server as the files of the settings change, until `end`.
/// Nothing happens where TLS is off.
pub(super) fn follow_certificates(
    access: &mut GrpcConfig,
    settings: &CoordinatorSettings,
    end: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let in_use = access.tls.clone();
    let changes = in_use.clone().map(watch::Sender::new);
    access.tls_changes = changes.as_ref().map(watch::Sender::subscribe);
    let settings = settings.clone();
    async move {
        let Some(changes) = changes else { return };
        let change = |fresh: &Option<ServerTls>| {
            if let Some(fresh) = fresh {
                // The server says what it makes of them.
                changes.send_replace(fresh.clone());
            }
            Ok(())
        };
        certificates::watch(in_use, || tls(&settings), change, end).await;
    }
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
