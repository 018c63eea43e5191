//! Random sequences of calls, made of memory and another store side by side: both answer alike,
//! and what must always hold does.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use quire_core::{JobId, LeaseId, ManualClock, SessionId};
use quire_proto::v1;

use super::conformance::ALL_GIVEN_UP;
use super::records::*;
use super::{MemoryStore, ShardQuery, SqliteStore, Store};
use crate::job::{JobState, LeaseEnd, ShardState};
use crate::plan::for_test::document;
use crate::schedule::halve;

#[derive(Debug, Clone)]
enum Call {
    Grant {
        session: u8,
    },
    Copy {
        session: u8,
        shard: u8,
    },
    Commit {
        lease: u8,
    },
    End {
        lease: u8,
        charged: bool,
        verdict: u8,
    },
    Beat {
        session: u8,
        lease: u8,
        rows_done: u32,
        drains: bool,
    },
    Open {
        session: u8,
    },
    Close {
        session: u8,
    },
    Pass {
        ms: u16,
    },
    Publish,
    Move {
        to: u8,
    },
    Fence,
    Requeue,
}

fn call() -> impl Strategy<Value = Call> {
    let lease = 0..24_u8;
    let session = 0..3_u8;
    prop_oneof![
        6 => session.clone().prop_map(|session| Call::Grant { session }),
        2 => (session.clone(), 0..5_u8).prop_map(|(session, shard)| Call::Copy { session, shard }),
        5 => lease.clone().prop_map(|lease| Call::Commit { lease }),
        4 => (lease.clone(), any::<bool>(), 0..4_u8)
            .prop_map(|(lease, charged, verdict)| Call::End { lease, charged, verdict }),
        2 => (session.clone(), lease, 0..9_u32, prop::bool::weighted(0.1)).prop_map(
            |(session, lease, rows_done, drains)| Call::Beat { session, lease, rows_done, drains }
        ),
        1 => session.clone().prop_map(|session| Call::Open { session }),
        1 => session.prop_map(|session| Call::Close { session }),
        1 => (0..900_u16).prop_map(|ms| Call::Pass { ms }),
        2 => Just(Call::Publish),
        1 => (0..8_u8).prop_map(|to| Call::Move { to }),
        1 => Just(Call::Fence),
        1 => Just(Call::Requeue),
    ]
}

fn job_id() -> JobId {
    JobId::new("j")
}

fn lease_id(n: u8) -> LeaseId {
    LeaseId::new(format!("l-{n}"))
}

fn session_id(n: u8) -> SessionId {
    SessionId::new(format!("s-{n}"))
}

async fn open_session(store: &dyn Store, n: u8) {
    let session_id = session_id(n);
    if store.session(&session_id).await.unwrap().is_none() {
        let session = NewSession {
            session_id,
            worker_name: "w".into(),
            node: format!("n-{n}"),
            version: "1".into(),
            engines_json: "[]".into(),
            devices: Vec::new(),
            ttl_ms: 1000,
        };
        store.open_session(&session).await.unwrap();
    }
}

async fn prepare(store: &dyn Store) {
    let job = NewJob {
        job_id: job_id(),
        out: "file:///out".into(),
        sequence: 0,
        spec_json: "{}".into(),
        spec_sha256: "00".into(),
        tenant: "t".into(),
        priority: 0,
    };
    store.create_job(&job).await.unwrap();
    let mut shards = Vec::new();
    let mut first_row = 0;
    for (at, n_rows) in [6_u32, 1, 4].into_iter().enumerate() {
        let line = u32::try_from(at).unwrap();
        let (line_start, line_end) = (line, line + 1);
        let span = Span {
            first_row,
            n_rows,
            group: 0,
            line_start,
            line_end,
            skip_rows: 0,
        };
        shards.push(NewShard {
            shard_idx: at as u64,
            parent: None,
            span,
            isolate: Vec::new(),
        });
        first_row += u64::from(n_rows);
    }
    store.add_shards(&job_id(), &shards).await.unwrap();
    store
        .start_job(
            &job_id(),
            &PlanTotals {
                documents: 3,
                rows: 11,
            },
        )
        .await
        .unwrap();
    for n in 0..3 {
        open_session(store, n).await;
    }
}

