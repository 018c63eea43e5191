//! LISTEN and NOTIFY: a coordinator tells the others that shards wait. Only a wake-up, which may
//! be lost; whoever waits polls as well.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::PostgresStore;
use crate::error::Result;

const CHANNEL: &str = "quire_work";
/// Pauses between attempts to listen again, doubled from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// Listens for announcements of others on a connection of its own.
pub(super) struct Wake {
    /// What this process says is not for itself.
    own: String,
    heard: Arc<Notify>,
    /// Ends with the store.
    listener: Mutex<JoinSet<()>>,
}

impl Wake {
    pub(super) fn listen(options: PgConnectOptions) -> Self {
        let own = uuid::Uuid::new_v4().to_string();
        let heard = Arc::new(Notify::new());
        let mut listener = JoinSet::new();
        listener.spawn(keep_listening(options, own.clone(), Arc::clone(&heard)));
        Self {
            own,
            heard,
            listener: Mutex::new(listener),
        }
    }

    pub(super) fn stop(&self) {
        self.listener
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .abort_all();
    }

    /// Completes when another process announced work since the last call.
    pub(super) async fn announced(&self) {
        self.heard.notified().await;
    }

    pub(super) async fn announce(&self, store: &PostgresStore) -> Result<()> {
        let statement = sqlx::query("SELECT pg_notify($1, $2)");
        store
            .run("announce work", statement.bind(CHANNEL).bind(&self.own))
            .await?;
        Ok(())
    }
}

async fn keep_listening(options: PgConnectOptions, own: String, heard: Arc<Notify>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listen(&options, &own, &heard, &mut pause).await {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "not listening for announcements"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Listens until the connection fails.
async fn listen(
    options: &PgConnectOptions,
    own: &str,
    heard: &Notify,
    pause: &mut Duration,
) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    *pause = FIRST_PAUSE;
    // Something may have been said while nobody listened.
    heard.notify_one();
    while let Some(notification) = listener.try_recv().await? {
        if notification.payload() != own {
            heard.notify_one();
        }
    }
    Ok(())
}
