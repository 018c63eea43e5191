//! What the caller should do about an error: the only thing that retry, wire status and exit
//! code may read.

use std::error::Error;

use serde::{Deserialize, Serialize};

/// Six answers to "what should the caller do?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The input is at fault: record it, go on.
    Input,
    /// A setting is at fault: name the key, stop.
    Config,
    /// Something outside is away: back off, retry.
    Unavailable,
    /// Somebody else owns this work now: drop it quietly.
    Fenced,
    /// Stored state contradicts itself: stop the job, keep the files.
    Corrupt,
    /// We are at fault: stop, with all context.
    Bug,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 6] = [
        Self::Input,
        Self::Config,
        Self::Unavailable,
        Self::Fenced,
        Self::Corrupt,
        Self::Bug,
    ];

    /// The word for it in databases, messages and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Config => "config",
            Self::Unavailable => "unavailable",
            Self::Fenced => "fenced",
            Self::Corrupt => "corrupt",
            Self::Bug => "bug",
        }
    }

    /// The fault that `word` stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.as_str() == word)
    }
}

/// An error that knows what its caller should do.
pub trait Faulty {
    /// What the caller should do.
    fn fault(&self) -> Fault;
}

/// The message of an error with those of its sources, as one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_word() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.as_str()), Some(fault));
        }
        assert_eq!(Fault::parse("Input"), None);
    }
}
