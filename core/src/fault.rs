//! What the caller should do about an error: the only thing that retry, wire status and exit
//! code may read.

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

/// An error that knows what its caller should do.
pub trait Faulty {
    /// What the caller should do.
    fn fault(&self) -> Fault;
}
