//! Several connections at once: what one writer gives the other stores for nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tokio::task::JoinSet;

use super::*;
use crate::job::{JobState, ShardState};
use crate::store::ShardQuery;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_workers_never_get_one_shard_twice() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    running(&store, 200, 8).await;
    let mut workers = JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&store);
        workers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let lease_id = lease(format!("{n}-{}", mine.len()));
                let Some(shard) = grant(&store, n, lease_id.clone()).await else {
                    return mine;
                };
                mine.push(shard.shard_idx);
                let done = store.commit(&commit_of(lease_id)).await.unwrap();
                assert_eq!(done, CommitResult::Committed);
            }
        });
    }
    let all: Vec<u64> = workers.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert_eq!((all.len(), distinct.len()), (200, 200));
    let expected = Counters {
        committed: 200,
        rows_ok: 2000,
        ..Counters::default()
    };
    assert_eq!(counters(&store).await, expected);
    let failures = store.failures(&job_id()).await.unwrap();
    assert_eq!((failures.len(), failures[0].count), (1, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_two_commits_for_one_shard_is_accepted() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    running(&store, 40, 2).await;
    for shard_idx in 0..40 {
        let (first, second) = (
            lease(format!("{shard_idx}-a")),
            lease(format!("{shard_idx}-b")),
        );
        assert!(grant(&store, 0, first.clone()).await.is_some());
        let copy = store
            .grant_copy(&session(1), &job_id(), shard_idx, &second)
            .await
            .unwrap();
        assert!(matches!(copy, Grant::Granted(_)));
        let commits = [commit_of(first), commit_of(second)];
        let answers = join_all(commits.iter().map(|commit| store.commit(commit))).await;
        let mut answers: Vec<CommitResult> = answers.into_iter().map(Result::unwrap).collect();
        answers.sort_by_key(|answer| *answer == CommitResult::Fenced);
        assert_eq!(answers, [CommitResult::Committed, CommitResult::Fenced]);
    }
    assert_eq!(counters(&store).await.committed, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeated_commits_at_once_count_once() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    running(&store, 20, 1).await;
    for n in 0..20 {
        assert!(grant(&store, 0, lease(n)).await.is_some());
        let commit = commit_of(lease(n));
        let answers = join_all((0..4).map(|_| store.commit(&commit))).await;
        let committed = answers
            .into_iter()
            .map(Result::unwrap)
            .filter(|answer| match answer {
                CommitResult::Committed => true,
                CommitResult::Already => false,
                other => panic!("{other:?}"),
            })
            .count();
        assert_eq!(committed, 1);
    }
    assert_eq!(counters(&store).await.rows_ok, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lease_is_committed_or_ended_and_never_both() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    running(&store, 40, 2).await;
    for n in 0..40 {
        let lease_id = lease(format!("{n}-a"));
        let held = grant(&store, 0, lease_id.clone()).await.unwrap();
        let (commit, end) = (commit_of(lease_id.clone()), retry_of(lease_id));
        // Whoever gives it out again at once must not make the old commit good.
        let again = lease(format!("{n}-b"));
        let (next, job_id) = (session(1), job_id());
        let (committed, ended, regranted) = tokio::join!(
            store.commit(&commit),
            store.end_lease(&end),
            store.grant(&next, &job_id, &again),
        );
        let is_committed = committed.unwrap() == CommitResult::Committed;
        assert_ne!(is_committed, ended.unwrap());
        if let Grant::Granted(shard) = regranted.unwrap() {
            if shard.shard_idx == held.shard_idx {
                assert_eq!(shard.epoch, held.epoch + 1);
            }
            assert!(store.end_lease(&retry_of(again)).await.unwrap());
        }
        if !is_committed {
            let last = lease(format!("{n}-c"));
            assert_eq!(
                grant(&store, 0, last.clone()).await.unwrap().shard_idx,
                held.shard_idx
            );
            let done = store.commit(&commit_of(last)).await.unwrap();
            assert_eq!(done, CommitResult::Committed);
        }
    }
    let counters = counters(&store).await;
    assert_eq!(
        (counters.pending, counters.leased, counters.committed),
        (0, 0, 40)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn session_is_closed_or_gets_a_shard_and_never_both() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    running(&store, 30, 30).await;
    for n in 0..30 {
        let (session_id, job_id, lease_id) = (session(n), job_id(), lease(n));
        let (closed, granted) = tokio::join!(
            store.close_session(&session_id),
            store.grant(&session_id, &job_id, &lease_id),
        );
        let has_shard = matches!(granted.unwrap(), Grant::Granted(_));
        assert_ne!(closed.unwrap(), has_shard);
        assert_eq!(
            store.session(&session(n)).await.unwrap().is_some(),
            has_shard
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn canceled_job_has_no_lease_whatever_was_under_way() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    running(&store, 400, 8).await;
    let mut workers = JoinSet::new();
    for n in 0..8 {
        let store = Arc::clone(&store);
        workers.spawn(async move {
            for turn in 0.. {
                let lease_id = lease(format!("{n}-{turn}"));
                if grant(&store, n, lease_id.clone()).await.is_none() {
                    return;
                }
                store.commit(&commit_of(lease_id)).await.unwrap();
            }
        });
    }
    let (running, canceling) = (JobState::Running, JobState::Canceling);
    while counters(&store).await.committed < 20 {
        tokio::task::yield_now().await;
    }
    assert!(
        store
            .move_job(&job_id(), running, canceling, None)
            .await
            .unwrap()
    );
    store.fence_job(&job_id()).await.unwrap();
    let accepted = counters(&store).await.committed;
    assert_eq!(store.leases_of_job(&job_id()).await.unwrap(), []);
    workers.join_all().await;
    assert_eq!(store.leases_of_job(&job_id()).await.unwrap(), []);
    let counters = counters(&store).await;
    assert_eq!((counters.committed, counters.leased), (accepted, 0));
    assert_eq!(counters.pending + counters.committed, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn manifests_applied_by_two_at_once_count_once() {
    let Some((store, config)) = timed_store().await else {
        return;
    };
    let other = PostgresStore::connect(&config).await.unwrap();
    running(&store, 60, 1).await;
    for n in 0..60 {
        grant(&store, 0, lease(n)).await.unwrap();
        // A third is published by a manifest that the store knows nothing else of.
        if n % 3 != 0 {
            store.commit(&commit_of(lease(n))).await.unwrap();
        }
    }
    for number in 1..=20 {
        let first = (number - 1) * 3;
        let changes = (first..first + 3)
            .map(|n| publish_of(n, lease(n)))
            .collect();
        let manifest = AppliedManifest { number, changes };
        let job_id = job_id();
        let late = commit_of(lease(first));
        let (here, there, late) = tokio::join!(
            store.apply_manifest(&job_id, &manifest),
            other.apply_manifest(&job_id, &manifest),
            // Its part is the one that the manifest lists.
            other.commit(&late),
        );
        assert_ne!(here.unwrap(), there.unwrap());
        assert!(matches!(
            late.unwrap(),
            CommitResult::Committed | CommitResult::Already
        ));
    }
    let expected = Counters {
        published: 60,
        rows_ok: 600,
        rows_published: 600,
        ..Counters::default()
    };
    assert_eq!(counters(&store).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn halves_that_are_made_at_once_have_their_own_numbers() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    running(&store, 8, 8).await;
    let mut ends = Vec::new();
    for n in 0..8 {
        let shard = grant(&store, n, lease(n)).await.unwrap();
        let whole = shard.span;
        let mut halves = [whole; 2];
        halves[0].n_rows = 4;
        halves[1].n_rows = 6;
        halves[1].first_row += 4;
        halves[1].skip_rows += 4;
        let verdict = Verdict::Halve {
            spans: halves,
            isolate: Vec::new(),
        };
        ends.push(EndLease {
            verdict,
            ..retry_of(lease(n))
        });
    }
    let ended = join_all(ends.iter().map(|end| store.end_lease(end))).await;
    assert!(ended.into_iter().all(Result::unwrap));
    let query = ShardQuery {
        after: None,
        state: Some(ShardState::Pending),
        limit: 100,
    };
    let halves = store.shards(&job_id(), &query).await.unwrap();
    let mut rows: Vec<u64> = halves
        .iter()
        .flat_map(|shard| shard.span.first_row..shard.span.end_row())
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..80).collect::<Vec<_>>());
    let counters = counters(&store).await;
    assert_eq!((counters.pending, counters.halved), (16, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn duty_has_one_holder_among_many_that_want_it() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    let names: Vec<String> = (0..8).map(|n| format!("c-{n}")).collect();
    let taken = join_all(
        names
            .iter()
            .map(|name| store.take_duty(&Duty::Reap, name, 60_000)),
    )
    .await;
    let holders = taken
        .into_iter()
        .filter(|taken| *taken.as_ref().unwrap())
        .count();
    assert_eq!(holders, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_jobs_for_one_dataset_is_taken() {
    let Some((store, _)) = timed_store().await else {
        return;
    };
    let jobs: Vec<NewJob> = (0..8)
        .map(|n| NewJob {
            job_id: JobId::new(format!("j-{n}")),
            out: "file:///out".into(),
            sequence: 0,
            spec_json: "{}".into(),
            spec_sha256: "00".into(),
            tenant: "t".into(),
            priority: 0,
        })
        .collect();
    let answers = join_all(jobs.iter().map(|job| store.create_job(job))).await;
    let created = answers
        .into_iter()
        .filter(|answer| *answer.as_ref().unwrap() == CreateJob::Created)
        .count();
    assert_eq!(created, 1);
}
