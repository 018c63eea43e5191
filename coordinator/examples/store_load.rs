//! How many shards a second the store of a fleet gives out and takes back, on a large table, at
//! the start of a job, in its middle and at its end.
//!
//! ```text
//! cargo run --release -p quire-coordinator --example store_load -- \
//!     [--shards 10000000] [--workers 32] [--connections 16] [--cycles 60000] [--done 0,50,99.9]
//!     [--publish] [--url postgres://user@host:port/database]
//! ```
//!
//! Without a URL it starts PostgreSQL from the machine's binaries in a temporary folder, with
//! every commit on disk before it is answered, and a fresh database for each point; about 3 GB of
//! disk for the default table. With a URL it uses that database, which must be empty.
//!
//! A cycle is a grant and the commit of its part, through the same store as a coordinator's. With
//! `--publish` a publisher lists what is committed every second meanwhile.

#[path = "../../tests/src/postgres.rs"]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quire_coordinator::ShardState;
use quire_coordinator::store::{
    AppliedManifest, Commit, CommitResult, CreateJob, FailureCount, Grant, NewJob, NewSession,
    PartRecord, PlanTotals, PostgresConfig, PostgresStore, RowCounts, ShardChange, ShardQuery,
    Store,
};
use quire_core::{JobId, LeaseId, SessionId};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use tokio::task::JoinSet;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROWS_A_SHARD: u32 = 100;
/// One statement of the filling adds so many shards.
const FILL: u64 = 500_000;

struct Load {
    shards: u64,
    workers: usize,
    connections: u32,
    cycles: u64,
    done_percent: Vec<f64>,
    publish: bool,
    url: Option<String>,
}

