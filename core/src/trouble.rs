//! Why a page or document could not be read: data, not an error of the program.
//! The two closed lists are columns of the dataset's `errors` table.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As written in rows.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value written as `text`, if the list has it.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed_list;

closed_list! {
    /// Where on its way a page or document failed.
    Stage {
        /// Getting the bytes.
        Fetch = "fetch",
        /// Opening a container.
        Unpack = "unpack",
        /// Opening the document.
        Open = "open",
        /// Making a page image.
        Render = "render",
        /// Reading a page image.
        Recognize = "recognize",
        /// Writing the row.
        Write = "write",
        /// Killed its workers; quarantined.
        Lost = "lost",
    }
}

closed_list! {
    /// What kind of failure it was.
    TroubleCode {
        /// Needs a password that the settings do not hold.
        Encrypted = "encrypted",
        /// Not readable as what it says it is.
        Damaged = "damaged",
        /// Over a limit of the settings.
        TooLarge = "too_large",
        /// Expands beyond all measure.
        Bomb = "bomb",
        /// A format or feature that is not read.
        Unsupported = "unsupported",
        /// Took longer than allowed.
        Timeout = "timeout",
        /// Needed more memory than allowed.
        OutOfMemory = "out_of_memory",
        /// Took its process down, or panicked.
        Crash = "crash",
        /// The engine repeated itself without end.
        Repetition = "repetition",
        /// Ends before its end.
        Truncated = "truncated",
        /// The object is not there.
        NotFound = "not_found",
        /// The object may not be read.
        Denied = "denied",
        /// None of the above.
        Other = "other",
    }
}

impl TroubleCode {
    /// Whether another attempt with the same settings may end differently.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Timeout | Self::OutOfMemory | Self::Crash | Self::NotFound | Self::Denied
        )
    }
}

/// Why a page or document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub stage: Stage,
    pub code: TroubleCode,
    /// For people; no credentials, 2 KiB at most.
    pub message: String,
}

impl Trouble {
    const MESSAGE_BYTES: usize = 2048;

    /// A failure with its message cut to 2 KiB.
    pub fn new(stage: Stage, code: TroubleCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MESSAGE_BYTES {
            let end = (0..=Self::MESSAGE_BYTES)
                .rev()
                .find(|&at| message.is_char_boundary(at));
            message.truncate(end.unwrap_or(0));
        }
        Self {
            stage,
            code,
            message,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.code, self.stage, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_parses_back() {
        for &code in TroubleCode::ALL {
            assert_eq!(TroubleCode::parse(code.as_str()), Some(code));
        }
        for &stage in Stage::ALL {
            assert_eq!(Stage::parse(stage.as_str()), Some(stage));
        }
    }

    #[test]
    fn long_message_is_cut_between_characters() {
        let trouble = Trouble::new(Stage::Open, TroubleCode::Other, "é".repeat(2000));
        assert_eq!(trouble.message.len(), 2048);
        assert!(trouble.message.chars().all(|c| c == 'é'));
    }
}
