//! Why a child process ended, read from its exit status and its last words.

use std::process::ExitStatus;

use quire_core::{Stage, Trouble, TroubleCode};

/// A child that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) code: TroubleCode,
    pub(super) message: String,
}

impl Death {
    /// Killed because the wall clock ran out.
    pub(super) fn timeout(seconds: f64) -> Self {
        Self {
            code: TroubleCode::Timeout,
            message: format!("took longer than {seconds} s"),
        }
    }

    /// Said something that no honest child says.
    pub(super) fn nonsense(what: &str) -> Self {
        let message = format!("the renderer gave an impossible answer: {what}");
        Self {
            code: TroubleCode::Crash,
            message,
        }
    }

    /// What the status and the end of stderr tell.
    pub(super) fn from_exit(status: Option<ExitStatus>, stderr: &str) -> Self {
        if let Some(death) = Self::from_stderr(stderr) {
            return death;
        }
        #[cfg(unix)]
        if let Some(signal) = status.and_then(|s| std::os::unix::process::ExitStatusExt::signal(&s))
        {
            return Self::from_signal(signal);
        }
        let status = status.map_or_else(|| "unknown status".into(), |s| s.to_string());
        let last = stderr.lines().last().unwrap_or_default();
        let message = format!("the renderer ended ({status}) {last}");
        Self {
            code: TroubleCode::Crash,
            message: message.trim_end().to_owned(),
        }
    }

    /// The messages of Rust's runtime when it aborts.
    fn from_stderr(stderr: &str) -> Option<Self> {
        if stderr.contains("memory allocation of") {
            let message = "needed more memory than render.memory_limit allows".to_owned();
            return Some(Self {
                code: TroubleCode::OutOfMemory,
                message,
            });
        }
        if stderr.contains("has overflowed its stack") {
            let message = "nested too deeply: the renderer ran out of stack".to_owned();
            return Some(Self {
                code: TroubleCode::Crash,
                message,
            });
        }
        None
    }

    #[cfg(unix)]
    fn from_signal(signal: i32) -> Self {
        use rustix::process::Signal;
        let (code, message) = if signal == Signal::KILL.as_raw() {
            // Not by us: expiry is told apart before this is asked. It leaves the system.
            (
                TroubleCode::OutOfMemory,
                "killed by the system, most likely for memory".to_owned(),
            )
        } else if signal == Signal::SYS.as_raw() {
            (
                TroubleCode::Crash,
                "made a system call that the sandbox forbids".to_owned(),
            )
        } else if signal == Signal::XCPU.as_raw() {
            (
                TroubleCode::Timeout,
                "used up the processor time of its process".to_owned(),
            )
        } else {
            (
                TroubleCode::Crash,
                format!("the renderer died by signal {signal}"),
            )
        };
        Self { code, message }
    }

    /// Whether a child with no history may end differently: memory fills up and broken state
    /// stays, but a page that takes too long does so in any child.
    pub(super) fn may_come_from_earlier_work(&self) -> bool {
        self.code != TroubleCode::Timeout
    }

    /// The code of its failure.
    pub(super) fn code(&self) -> &'static str {
        self.code.as_str()
    }

    /// As the failure of a page or document.
    pub(super) fn into_trouble(self, stage: Stage) -> Trouble {
        Trouble::new(stage, self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_tell_memory_from_stack() {
        let memory = Death::from_exit(None, "memory allocation of 3600000000 bytes failed\n");
        assert_eq!(memory.code, TroubleCode::OutOfMemory);
        let stack = Death::from_exit(None, "\nthread 'serve' has overflowed its stack\n");
        assert_eq!(stack.code, TroubleCode::Crash);
        assert!(stack.message.contains("stack"));
    }

    #[cfg(unix)]
    #[test]
    fn signals_become_codes() {
        use std::os::unix::process::ExitStatusExt;
        let of = |signal| Death::from_exit(Some(ExitStatus::from_raw(signal)), "").code;
        assert_eq!(of(9), TroubleCode::OutOfMemory);
        assert_eq!(of(11), TroubleCode::Crash);
        assert_eq!(of(31), TroubleCode::Crash);
        assert_eq!(of(24), TroubleCode::Timeout);
    }
}