/// Makes one call; `n_leases` numbers grants. The answer as text is compared between stores.
async fn make(store: &dyn Store, call: &Call, n_leases: u8) -> String {
    match call {
        Call::Grant { session } => {
            let lease = lease_id(n_leases);
            format!(
                "{:?}",
                store.grant(&session_id(*session), &job_id(), &lease).await
            )
        }
        Call::Copy { session, shard } => {
            let lease = lease_id(n_leases);
            let shard = u64::from(*shard);
            let answer = store
                .grant_copy(&session_id(*session), &job_id(), shard, &lease)
                .await;
            format!("{answer:?}")
        }
        Call::Commit { lease } => {
            let lease_id = lease_id(*lease);
            let n_rows = match store.lease(&lease_id).await.unwrap() {
                Some((_, shard)) => u64::from(shard.span.n_rows),
                None => 1,
            };
            let key = format!("p-{lease}");
            let part = PartRecord {
                key,
                bytes: 1,
                sha256: "ab".into(),
                etag: None,
            };
            let rows = RowCounts {
                ok: n_rows - 1,
                failed: 1,
                skipped: 0,
            };
            let failure = FailureCount {
                code: "other".into(),
                count: 1,
                example: "e".into(),
            };
            let commit = Commit {
                lease_id,
                part,
                rows,
                failures: vec![failure],
                work_ms: 100 * n_rows,
            };
            format!("{:?}", store.commit(&commit).await)
        }
        Call::End {
            lease,
            charged,
            verdict,
        } => end(store, *lease, *charged, *verdict).await,
        Call::Beat {
            session,
            lease,
            rows_done,
            drains,
        } => {
            let progress = Progress {
                lease_id: lease_id(*lease),
                stage: LeaseStage::Reading,
                rows_done: *rows_done,
                rows_failed: 0,
                in_flight: Vec::new(),
                engine_moved: false,
            };
            let said = match drains {
                true => v1::WorkerState::Draining,
                false => v1::WorkerState::Ready,
            };
            let beat = Beat {
                session_id: session_id(*session),
                said,
                ttl_ms: 1000,
                progress: vec![progress],
                store_away: false,
            };
            format!("{:?}", store.heartbeat(&beat).await)
        }
        Call::Open { session } => {
            open_session(store, *session).await;
            String::new()
        }
        Call::Close { session } => {
            format!("{:?}", store.close_session(&session_id(*session)).await)
        }
        Call::Pass { .. } => String::new(),
        Call::Publish => publish(store).await,
        Call::Move { to } => {
            let state = store.job(&job_id()).await.unwrap().unwrap().state;
            let to = JobState::ALL[usize::from(*to) % JobState::ALL.len()];
            // Ends would end the test's use as well.
            if matches!(
                to,
                JobState::Failed | JobState::Canceling | JobState::Finishing
            ) {
                return String::new();
            }
            format!("{:?}", store.move_job(&job_id(), state, to, None).await)
        }
        Call::Fence => format!("{:?}", store.fence_job(&job_id()).await),
        Call::Requeue => format!("{:?}", store.requeue_quarantined(&job_id(), &[]).await),
    }
}

async fn end(store: &dyn Store, lease: u8, charged: bool, verdict: u8) -> String {
    let Some((_, shard)) = store.lease(&lease_id(lease)).await.unwrap() else {
        return String::new();
    };
    let n_rows = shard.span.n_rows;
    let verdict = match verdict {
        2 if n_rows > 1 => {
            let whole = [shard.span.skip_rows + n_rows];
            let spans = halve::split(&shard.span, &whole, n_rows / 2);
            Verdict::Halve {
                spans,
                isolate: Vec::new(),
            }
        }
        3 if n_rows == 1 => {
            let line = Box::new(document(0, 1));
            Verdict::Quarantine {
                line,
                message: "m".into(),
            }
        }
        n => Verdict::Retry {
            not_before_ms: i64::from(n) * 100,
            isolate: Vec::new(),
        },
    };
    let end = EndLease {
        lease_id: lease_id(lease),
        end: LeaseEnd::Expired,
        deaths_seen: shard.deaths,
        charged,
        message: "m".into(),
        suspects: Vec::new(),
        verdict,
    };
    format!("{:?}", store.end_lease(&end).await)
}

