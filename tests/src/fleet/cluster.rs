//! A fleet: its servers, its settings file, its processes, and the calls a test makes to it.

use std::fmt::Write as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quire_proto::grpc::{Client, Endpoint};
use quire_proto::v1;
use quire_proto::{AdminCalls, JobCalls};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::process::{Process, Sign};
use super::proxy::Proxy;
use super::seaweed::{ACCESS_KEY, SECRET_KEY, Seaweed};
use super::{free_port, wait_for};
use crate::postgres::Cluster;

/// Bucket of datasets.
const BUCKET: &str = "fleet";

/// What coordinators keep their jobs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file, for one coordinator.
    Sqlite,
    /// A server, for any number.
    Postgres,
}

/// Where datasets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Local,
    /// SeaweedFS behind the proxy.
    S3,
}

/// Times of a fleet, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Of heartbeats.
    pub heartbeat: u64,
    /// A worker that is silent for so long is dead.
    pub ttl: u64,
    /// A shard without a page for so long goes to another worker.
    pub progress: u64,
    /// Of looking for the dead.
    pub reap: u64,
    /// Of publishing.
    pub publish: u64,
}

impl Times {
    /// Short, so that tests are; a machine that builds at the same time still keeps them.
    pub const QUICK: Self = Self {
        heartbeat: 500,
        ttl: 4_000,
        progress: 20_000,
        reap: 500,
        publish: 500,
    };

    /// For tests in which nobody is to be taken for dead, on however slow a machine.
    pub const PATIENT: Self = Self {
        ttl: 120_000,
        progress: 1_200_000,
        ..Self::QUICK
    };
}

/// How a fleet is set up.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// The command under test.
    pub program: PathBuf,
    /// What its coordinators keep their jobs in.
    pub database: Database,
    /// Where its datasets go.
    pub place: Place,
    /// How long the scripted engine takes for a page, milliseconds.
    pub engine_ms: u64,
    /// Pages of a shard.
    pub shard_pages: u32,
    /// Times of the coordinators.
    pub times: Times,
    /// More settings, as a settings file has them: whole sections, or keys of `[coordinator]`
    /// first.
    pub coordinator_settings: String,
}

impl FleetOptions {
    /// SQLite, a local dataset, 10 ms a page, shards of ten pages.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            database: Database::Sqlite,
            place: Place::Local,
            engine_ms: 10,
            shard_pages: 10,
            times: Times::QUICK,
            coordinator_settings: String::new(),
        }
    }

    /// PostgreSQL and SeaweedFS.
    pub fn real_servers(program: impl Into<PathBuf>) -> Self {
        Self {
            database: Database::Postgres,
            place: Place::S3,
            ..Self::new(program)
        }
    }
}

/// A coordinator's process and where it listens.
#[derive(Debug)]
pub struct Coordinator {
    /// The process.
    pub process: Process,
    /// `host:port`; the same after a restart.
    pub listen: String,
}

/// A worker's process.
#[derive(Debug)]
pub struct Worker {
    /// The process.
    pub process: Process,
    /// The machine that it says it is on.
    pub node: String,
}

/// Servers, coordinators and workers of one test.
#[derive(Debug)]
pub struct Fleet {
    /// How it was set up.
    pub options: FleetOptions,
    /// Coordinators, in the order they were started.
    pub coordinators: Vec<Coordinator>,
    /// Workers, in the order they were started.
    pub workers: Vec<Worker>,
    /// The database server, if there is one.
    pub postgres: Option<Cluster>,
    /// The object store, if there is one.
    pub seaweed: Option<Seaweed>,
    /// What stands before it.
    pub proxy: Option<Proxy>,
    store: String,
    runtime: Runtime,
    // Last, so that everything that writes there has ended.
    folder: TempDir,
}

