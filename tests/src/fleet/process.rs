//! A process under test: started with its output in files, signaled, waited for, ended with its
//! owner.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{keeper, wait_for};

/// What a process can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Stop nicely.
    Term,
    /// Be gone.
    Kill,
    /// Stand still.
    Stop,
    /// Go on.
    Continue,
}

/// A running process, or one that has ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes to `{name}.out` and `{name}.err` in `logs`, after what an
    /// earlier process of that name left there.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Self {
        let open = |suffix: &str| {
            let path = logs.join(format!("{name}.{suffix}"));
            let file = File::options().create(true).append(true).open(&path);
            (path, file.expect("a log file"))
        };
        let (stdout, out) = open("out");
        let (stderr, err) = open("err");
        // What this process says must be told from what an earlier one said.
        out.set_len(0).expect("an empty file");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        keeper::keep(child.id());
        Self {
            name: name.to_owned(),
            child,
            ended: None,
            stdout,
            stderr,
        }
    }

    /// Its number in the system.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal; a process that is gone already is no error.
    pub fn signal(&self, sign: Sign) {
        if self.ended.is_some() {
            return;
        }
        let signal = match sign {
            Sign::Term => Signal::TERM,
            Sign::Kill => Signal::KILL,
            Sign::Stop => Signal::STOP,
            Sign::Continue => Signal::CONT,
        };
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, signal).ok();
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.status().is_none()
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            keeper::forget(self.child.id());
            self.ended = Some(status);
        }
        self.ended
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(&what, || self.status())
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Sign::Kill);
        self.wait();
    }

    /// The newest event of this name among the JSON lines on its standard output.
    pub fn event(&self, name: &str) -> Option<Value> {
        let text = fs::read_to_string(&self.stdout).unwrap_or_default();
        text.lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|event| event["event"] == name)
    }

    /// Waits for an event.
    ///
    /// # Panics
    /// When it does not come, or the process ends without it.
    #[track_caller]
    pub fn wait_event(&mut self, name: &str) -> Value {
        let what = format!("the event {name} of {}", self.name);
        let found = wait_for(&what, || match self.event(name) {
            Some(event) => Some(Ok(event)),
            None => self.status().map(Err),
        });
        found.unwrap_or_else(|status| panic!("{} ended: {status}\n{}", self.name, self.tail()))
    }

    /// All it has said on standard error, and every process of its name before it.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The end of what it said.
    pub fn tail(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status().is_none() {
            self.signal(Sign::Kill);
            // A stopped process dies of this signal, too.
            if self.child.wait().is_ok() {
                keeper::forget(self.child.id());
            }
        }
    }
}
