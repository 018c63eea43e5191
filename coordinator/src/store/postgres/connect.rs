//! From a URL to a database that has this version's tables.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use quire_core::{Fault, Faulty};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Row};
use tokio::time::{Instant, sleep, timeout};

use super::during;
use crate::error::{Error, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/postgres/migrations");

/// The oldest server that is tested.
const OLDEST_SERVER: i32 = 150_000;
/// Several coordinators start at once and one of them migrates: the others wait.
const MIGRATE: Duration = Duration::from_secs(15 * 60);
/// The key of the setting, for messages.
const SETTING: &str = "coordinator.store";

/// Where the database is and how it is used.
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://user@host:port/database?sslmode=verify-full&sslrootcert=...`, without a
    /// password. Off this machine TLS is used unless `sslmode` says otherwise. It leads to the
    /// server itself, or to a pooler that gives a session to each connection.
    pub url: String,
    /// Comes from the environment.
    pub password: Option<String>,
    /// Connections of this process; one more waits for announcements.
    pub max_connections: u32,
    /// How long [`super::PostgresStore::connect`] waits for a server that is not there yet: it
    /// often starts at the same time.
    pub patience: Duration,
}

impl PostgresConfig {
    /// The usual limits.
    pub fn new(url: impl Into<String>, password: Option<String>) -> Self {
        Self {
            url: url.into(),
            password,
            // A call holds one for a millisecond or two: this is some thousand calls a second,
            // and five such processes fit into a server with its default limit of 100.
            max_connections: 16,
            patience: Duration::from_secs(15),
        }
    }
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("max_connections", &self.max_connections)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

fn setting(message: String) -> Error {
    let key = SETTING;
    Error::Setting { key, message }
}

/// How to connect, with the limits that every connection has.
pub(super) fn options(config: &PostgresConfig) -> Result<PgConnectOptions> {
    let wrong = |what: &str| setting(format!("{what} (postgres://user@host:port/database)"));
    let (scheme, rest) = config
        .url
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "postgres" | "postgresql"))
        .ok_or_else(|| wrong("this is not the URL of a PostgreSQL database"))?;
    let server = rest.split(['/', '?']).next().unwrap_or_default();
    let user = server.rsplit_once('@').map_or("", |(user, _)| user);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let named = |key: &str| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(key))
    };
    if user.contains(':') || named("password") {
        return Err(setting(format!(
            "a password does not belong into a URL: {scheme}://... without it, and the password \
             in the environment"
        )));
    }
    let mut options = PgConnectOptions::from_str(&config.url)
        .map_err(|error| wrong(&format!("this URL cannot be understood: {error}")))?
        .application_name("quire-coordinator")
        .options([
            // What the changes are written for, whatever the database's own default.
            ("default_transaction_isolation", "read committed"),
            ("statement_timeout", "20s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "30s"),
            // The server lets go of the locks of a coordinator whose machine vanished.
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            // That a table of migrations is there already is worth a line to nobody.
            ("client_min_messages", "warning"),
            // Statements are short and many; compiling one costs more than running it.
            ("jit", "off"),
        ])
        .disable_statement_logging();
    if let Some(password) = &config.password {
        options = options.password(password);
    }
    let is_default = !named("sslmode") && !named("ssl-mode");
    if is_default && matches!(options.get_ssl_mode(), PgSslMode::Prefer) && !is_local(&options) {
        options = options.ssl_mode(PgSslMode::Require);
    }
    if config.max_connections == 0 {
        return Err(setting("at least one connection is needed".into()));
    }
    Ok(options)
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let is_loopback = |ip: std::net::IpAddr| ip.is_loopback();
    options.get_socket().is_some()
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(is_loopback)
}

/// The database's place, for messages.
pub(super) fn name(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    format!("{}:{}/{database}", options.get_host(), options.get_port())
}

/// Waits for the server and brings the tables to this version.
///
/// # Errors
/// As [`migrate`]; when the server stays away.
pub(super) async fn prepare(options: &PgConnectOptions, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match migrate(options).await {
            Err(error) if error.fault() == Fault::Unavailable && Instant::now() < deadline => {
                let error = quire_core::chain(&error);
                tracing::info!(
                    database = name(options),
                    error,
                    "the database is not there yet"
                );
                sleep(Duration::from_millis(500)).await;
            }
            done => return done,
        }
    }
}

/// Brings the tables to this version, or refuses those of a newer one.
///
/// # Errors
/// When the server is too old, the tables are of a newer version, or a change fails.
async fn migrate(options: &PgConnectOptions) -> Result<()> {
    // Changes of large tables take longer than any call may, and so does waiting for another
    // coordinator that makes them: this one connection has no such limits.
    let unlimited = options
        .clone()
        .options([("statement_timeout", "0"), ("lock_timeout", "0")]);
    let mut connection = timeout(Duration::from_secs(10), unlimited.connect())
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        .map_err(during("connect"))?;
    check_server(&mut connection).await?;
    if is_current(&mut connection).await? {
        return Ok(());
    }
    let done = timeout(MIGRATE, MIGRATIONS.run(&mut connection)).await;
    match done {
        Ok(Ok(())) => Ok(()),
        Ok(Err(source)) => match source {
            // A newer coordinator was faster.
            MigrateError::VersionMissing(_) => {
                is_current(&mut connection).await?;
                Ok(())
            }
            MigrateError::Execute(source) => Err(during("bring it to this version")(source)),
            source => Err(Error::Migration {
                path: PathBuf::from(name(options)),
                source: Box::new(source),
            }),
        },
        Err(_) => Err(during("bring it to this version")(sqlx::Error::Io(
            std::io::ErrorKind::TimedOut.into(),
        ))),
    }
}

async fn check_server(connection: &mut PgConnection) -> Result<()> {
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::integer")
        .fetch_one(connection)
        .await
        .map_err(during("ask for the server's version"))?;
    if version < OLDEST_SERVER {
        return Err(setting(format!(
            "the server is PostgreSQL {}, and 15 or newer is needed",
            version / 10_000
        )));
    }
    Ok(())
}

/// Whether the tables are of this very version. Then nothing is tried that needs the right to
/// change them.
async fn is_current(connection: &mut PgConnection) -> Result<bool> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(during("look for its version"))?;
    if !is_there {
        return Ok(false);
    }
    let found = sqlx::query("SELECT version, success FROM _sqlx_migrations ORDER BY version")
        .fetch_all(&mut *connection)
        .await
        .map_err(during("read its version"))?;
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
    let newest = newest.unwrap_or(0);
    let mut done = 0;
    for row in &found {
        let version: i64 = row.try_get(0).map_err(during("read its version"))?;
        let succeeded: bool = row.try_get(1).map_err(during("read its version"))?;
        if version > newest {
            return Err(setting(format!(
                "the database was made by a newer version of quire (tables {version}, this one \
                 knows {newest}); upgrade this coordinator"
            )));
        }
        if succeeded {
            done += 1;
        }
    }
    Ok(done == MIGRATIONS.iter().count())
}
