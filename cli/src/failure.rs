//! How a command ends that does not end well: exit code, message, chain of causes, hint.

use std::error::Error as StdError;
use std::fmt::Write as _;

use quire_core::{Fault, Faulty};

use crate::settings::SettingsError;

/// Why a command failed, as the user is told.
#[derive(Debug)]
pub(crate) struct Failure {
    /// 1: failed; 2: bad usage or settings.
    pub exit_code: u8,
    error: anyhow::Error,
    hint: Option<String>,
}

/// What a command gives back.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// Bad usage or settings: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            exit_code: 2,
            error: anyhow::Error::msg(message.into()),
            hint: None,
        }
    }

    /// Something failed: exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            exit_code: 1,
            error: anyhow::Error::msg(message.into()),
            hint: None,
        }
    }

    /// A failure that knows its own fault.
    pub(crate) fn of<E>(error: E) -> Self
    where
        E: Faulty + StdError + Send + Sync + 'static,
    {
        let fault = error.fault();
        let error = anyhow::Error::new(error);
        Self {
            exit_code: exit_code(fault),
            hint: hint_for_full_disk(&error).or_else(|| hint_for(fault)),
            error,
        }
    }

    /// Settings that cannot be used, with what was probably meant.
    pub(crate) fn of_settings(error: SettingsError) -> Self {
        let hint = error.hint();
        let failure = Self::of(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// A failure that was told by somebody else, with its fault.
    pub(crate) fn of_fault(fault: Fault, message: impl Into<String>) -> Self {
        let error = anyhow::Error::msg(message.into());
        Self {
            exit_code: exit_code(fault),
            error,
            hint: hint_for(fault),
        }
    }

    /// Says what was being done.
    #[must_use]
    pub(crate) fn context(self, context: impl Into<String>) -> Self {
        Self {
            error: self.error.context(context.into()),
            ..self
        }
    }

    /// Where the exit code is not that of the fault.
    #[must_use]
    pub(crate) fn exit_code(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }

    /// Says what the user may do.
    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// What is printed: the error, its causes and the hint, each on a line of its own.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        for (depth, cause) in self.causes().iter().enumerate() {
            let lead = if depth == 0 { "error" } else { "  because" };
            let written = writeln!(text, "{lead}: {cause}");
            debug_assert!(written.is_ok(), "writing to a String cannot fail");
        }
        if let Some(hint) = &self.hint {
            text.push_str("hint: ");
            text.push_str(hint);
            text.push('\n');
        }
        text
    }

    /// The error and its causes on one line, for events.
    pub(crate) fn message(&self) -> String {
        self.causes().join(": ")
    }

    /// What the error and its causes say. Some libraries repeat their source in their own
    /// message: what was said is not said again.
    fn causes(&self) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        for cause in self.error.chain() {
            let message = cause.to_string();
            let is_new = said.last().is_none_or(|last| !last.ends_with(&message));
            if is_new && !message.is_empty() {
                said.push(message);
            }
        }
        said
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            exit_code: 1,
            error,
            hint: None,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self {
            exit_code: 1,
            error: error.into(),
            hint: None,
        }
    }
}

fn exit_code(fault: Fault) -> u8 {
    match fault {
        Fault::Config => 2,
        Fault::Input | Fault::Unavailable | Fault::Fenced | Fault::Corrupt | Fault::Bug => 1,
    }
}

/// A full disk reaches us through many libraries, some of which keep no more than its words.
fn hint_for_full_disk(error: &anyhow::Error) -> Option<String> {
    let is_full = error.chain().any(|cause| {
        let kind = cause
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        let message = cause.to_string();
        kind == Some(std::io::ErrorKind::StorageFull)
            || message.contains("No space left on device")
            || message.contains("database or disk is full")
    });
    is_full.then(|| {
        "the disk is full: make room, then the same command goes on where this one stopped"
            .to_owned()
    })
}

fn hint_for(fault: Fault) -> Option<String> {
    let text = match fault {
        Fault::Unavailable => "when it is back, the same command goes on where this one stopped",
        Fault::Corrupt => "nothing was deleted; `quire verify OUT` says what is whole",
        Fault::Bug => "this is a fault of Quire: please report it with the lines above",
        Fault::Fenced => "another process works on the same dataset; let it finish or stop it",
        Fault::Input | Fault::Config => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn report_walks_the_chain_and_ends_with_the_hint() {
        let error = anyhow!("no space left on device").context("cannot write shard 3");
        let failure = Failure::from(error).hint("make room and run again");
        let expected = "error: cannot write shard 3\n  because: no space left on device\n\
                        hint: make room and run again\n";
        assert_eq!(failure.report(), expected);
        assert_eq!(failure.exit_code, 1);
    }

    #[test]
    fn cause_that_its_parent_repeats_is_said_once() {
        let error = anyhow!("gone").context("cannot read a: gone");
        let failure = Failure::from(error);
        assert_eq!(failure.report(), "error: cannot read a: gone\n");
        assert_eq!(failure.message(), "cannot read a: gone");
    }

    #[test]
    fn full_disk_is_known_by_its_kind_or_its_words() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let told = anyhow!("External: No space left on device (os error 28)").context("part 3");
        for error in [anyhow::Error::new(full), told] {
            assert!(hint_for_full_disk(&error).is_some_and(|hint| hint.contains("make room")));
        }
        assert_eq!(hint_for_full_disk(&anyhow!("gone")), None);
    }

    #[test]
    fn only_settings_and_usage_end_with_two() {
        assert_eq!(Failure::usage("x").exit_code, 2);
        assert_eq!(exit_code(Fault::Config), 2);
        for fault in [
            Fault::Input,
            Fault::Unavailable,
            Fault::Fenced,
            Fault::Corrupt,
            Fault::Bug,
        ] {
            assert_eq!(exit_code(fault), 1);
        }
    }
}