async fn publish(store: &dyn Store) -> String {
    let query = ShardQuery {
        after: None,
        state: Some(ShardState::Committed),
        limit: 100,
    };
    let committed = store.shards(&job_id(), &query).await.unwrap();
    let mut changes: Vec<ShardChange> = committed
        .into_iter()
        .map(|shard| ShardChange::Publish {
            shard_idx: shard.shard_idx,
            part: shard.part.unwrap(),
            rows: shard.rows,
            lease_id: shard.winner.unwrap(),
        })
        .collect();
    let number = store.job(&job_id()).await.unwrap().unwrap().last_manifest + 1;
    for record in store.quarantine(&job_id(), &ALL_GIVEN_UP).await.unwrap() {
        if record.manifest.is_none() {
            let shard_idx = record.shard_idx;
            let key = format!("lost-{shard_idx}");
            let part = PartRecord {
                key,
                bytes: 1,
                sha256: "ab".into(),
                etag: None,
            };
            let lease_id = LeaseId::new(format!("lost-{shard_idx}"));
            changes.push(ShardChange::List {
                shard_idx,
                part,
                lease_id,
            });
        }
    }
    format!(
        "{:?}",
        store
            .apply_manifest(&job_id(), &AppliedManifest { number, changes })
            .await
    )
}

/// Everything that a store shows of the job.
async fn see(store: &dyn Store) -> (JobRecord, Vec<ShardRecord>, String) {
    let query = ShardQuery {
        after: None,
        state: None,
        limit: 1000,
    };
    let shards = store.shards(&job_id(), &query).await.unwrap();
    let rest = format!(
        "{:?} {:?} {:?} {:?}",
        store.leases_of_job(&job_id()).await.unwrap(),
        store.quarantine(&job_id(), &ALL_GIVEN_UP).await.unwrap(),
        store.failures(&job_id()).await.unwrap(),
        store.expired_sessions().await.unwrap(),
    );
    (store.job(&job_id()).await.unwrap().unwrap(), shards, rest)
}

/// What must hold after every call.
fn check(job: &JobRecord, shards: &[ShardRecord]) {
    let mut counted = Counters::default();
    let mut rows: Vec<u64> = Vec::new();
    for shard in shards {
        counted.shard(shard.state, 1);
        counted.rows(shard.rows, 1);
        if shard.state != ShardState::Halved {
            rows.extend(shard.span.first_row..shard.span.end_row());
        }
    }
    rows.sort_unstable();
    // Every planned row is in one shard that counts.
    assert_eq!(rows, (0..job.plan.rows).collect::<Vec<_>>());
    counted.rows_published = job.counters.rows_published;
    counted.rows_quarantined = job.counters.rows_quarantined;
    assert_eq!(counted, job.counters);
}

/// Makes the calls of memory and of another store side by side.
async fn agree(other: &dyn Store, clock: &Arc<ManualClock>, calls: &[Call]) {
    let memory = MemoryStore::new(Arc::clone(clock) as _);
    prepare(other).await;
    prepare(&memory).await;
    let mut n_leases = 0;
    for call in calls {
        if let Call::Pass { ms } = call {
            clock.advance(Duration::from_millis(u64::from(*ms)));
        }
        let answers = (
            make(&memory, call, n_leases).await,
            make(other, call, n_leases).await,
        );
        assert_eq!(answers.0, answers.1, "{call:?}");
        n_leases += u8::from(answers.0.contains("Granted"));
        let seen = (see(&memory).await, see(other).await);
        assert_eq!(seen.0, seen.1, "after {call:?}");
        check(&seen.0.0, &seen.0.1);
    }
}

fn block_on(work: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn memory_and_sqlite_agree_call_by_call(calls in prop::collection::vec(call(), 1..60)) {
        block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::default());
            let file = folder.path().join("state.db");
            let sqlite = SqliteStore::open(&file, Arc::clone(&clock) as _).await.unwrap();
            agree(&sqlite, &clock, &calls).await;
            sqlite.close().await;
        });
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn memory_and_postgres_agree_call_by_call(calls in prop::collection::vec(call(), 1..60)) {
        block_on(async {
            let clock = Arc::new(ManualClock::default());
            let postgres = super::postgres::fresh_store(Arc::clone(&clock) as _).await;
            if let Some(postgres) = postgres {
                agree(&postgres, &clock, &calls).await;
                postgres.close().await;
            }
        });
    }
}