fn arguments() -> Result<Load, Failure> {
    let mut load = Load {
        shards: 10_000_000,
        workers: 32,
        connections: 16,
        cycles: 60_000,
        done_percent: vec![0.0, 50.0, 99.9],
        publish: false,
        url: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--publish" {
            load.publish = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} takes a value"))?;
        match word.as_str() {
            "--shards" => load.shards = value.parse()?,
            "--workers" => load.workers = value.parse()?,
            "--connections" => load.connections = value.parse()?,
            "--cycles" => load.cycles = value.parse()?,
            "--done" => {
                let parts = value.split(',').map(str::parse);
                load.done_percent = parts.collect::<Result<_, _>>()?;
            }
            "--url" => load.url = Some(value),
            _ => return Err(format!("no such argument: {word}").into()),
        }
    }
    Ok(load)
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "what it measured is its output")]
async fn main() -> Result<(), Failure> {
    let load = arguments()?;
    let cluster = match &load.url {
        Some(_) => None,
        None => match server::Cluster::start_durable() {
            Some(cluster) => Some(cluster),
            None => return Ok(()),
        },
    };
    println!(
        "{} shards, {} workers, {} connections{}",
        load.shards,
        load.workers,
        load.connections,
        if load.publish { ", published" } else { "" }
    );
    for &percent in &load.done_percent {
        let url = match (&cluster, &load.url) {
            (Some(cluster), _) => cluster.create_database(),
            (None, Some(url)) => url.clone(),
            (None, None) => return Ok(()),
        };
        let report = measure(&load, &url, percent).await?;
        println!("{report}");
        if let Some(cluster) = &cluster {
            let name = url.rsplit('/').next().unwrap_or_default();
            cluster.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
    Ok(())
}

async fn measure(load: &Load, url: &str, percent: f64) -> Result<String, Failure> {
    let config = PostgresConfig {
        max_connections: load.connections,
        ..PostgresConfig::new(url, None)
    };
    let store = Arc::new(PostgresStore::connect(&config).await?);
    let n_done = (load.shards as f64 * percent / 100.0) as u64;
    let start = Instant::now();
    let job_id = plan(&store, url, load.shards, n_done).await?;
    let filled = start.elapsed();
    let sessions = open_sessions(&store, load.workers).await?;
    let cycles = load.cycles.min(load.shards - n_done);
    let left = Arc::new(AtomicU64::new(cycles));
    let is_over = Arc::new(AtomicBool::new(false));
    let publisher = load.publish.then(|| {
        let (store, job_id, is_over) = (Arc::clone(&store), job_id.clone(), Arc::clone(&is_over));
        let mut task = JoinSet::new();
        task.spawn(async move { publish(&store, &job_id, &is_over).await });
        task
    });
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for session_id in sessions {
        let (store, job_id, left) = (Arc::clone(&store), job_id.clone(), Arc::clone(&left));
        workers.spawn(async move { work(&store, &job_id, &session_id, &left).await });
    }
    let mut times = Times::default();
    while let Some(done) = workers.join_next().await {
        times.add(done??);
    }
    let wall = start.elapsed();
    is_over.store(true, Ordering::Relaxed);
    if let Some(mut publisher) = publisher {
        while let Some(done) = publisher.join_next().await {
            done??;
        }
    }
    check(&store, &job_id, load.shards, n_done, cycles).await?;
    store.close().await;
    Ok(format!(
        "{percent:>5}% done: {:>6.0} cycles/s over {cycles} cycles; grant {}; commit {}; \
         filled in {:.0} s",
        cycles as f64 / wall.as_secs_f64(),
        quantiles(&mut times.grants),
        quantiles(&mut times.commits),
        filled.as_secs_f64(),
    ))
}

/// A running job with this table, as a coordinator would have left it.
async fn plan(
    store: &PostgresStore,
    url: &str,
    n_shards: u64,
    n_done: u64,
) -> Result<JobId, Failure> {
    let job_id = JobId::new("j-0123456789ab");
    let job = NewJob {
        job_id: job_id.clone(),
        out: "s3://bucket/dataset".into(),
        sequence: 0,
        spec_json: "{}".into(),
        spec_sha256: "00".into(),
        tenant: "default".into(),
        priority: 0,
    };
    if store.create_job(&job).await? != CreateJob::Created {
        return Err("the database is not empty".into());
    }
    let pool = PgPoolOptions::new().max_connections(2).connect(url).await?;
    let starts: Vec<u64> = (0..n_shards).step_by(usize::try_from(FILL)?).collect();
    for pair in starts.chunks(2) {
        let fills = pair.iter().map(|&start| {
            let end = (start + FILL).min(n_shards);
            fill(&pool, &job_id, start, end, n_done)
        });
        futures::future::try_join_all(fills).await?;
    }
    let (shards, done) = (i64::try_from(n_shards)?, i64::try_from(n_done)?);
    let rows = i64::from(ROWS_A_SHARD);
    sqlx::query(
        "UPDATE job_counters SET pending = $2, published = $3, rows_ok = $4, rows_published = $4 \
         WHERE job_id = $1 AND slot = 0",
    )
    .bind(job_id.as_str())
    .bind(shards - done)
    .bind(done)
    .bind(done * rows)
    .execute(&pool)
    .await?;
    sqlx::query("UPDATE jobs SET widest = $2 WHERE job_id = $1")
        .bind(job_id.as_str())
        .bind(rows)
        .execute(&pool)
        .await?;
    // As autovacuum would have left it.
    pool.execute("VACUUM (ANALYZE) shards").await?;
    pool.execute("CHECKPOINT").await?;
    pool.close().await;
    let plan = PlanTotals {
        documents: n_shards,
        rows: n_shards * u64::from(ROWS_A_SHARD),
    };
    store.start_job(&job_id, &plan).await?;
    Ok(job_id)
}

/// Adds the shards from `start` to `end`; those before `n_done` are published.
async fn fill(
    pool: &PgPool,
    job_id: &JobId,
    start: u64,
    end: u64,
    n_done: u64,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO shards (job_id, shard_idx, first_row, qkey, n_rows, plan_group, line_start, \
         line_end, skip_rows, state, epoch, rows_ok, part_key, part_bytes, part_sha256, winner, \
         winner_node) \
         SELECT $1, i, i * $4, i * $4, $4, i / 100000, i % 100000, i % 100000 + 1, 0, \
         CASE WHEN i < $5 THEN 'published' ELSE 'pending' END, (i < $5)::integer, \
         CASE WHEN i < $5 THEN $4 ELSE 0 END, \
         CASE WHEN i < $5 THEN 'parts/' || lpad(i::text, 9, '0') || '-' || lease || '.parquet' END, \
         CASE WHEN i < $5 THEN 1234567 END, \
         CASE WHEN i < $5 THEN md5(lease) || md5(lease) END, \
         CASE WHEN i < $5 THEN lease END, CASE WHEN i < $5 THEN 'node-7' END \
         FROM generate_series($2::bigint, $3::bigint - 1) AS i, \
         LATERAL (SELECT md5('lease' || i) AS lease) AS drawn",
    )
    .bind(job_id.as_str())
    .bind(i64::try_from(start)?)
    .bind(i64::try_from(end)?)
    .bind(i32::try_from(ROWS_A_SHARD)?)
    .bind(i64::try_from(n_done)?)
    .execute(pool)
    .await?;
    Ok(())
}

async fn open_sessions(store: &PostgresStore, n: usize) -> Result<Vec<SessionId>, Failure> {
    let mut sessions = Vec::with_capacity(n);
    for worker in 0..n {
        let session_id = SessionId::new(uuid::Uuid::new_v4().to_string());
        let session = NewSession {
            session_id: session_id.clone(),
            worker_name: format!("worker-{worker}"),
            node: format!("node-{}", worker / 8),
            version: "0.1.0".into(),
            engines_json: "[]".into(),
            devices: vec!["cuda:0".into()],
            ttl_ms: 24 * 3_600_000,
        };
        store.open_session(&session).await?;
        sessions.push(session_id);
    }
    Ok(sessions)
}

#[derive(Debug, Default)]
struct Times {
    grants: Vec<Duration>,
    commits: Vec<Duration>,
}

impl Times {
    fn add(&mut self, other: Self) {
        self.grants.extend(other.grants);
        self.commits.extend(other.commits);
    }
}

/// Takes shards and brings their parts until no cycle is left.
async fn work(
    store: &PostgresStore,
    job_id: &JobId,
    session_id: &SessionId,
    left: &AtomicU64,
) -> Result<Times, Failure> {
    let mut times = Times::default();
    let one = |left: u64| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one)
        .is_ok()
    {
        let lease_id = LeaseId::new(uuid::Uuid::new_v4().to_string());
        let start = Instant::now();
        let granted = store.grant(session_id, job_id, &lease_id).await?;
        times.grants.push(start.elapsed());
        let Grant::Granted(shard) = granted else {
            return Err(format!("shards are left, and the store says {granted:?}").into());
        };
        let commit = commit_of(shard.shard_idx, lease_id);
        let start = Instant::now();
        let answer = store.commit(&commit).await?;
        times.commits.push(start.elapsed());
        if answer != CommitResult::Committed {
            return Err(format!("a live lease is {answer:?}").into());
        }
    }
    Ok(times)
}

