//! The parent's handle of one child process: ask, wait, and find out why there is no answer.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child as Process, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::death::Death;
use super::settings::{CPU_ALLOWANCE, RenderError, RenderSettings};
use super::spawner::Spawner;
use super::wire::{
    Answer, ChildSettings, MAX_HEAD_BYTES, PREFIX_BYTES, Request, SandboxStatus, decode_prefix,
    encode_head,
};

/// How long a new process may take until it is ready: it starts in milliseconds, but a machine
/// under load takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A child that holds more than this while idle keeps memory it freed; a fresh one is cheaper.
const RESIDENT_ALLOWANCE_BYTES: u64 = 384 << 20;

/// Documents after which a child is replaced, whatever it looks like.
const DOCUMENTS_ALLOWANCE: u32 = 256;

/// One running child process.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    pub(super) sandbox: SandboxStatus,
    /// Set while an answer is owed. A child dropped in this state can not be used again.
    owes_answer: bool,
    documents: u32,
    /// Requests answered so far: with none, a failure owes nothing to history.
    answered: u64,
}

impl Child {
    /// Starts a process and tells it how to behave.
    pub(super) async fn start(
        spawner: &Spawner,
        settings: &RenderSettings,
        child_settings: &ChildSettings,
    ) -> Result<Self, RenderError> {
        let spawn_error = |source| RenderError::Spawn {
            program: settings.program.clone(),
            source,
        };
        let mut process = spawner.spawn().await.map_err(spawn_error)?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (
            process.stdin.take(),
            process.stdout.take(),
            process.stderr.take(),
        ) else {
            return Err(spawn_error(io::Error::other(
                "the pipes to the renderer are missing",
            )));
        };
        let mut child = Self {
            process,
            stdin,
            stdout,
            stderr,
            sandbox: SandboxStatus::default(),
            owes_answer: false,
            documents: 0,
            answered: 0,
        };
        let start = Request::Start(child_settings.clone());
        let ended = |reason| RenderError::Ended {
            program: settings.program.clone(),
            reason,
        };
        match child.ask(&start, &[], 0, START_TIMEOUT).await {
            Ok((Answer::Started(sandbox), _)) => child.sandbox = sandbox,
            Ok(_) => return Err(ended("it did not answer as a renderer does".into())),
            Err(death) => return Err(ended(death.message)),
        }
        child.answered = 0;
        Ok(child)
    }

    /// Sends a request and waits for its answer, whose body may have up to `max_body` bytes.
    /// After an error the child is dead or about to be: drop it.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        body: &[u8],
        max_body: u64,
        limit: Duration,
    ) -> Result<(Answer, Vec<u8>), Death> {
        self.owes_answer = true;
        if matches!(request, Request::Open { .. }) {
            self.documents += 1;
        }
        let death = match timeout(limit, self.exchange(request, body, max_body)).await {
            Ok(Ok(answer)) => {
                self.owes_answer = false;
                self.answered += 1;
                return Ok(answer);
            }
            Ok(Err(Broken::Nonsense(what))) => Death::nonsense(what),
            Ok(Err(Broken::Pipe)) => self.post_mortem().await,
            Err(_) => Death::timeout(limit.as_secs_f64()),
        };
        metrics::counter!("quire_worker_renderer_deaths_total", "code" => death.code())
            .increment(1);
        Err(death)
    }

    async fn exchange(
        &mut self,
        request: &Request,
        body: &[u8],
        max_body: u64,
    ) -> Result<(Answer, Vec<u8>), Broken> {
        self.stdin
            .write_all(&encode_head(request, body.len())?)
            .await?;
        self.stdin.write_all(body).await?;
        self.stdin.flush().await?;
        let mut prefix = [0; PREFIX_BYTES];
        self.stdout.read_exact(&mut prefix).await?;
        let (head_bytes, body_bytes) = decode_prefix(prefix);
        if head_bytes > MAX_HEAD_BYTES || body_bytes > max_body {
            return Err(Broken::Nonsense("longer than asked for"));
        }
        let mut head = vec![0; head_bytes as usize];
        self.stdout.read_exact(&mut head).await?;
        // `max_body` is what the caller is ready to hold.
        let mut answer_body = Vec::with_capacity(body_bytes as usize);
        let read = (&mut self.stdout)
            .take(body_bytes)
            .read_to_end(&mut answer_body)
            .await?;
        if (read as u64) < body_bytes {
            return Err(Broken::Pipe);
        }
        let answer = serde_json::from_slice(&head)
            .map_err(|_| Broken::Nonsense("not in the language of renderers"))?;
        Ok((answer, answer_body))
    }

    /// Waits for a child that closed its pipe and asks its remains why.
    async fn post_mortem(&mut self) -> Death {
        const PATIENCE: Duration = Duration::from_secs(5);
        let status = match timeout(PATIENCE, self.process.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => None,
        };
        // A dead child's pipe ends; a pipe holds 64 KiB at most.
        let mut last_words = Vec::new();
        let mut stderr = (&mut self.stderr).take(64 << 10);
        if timeout(PATIENCE, stderr.read_to_end(&mut last_words))
            .await
            .is_err()
        {
            tracing::debug!("a renderer closed its pipe and lives on");
        }
        Death::from_exit(status, &String::from_utf8_lossy(&last_words))
    }

    /// Makes the child forget its document; false if the child cannot be used again. Does not
    /// wait: the request fits into an empty pipe.
    pub(super) fn close_document(&mut self) -> bool {
        use futures::FutureExt;
        if self.owes_answer || self.documents >= DOCUMENTS_ALLOWANCE {
            return false;
        }
        let Ok(frame) = encode_head(&Request::Close, 0) else {
            return false;
        };
        matches!(self.stdin.write_all(&frame).now_or_never(), Some(Ok(())))
    }

    /// Whether the child has done anything that could make the next request fail.
    pub(super) fn is_fresh(&self) -> bool {
        self.answered == 0
    }

    /// Whether the child has grown too fat or too old to take another document.
    pub(super) fn is_worn(&mut self) -> bool {
        if self
            .process
            .try_wait()
            .map_or(true, |status| status.is_some())
        {
            return true;
        }
        let Some(pid) = self.process.id() else {
            return true;
        };
        resident_bytes(pid).is_some_and(|n| n > RESIDENT_ALLOWANCE_BYTES) || self.is_old()
    }

    /// Whether the child nears the limit of its processor time.
    pub(super) fn is_old(&self) -> bool {
        self.process
            .id()
            .and_then(cpu_time)
            .is_some_and(|used| used > CPU_ALLOWANCE)
    }
}

/// Why an exchange ended early.
enum Broken {
    /// A pipe broke: the child is gone.
    Pipe,
    Nonsense(&'static str),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Pipe
    }
}

/// Resident memory of a process, where the system tells.
#[cfg(target_os = "linux")]
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Processor time of a process, where the system tells.
#[cfg(target_os = "linux")]
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_secs(
        (user + system) / rustix::param::clock_ticks_per_second(),
    ))
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes(_: u32) -> Option<u64> {
    None
}

#[cfg(not(target_os = "linux"))]
fn cpu_time(_: u32) -> Option<Duration> {
    None
}
