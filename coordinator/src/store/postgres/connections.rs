//! Connections to the server: few, kept, and thrown away at the first doubt.
//!
//! A connection comes back only after its last call succeeded. One whose call failed, or was
//! given up in the middle, is closed: nobody knows what the server does on it, it may belong to a
//! server that was demoted, and making a new one costs a few milliseconds. For the same reason
//! there is no ping after each call, which would be a third of the calls.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::during;
use crate::error::{Error, Result};

/// A call waits so long for a connection while all are in use.
const WAIT: Duration = Duration::from_secs(10);
/// A server that is there answers sooner, by TLS and over a slow network too.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that was not used for this long is tried before it is trusted.
const UNTRUSTED_AFTER: Duration = Duration::from_secs(2);
/// Old connections are closed: the server's memory for one grows, and after a change of names or
/// servers all of them should move in a while.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// A bounded number of connections.
pub(super) struct Connections {
    options: PgConnectOptions,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

struct Idle {
    connection: PgConnection,
    made_at: Instant,
    used_at: Instant,
}

/// A connection in use. [`Self::keep`] gives it back; dropped without, it is closed.
pub(super) struct Conn {
    connection: PgConnection,
    made_at: Instant,
    idle: Arc<Mutex<Vec<Idle>>>,
    permit: OwnedSemaphorePermit,
}

fn lock(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, max: u32) -> Self {
        Self {
            options,
            permits: Arc::new(Semaphore::new(max as usize)),
            idle: Arc::default(),
        }
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// When all are in use for long, or the server cannot be reached.
    pub(super) async fn take(&self) -> Result<Conn> {
        let permit = timeout(WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = match permit {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(failed(sqlx::Error::PoolClosed)),
            Err(_) => return Err(failed(sqlx::Error::PoolTimedOut)),
        };
        let (connection, made_at) = match self.idle_one().await {
            Some(found) => found,
            None => (self.connect().await?, Instant::now()),
        };
        Ok(Conn {
            connection,
            made_at,
            idle: Arc::clone(&self.idle),
            permit,
        })
    }

    /// The connection that was used last, if it still answers.
    async fn idle_one(&self) -> Option<(PgConnection, Instant)> {
        loop {
            let Idle {
                mut connection,
                made_at,
                used_at,
            } = lock(&self.idle).pop()?;
            if made_at.elapsed() > LIFETIME {
                continue;
            }
            if used_at.elapsed() < UNTRUSTED_AFTER {
                return Some((connection, made_at));
            }
            match timeout(CONNECT, connection.ping()).await {
                Ok(Ok(())) => return Some((connection, made_at)),
                // The others go back to the same server, and are older.
                Ok(Err(_)) | Err(_) => lock(&self.idle).clear(),
            }
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<PgConnection> {
        match timeout(CONNECT, self.options.connect()).await {
            Ok(made) => made.map_err(failed),
            Err(_) => Err(failed(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))),
        }
    }

    /// Ends all connections that are not in use; no call gets one any more.
    pub(super) async fn close(&self) {
        self.permits.close();
        let idle = std::mem::take(&mut *lock(&self.idle));
        for Idle { connection, .. } in idle {
            // The server notices by itself if it is not told.
            let _told = timeout(CONNECT, connection.close()).await;
        }
    }
}

fn failed(source: sqlx::Error) -> Error {
    during("connect")(source)
}

impl Conn {
    /// Makes the connections that wait for use be made anew.
    pub(super) fn doubt_others(&self) {
        lock(&self.idle).clear();
    }

    /// Gives the connection back: its last call succeeded and no transaction is open on it.
    pub(super) fn keep(self) {
        let Self {
            connection,
            made_at,
            idle,
            permit,
        } = self;
        lock(&idle).push(Idle {
            connection,
            made_at,
            used_at: Instant::now(),
        });
        drop(permit);
    }
}

impl Deref for Conn {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Conn {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
