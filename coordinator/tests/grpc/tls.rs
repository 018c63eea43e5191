//! Certificates: who gets in, as what, and what those who do not are told.

use quire_coordinator::grpc::{GrpcConfig, IdentityMap, ServerTls, serve};
use quire_coordinator::{Caller, CoordinatorHandle, Role};
use quire_core::Fault;
use quire_proto::grpc::{Client, ClientTls, Endpoint};
use quire_proto::{AdminCalls, CallError, JobCalls, Reason, WorkerCalls, v1};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::{Bench, Running};
use crate::wire::Served;

/// Signs certificates.
struct Authority {
    pem: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem().into_bytes();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key for a host name and a common name.
    fn sign(&self, host: &str, name: &str) -> (Vec<u8>, Vec<u8>) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        )
    }

    fn server(&self, host: &str) -> ServerTls {
        let (cert_pem, key_pem) = self.sign(host, "coordinator");
        ServerTls {
            cert_pem,
            key_pem,
            client_ca_pem: self.pem.clone(),
        }
    }

    /// The files of a caller named so.
    fn client(&self, name: &str) -> ClientTls {
        let (cert, key) = self.sign("client.example", name);
        ClientTls {
            ca_pem: Some(self.pem.clone()),
            cert_pem: Some(cert),
            key_pem: Some(key),
            server_name: None,
        }
    }
}

fn identities() -> IdentityMap {
    let caller = |tenant: Option<&str>, role| Caller {
        tenant: tenant.map(str::to_owned),
        roles: [role].into(),
    };
    [
        ("worker-*", caller(None, Role::Worker)),
        ("alice", caller(Some("science"), Role::Submitter)),
        ("bob", caller(Some("press"), Role::Submitter)),
        ("ops", caller(None, Role::Admin)),
    ]
    .into_iter()
    .collect()
}

struct Secured {
    bench: Bench,
    running: Running,
    authority: Authority,
    served: Served,
}

impl Secured {
    async fn start(host: &str) -> Self {
        let bench = Bench::with_corpus();
        let running = bench.start().await;
        let authority = Authority::new();
        let config = GrpcConfig {
            tls: Some(authority.server(host)),
            identities: identities(),
            ..GrpcConfig::default()
        };
        let served = Served::start(&running.handle, config).await;
        Self {
            bench,
            running,
            authority,
            served,
        }
    }

    async fn client(&self, tls: ClientTls) -> Client {
        let endpoint = Endpoint {
            url: format!("https://localhost:{}", self.served.address.port()),
            tls: Some(tls),
            allow_plaintext: false,
        };
        Client::connect(&endpoint).await.unwrap()
    }

    async fn named(&self, name: &str) -> Client {
        self.client(self.authority.client(name)).await
    }

    async fn stop(self) {
        self.served.stop().await;
        self.running.stop().await;
    }
}

async fn refused(client: &Client) -> CallError {
    let error = client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::IdentityUnknown, Fault::Config),
        "{error}"
    );
    error
}

#[tokio::test]
async fn each_identity_may_do_what_its_roles_say() {
    let secured = Secured::start("localhost").await;
    let (worker, alice, ops) = (
        secured.named("worker-7").await,
        secured.named("alice").await,
        secured.named("ops").await,
    );
    let register = v1::RegisterRequest {
        worker_name: "w".into(),
        node: "n".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..v1::RegisterRequest::default()
    };
    let jobs = v1::ListJobsRequest::default();

    worker.register(register.clone()).await.unwrap();
    ops.register(register.clone()).await.unwrap();
    let error = alice.register(register).await.unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::RoleMissing, Fault::Config)
    );

    alice.list_jobs(jobs.clone()).await.unwrap();
    ops.list_jobs(jobs.clone()).await.unwrap();
    let error = worker.list_jobs(jobs).await.unwrap_err();
    assert_eq!(error.reason, Reason::RoleMissing);

    ops.list_workers(v1::ListWorkersRequest {}).await.unwrap();
    for other in [&worker, &alice] {
        let request = v1::DrainRequest {
            node: "n".into(),
            reason: "mischief".into(),
        };
        let error = other.drain(request).await.unwrap_err();
        assert_eq!(error.reason, Reason::RoleMissing);
    }
    secured.stop().await;
}

