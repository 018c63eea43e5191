//! The way to the coordinator: address and certificates of the settings, and what a user can do
//! about a call that fails.

use std::path::Path;

use quire_proto::grpc::{Client, ClientTls, Endpoint};
use quire_proto::{CallError, Reason};
use tokio_util::sync::CancellationToken;

use super::certificates;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::settings::{FleetSettings, set};

/// A fleet as this command calls it.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    pub client: Client,
    /// As typed or set.
    pub url: String,
    endpoint: Endpoint,
}

impl Fleet {
    /// Makes the way ready; whether anybody answers is seen with the first call.
    pub(crate) async fn connect(context: &Context) -> Outcome<Self> {
        let settings = &context.settings().fleet;
        let endpoint = endpoint(settings)?;
        let url = settings.coordinator.clone();
        let client = Client::connect(&endpoint)
            .await
            .map_err(|error| refused(error, &url))?;
        Ok(Self {
            client,
            url,
            endpoint,
        })
    }

    /// Uses renewed certificates as the files of the settings change, until `end`.
    pub(crate) async fn follow_certificates(self, settings: FleetSettings, end: CancellationToken) {
        let Self {
            client,
            url,
            endpoint: in_use,
        } = self;
        let read = || endpoint(&settings);
        let change = |fresh: &Endpoint| {
            let changed = client.change_certificates(fresh);
            changed.map_err(|error| refused(error, &url))?;
            tracing::info!("the certificates have changed: calls are made with the new ones");
            Ok(())
        };
        certificates::watch(in_use, read, change, end).await;
    }

    /// A failed call, as the user is told.
    pub(crate) fn refused(&self, error: CallError) -> Failure {
        refused(error, &self.url)
    }
}

fn endpoint(settings: &FleetSettings) -> Outcome<Endpoint> {
    let ca = pem(&settings.ca_file, "fleet.ca_file")?;
    let cert = pem(&settings.cert_file, "fleet.cert_file")?;
    let key = pem(&settings.key_file, "fleet.key_file")?;
    Ok(Endpoint {
        url: settings.coordinator.clone(),
        tls: Some(ClientTls {
            ca_pem: ca,
            cert_pem: cert,
            key_pem: key,
            server_name: set(&settings.server_name),
        }),
        allow_plaintext: settings.allow_plaintext,
    })
}

/// The PEM file of a setting, if one is set.
pub(crate) fn pem(file: &str, key: &str) -> Outcome<Option<Vec<u8>>> {
    let Some(path) = set(file) else {
        return Ok(None);
    };
    let content = std::fs::read(&path).map_err(|error| {
        Failure::from(error)
            .context(format!(
                "cannot read {} of `{key}`",
                Path::new(&path).display()
            ))
            .exit_code(2)
            .hint("the file must exist and be readable for the user that runs this command")
    })?;
    if !content.windows(10).any(|window| window == b"-----BEGIN") {
        let what = format!("{path} of `{key}` holds no PEM");
        return Err(Failure::usage(what).hint("PEM files begin with -----BEGIN"));
    }
    Ok(Some(content))
}

/// A failed call, as the user is told.
pub(crate) fn refused(error: CallError, url: &str) -> Failure {
    let hint = hint(&error, url);
    let failure = Failure::of(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn hint(error: &CallError, url: &str) -> Option<String> {
    let text = match error.reason {
        Reason::Unavailable => format!(
            "is the coordinator running, and is {url} its address? \
             `quire doctor --coordinator {url}` looks closer"
        ),
        Reason::StoreRefused => {
            "the coordinator opens this address with the credentials of its own environment and \
             its `[stores.NAME]` settings; on its machine `quire doctor ADDRESS` looks closer"
                .to_owned()
        }
        Reason::StoreAway => {
            "when the object store answers again, the same command goes on; `quire doctor \
             ADDRESS` on the coordinator's machine looks closer"
                .to_owned()
        }
        Reason::IdentityUnknown if error.message.contains("is not trusted") => {
            "set `fleet.ca_file` to the certificate of who signed the coordinator's, and \
             `fleet.server_name` if the certificate has another name than the address"
                .to_owned()
        }
        Reason::IdentityUnknown if error.message.contains("plain HTTP") => {
            "`fleet.coordinator` and `--coordinator` take http:// and https:// addresses".to_owned()
        }
        Reason::IdentityUnknown => {
            "set `fleet.cert_file` and `fleet.key_file` to a certificate that \
             `coordinator.identities` names on the coordinator"
                .to_owned()
        }
        Reason::RoleMissing => {
            "the certificate of `fleet.cert_file` needs this role in `coordinator.identities` \
             on the coordinator"
                .to_owned()
        }
        Reason::TenantForeign => {
            "call with a certificate of the tenant that the job or dataset belongs to".to_owned()
        }
        Reason::JobUnknown => "`quire status` lists the jobs that there are".to_owned(),
        Reason::JobUnfinished => {
            "wait for the job that writes to this OUT, or give it up with `quire cancel JOB`"
                .to_owned()
        }
        Reason::JobNotRunning => "`quire status JOB` says how the job stands".to_owned(),
        Reason::VersionTooOld => "install the version that the coordinator runs".to_owned(),
        Reason::MessageTooLarge => {
            "put the inputs into a list and submit it as @FILE, at a place that the coordinator \
             can read"
                .to_owned()
        }
        Reason::Quota => "wait until some of the work is done, then try again".to_owned(),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_that_a_user_can_do_something_about_says_what() {
        for (reason, exit_code, word) in [
            (
                Reason::Unavailable,
                1,
                "quire doctor --coordinator http://c:1",
            ),
            (Reason::StoreRefused, 2, "quire doctor ADDRESS"),
            (Reason::StoreAway, 1, "when the object store answers"),
            (Reason::RoleMissing, 2, "coordinator.identities"),
            (Reason::IdentityUnknown, 2, "fleet.cert_file"),
            (Reason::JobUnknown, 2, "quire status"),
            (Reason::JobUnfinished, 2, "quire cancel JOB"),
        ] {
            let failure = refused(CallError::new(reason, "no"), "http://c:1");
            assert_eq!(failure.exit_code, exit_code);
            let report = failure.report();
            assert!(report.starts_with("error: no\nhint: "), "{report}");
            assert!(report.contains(word), "{report}");
        }
    }

    #[test]
    fn file_that_is_no_certificate_is_refused_with_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        std::fs::write(&path, "certificate").unwrap();
        let missing = folder.path().join("absent.pem");
        for path in [path, missing] {
            let failure = pem(&path.display().to_string(), "fleet.cert_file").unwrap_err();
            assert_eq!(failure.exit_code, 2);
            assert!(failure.report().contains("`fleet.cert_file`"));
        }
        assert_eq!(pem("", "fleet.cert_file").unwrap(), None);
    }
}
