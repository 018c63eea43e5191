//! Certificates: real binaries that show the right one, the wrong one or none.

use std::path::{Path, PathBuf};
use std::process::Command;

use quire_tests::fleet::{Fleet, FleetOptions, Known, Process, wait_for};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::support::{PROGRAM, expect_exact};

/// Signs certificates, and keeps them and their keys as files.
struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(folder.join("ca.pem"), pem).unwrap();
        let authority = Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        };
        for name in ["coordinator", "gpu-1", "alice", "bob", "ops", "stranger"] {
            authority.sign(name);
        }
        authority
    }

    fn sign(&self, name: &str) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(name, "pem"), certificate.pem()).unwrap();
        std::fs::write(self.path(name, "key"), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str, suffix: &str) -> PathBuf {
        self.folder.join(format!("{name}.{suffix}"))
    }
}

/// A coordinator with TLS, and two authorities: one that it trusts and one that it does not.
struct Secured {
    fleet: Fleet,
    ours: Authority,
    theirs: Authority,
    // Removed after everything else.
    _folder: TempDir,
}

impl Secured {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ours = Authority::new(&folder.path().join("ours"));
        let theirs = Authority::new(&folder.path().join("theirs"));
        let mut options = FleetOptions::new(PROGRAM);
        let at = |name, suffix| ours.path(name, suffix).display().to_string();
        options.coordinator_settings = format!(
            "cert_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\n\
             identities = [\n\
             {{ identity = \"gpu-1\", roles = [\"worker\"] }},\n\
             {{ identity = \"alice\", roles = [\"submitter\"], tenant = \"science\" }},\n\
             {{ identity = \"bob\", roles = [\"submitter\"], tenant = \"press\" }},\n\
             {{ identity = \"ops\", roles = [\"admin\"] }},\n]",
            at("coordinator", "pem"),
            at("coordinator", "key"),
            at("ca", "pem"),
        );
        let mut fleet = Fleet::start(options).unwrap();
        fleet.start_coordinator();
        Self {
            fleet,
            ours,
            theirs,
            _folder: folder,
        }
    }

    fn url(&self) -> String {
        let listen = &self.fleet.coordinators[0].listen;
        let port = listen.rsplit(':').next().unwrap();
        format!("https://localhost:{port}")
    }

    /// `quire` with a certificate of this name.
    fn command_as(&self, authority: &Authority, name: &str) -> Command {
        let mut command = self.fleet.command();
        command
            .env("QUIRE__FLEET__COORDINATOR", self.url())
            .env("QUIRE__FLEET__CA_FILE", self.ours.path("ca", "pem"))
            .env("QUIRE__FLEET__CERT_FILE", authority.path(name, "pem"))
            .env("QUIRE__FLEET__KEY_FILE", authority.path(name, "key"));
        command
    }

    fn run_as(&self, name: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.command_as(&self.ours, name);
        ended(command.args(args))
    }
}