#[tokio::test]
async fn job_of_another_tenant_is_not_shown_or_touched() {
    let secured = Secured::start("localhost").await;
    let (alice, bob) = (secured.named("alice").await, secured.named("bob").await);
    let request = v1::CreateJobRequest {
        request_id: "r".into(),
        job_spec_json: serde_json::to_string(&secured.bench.spec()).unwrap(),
        out: secured.bench.out(),
        priority: 0,
    };
    let job_id = alice.create_job(request).await.unwrap().job_id;
    let request = v1::GetJobRequest {
        job_id: job_id.clone(),
    };
    let job = alice.get_job(request.clone()).await.unwrap().job.unwrap();
    assert_eq!(job.tenant, "science");

    let error = bob.get_job(request).await.unwrap_err();
    assert_eq!(
        (error.reason, error.fault),
        (Reason::TenantForeign, Fault::Config)
    );
    let request = v1::CancelJobRequest {
        job_id,
        reason: "envy".into(),
    };
    let error = bob.cancel_job(request).await.unwrap_err();
    assert_eq!(error.reason, Reason::TenantForeign);
    let listed = bob.list_jobs(v1::ListJobsRequest::default()).await;
    assert!(listed.unwrap().jobs.is_empty());
    secured.stop().await;
}

#[tokio::test]
async fn caller_without_a_certificate_is_told_that_one_is_needed() {
    let secured = Secured::start("localhost").await;
    let tls = ClientTls {
        ca_pem: Some(secured.authority.pem.clone()),
        ..ClientTls::default()
    };
    let error = refused(&secured.client(tls).await).await;
    assert!(error.message.contains("client certificate"), "{error}");
    secured.stop().await;
}

#[tokio::test]
async fn certificate_of_another_authority_is_refused_by_the_handshake() {
    let secured = Secured::start("localhost").await;
    let mut tls = Authority::new().client("ops");
    tls.ca_pem = Some(secured.authority.pem.clone());
    let error = refused(&secured.client(tls).await).await;
    assert!(error.message.contains("refused the certificate"), "{error}");
    secured.stop().await;
}

#[tokio::test]
async fn name_that_nobody_was_told_of_is_refused_by_name() {
    let secured = Secured::start("localhost").await;
    let error = refused(&secured.named("mallory").await).await;
    assert!(error.message.contains("mallory"), "{error}");
    secured.stop().await;
}

#[tokio::test]
async fn coordinator_that_is_somebody_else_is_not_spoken_to() {
    let secured = Secured::start("elsewhere.example").await;
    let error = refused(&secured.named("ops").await).await;
    assert!(error.message.contains("another name"), "{error}");

    let mut tls = secured.authority.client("ops");
    tls.server_name = Some("elsewhere.example".into());
    let client = secured.client(tls).await;
    client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .unwrap();

    let mut tls = secured.authority.client("ops");
    tls.ca_pem = Some(Authority::new().pem);
    let error = refused(&secured.client(tls).await).await;
    assert!(error.message.contains("not trusted"), "{error}");
    secured.stop().await;
}

