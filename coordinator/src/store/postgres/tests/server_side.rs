//! The server: its tables' version, its absence, its announcements, and what it is told.

use quire_core::{Fault, Faulty, ManualClock};
use sqlx::Row;
use tokio::time::timeout;

use super::server::Cluster;
use super::*;
use crate::error::Error;
use crate::job::JobState;

/// For what must happen soon; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_coordinators_may_start_on_an_empty_database_at_once() {
    let Some(url) = server::fresh_database() else {
        return;
    };
    let config = config(url);
    let stores = futures::future::join_all((0..6).map(|_| PostgresStore::connect(&config))).await;
    let stores: Vec<PostgresStore> = stores.into_iter().map(Result::unwrap).collect();
    assert_eq!(stores.iter().filter(|store| store.is_new()).count(), 1);
    let first = stores[0].incarnation().await.unwrap();
    for store in &stores {
        assert_eq!(store.incarnation().await.unwrap(), first);
    }
}

/// The server would say at every start that the table of migrations exists already.
#[tokio::test]
async fn server_is_asked_for_warnings_and_no_notices() {
    let Some((store, config)) = timed_store().await else {
        return;
    };
    let level = "SELECT current_setting('client_min_messages')";
    let level = store.all("look", sqlx::query(level)).await.unwrap();
    assert_eq!(level[0].get::<String, _>(0), "warning");
    // The connection of migrations is made with these, too.
    let options = super::super::connect::options(&config).unwrap();
    assert!(format!("{options:?}").contains("client_min_messages=warning"));
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused() {
    let Some((store, config)) = timed_store().await else {
        return;
    };
    let newer = sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'of tomorrow', true, '', 0)",
    );
    store.run("pretend", newer).await.unwrap();
    let error = PostgresStore::connect(&config).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Config);
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test]
async fn tables_of_an_older_version_are_brought_to_this_one() {
    let Some((store, config)) = timed_store().await else {
        return;
    };
    running(&store, 3, 1).await;
    let older = "DROP FUNCTION quire_commit; DROP FUNCTION quire_grant_copy; \
         DROP FUNCTION quire_grant; DROP FUNCTION quire_may_take; DROP FUNCTION quire_slot; \
         DROP FUNCTION quire_job_lock; DROP FUNCTION quire_now_ms; \
         DELETE FROM _sqlx_migrations WHERE version = 2";
    let mut conn = store.connections.take().await.unwrap();
    sqlx::raw_sql(older).execute(&mut *conn).await.unwrap();
    conn.keep();
    let store = PostgresStore::connect(&config).await.unwrap();
    assert!(!store.is_new());
    assert!(grant(&store, 0, lease(1)).await.is_some());
}

#[tokio::test]
async fn database_that_cannot_be_used_is_a_matter_of_settings() {
    let Some(url) = server::fresh_database() else {
        return;
    };
    let nowhere = PostgresConfig::new(format!("{url}_not"), None);
    let error = PostgresStore::connect(&nowhere).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Config, "{error:?}");
    for url in [
        "mysql://u@h/d",
        "postgres://u:secret@h/d",
        "postgres://u@h/d?password=secret",
        "postgres://u@h:port/d",
    ] {
        let error = PostgresStore::connect(&PostgresConfig::new(url, None))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Setting { .. }), "{url}: {error:?}");
        assert!(!quire_core::chain(&error).contains("secret"), "{error}");
    }
    let hidden = PostgresConfig::new("postgres://u@h/d", Some("secret".into()));
    assert!(!format!("{hidden:?}").contains("secret"));
}

#[test]
fn databases_off_this_machine_are_asked_by_tls() {
    use sqlx::postgres::PgSslMode;
    let check = |url: &str, expected: PgSslMode| {
        let options = super::super::connect::options(&PostgresConfig::new(url, None)).unwrap();
        let mode = options.get_ssl_mode();
        assert_eq!(format!("{mode:?}"), format!("{expected:?}"), "{url}");
    };
    check("postgres://u@127.0.0.1/d", PgSslMode::Prefer);
    check("postgres://u@[::1]/d", PgSslMode::Prefer);
    check("postgres://u@localhost/d", PgSslMode::Prefer);
    check("postgres://u@db.example/d", PgSslMode::Require);
    check(
        "postgres://u@db.example/d?sslmode=verify-full",
        PgSslMode::VerifyFull,
    );
    check(
        "postgres://u@db.example/d?sslmode=disable",
        PgSslMode::Disable,
    );
}

