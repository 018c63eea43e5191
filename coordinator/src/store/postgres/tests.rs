//! What only this store must show: races between connections, plans on a large table, versions of
//! its tables, and a server that goes away.

mod plans;
mod races;
mod server_side;

use std::sync::Arc;
use std::time::Duration;

use quire_core::{Clock, JobId, LeaseId, SessionId};

use super::{PostgresConfig, PostgresStore, server};
use crate::store::Store;
use crate::store::records::*;

/// A store in an empty database, on time that a test moves; `None`, after saying so, where there
/// is no PostgreSQL.
pub(in crate::store) async fn fresh_store(clock: Arc<dyn Clock>) -> Option<PostgresStore> {
    let config = config(server::fresh_database()?);
    Some(
        PostgresStore::connect_for_test(&config, clock)
            .await
            .unwrap(),
    )
}

fn config(url: String) -> PostgresConfig {
    PostgresConfig {
        // Tests run side by side on one server.
        max_connections: 8,
        patience: Duration::ZERO,
        ..PostgresConfig::new(url, None)
    }
}

/// A store in an empty database, on the server's own time.
async fn timed_store() -> Option<(Arc<PostgresStore>, PostgresConfig)> {
    let config = config(server::fresh_database()?);
    let store = PostgresStore::connect(&config).await.unwrap();
    Some((Arc::new(store), config))
}

fn job_id() -> JobId {
    JobId::new("j-1")
}

fn session(n: usize) -> SessionId {
    SessionId::new(format!("s-{n}"))
}

fn lease(name: impl std::fmt::Display) -> LeaseId {
    LeaseId::new(format!("l-{name}"))
}

fn commit_of(lease_id: LeaseId) -> Commit {
    Commit {
        part: part(lease_id.as_str()),
        lease_id,
        rows: RowCounts {
            ok: 10,
            failed: 0,
            skipped: 0,
        },
        failures: vec![FailureCount {
            code: "blank".into(),
            count: 1,
            example: "e".into(),
        }],
        work_ms: 1000,
    }
}

fn part(key: &str) -> PartRecord {
    PartRecord {
        key: key.into(),
        bytes: 7,
        sha256: "ab".into(),
        etag: None,
    }
}

fn retry_of(lease_id: LeaseId) -> EndLease {
    EndLease {
        lease_id,
        end: crate::job::LeaseEnd::Expired,
        deaths_seen: 0,
        charged: false,
        message: "m".into(),
        suspects: Vec::new(),
        verdict: Verdict::Retry {
            not_before_ms: 0,
            isolate: Vec::new(),
        },
    }
}

fn publish_of(shard_idx: u64, lease_id: LeaseId) -> ShardChange {
    ShardChange::Publish {
        shard_idx,
        part: part(lease_id.as_str()),
        rows: RowCounts {
            ok: 10,
            failed: 0,
            skipped: 0,
        },
        lease_id,
    }
}

/// A running job of so many shards with 10 rows each, and sessions on nodes of their own.
async fn running(store: &PostgresStore, n_shards: u64, n_sessions: usize) {
    let job = NewJob {
        job_id: job_id(),
        out: "file:///out".into(),
        sequence: 0,
        spec_json: "{}".into(),
        spec_sha256: "00".into(),
        tenant: "t".into(),
        priority: 0,
    };
    assert_eq!(store.create_job(&job).await.unwrap(), CreateJob::Created);
    let shards: Vec<NewShard> = (0..n_shards).map(shard).collect();
    for some in shards.chunks(4096) {
        store.add_shards(&job_id(), some).await.unwrap();
    }
    let plan = PlanTotals {
        documents: n_shards,
        rows: n_shards * 10,
    };
    assert!(store.start_job(&job_id(), &plan).await.unwrap());
    for n in 0..n_sessions {
        let session = NewSession {
            session_id: session(n),
            worker_name: format!("w-{n}"),
            node: format!("n-{n}"),
            version: "1".into(),
            engines_json: "[]".into(),
            devices: vec!["cpu".into()],
            ttl_ms: 600_000,
        };
        store.open_session(&session).await.unwrap();
    }
}

fn shard(shard_idx: u64) -> NewShard {
    let line = u32::try_from(shard_idx).unwrap();
    NewShard {
        shard_idx,
        parent: None,
        span: Span {
            first_row: shard_idx * 10,
            n_rows: 10,
            group: 0,
            line_start: line,
            line_end: line + 1,
            skip_rows: 0,
        },
        isolate: Vec::new(),
    }
}

async fn grant(store: &PostgresStore, n: usize, lease_id: LeaseId) -> Option<ShardRecord> {
    match store
        .grant(&session(n), &job_id(), &lease_id)
        .await
        .unwrap()
    {
        Grant::Granted(shard) => Some(*shard),
        Grant::Nothing | Grant::NoSession => None,
    }
}

async fn counters(store: &PostgresStore) -> Counters {
    store.job(&job_id()).await.unwrap().unwrap().counters
}
