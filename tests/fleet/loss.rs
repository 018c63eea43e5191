//! The database is gone for good.

use std::collections::BTreeSet;

use quire_proto::v1::{JobState, ShardState};
use quire_tests::fleet::{Database, Fleet, FleetOptions};

use super::support::{PROGRAM, documents, expect_exact, node};

#[test]
fn a_dropped_database_is_made_anew_and_only_what_was_not_published_is_done_again() {
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
    let known = documents(&fleet, &[20; 10]);
    let out = fleet.out("dataset");
    let job_id = fleet.submit(&known.folder, &out);
    fleet.wait_job(&job_id, "published shards", |job| {
        job.shards.is_some_and(|shards| shards.published >= 3)
    });
    let parts = |fleet: &Fleet| -> BTreeSet<String> {
        let shards = fleet.shards(&job_id).into_iter();
        shards
            .filter(|shard| shard.state() == ShardState::Published)
            .filter_map(|shard| Some(shard.part?.key))
            .collect()
    };
    let published = parts(&fleet);
    let job = fleet.job(&job_id);
    assert_ne!(job.state(), JobState::Done, "it was done before the loss");

    let lost = fleet.store().rsplit('/').next().unwrap().to_owned();
    let cluster = fleet.postgres.as_ref().unwrap();
    cluster.sql("postgres", &format!("DROP DATABASE {lost} WITH (FORCE)"));
    for coordinator in &mut fleet.coordinators {
        coordinator.process.kill();
    }
    let anew = fleet.postgres.as_ref().unwrap().create_database();
    fleet.set_store(anew.clone());
    let mut recover = fleet.command();
    recover.args(["recover", "--out", &out, "--store", &anew]);
    let output = recover.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    for idx in 0..2 {
        fleet.restart_coordinator(idx);
        fleet.wait_until_serving(idx);
    }
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    let kept = parts(&fleet);
    assert!(
        published.is_subset(&kept),
        "published work was done again: {published:?} became {kept:?}"
    );
}