#[tokio::test]
async fn work_that_one_announces_wakes_the_other_and_not_itself() {
    let Some((store, config)) = timed_store().await else {
        return;
    };
    let other = PostgresStore::connect(&config).await.unwrap();
    // Each begins with one wake-up, once it listens.
    timeout(SOON, store.work_announced()).await.unwrap();
    timeout(SOON, other.work_announced()).await.unwrap();
    store.announce_work().await.unwrap();
    timeout(SOON, other.work_announced()).await.unwrap();
    // What comes back on the same connection after one's own word is the other's.
    other.announce_work().await.unwrap();
    timeout(SOON, store.work_announced()).await.unwrap();
    assert!(
        timeout(Duration::ZERO, store.work_announced())
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_was_killed_is_used_again_when_it_is_back() {
    let Some(mut cluster) = Cluster::start() else {
        return;
    };
    let config = config(cluster.create_database());
    let store = PostgresStore::connect(&config).await.unwrap();
    running(&store, 4, 1).await;
    timeout(SOON, store.work_announced()).await.unwrap();
    grant(&store, 0, lease(1)).await.unwrap();
    cluster.kill();
    let error = store.commit(&commit_of(lease(1))).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Unavailable, "{error:?}");
    let error = store.now_ms().await.unwrap_err();
    assert_eq!(error.fault(), Fault::Unavailable, "{error:?}");
    cluster.resume();
    let done = store.commit(&commit_of(lease(1))).await.unwrap();
    assert_eq!(done, CommitResult::Committed);
    assert_eq!(counters(&store).await.committed, 1);
    // It listens again by itself.
    timeout(SOON, store.work_announced()).await.unwrap();
    let other = PostgresStore::connect(&config).await.unwrap();
    other.announce_work().await.unwrap();
    timeout(SOON, store.work_announced()).await.unwrap();
}

#[tokio::test]
async fn server_that_takes_no_changes_is_unavailable() {
    let Some((store, config)) = timed_store().await else {
        return;
    };
    running(&store, 1, 1).await;
    let demote = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only \
         = on', current_database()); END $$";
    store.run("demote", sqlx::query(demote)).await.unwrap();
    let demoted = PostgresStore::connect(&config).await;
    // Its name is written at the first start, and a standby refuses even the attempt.
    let error = demoted.unwrap_err();
    assert_eq!(error.fault(), Fault::Unavailable, "{error:?}");
}

#[tokio::test]
async fn connections_are_given_back_and_broken_ones_are_not() {
    let Some(url) = server::fresh_database() else {
        return;
    };
    let config = PostgresConfig {
        max_connections: 1,
        ..PostgresConfig::new(url, None)
    };
    let store = PostgresStore::connect(&config).await.unwrap();
    running(&store, 3, 1).await;
    // Left in the middle of a change: it is undone, and the only connection is free again.
    let mut tx = store.begin().await.unwrap();
    tx.run("delete", sqlx::query("DELETE FROM shards"))
        .await
        .unwrap();
    drop(tx);
    assert!(
        store
            .run("nonsense", sqlx::query("SELECT nothing FROM nowhere"))
            .await
            .is_err()
    );
    for n in 0..3 {
        assert!(grant(&store, 0, lease(n)).await.is_some());
    }
}

#[tokio::test]
async fn text_with_the_character_zero_is_kept_without_it() {
    let Some(store) = fresh_store(Arc::new(ManualClock::default())).await else {
        return;
    };
    running(&store, 1, 1).await;
    grant(&store, 0, lease(1)).await.unwrap();
    let end = EndLease {
        message: "bad\0file".into(),
        ..retry_of(lease(1))
    };
    assert!(store.end_lease(&end).await.unwrap());
    let attempts = store.attempts(&job_id(), 0).await.unwrap();
    assert_eq!(attempts[0].message, "bad\u{fffd}file");
    let why = Why {
        reason: "a\0b".into(),
        fault: None,
    };
    let (running, paused) = (JobState::Running, JobState::Paused);
    assert!(
        store
            .move_job(&job_id(), running, paused, Some(&why))
            .await
            .unwrap()
    );
    // In a name that is only looked for it is the caller's mistake.
    let error = store.lease(&LeaseId::new("l\0")).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Input, "{error:?}");
}
