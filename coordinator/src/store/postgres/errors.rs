//! What a failure of the server means, and which calls are made again here.
//!
//! A call that the server undid for another's sake (a deadlock, a conflict of serialization) is
//! made again at once. Everything that comes and goes is `Unavailable`, and whoever called backs
//! off: after a lost connection nobody knows whether the change was made.

use std::time::Duration;

use quire_core::Fault;
use sqlx::postgres::PgDatabaseError;
use tokio::time::{sleep, timeout};

use super::during;
use crate::error::{Error, Result};

/// Longer than the server's own limit for a statement, shorter than the callers' deadline: only a
/// server or a network that fell silent runs into it.
const CALL: Duration = Duration::from_secs(25);
/// A change that loses this often in a row meets no chance conflict.
const TRIES: u32 = 8;

/// What to do about a failure that only PostgreSQL knows; `None` if it is not one.
pub(crate) fn fault_of(error: &sqlx::Error) -> Option<Fault> {
    match error {
        sqlx::Error::Database(error) => error
            .try_downcast_ref::<PgDatabaseError>()
            .map(|error| fault_of_code(error.code())),
        // Half an answer, from a server that went away in the middle of it.
        sqlx::Error::Protocol(_) => Some(Fault::Unavailable),
        sqlx::Error::Configuration(_) | sqlx::Error::Tls(_) => Some(Fault::Config),
        _ => None,
    }
}

fn fault_of_code(code: &str) -> Fault {
    match code {
        // A byte that text cannot hold: somebody's input went into a query.
        "22021" => Fault::Input,
        // A standby, or a primary that was demoted; a transaction that sat still for too long; a
        // lock that was not had in time.
        "25006" | "25P03" | "55P03" => Fault::Unavailable,
        // No such database or schema; no rights.
        "3D000" | "3F000" | "42501" => Fault::Config,
        // A plan that another version's migration changed: the next connection makes it anew.
        "0A000" => Fault::Unavailable,
        "XX001" | "XX002" => Fault::Corrupt,
        _ => match code.get(..2) {
            // Connection, rolled back for another's sake, resources, stopped by an operator, the
            // server's own files.
            Some("08" | "40" | "53" | "57" | "58") => Fault::Unavailable,
            Some("28") => Fault::Config,
            // Constraints, syntax and the rest: a statement of ours is wrong.
            _ => Fault::Bug,
        },
    }
}

/// How often a change was tried.
#[derive(Debug, Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Whether the change may be made again, after a pause.
    pub(super) async fn again(&mut self, error: &Error) -> bool {
        self.0 += 1;
        if self.0 >= TRIES || !was_undone(error) {
            return false;
        }
        // Two that met must not meet again: a part of the pause is by chance.
        let chance = uuid::Uuid::new_v4().as_u128() % 16;
        let millis = (1_u64 << self.0) + u64::try_from(chance).unwrap_or(0);
        sleep(Duration::from_millis(millis)).await;
        true
    }
}

/// Whether the server says that it undid the change, or never began it.
pub(super) fn was_undone(error: &Error) -> bool {
    let Error::Database { source, .. } = error else {
        return false;
    };
    let code = source.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40001" | "40P01" | "0A000"))
}

/// The answer of a call, unless it takes too long.
pub(super) async fn in_time<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(CALL, call).await {
        Ok(answer) => answer,
        Err(_) => Err(during("wait for an answer")(sqlx::Error::Io(
            std::io::ErrorKind::TimedOut.into(),
        ))),
    }
}

/// Makes a call of the store: in time, and again if the server undid it.
macro_rules! call {
    ($call:expr) => {{
        let mut tries = $crate::store::postgres::errors::Tries::default();
        loop {
            match $crate::store::postgres::errors::in_time($call).await {
                Err(error) if tries.again(&error).await => {}
                answer => break answer,
            }
        }
    }};
}
pub(super) use call;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_is_unavailable_and_what_is_ours_is_a_bug() {
        let check = |code: &str, expected| assert_eq!(fault_of_code(code), expected, "{code}");
        for code in [
            "40001", "40P01", "25006", "57P01", "57P02", "57P03", "53300", "08006", "55P03",
            "57014", "53100",
        ] {
            check(code, Fault::Unavailable);
        }
        for code in ["23505", "23503", "42601", "42P01", "22P02", "25P02"] {
            check(code, Fault::Bug);
        }
        for code in ["28P01", "28000", "3D000", "42501"] {
            check(code, Fault::Config);
        }
        check("22021", Fault::Input);
        check("XX001", Fault::Corrupt);
    }
}
