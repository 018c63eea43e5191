//! The database of a coordinator: a file that it has for itself, or a server that several share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quire_coordinator::ExclusiveLock;
use quire_coordinator::store::{PostgresConfig, PostgresStore, SqliteStore, Store};
use quire_core::Clock;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::settings::{StoreAddress, set};

/// Name of the database in this user's folder.
const DEFAULT_NAME: &str = "coordinator.db";

/// An open database.
#[derive(Debug)]
pub(crate) enum OpenedStore {
    Sqlite {
        store: Arc<SqliteStore>,
        path: PathBuf,
        /// Ends with the process, however that ends.
        _lock: ExclusiveLock,
    },
    Postgres {
        store: Arc<PostgresStore>,
        url: String,
    },
}

impl OpenedStore {
    /// The database as coordinators use it.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite { store, .. } => Arc::clone(store) as Arc<dyn Store>,
            Self::Postgres { store, .. } => Arc::clone(store) as Arc<dyn Store>,
        }
    }

    /// Whether no other coordinator can use it.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// As people are shown it; no password.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Sqlite { path, .. } => StoreAddress::Sqlite(path.clone()).to_string(),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    /// Closes the database, then lets its lock go.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite { store, .. } => store.close().await,
            Self::Postgres { store, .. } => store.close().await,
        }
    }
}

/// The address of the settings, by default a file in this user's folder.
pub(crate) fn address(context: &Context) -> Outcome<StoreAddress> {
    match set(&context.settings().coordinator.store) {
        Some(text) => parse(&text),
        None => Ok(StoreAddress::Sqlite(
            context.state_folder().join(DEFAULT_NAME),
        )),
    }
}

/// Understands an address that was typed.
pub(crate) fn parse(text: &str) -> Outcome<StoreAddress> {
    StoreAddress::parse(text).map_err(|wrong| Failure::usage(format!("the store {wrong}")))
}

/// Opens the database of the settings; a file is made if it is not there.
pub(crate) async fn open(context: &Context, clock: Arc<dyn Clock>) -> Outcome<OpenedStore> {
    open_at(context, address(context)?, clock).await
}

/// Opens a database; a file is made if it is not there.
pub(crate) async fn open_at(
    context: &Context,
    address: StoreAddress,
    clock: Arc<dyn Clock>,
) -> Outcome<OpenedStore> {
    match address {
        StoreAddress::Sqlite(path) => open_file(path, clock).await,
        StoreAddress::Postgres(url) => open_server(context, url).await,
    }
}

async fn open_file(path: PathBuf, clock: Arc<dyn Clock>) -> Outcome<OpenedStore> {
    let lock = ExclusiveLock::take(&lock_of(&path)).map_err(|error| match error {
        quire_coordinator::Error::Locked { .. } => {
            let what = format!(
                "{} is in use: another coordinator has this database",
                path.display()
            );
            Failure::usage(what)
                .hint("stop it first; several coordinators need postgres://user@host/database")
        }
        error => Failure::of(error),
    })?;
    let store = SqliteStore::open(&path, clock).await.map_err(Failure::of)?;
    Ok(OpenedStore::Sqlite {
        store: Arc::new(store),
        path,
        _lock: lock,
    })
}

/// Whether a coordinator of this machine has the file now.
pub(crate) fn is_in_use(path: &Path) -> bool {
    let taken = ExclusiveLock::take(&lock_of(path));
    matches!(taken, Err(quire_coordinator::Error::Locked { .. }))
}

/// The file whose lock says that a database is in use.
fn lock_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    path.with_file_name(name)
}

async fn open_server(context: &Context, url: String) -> Outcome<OpenedStore> {
    let password = context.loaded.database_password.as_ref();
    let password = password.map(|secret| secret.expose().to_owned());
    let config = PostgresConfig::new(url.clone(), password);
    let store = PostgresStore::connect(&config).await.map_err(|error| {
        let failure = Failure::of(error).context(format!("cannot use the database {url}"));
        failure.hint(
            "is the server running, and does the user have the rights and the password \
             (QUIRE_DATABASE_PASSWORD)? `quire doctor STORE` looks closer",
        )
    })?;
    Ok(OpenedStore::Postgres {
        store: Arc::new(store),
        url,
    })
}
