//! PostgreSQL for tests: a cluster in a temporary folder, started from the machine's own
//! binaries, or databases on a server that `QUIRE_TEST_POSTGRES_URL` names. Without either a test
//! says so and is skipped.
//!
//! This file needs nothing but the standard library and `tempfile`, so that tests of other crates
//! can take it in with `#[path]`.
//!
//! A cluster cannot outlive its test: a shell holds it, which waits at the end of a pipe for the
//! test process to go, in whatever way, and then stops the server and removes its folder.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every crate that takes this file in uses a part of it"
)]

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Names a server to use instead of starting one: `postgres://user@host:port/database`, as
/// somebody who may create databases.
pub const URL_VARIABLE: &str = "QUIRE_TEST_POSTGRES_URL";

/// A cluster has this long to start or stop; machines that build at the same time are slow.
const PATIENCE: Duration = Duration::from_secs(300);

/// The URL of a fresh, empty database, on a server that all tests of this process share. `None`,
/// after saying so, where there is no PostgreSQL.
pub fn fresh_database() -> Option<String> {
    static SHARED: OnceLock<Option<Mutex<Shared>>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| Shared::open().map(Mutex::new));
    let Some(shared) = shared else {
        skipped();
        return None;
    };
    let shared = shared
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    Some(shared.create_database())
}

#[allow(clippy::print_stdout, reason = "a skipped test must say so")]
fn skipped() {
    println!(
        "skipped: no PostgreSQL here (Debian: apt-get install postgresql), \
         and {URL_VARIABLE} names none"
    );
}

/// The server that a test process shares.
enum Shared {
    Own(Cluster),
    Given { url: String, bin: PathBuf },
}

impl Shared {
    #[allow(
        clippy::disallowed_methods,
        reason = "the switch that names a server for tests"
    )]
    fn open() -> Option<Self> {
        if let Ok(url) = std::env::var(URL_VARIABLE) {
            let bin = binaries().unwrap_or_default();
            return Some(Self::Given { url, bin });
        }
        Cluster::start().map(Self::Own)
    }

    fn create_database(&self) -> String {
        match self {
            Self::Own(cluster) => cluster.create_database(),
            Self::Given { url, bin } => create_database(url, bin),
        }
    }
}

/// A cluster of a test's own, which it may kill and start again.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    is_durable: bool,
    /// The shell that holds the server; its standard input is the pipe.
    keeper: Option<Child>,
}

impl Cluster {
    /// Starts a cluster on a free port of the loopback interface. `None`, after saying so, where
    /// PostgreSQL is not installed. It does not wait for disks: the machine does not lose power
    /// in a test, and what a killed server wrote is in the system's cache.
    ///
    /// # Panics
    /// When PostgreSQL is there and does not start.
    pub fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// As [`Self::start`], and every commit is on disk before it is answered: for measurements.
    ///
    /// # Panics
    /// When PostgreSQL is there and does not start.
    pub fn start_durable() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(is_durable: bool) -> Option<Self> {
        let Some(bin) = binaries() else {
            skipped();
            return None;
        };
        let folder = tempfile::Builder::new()
            .prefix("quire-pg-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        let mut cluster = Self {
            bin,
            folder,
            port: 0,
            is_durable,
            keeper: None,
        };
        cluster.make();
        // Another process may take the port between our look and the server's start.
        for _ in 0..5 {
            cluster.port = free_ports(1)[0];
            if cluster.try_resume() {
                return Some(cluster);
            }
        }
        panic!("PostgreSQL does not start: {}", cluster.log());
    }

