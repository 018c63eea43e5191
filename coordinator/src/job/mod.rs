//! The states of jobs, shards, leases and sessions, one file each, with the moves that are legal
//! in one `match`. Stores apply them; nothing else changes a state.

mod job_state;
mod lease_state;
mod session_state;
mod shard_state;

pub use job_state::JobState;
pub use lease_state::LeaseEnd;
pub use session_state::SessionState;
pub use shard_state::ShardState;

/// The text forms of a closed list of states, as stores keep them.
macro_rules! state_names {
    ($name:ident { $($variant:ident = $text:literal,)* }) => {
        impl $name {
            /// Every state.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As stores keep it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The state kept as `text`.
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
use state_names;