fn commit_of(shard_idx: u64, lease_id: LeaseId) -> Commit {
    Commit {
        part: PartRecord {
            key: format!("parts/{shard_idx:09}-{lease_id}.parquet"),
            bytes: 1_234_567,
            sha256: "0123456789abcdef".repeat(4),
            etag: Some("\"0123456789abcdef0123456789abcdef\"".into()),
        },
        lease_id,
        rows: RowCounts {
            ok: u64::from(ROWS_A_SHARD) - 1,
            failed: 1,
            skipped: 0,
        },
        failures: vec![FailureCount {
            code: "blank".into(),
            count: 1,
            example: "s3://bucket/corpus/000.pdf#3".into(),
        }],
        work_ms: 90_000,
    }
}

/// Lists what is committed, once a second.
async fn publish(
    store: &PostgresStore,
    job_id: &JobId,
    is_over: &AtomicBool,
) -> Result<(), Failure> {
    let query = ShardQuery {
        after: None,
        state: Some(ShardState::Committed),
        limit: 4096,
    };
    for number in 1.. {
        let committed = store.shards(job_id, &query).await?;
        if committed.is_empty() && is_over.load(Ordering::Relaxed) {
            break;
        }
        let changes = committed.into_iter().filter_map(|shard| {
            Some(ShardChange::Publish {
                shard_idx: shard.shard_idx,
                part: shard.part?,
                rows: shard.rows,
                lease_id: shard.winner?,
            })
        });
        let changes = changes.collect();
        store
            .apply_manifest(job_id, &AppliedManifest { number, changes })
            .await?;
        if !is_over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

/// The sums say what was done.
async fn check(
    store: &PostgresStore,
    job_id: &JobId,
    n_shards: u64,
    n_done: u64,
    cycles: u64,
) -> Result<(), Failure> {
    let job = store.job(job_id).await?.ok_or("the job is gone")?;
    let counters = job.counters;
    let is_right = counters.pending == i64::try_from(n_shards - n_done - cycles)?
        && counters.leased == 0
        && counters.committed + counters.published == i64::try_from(n_done + cycles)?;
    if is_right {
        Ok(())
    } else {
        Err(format!("the sums are wrong: {counters:?}").into())
    }
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |per_mille: usize| {
        let place = (times.len() * per_mille / 1000).min(times.len().saturating_sub(1));
        times
            .get(place)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    format!("p50 {:.2} ms p99 {:.2} ms", at(500), at(990))
}