fn ended(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn certificates_let_each_do_what_its_role_allows_and_no_more() {
    let secured = Secured::start();
    let mut worker = secured.command_as(&secured.ours, "gpu-1");
    worker.args(["worker", "--node", "gpu-1"]);
    let worker = Process::start("gpu-1", worker, &secured.fleet.path("logs"));
    let known = Known::write(&secured.fleet.path("documents"), &[3, 4, 5]);
    let out = secured.fleet.out("dataset");
    let input = known.folder.display().to_string();

    let (code, job_id, said) = secured.run_as("alice", &["submit", &input, "--out", &out]);
    assert_eq!(code, Some(0), "{said}");
    let job_id = job_id.trim().to_owned();
    wait_for("the end of the job", || {
        let (code, json, said) = secured.run_as("alice", &["status", &job_id, "--json"]);
        assert_eq!(code, Some(0), "{said}\n{}", worker.tail());
        json.contains("\"done\"").then_some(())
    });
    expect_exact(&secured.fleet, &known, &out);

    // Another tenant's, another role's, nobody's.
    let (code, _, said) = secured.run_as("bob", &["status", &job_id]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("tenant"), "{said}");
    let (code, listed, said) = secured.run_as("bob", &["status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!listed.contains(&job_id), "{listed}");
    let (code, _, said) = secured.run_as("gpu-1", &["submit", &input, "--out", &out]);
    assert_ne!(code, Some(0));
    assert!(said.contains("role"), "{said}");
    let (code, _, said) = secured.run_as("alice", &["workers", "drain", "gpu-1"]);
    assert_ne!(code, Some(0));
    assert!(said.contains("role"), "{said}");
    let (code, workers, said) = secured.run_as("ops", &["workers"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(workers.contains("gpu-1"), "{workers}");
}

#[test]
fn renewed_certificates_are_used_without_a_restart_and_broken_ones_are_not() {
    let mut secured = Secured::start();
    let mut command = secured.command_as(&secured.theirs, "ops");
    let theirs = secured.theirs.path("ca", "pem");
    command.env("QUIRE__FLEET__CA_FILE", &theirs).arg("status");
    let (code, _, said) = ended(&mut command);
    assert_ne!(code, Some(0), "{said}");

    // Another authority takes over: its files take the place of the old ones.
    let bundle = [&secured.theirs, &secured.ours]
        .map(|authority| std::fs::read_to_string(authority.path("ca", "pem")).unwrap());
    std::fs::write(secured.ours.path("ca", "pem"), bundle.concat()).unwrap();
    for suffix in ["pem", "key"] {
        let from = secured.theirs.path("coordinator", suffix);
        std::fs::copy(from, secured.ours.path("coordinator", suffix)).unwrap();
    }
    wait_for("the new certificates", || {
        (ended(&mut command).0 == Some(0)).then_some(())
    });

    std::fs::write(secured.ours.path("coordinator", "key"), "nothing").unwrap();
    let coordinator = &mut secured.fleet.coordinators[0].process;
    wait_for("a warning", || {
        let is_told = coordinator.said().contains("cannot be used");
        is_told.then_some(())
    });
    assert!(coordinator.is_running());
    let (code, _, said) = ended(&mut command);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn strangers_get_no_further_than_the_door_and_are_told_why() {
    let secured = Secured::start();
    let (code, _, said) = secured.run_as("stranger", &["status"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("stranger"), "{said}");

    // Signed by somebody else.
    let mut command = secured.command_as(&secured.theirs, "ops");
    let (code, printed, said) = ended(command.arg("status"));
    assert!(matches!(code, Some(1 | 2)), "{code:?}: {said}");
    assert!(printed.is_empty() && said.starts_with("error"), "{said}");

    // No certificate at all.
    let mut command = secured.command_as(&secured.ours, "ops");
    command
        .env("QUIRE__FLEET__CERT_FILE", "")
        .env("QUIRE__FLEET__KEY_FILE", "");
    let (code, printed, said) = ended(command.arg("status"));
    assert!(matches!(code, Some(1 | 2)), "{code:?}: {said}");
    assert!(printed.is_empty() && said.starts_with("error"), "{said}");

    // A coordinator that the caller does not trust.
    let mut command = secured.command_as(&secured.ours, "ops");
    command.env("QUIRE__FLEET__CA_FILE", secured.theirs.path("ca", "pem"));
    let (code, printed, said) = ended(command.arg("status"));
    assert!(matches!(code, Some(1 | 2)), "{code:?}: {said}");
    assert!(printed.is_empty() && said.starts_with("error"), "{said}");

    // Plain words to a door with a lock.
    let mut command = secured.command_as(&secured.ours, "ops");
    let plain = secured.url().replace("https://", "http://");
    command.args(["status", "--coordinator", &plain]);
    let (code, printed, said) = ended(&mut command);
    assert!(matches!(code, Some(1 | 2)), "{code:?}: {said}");
    assert!(printed.is_empty() && said.starts_with("error"), "{said}");

    // None of it hurt those who may come in.
    let (code, _, said) = secured.run_as("ops", &["status"]);
    assert_eq!(code, Some(0), "{said}");
}