impl Fleet {
    /// Starts the servers, and no process of ours yet. `None`, after saying so, where a server is
    /// not installed.
    ///
    /// # Panics
    /// When a server is there and does not start.
    pub fn start(options: FleetOptions) -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("quire-fleet-")
            .tempdir()
            .expect("a temporary folder");
        std::fs::create_dir(folder.path().join("logs")).expect("a folder for logs");
        let postgres = match options.database {
            Database::Sqlite => None,
            Database::Postgres => Some(Cluster::start()?),
        };
        let seaweed = match options.place {
            Place::Local => None,
            Place::S3 => Some(Seaweed::start(&folder.path().join("logs"), BUCKET)?),
        };
        let proxy = seaweed.as_ref().map(|server| Proxy::start(server.port()));
        let store = match &postgres {
            Some(cluster) => cluster.create_database(),
            None => format!("sqlite:{}", folder.path().join("store.db").display()),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let fleet = Self {
            options,
            coordinators: Vec::new(),
            workers: Vec::new(),
            postgres,
            seaweed,
            proxy,
            store,
            runtime,
            folder,
        };
        fleet.write_settings();
        Some(fleet)
    }

    /// A path in the fleet's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn logs(&self) -> PathBuf {
        self.path("logs")
    }

    /// The database, as `--store` names it.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Lets coordinators that are started from now on use another database.
    pub fn set_store(&mut self, store: String) {
        self.store = store;
    }

    /// The address of a dataset of this name.
    pub fn out(&self, name: &str) -> String {
        match self.options.place {
            Place::Local => self.path(name).display().to_string(),
            Place::S3 => format!("s3://{BUCKET}/{name}"),
        }
    }

    fn write_settings(&self) {
        let times = &self.options.times;
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).expect("a string takes everything");
            text.push('\n');
        };
        line(format_args!("[run]\nworkers = 1"));
        line(format_args!(
            "[job]\nshard_pages = {}",
            self.options.shard_pages
        ));
        line(format_args!("[worker]\nslots = 1"));
        line(format_args!("[log]\nlevel = \"info\""));
        if let Some(proxy) = &self.proxy {
            line(format_args!(
                "[stores.fleet]\nkind = \"s3\"\nbucket = \"{BUCKET}\"\nregion = \"us-east-1\"\n\
                 endpoint = \"{}\"",
                proxy.endpoint()
            ));
        }
        line(format_args!("[coordinator]"));
        for (key, millis) in [
            ("heartbeat_period", times.heartbeat),
            ("session_ttl", times.ttl),
            ("progress_timeout", times.progress),
            ("reap_period", times.reap),
            ("publish_period", times.publish),
        ] {
            line(format_args!("{key} = \"{millis}ms\""));
        }
        line(format_args!("{}", self.options.coordinator_settings));
        std::fs::write(self.path("quire.toml"), text).expect("a settings file");
    }

    /// `quire` with the settings, the credentials and the scripted engine of this fleet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.options.program);
        command
            .env("QUIRE_TEST_ENGINE_MS", self.options.engine_ms.to_string())
            .env("QUIRE_TEST_ENGINE_GATE", self.gate())
            .envs(self.environment())
            .env_remove("QUIRE_DATABASE_PASSWORD")
            .arg("--config")
            .arg(self.path("quire.toml"))
            .current_dir(self.folder.path());
        command
    }

    fn gate(&self) -> PathBuf {
        self.path("engine.gate")
    }

    /// From now on each worker reads so many pages since its start, and then stands still.
    ///
    /// # Panics
    /// When the fleet's folder cannot be written to.
    pub fn close_gate(&self, free_pages: u64) {
        // Whole, or not there yet.
        let fresh = self.path("engine.gate.fresh");
        std::fs::write(&fresh, free_pages.to_string()).expect("a file of the fleet");
        std::fs::rename(&fresh, self.gate()).expect("a file of the fleet");
    }

    /// Lets the workers go on.
    ///
    /// # Panics
    /// When they were not held up.
    pub fn open_gate(&self) {
        std::fs::remove_file(self.gate()).expect("a closed gate");
    }

    /// What it takes to reach the object store.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut environment = Vec::new();
        let mut set = |key: &str, value: &str| environment.push((key.into(), value.into()));
        if let Some(server) = &self.seaweed {
            set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
            set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
            set("AWS_REGION", "us-east-1");
            set("QUIRE_TEST_S3_ENDPOINT", &server.endpoint());
        }
        environment
    }

    /// Where all coordinators listen, as `--coordinator` takes it.
    pub fn url(&self) -> String {
        let urls: Vec<String> = self
            .coordinators
            .iter()
            .map(|coordinator| format!("http://{}", coordinator.listen))
            .collect();
        urls.join(",")
    }

    /// Starts a coordinator, waits until it serves, and tells its place in the list.
    #[track_caller]
    pub fn start_coordinator(&mut self) -> usize {
        let idx = self.coordinators.len();
        // Another test may take the port between our look and the coordinator's start.
        for _ in 0..5 {
            let listen = format!("127.0.0.1:{}", free_port());
            let mut process = self.coordinator_process(idx, &listen);
            let is_up = wait_for("the coordinator's first word", || {
                match process.event("listening") {
                    Some(_) => Some(true),
                    None => process.status().map(|_| false),
                }
            });
            if is_up {
                self.coordinators.push(Coordinator { process, listen });
                self.wait_until_serving(idx);
                return idx;
            }
            let tail = process.tail();
            assert!(
                tail.contains("ddress already in use"),
                "the coordinator ended:\n{tail}"
            );
        }
        panic!("no port stays free");
    }

    fn coordinator_process(&self, idx: usize, listen: &str) -> Process {
        let mut command = self.command();
        command
            .args(["coordinator", "--json", "--listen", listen, "--store"])
            .arg(&self.store);
        Process::start(&format!("coordinator-{idx}"), command, &self.logs())
    }

    /// Starts a coordinator again that has ended, where it listened before, and does not wait.
    pub fn restart_coordinator(&mut self, idx: usize) {
        let listen = self.coordinators[idx].listen.clone();
        self.coordinators[idx].process.kill();
        self.coordinators[idx].process = self.coordinator_process(idx, &listen);
    }

    /// Waits until a coordinator takes connections.
    #[track_caller]
    pub fn wait_until_serving(&mut self, idx: usize) {
        let coordinator = &mut self.coordinators[idx];
        let address = coordinator.listen.parse().expect("an address");
        wait_for("the coordinator", || {
            assert!(
                coordinator.process.is_running(),
                "the coordinator ended:\n{}",
                coordinator.process.tail()
            );
            let second = std::time::Duration::from_secs(1);
            std::net::TcpStream::connect_timeout(&address, second).ok()
        });
    }

    /// Starts a worker on a node of this name and tells its place in the list.
    pub fn start_worker(&mut self, node: &str) -> usize {
        let idx = self.workers.len();
        let process = self.worker_process(idx, node);
        let node = node.to_owned();
        self.workers.push(Worker { process, node });
        idx
    }

    fn worker_process(&self, idx: usize, node: &str) -> Process {
        let name = format!("worker-{idx}");
        let scratch = self.path(&format!("{name}-scratch"));
        std::fs::create_dir_all(&scratch).expect("a folder for a worker");
        let mut command = self.command();
        command
            .args(["worker", "--json", "--name", &name, "--node", node])
            .args(["--coordinator", &self.url()])
            .env("QUIRE__WORKER__SCRATCH", scratch);
        Process::start(&name, command, &self.logs())
    }

    /// Starts a worker again that has ended, perhaps on another node.
    pub fn restart_worker(&mut self, idx: usize, node: &str) {
        self.workers[idx].process.kill();
        self.workers[idx].process = self.worker_process(idx, node);
        self.workers[idx].node = node.to_owned();
    }

    /// Runs a command of the fleet to its end, `--coordinator` added.
    pub fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args).args(["--coordinator", &self.url()]);
        command.output().expect("the command under test starts")
    }

    /// As [`Self::run`], and it must succeed; what it printed.
    #[track_caller]
    pub fn run_ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Submits a job by the command; its identifier.
    #[track_caller]
    pub fn submit(&self, input: &Path, out: &str) -> String {
        let input = input.display().to_string();
        let printed = self.run_ok(&["submit", &input, "--out", out]);
        let job_id = printed.trim_end_matches('\n');
        let is_alone = !job_id.contains('\n') && job_id.starts_with("j-");
        assert!(is_alone, "submit printed {printed:?}");
        job_id.to_owned()
    }

    /// Expects `quire verify` to find nothing.
    #[track_caller]
    pub fn verify(&self, out: &str) {
        let mut command = self.command();
        let output = command.args(["verify", out]).output();
        let output = output.expect("the command under test starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "verify {out}: {printed}\n{said}");
    }

    /// Waits for a future on the fleet's own runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// A client of all coordinators.
    pub fn client(&self) -> Client {
        let endpoint = Endpoint {
            url: self.url(),
            ..Endpoint::default()
        };
        self.block_on(Client::connect(&endpoint))
            .expect("a loopback address can be used")
    }

    /// A job, if a coordinator answers.
    pub fn try_job(&self, job_id: &str) -> Option<v1::Job> {
        let request = v1::GetJobRequest {
            job_id: job_id.to_owned(),
        };
        let answer = self.block_on(self.client().get_job(request));
        answer.ok().and_then(|answer| answer.job)
    }

    /// A job.
    #[track_caller]
    pub fn job(&self, job_id: &str) -> v1::Job {
        wait_for("an answer about the job", || self.try_job(job_id))
    }

    /// Waits until a job is as the test wants it.
    #[track_caller]
    pub fn wait_job(
        &self,
        job_id: &str,
        what: &str,
        mut condition: impl FnMut(&v1::Job) -> bool,
    ) -> v1::Job {
        let mut last = None;
        let deadline = std::time::Instant::now() + super::PATIENCE;
        loop {
            if let Some(job) = self.try_job(job_id) {
                if condition(&job) {
                    return job;
                }
                last = Some(job);
            }
            let is_over = std::time::Instant::now() > deadline;
            assert!(
                !is_over,
                "waited in vain for {what}: {last:#?}\n{}",
                self.tails()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Waits until a job is in a state.
    #[track_caller]
    pub fn wait_state(&self, job_id: &str, state: v1::JobState) -> v1::Job {
        let wanted = state.as_str_name();
        self.wait_job(job_id, wanted, |job| job.state() == state)
    }

    /// Waits until so many rows of a job are accepted.
    #[track_caller]
    pub fn wait_rows(&self, job_id: &str, rows: u64) -> v1::Job {
        self.wait_job(job_id, "accepted rows", |job| {
            job.rows_committed
                .is_some_and(|counts| counts.ok + counts.failed >= rows)
        })
    }

    /// Workers as the coordinators know them; none if nobody answers.
    pub fn known_workers(&self) -> Vec<v1::Worker> {
        let answer = self.block_on(self.client().list_workers(v1::ListWorkersRequest {}));
        answer.map(|answer| answer.workers).unwrap_or_default()
    }

    /// Waits until the worker of this place in the list holds a shard that it reads, and tells
    /// what it holds.
    #[track_caller]
    pub fn wait_busy(&self, idx: usize) -> v1::Worker {
        let name = self.workers[idx].process.name();
        wait_for("a busy worker", || {
            let workers = self.known_workers();
            workers.into_iter().find(|worker| {
                let reads = |lease: &v1::HeldLease| lease.stage() == v1::LeaseStage::Reading;
                worker.worker_name == name && worker.leases.iter().any(reads)
            })
        })
    }

    /// Every shard of a job.
    pub fn shards(&self, job_id: &str) -> Vec<v1::Shard> {
        let (client, mut shards) = (self.client(), Vec::new());
        let mut token = String::new();
        loop {
            let request = v1::ListShardsRequest {
                job_id: job_id.to_owned(),
                page_size: 1000,
                page_token: std::mem::take(&mut token),
                state: 0,
            };
            let answer = wait_for("a list of shards", || {
                self.block_on(client.list_shards(request.clone())).ok()
            });
            shards.extend(answer.shards);
            if answer.next_page_token.is_empty() {
                return shards;
            }
            token = answer.next_page_token;
        }
    }

    /// The ends of all logs, for the message of a test that fails.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        let coordinators = self.coordinators.iter().map(|one| &one.process);
        let workers = self.workers.iter().map(|one| &one.process);
        for process in coordinators.chain(workers) {
            let name = process.name();
            writeln!(text, "--- {name}\n{}", process.tail()).expect("a string takes everything");
        }
        text
    }
}

impl Drop for Fleet {
    #[allow(
        clippy::print_stderr,
        reason = "what a failed test needs to be understood"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tails());
        }
        // Nobody is to be told that its servers go.
        for worker in &self.workers {
            worker.process.signal(Sign::Kill);
        }
        for coordinator in &self.coordinators {
            coordinator.process.signal(Sign::Kill);
        }
    }
}
