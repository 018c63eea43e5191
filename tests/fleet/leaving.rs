//! Workers leave and owners change their minds.

use quire_proto::v1::{JobState, WorkerState};
use quire_tests::fleet::{Sign, Times, wait_for};

use super::support::{HUNDRED, documents, expect_exact, node, small_fleet};

#[test]
fn a_drained_node_finishes_what_it_holds_and_leaves() {
    let mut fleet = small_fleet(2, |options| {
        options.engine_ms = 40;
        options.times = Times::PATIENT;
    });
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_busy(0);
    fleet.run_ok(&["workers", "drain", &node(0), "--reason", "new kernel"]);
    let status = fleet.workers[0].process.wait();
    assert!(
        status.success(),
        "{status}\n{}",
        fleet.workers[0].process.tail()
    );
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    let deaths: u32 = fleet.shards(&job_id).iter().map(|shard| shard.deaths).sum();
    assert_eq!(deaths, 0, "leaving is not dying");
}

#[test]
fn a_worker_that_is_told_to_stop_finishes_what_it_holds_and_leaves() {
    let mut fleet = small_fleet(2, |options| {
        options.engine_ms = 40;
        options.times = Times::PATIENT;
    });
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_busy(0);
    fleet.workers[0].process.signal(Sign::Term);
    let status = fleet.workers[0].process.wait();
    assert!(
        status.success(),
        "{status}\n{}",
        fleet.workers[0].process.tail()
    );
    let name = fleet.workers[0].process.name().to_owned();
    wait_for("a list without the worker", || {
        let workers = fleet.known_workers();
        let is_gone = workers.iter().all(|worker| worker.worker_name != name);
        (!workers.is_empty() && is_gone).then_some(())
    });
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    let deaths: u32 = fleet.shards(&job_id).iter().map(|shard| shard.deaths).sum();
    assert_eq!(deaths, 0, "leaving is not dying");
}

#[test]
fn a_cordoned_node_gets_nothing_more_until_it_is_opened() {
    let fleet = small_fleet(1, |_| {});
    fleet.run_ok(&["workers", "cordon", &node(0)]);
    let known = documents(&fleet, &[5, 5]);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_state(&job_id, JobState::Running);
    let workers = fleet.known_workers();
    assert!(
        workers.iter().all(|worker| worker.leases.is_empty()),
        "{workers:?}"
    );
    assert!(
        workers
            .iter()
            .all(|worker| worker.state() == WorkerState::Ready)
    );
    fleet.run_ok(&["workers", "uncordon", &node(0)]);
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
}

#[test]
fn a_canceled_job_ends_and_its_workers_take_the_next_one() {
    let fleet = small_fleet(1, |options| options.times = Times::PATIENT);
    fleet.close_gate(0);
    let known = documents(&fleet, HUNDRED);
    let canceled = fleet.submit(&known.folder, &fleet.out("canceled"));
    fleet.wait_busy(0);
    fleet.run_ok(&["cancel", &canceled, "--reason", "wrong folder"]);
    let job = fleet.wait_state(&canceled, JobState::Canceled);
    assert!(
        job.state_reason.contains("wrong folder"),
        "{}",
        job.state_reason
    );
    assert_eq!(job.sealed_version, 0);
    fleet.open_gate();
    let few = quire_tests::fleet::Known::write(&fleet.path("few"), &[2, 3]);
    let out = fleet.out("next");
    let next = fleet.submit(&few.folder, &out);
    fleet.wait_state(&next, JobState::Done);
    expect_exact(&fleet, &few, &out);
}

#[test]
fn a_paused_job_stands_still_until_it_is_resumed() {
    let fleet = small_fleet(2, |options| options.times = Times::PATIENT);
    // Each worker reads a shard, and stands still in the middle of the next one.
    fleet.close_gate(15);
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_rows(&job_id, 1);
    fleet.run_ok(&["pause", &job_id, "--reason", "the disk is needed"]);
    fleet.open_gate();
    let job = fleet.wait_job(&job_id, "an idle fleet", |job| {
        job.state() == JobState::Paused && job.shards.is_some_and(|shards| shards.leased == 0)
    });
    assert!(job.state_reason.contains("the disk is needed"));
    assert!(job.shards.unwrap().pending > 0, "nothing was left to do");
    fleet.run_ok(&["resume", &job_id]);
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
}
