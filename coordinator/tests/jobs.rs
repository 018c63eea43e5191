//! Jobs from submission to a sealed version, resumed, refused, extended, canceled, retried.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use quire_coordinator::Error;
use quire_core::{JobId, PlannedWork};
use quire_dataset::{Closing, CommitLog, DocumentStatus, verify};
use quire_proto::{JobCalls, Reason, v1};
use support::worker::{TestWorker, Workers};
use support::{Bench, digests, files};

async fn verified(bench: &Bench) {
    let report = verify(&bench.output()).await.unwrap();
    assert!(report.violations.is_empty(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn corpus_becomes_a_verified_version_with_every_document() {
    let bench = Bench::with_corpus();
    let job = bench.run(&bench.spec()).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    assert_eq!((job.documents_planned, job.rows_planned), (9, 42));
    let committed = job.rows_committed.unwrap();
    assert_eq!(
        (committed.ok, committed.failed, committed.skipped),
        (39, 2, 1)
    );
    assert_eq!((job.sealed_version, job.already_complete), (1, false));
    assert_eq!(
        (job.failures[0].code.as_str(), job.failures[0].count),
        ("damaged", 2)
    );
    verified(&bench).await;
    let rows = bench.rows().await;
    assert_eq!(
        (rows.pages.len(), rows.documents.len(), rows.errors.len()),
        (39, 9, 2)
    );
    let status = |status| {
        rows.documents
            .iter()
            .filter(|row| row.status == status)
            .count()
    };
    assert_eq!(status(DocumentStatus::Complete), 6);
    assert_eq!(status(DocumentStatus::Failed), 2);
    assert_eq!(status(DocumentStatus::Duplicate), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_inputs_give_equal_plans_and_rows() {
    let bench = Bench::with_corpus();
    bench.run(&bench.spec()).await;
    let first = digests(&bench.version().await);
    let plan = |folder: &std::path::Path| -> Vec<Vec<u8>> {
        files(folder)
            .into_iter()
            .filter(|(name, _)| name.to_string_lossy().contains("plan/"))
            .map(|(_, bytes)| bytes)
            .collect()
    };
    let before = plan(&bench.folder.path().join("out.quire"));
    assert!(before.len() >= 2);
    for name in [
        "out",
        "out.quire",
        "state.db",
        "state.db-wal",
        "state.db-shm",
    ] {
        let path = bench.folder.path().join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
    bench.run(&bench.spec()).await;
    assert_eq!(plan(&bench.folder.path().join("out.quire")), before);
    assert_eq!(digests(&bench.version().await), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn same_command_again_reads_only_what_is_new_or_changed() {
    let bench = Bench::with_corpus();
    bench.run(&bench.spec()).await;
    let again = bench.run(&bench.spec()).await;
    assert_eq!(
        (again.state(), again.already_complete),
        (v1::JobState::Done, true)
    );
    assert_eq!(bench.version().await.version, 1);

    bench.add("g", 4);
    bench.write("b.pdf", "%PDF-1.7\nname=b changed pages=2 \n");
    bench.write("e-again.pdf", "%PDF-1.7\nname=e pages=7 \n");
    let third = bench.run(&bench.spec()).await;
    assert_eq!(third.state(), v1::JobState::Done, "{}", third.state_reason);
    assert_eq!(
        (third.documents_planned, third.rows_planned),
        (3, 4 + 2 + 1)
    );
    let version = bench.version().await;
    assert_eq!((version.version, version.parent), (2, Some(1)));
    let rows = bench.rows().await;
    // 39 before, less the three pages that b had.
    assert_eq!(
        (rows.pages.len(), rows.documents.len()),
        (39 - 3 + 2 + 4, 11)
    );
    verified(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_job_goes_on_with_its_own_command_and_refuses_another() {
    let bench = Bench::with_corpus();
    let spec = bench.spec();
    let running = bench.start().await;
    let first = running.handle.submit(&bench.out(), &spec).await.unwrap();
    assert!(!first.is_resumed);
    let again = running.handle.submit(&bench.out(), &spec).await.unwrap();
    assert_eq!(
        (again.job_id, again.is_resumed),
        (first.job_id.clone(), true)
    );
    let other = quire_core::JobSpec {
        shard_pages: 9,
        ..spec
    };
    let refused = running
        .handle
        .submit(&bench.out(), &other)
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::JobUnfinished { .. }));
    let message = refused.to_string();
    assert!(message.contains(first.job_id.as_str()), "{message}");
    assert!(message.contains("shard_pages: 6, now 9"), "{message}");

    let cancel = v1::CancelJobRequest {
        job_id: first.job_id.to_string(),
        reason: "no".into(),
    };
    running.handle.cancel_job(cancel).await.unwrap();
    running
        .in_state(&first.job_id, v1::JobState::Canceled)
        .await;
    let next = running.handle.submit(&bench.out(), &other).await.unwrap();
    assert!(!next.is_resumed && next.job_id != first.job_id);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_that_match_nothing_fail_the_job_and_name_the_input() {
    let bench = Bench::new();
    let mut spec = bench.spec();
    spec.inputs = vec![format!("file://{}/none", bench.folder.path().display())];
    let job = bench.run(&spec).await;
    assert_eq!(
        (job.state(), job.state_fault()),
        (v1::JobState::Failed, v1::Fault::Config)
    );
    assert!(job.state_reason.contains("none"), "{}", job.state_reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn canceled_job_keeps_what_is_published_and_takes_nothing_more() {
    let bench = Bench::with_corpus();
    let running = bench.start().await;
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    let calls = std::sync::Arc::new(running.handle.clone());
    let worker = TestWorker::register(calls, bench.output(), "a").await;
    let (done, late) = (worker.one().await, worker.one().await);
    worker.finish(&done).await.unwrap();
    running.until(&job_id, |job| job.last_manifest == 1).await;

    let cancel = v1::CancelJobRequest {
        job_id: job_id.to_string(),
        reason: "enough".into(),
    };
    running.handle.cancel_job(cancel.clone()).await.unwrap();
    let refused = worker.finish(&late).await.unwrap_err();
    assert!(
        matches!(refused.reason, Reason::JobNotRunning | Reason::LeaseFenced),
        "{refused:?}"
    );
    let told = worker.beat(&late, &[]).await.unwrap();
    assert_eq!(told.directives[0].action(), v1::DirectiveAction::Abandon);
    let job = running.in_state(&job_id, v1::JobState::Canceled).await;
    assert_eq!(job.state_reason, "enough");
    running.handle.cancel_job(cancel).await.unwrap();
    let area = bench.output().job_area(&job_id).unwrap();
    let log = CommitLog::read(&area).await.unwrap();
    assert_eq!((log.closing(), log.n_parts()), (Some(Closing::Canceled), 1));
    assert_eq!(bench.output().newest_version().await.unwrap(), None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_database_is_made_anew_from_plan_and_manifests() {
    let bench = Bench::with_corpus();
    let spec = bench.spec();
    let running = bench.start().await;
    let job_id = running
        .handle
        .submit(&bench.out(), &spec)
        .await
        .unwrap()
        .job_id;
    let calls = std::sync::Arc::new(running.handle.clone());
    let worker = TestWorker::register(calls, bench.output(), "a").await;
    for _ in 0..3 {
        worker.finish(&worker.one().await).await.unwrap();
    }
    let before = running
        .until(&job_id, |job| job.shards.unwrap().published == 3)
        .await;
    running.stop().await;
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let file = bench.folder.path().join(name);
        if file.exists() {
            std::fs::remove_file(file).unwrap();
        }
    }

    let running = bench.start().await;
    let found = running.handle.submit(&bench.out(), &spec).await.unwrap();
    assert_eq!((found.job_id, found.is_resumed), (job_id.clone(), true));
    let workers = Workers::start(&running.handle, bench.output(), 2);
    let job = running.ended(&job_id).await;
    let n_rows = workers.stop().await;
    running.stop().await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    let published = before.rows_committed.unwrap();
    assert_eq!(
        n_rows,
        job.rows_planned - published.ok - published.failed - published.skipped
    );
    verified(&bench).await;

    // Lost again after the end: the same command finds that nothing is left to do.
    std::fs::remove_file(bench.state()).unwrap();
    let again = bench.run(&spec).await;
    assert!(again.already_complete, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_reads_the_lines_it_is_given() {
    let bench = Bench::with_corpus();
    bench.run(&bench.spec()).await;
    let mut errors = bench.rows().await.errors.into_iter();
    let broken = errors
        .find(|row| row.source_uri.ends_with("/broken.pdf"))
        .unwrap();
    // Mended meanwhile: the caller found out and plans it as two pages.
    let area_lines = {
        let running = bench.start().await;
        let jobs = running
            .handle
            .list_jobs(v1::ListJobsRequest::default())
            .await
            .unwrap()
            .jobs;
        let area = bench
            .output()
            .job_area(&JobId::new(&jobs[0].job_id))
            .unwrap();
        let content = area.plan_group(0).await.unwrap();
        running.stop().await;
        content
    };
    let mut line: quire_core::PlannedDocument = area_lines
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .find(|line: &quire_core::PlannedDocument| line.doc_id == broken.doc_id)
        .unwrap();
    line.work = PlannedWork::Read {
        first_idx: 0,
        count: 2,
    };
    line.page_count = Some(2);
    line.earlier_attempts = 1;
    let mut spec = bench.spec();
    spec.retry_where = Some("code = 'damaged'".into());

    let running = bench.start().await;
    let refused = running
        .handle
        .submit(&bench.out(), &spec)
        .await
        .unwrap_err();
    assert!(matches!(refused, Error::Malformed { .. }));
    let lines = vec![line];
    let submitted = running
        .handle
        .submit_planned(&bench.out(), &spec, lines)
        .await
        .unwrap();
    let workers = Workers::start(&running.handle, bench.output(), 1);
    let job = running.ended(&submitted.job_id).await;
    workers.stop().await;
    running.stop().await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    let rows = bench.rows().await;
    assert_eq!(
        (rows.pages.len(), rows.errors.len(), rows.documents.len()),
        (41, 1, 9)
    );
    verified(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_setting_pauses_the_job_and_the_same_command_goes_on() {
    let bench = Bench::with_corpus();
    let running = bench.start().await;
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    let calls = std::sync::Arc::new(running.handle.clone());
    let worker = TestWorker::register(calls, bench.output(), "a").await;
    let lease = worker.one().await;
    let request = v1::FailRequest {
        lease_id: lease.lease_id.clone(),
        session_id: worker.session_id.clone(),
        fault: v1::Fault::Config.into(),
        stage: "render".into(),
        suspects: Vec::new(),
        message: "no font folder".into(),
    };
    let failed = worker.calls.fail(request).await.unwrap();
    assert_eq!(failed.disposition(), v1::Disposition::Stop);
    let job = running.in_state(&job_id, v1::JobState::Paused).await;
    assert_eq!(job.state_reason, "render: no font folder");
    assert_eq!(job.state_fault(), v1::Fault::Config);
    assert!(worker.acquire(1, 0).await.unwrap().is_empty());
    let again = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap();
    assert!(again.is_resumed);
    let workers = Workers::start(&running.handle, bench.output(), 1);
    assert_eq!(running.ended(&job_id).await.state(), v1::JobState::Done);
    workers.stop().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_do_not_count_are_removed_when_the_job_is_done() {
    let bench = Bench::with_corpus();
    let running = bench.start().await;
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    let calls = std::sync::Arc::new(running.handle.clone());
    let worker = TestWorker::register(calls, bench.output(), "a").await;
    let lease = worker.one().await;
    worker.write(&lease).await;
    worker.release(&lease).await;
    let workers = Workers::start(&running.handle, bench.output(), 1);
    running.ended(&job_id).await;
    workers.stop().await;
    running.stop().await;
    let area = bench.output().job_area(&job_id).unwrap();
    let log = CommitLog::read(&area).await.unwrap();
    let kept: Vec<String> = area
        .list_parts()
        .await
        .unwrap()
        .into_iter()
        .map(|p| p.key)
        .collect();
    assert_eq!(kept.len() as u64, log.n_parts());
    assert!(!kept.contains(&lease.part_key));
}
