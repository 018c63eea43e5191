//! Processes of the fleet die.

use quire_proto::v1::JobState;
use quire_tests::fleet::{Database, Fleet, FleetOptions, Times, wait_for};

use super::support::{HUNDRED, PROGRAM, documents, expect_exact, node, small_fleet};

#[test]
fn a_killed_workers_shards_go_to_another_worker() {
    let mut fleet = small_fleet(2, |_| {});
    fleet.close_gate(0);
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_busy(0);
    fleet.workers[0].process.kill();
    fleet.open_gate();
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    let taken_twice = fleet.shards(&job_id).iter().any(|shard| shard.epoch > 1);
    assert!(
        taken_twice,
        "the dead worker's shard was not given out again"
    );
}

#[test]
fn a_killed_coordinator_that_comes_back_goes_on_and_its_workers_with_it() {
    let mut fleet = small_fleet(2, |options| options.engine_ms = 40);
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_rows(&job_id, 10);
    fleet.coordinators[0].process.kill();
    fleet.restart_coordinator(0);
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    for worker in &mut fleet.workers {
        assert!(worker.process.is_running(), "a worker left");
    }
}

#[test]
fn a_killed_coordinators_work_is_taken_over_by_the_other() {
    let mut options = FleetOptions::new(PROGRAM);
    options.database = Database::Postgres;
    options.engine_ms = 40;
    let Some(mut fleet) = Fleet::start(options) else {
        return;
    };
    fleet.start_coordinator();
    fleet.start_coordinator();
    for number in 0..2 {
        fleet.start_worker(&node(number));
    }
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_rows(&job_id, 10);
    fleet.coordinators[0].process.kill();
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
}

#[test]
fn a_database_that_is_away_for_longer_than_a_session_lives_costs_no_finished_work() {
    let mut options = FleetOptions::new(PROGRAM);
    options.database = Database::Postgres;
    options.engine_ms = 40;
    options.times = Times {
        // Long enough for a busy machine's workers to report when the database is back.
        ttl: 10_000,
        progress: Times::PATIENT.progress,
        ..Times::QUICK
    };
    let Some(mut fleet) = Fleet::start(options) else {
        return;
    };
    fleet.start_coordinator();
    for number in 0..2 {
        fleet.start_worker(&node(number));
    }
    // Each has read a shard and holds another when the database goes.
    fleet.close_gate(15);
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_rows(&job_id, 10);
    fleet.postgres.as_mut().unwrap().kill();
    fleet.open_gate();
    // Longer than a session lives: the workers hold what they finish meanwhile.
    let ttl = std::time::Duration::from_millis(fleet.options.times.ttl);
    let away_since = std::time::Instant::now();
    wait_for("the end of the sessions", || {
        (away_since.elapsed() > ttl + ttl / 4).then_some(())
    });
    fleet.postgres.as_mut().unwrap().resume();
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    let deaths: u32 = fleet.shards(&job_id).iter().map(|shard| shard.deaths).sum();
    assert_eq!(
        deaths, 0,
        "workers were taken for dead while the database was away"
    );
}
