//! The object store fails, in every way the proxy knows.

use quire_proto::v1::JobState;
use quire_tests::fleet::{Chaos, Fault, Fleet, FleetOptions, Place, Rule, Times};

use super::support::{HUNDRED, PROGRAM, documents, expect_exact, node};

fn fleet(change: impl FnOnce(&mut FleetOptions)) -> Option<Fleet> {
    let mut options = FleetOptions::new(PROGRAM);
    options.place = Place::S3;
    change(&mut options);
    let mut fleet = Fleet::start(options)?;
    fleet.start_coordinator();
    for number in 0..2 {
        fleet.start_worker(&node(number));
    }
    Some(fleet)
}

#[test]
fn manifests_and_parts_that_meet_every_fault_are_written_once() {
    let Some(fleet) = fleet(|_| {}) else { return };
    let proxy = fleet.proxy.as_ref().unwrap();
    let quick = |fault: &&Fault| !matches!(fault, Fault::Slow(_));
    for &fault in Fault::ALL.iter().filter(quick) {
        for path in ["/manifest/", "/parts/", "/versions/", "/plan/"] {
            proxy.add(Rule {
                method: Some("PUT"),
                path: path.into(),
                skip: 0,
                times: 1,
                fault,
            });
        }
        proxy.add(Rule {
            method: Some("GET"),
            path: "/plan/".into(),
            skip: 1,
            times: 1,
            fault,
        });
    }
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    assert!(
        proxy.n_faults() > 10,
        "only {} faults were met",
        proxy.n_faults()
    );
}

#[test]
fn a_store_that_fails_by_chance_all_the_time_holds_a_whole_dataset_in_the_end() {
    let Some(fleet) = fleet(|_| {}) else { return };
    fleet.proxy.as_ref().unwrap().chaos(Some(Chaos {
        seed: 11,
        per_mille: 100,
        faults: Fault::ALL.to_vec(),
    }));
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_state(&job_id, JobState::Done);
    fleet.proxy.as_ref().unwrap().clear();
    expect_exact(&fleet, &known, &out);
}

#[test]
fn while_the_store_is_away_finished_shards_are_held_and_none_is_lost() {
    let Some(fleet) = fleet(|options| options.times = Times::PATIENT) else {
        return;
    };
    // Each worker reads a shard, and stands still in the middle of the next one.
    fleet.close_gate(15);
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_rows(&job_id, 10);
    let proxy = fleet.proxy.as_ref().unwrap();
    proxy.outage(true);
    fleet.open_gate();
    // Both have something to bring and nowhere to take it.
    for idx in 0..2 {
        wait_until_uploading(&fleet, idx);
    }
    proxy.outage(false);
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    let deaths: u32 = fleet.shards(&job_id).iter().map(|shard| shard.deaths).sum();
    assert_eq!(deaths, 0, "a store that is away is nobody's death");
}

fn wait_until_uploading(fleet: &Fleet, idx: usize) {
    use quire_proto::v1::LeaseStage;
    let name = fleet.workers[idx].process.name();
    quire_tests::fleet::wait_for("a finished shard that is held", || {
        let workers = fleet.known_workers();
        let worker = workers
            .into_iter()
            .find(|worker| worker.worker_name == name)?;
        let mut leases = worker.leases.into_iter();
        leases.find(|lease| lease.stage() == LeaseStage::Uploading)
    });
}
