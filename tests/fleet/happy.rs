//! Nothing goes wrong.

use quire_proto::v1::JobState;
use quire_tests::fleet::{Fleet, FleetOptions};

use super::support::{HUNDRED, PROGRAM, documents, expect_exact, node, small_fleet};

#[test]
fn two_workers_and_a_coordinator_with_sqlite_make_a_local_dataset() {
    let fleet = small_fleet(2, |_| {});
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    let job = fleet.wait_state(&job_id, JobState::Done);
    assert_eq!(job.sealed_version, 1);
    assert_eq!(job.rows_planned, known.n_pages());
    expect_exact(&fleet, &known, &out);

    // Asked again for the same, the fleet has nothing to do.
    let again = fleet.submit(&known.folder, &out);
    let job = fleet.wait_state(&again, JobState::Done);
    assert!(job.already_complete, "{job:?}");

    // What people and programs see.
    let table = fleet.run_ok(&["status"]);
    assert!(table.contains(&job_id), "{table}");
    let json = fleet.run_ok(&["status", &job_id, "--json"]);
    let status: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert!(json.contains("done"), "{status:#}");
    let workers = fleet.run_ok(&["workers"]);
    assert!(
        workers.contains("node-0") && workers.contains("node-1"),
        "{workers}"
    );
}

#[test]
fn two_coordinators_on_postgresql_and_three_workers_write_to_an_object_store() {
    let Some(mut fleet) = Fleet::start(FleetOptions::real_servers(PROGRAM)) else {
        return;
    };
    fleet.start_coordinator();
    fleet.start_coordinator();
    for number in 0..3 {
        fleet.start_worker(&node(number));
    }
    let known = documents(&fleet, HUNDRED);
    let (first, second) = (fleet.out("first"), fleet.out("second"));
    let jobs = [
        fleet.submit(&known.folder, &first),
        fleet.submit(&known.folder, &second),
    ];
    for job_id in &jobs {
        fleet.wait_state(job_id, JobState::Done);
    }
    expect_exact(&fleet, &known, &first);
    expect_exact(&fleet, &known, &second);
}

#[test]
fn a_job_that_is_waited_for_ends_with_the_exit_code_of_its_job() {
    let fleet = small_fleet(1, |_| {});
    let known = documents(&fleet, &[3, 4]);
    let out = fleet.out("dataset");
    let input = known.folder.display().to_string();
    let printed = fleet.run_ok(&["submit", &input, "--out", &out, "--wait"]);
    assert!(printed.starts_with("j-"), "{printed}");
    expect_exact(&fleet, &known, &out);
}
