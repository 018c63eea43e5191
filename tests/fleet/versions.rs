//! Workers and coordinators of different versions.
//!
//! There is no released binary yet that today's could be tested against. What can be shown is what
//! a difference of versions does to the wire: a proxy adds fields that nobody knows to every
//! message in both directions, which is what an older worker sees of a newer coordinator and the
//! other way round; and a worker that is too old is told so. With the first release, its binary
//! belongs beside these.

use quire_proto::v1::{self, JobState};
use quire_proto::{Reason, WorkerCalls};
use quire_tests::fleet::Process;

use super::newer::Newer;
use super::support::{HUNDRED, documents, expect_exact, node, small_fleet};

#[test]
fn fields_that_nobody_knows_yet_are_overlooked_in_both_directions() {
    let fleet = small_fleet(0, |_| {});
    let known = documents(&fleet, HUNDRED);
    let out = fleet.out("dataset");
    let port = fleet.coordinators[0].listen.rsplit(':').next().unwrap();
    let newer = Newer::start(port.parse().unwrap());
    let mut worker = fleet.command();
    worker.args(["worker", "--node", &node(0), "--coordinator", &newer.url()]);
    let _worker = Process::start("worker-newer", worker, &fleet.path("logs"));
    let mut submit = fleet.command();
    submit
        .arg("submit")
        .arg(&known.folder)
        .args(["--out", &out, "--coordinator", &newer.url()]);
    let output = submit.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let job_id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    fleet.wait_state(&job_id, JobState::Done);
    expect_exact(&fleet, &known, &out);
    let n_changed = newer.n_changed();
    assert!(n_changed > 40, "only {n_changed} messages were changed");
}

#[test]
fn a_worker_that_is_too_old_is_told_so_and_one_of_a_newer_version_is_welcome() {
    let fleet = small_fleet(0, |options| {
        let oldest = env!("CARGO_PKG_VERSION");
        options.coordinator_settings = format!("oldest_worker = \"{oldest}\"");
    });
    let client = fleet.client();
    let register = |version: &str| {
        let request = v1::RegisterRequest {
            worker_name: "from another time".into(),
            node: node(0),
            version: version.into(),
            ..v1::RegisterRequest::default()
        };
        fleet.block_on(client.register(request))
    };
    let error = register("0.0.1").unwrap_err();
    assert_eq!(error.reason, Reason::VersionTooOld, "{error:?}");
    assert!(error.message.contains("0.0.1"), "{error:?}");
    register(env!("CARGO_PKG_VERSION")).unwrap();
    register("7.0.0").unwrap();
}