    /// Makes the data folder. The server refuses to run as root; Debian's package has a user.
    fn make(&self) {
        if let Some((user, group)) = server_user() {
            chown(&self.folder, Some(user), Some(group)).expect("give the folder to the server");
        }
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o755))
            .expect("open the folder");
        let mut initdb = self.tool("initdb");
        initdb
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .args(["--locale=C", "--no-instructions", "--no-sync", "-D"])
            .arg(self.data());
        run(&mut initdb);
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// A program of PostgreSQL's, run as the user who owns the cluster.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        as_server(&mut command);
        command.current_dir("/");
        command
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database; `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database and tells its URL.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn create_database(&self) -> String {
        create_database(&self.url("postgres"), &self.bin)
    }

    /// Runs statements on a database and returns what they print, one row a line.
    ///
    /// # Panics
    /// When they fail.
    pub fn sql(&self, database: &str, statements: &str) -> String {
        sql(&self.url(database), &self.bin, statements)
    }

    /// Kills the server, with the processes that serve connections, as a crash would: nothing is
    /// flushed, nobody is told.
    pub fn kill(&mut self) {
        if let Some(pid) = self.pid() {
            // Alone, a child would serve its connection until it notices.
            signal("KILL", &[vec![pid], children(pid)].concat());
        }
        self.wait_until_gone();
    }

    /// Stops the server at once, ending its connections.
    pub fn stop(&mut self) {
        self.interrupt();
        self.wait_until_gone();
    }

    /// Starts the server again on the same port with the data it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        // After a kill the server's children leave when they notice; until then it refuses.
        let deadline = Instant::now() + PATIENCE;
        while !self.try_resume() {
            assert!(
                Instant::now() < deadline,
                "PostgreSQL does not start: {}",
                self.log()
            );
        }
    }

    fn try_resume(&mut self) -> bool {
        let mut keeper = Command::new("/bin/sh");
        // The shell's last act removes the folder only if the test process is gone: a stop or a
        // kill by the test itself writes a byte first.
        let script = "exec 3<&0; \"$1\" -D \"$2\" -p \"$3\" -k \"$4\" \
             -c listen_addresses=127.0.0.1 -c max_connections=200 -c fsync=\"$5\" \
             -c full_page_writes=\"$5\" -c shared_buffers=128MB -c max_wal_size=4GB \
             -c log_checkpoints=off </dev/null >>\"$4/log\" 2>&1 & pid=$!; \
             if [ -z \"$(head -c 1 <&3)\" ]; then kill -INT $pid; wait $pid; rm -rf \"$4\"; \
             else wait $pid; fi";
        let durable = if self.is_durable { "on" } else { "off" };
        keeper
            .args(["-c", script, "sh"])
            .arg(self.bin.join("postgres"))
            .arg(self.data())
            .arg(self.port.to_string())
            .arg(&self.folder)
            .arg(durable)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A Ctrl-C in the terminal is the test's affair: the pipe tells the shell.
        keeper.process_group(0);
        as_server(&mut keeper);
        self.keeper = Some(keeper.spawn().expect("a shell"));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.is_ready() {
                return true;
            }
            let is_there = self.pid().is_some();
            let keeper = self.keeper.as_mut().expect("it was just started");
            if !is_there && server_ended(keeper, &self.folder) {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.interrupt();
        self.wait_until_gone();
        false
    }

    /// Whether the server on this port is ours and takes connections.
    fn is_ready(&self) -> bool {
        let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let ready = status
            .lines()
            .nth(7)
            .is_some_and(|word| word.trim() == "ready");
        ready
            && self
                .tool("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .is_ok_and(|status| status.success())
    }

    /// The server's process while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.keeper.as_ref()?;
        let text = fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    fn interrupt(&self) {
        if let Some(pid) = self.pid() {
            signal("INT", &[pid]);
        }
    }

    fn wait_until_gone(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            if let Some(mut pipe) = keeper.stdin.take() {
                let _gone = pipe.write_all(b".");
            }
            keeper.wait().expect("the shell ends with its server");
        }
        // After a kill its children notice on their own; the next start needs them gone.
        let deadline = Instant::now() + PATIENCE;
        while TcpListener::bind(("127.0.0.1", self.port)).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.stop();
        }
        // What cannot be removed lies in the system's temporary folder.
        let _left = fs::remove_dir_all(&self.folder);
    }
}

fn signal(name: &str, pids: &[u32]) {
    // One that is gone already is what is asked for.
    let _gone = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}

/// The children of a process.
fn children(parent: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (_, rest) = status.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| parent_of(pid) == Some(parent))
        .collect()
}

/// Whether the shell's server ended before it made its status file.
fn server_ended(keeper: &mut Child, folder: &Path) -> bool {
    let ended = matches!(keeper.try_wait(), Ok(Some(_)));
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    ended
        || log
            .lines()
            .last()
            .is_some_and(|line| line.contains("FATAL"))
}

/// The folder of PostgreSQL's programs, of the newest version that is installed.
fn binaries() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            (bin.join("postgres").exists() && bin.join("initdb").exists()).then_some((version, bin))
        })
        .collect();
    found.sort();
    let (_, bin) = found.pop()?;
    if fs::metadata("/proc/self").ok()?.uid() == 0 && server_user().is_none() {
        return None;
    }
    Some(bin)
}

/// Whom the server runs as if we are root: user and group.
fn server_user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> = users
        .lines()
        .find(|line| line.starts_with("postgres:"))?
        .split(':')
        .collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn as_server(command: &mut Command) {
    if let Some((user, group)) = server_user() {
        command.uid(user).gid(group);
    }
}

/// Different ports of the loopback interface that nobody listens on. The system gives none of
/// them to a connection, so that a server that is down for a while finds its own still free.
///
/// # Panics
/// When the machine has none.
pub fn free_ports(n: usize) -> Vec<u16> {
    let first_of_system = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let first_of_system = first_of_system
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768_u16);
    let range = 10_000..first_of_system.max(20_000);
    // Tests that run side by side begin at different places.
    let drawn = RandomState::new().build_hasher().finish() % u64::from(range.end - range.start);
    let first = range.start + u16::try_from(drawn).expect("less than a range of ports is long");
    let candidates = (first..range.end).chain(range.start..first);
    // Held until all are found, so that no two are the same.
    let listeners: Vec<TcpListener> = candidates
        .filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .take(n)
        .collect();
    assert_eq!(listeners.len(), n, "too few ports are free");
    listeners
        .iter()
        .map(|listener| listener.local_addr().expect("a bound address").port())
        .collect()
}

/// Makes a database beside the one that the URL names.
fn create_database(url: &str, bin: &Path) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let seed = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let seed = seed.get(..8).unwrap_or("0");
    let name = format!("quire_{}_{seed}_{number}", std::process::id());
    sql(url, bin, &format!("CREATE DATABASE {name}"));
    let (base, options) = match url.split_once('?') {
        Some((base, options)) => (base, format!("?{options}")),
        None => (url, String::new()),
    };
    let scheme = base.find("://").map_or(0, |at| at + 3);
    let server = match base[scheme..].find('/') {
        Some(at) => &base[..scheme + at],
        None => base,
    };
    format!("{server}/{name}{options}")
}

fn sql(url: &str, bin: &Path, statements: &str) -> String {
    let psql = bin.join("psql");
    let mut command = Command::new(if psql.exists() { psql } else { "psql".into() });
    command
        .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d", url])
        .args(["-c", statements])
        .current_dir("/");
    let output = run(&mut command);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Output {
    let done: io::Result<Output> = command.stdin(Stdio::null()).output();
    let output = done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}