#[tokio::test]
async fn tls_to_a_port_without_it_is_a_wrong_setting() {
    let bench = Bench::new();
    let running = bench.start().await;
    let served = Served::start(&running.handle, GrpcConfig::default()).await;
    let endpoint = Endpoint {
        url: format!("https://localhost:{}", served.address.port()),
        tls: Some(Authority::new().client("ops")),
        allow_plaintext: false,
    };
    let client = Client::connect(&endpoint).await.unwrap();
    let error = refused(&client).await;
    assert!(error.message.contains("does not speak TLS"), "{error}");
    served.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn plaintext_to_a_port_with_tls_is_not_answered() {
    let secured = Secured::start("localhost").await;
    let client = secured.served.client().await;
    let error = client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .unwrap_err();
    assert!(error.message.contains("https://"), "{error}");
    secured.stop().await;
}

async fn listened(handle: &CoordinatorHandle, config: GrpcConfig) -> Result<(), String> {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    serve(listener, handle.clone(), config, shutdown)
        .await
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn plaintext_off_loopback_is_refused_unless_it_is_allowed() {
    let bench = Bench::new();
    let running = bench.start().await;
    let error = listened(&running.handle, GrpcConfig::default())
        .await
        .unwrap_err();
    assert!(error.contains("coordinator.allow_plaintext"), "{error}");
    let allowed = GrpcConfig {
        allow_plaintext: true,
        ..GrpcConfig::default()
    };
    listened(&running.handle, allowed).await.unwrap();
    let secured = GrpcConfig {
        tls: Some(Authority::new().server("localhost")),
        ..GrpcConfig::default()
    };
    listened(&running.handle, secured).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn certificate_files_that_hold_none_are_refused_by_setting() {
    let bench = Bench::new();
    let running = bench.start().await;
    let good = Authority::new().server("localhost");
    let (mut cert, mut key, mut ca) = (good.clone(), good.clone(), good.clone());
    cert.cert_pem = b"nothing".to_vec();
    key.key_pem = Authority::new().server("localhost").key_pem;
    ca.client_ca_pem = Vec::new();
    for (tls, setting) in [
        (cert, "coordinator.cert_file"),
        (key, "coordinator.key_file"),
        (ca, "coordinator.client_ca_file"),
    ] {
        let config = GrpcConfig {
            tls: Some(tls),
            ..GrpcConfig::default()
        };
        let error = listened(&running.handle, config).await.unwrap_err();
        assert!(error.contains(setting), "{error}");
    }
    running.stop().await;
}

/// A coordinator whose certificates change while it serves.
struct Renewed {
    // Holds the files of the coordinator.
    _bench: Bench,
    running: Running,
    served: Served,
    changes: watch::Sender<ServerTls>,
}

impl Renewed {
    async fn start(tls: ServerTls) -> Self {
        let bench = Bench::new();
        let running = bench.start().await;
        let changes = watch::Sender::new(tls.clone());
        let config = GrpcConfig {
            tls: Some(tls),
            tls_changes: Some(changes.subscribe()),
            identities: identities(),
            ..GrpcConfig::default()
        };
        let served = Served::start(&running.handle, config).await;
        Self {
            _bench: bench,
            running,
            served,
            changes,
        }
    }

    fn endpoint(&self, tls: ClientTls) -> Endpoint {
        Endpoint {
            url: format!("https://localhost:{}", self.served.address.port()),
            tls: Some(tls),
            allow_plaintext: false,
        }
    }

    async fn client(&self, tls: ClientTls) -> Client {
        Client::connect(&self.endpoint(tls)).await.unwrap()
    }
}

async fn answers(client: &Client) -> bool {
    client
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .is_ok()
}

#[tokio::test]
async fn certificates_change_and_connections_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let renewed = Renewed::start(old.server("localhost")).await;
    let client = renewed.client(old.client("ops")).await;
    assert!(answers(&client).await);

    // Signed by another authority, and for callers of either.
    let mut tls = new.server("localhost");
    tls.client_ca_pem.extend_from_slice(&old.pem);
    renewed.changes.send_replace(tls.clone());
    let patience = std::time::Duration::from_secs(60);
    let is_changed = async {
        let fresh = renewed.client(new.client("ops")).await;
        while !answers(&fresh).await {}
    };
    tokio::time::timeout(patience, is_changed).await.unwrap();
    // It trusts the old authority alone: only the connection that it has can answer.
    assert!(answers(&client).await);
    assert!(!answers(&renewed.client(old.client("ops")).await).await);

    // What cannot be used changes nothing.
    let broken = ServerTls {
        key_pem: b"half a key".to_vec(),
        ..tls.clone()
    };
    renewed.changes.send_replace(broken);
    for _ in 0..3 {
        assert!(answers(&renewed.client(new.client("ops")).await).await);
    }

    // The caller's own certificates, too.
    let error = client.change_certificates(&renewed.endpoint(ClientTls {
        key_pem: None,
        ..new.client("ops")
    }));
    assert_eq!(error.unwrap_err().fault, Fault::Config);
    assert!(answers(&client).await);
    client
        .change_certificates(&renewed.endpoint(new.client("bob")))
        .unwrap();
    assert!(answers(&client).await);
    let refused = client.list_workers(v1::ListWorkersRequest {}).await;
    assert_eq!(refused.unwrap_err().reason, Reason::RoleMissing);
    renewed.served.stop().await;
    renewed.running.stop().await;
}
