//! What the tests of the fleet share: the command under test and the look at what came out.

use quire_dataset::Output;
use quire_tests::fleet::{Fleet, FleetOptions, Known, Place};

/// The command under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_quire-under-test");

/// One coordinator with SQLite, a local dataset, and so many workers on nodes of their own.
pub(crate) fn small_fleet(workers: usize, change: impl FnOnce(&mut FleetOptions)) -> Fleet {
    let mut options = FleetOptions::new(PROGRAM);
    change(&mut options);
    let mut fleet = Fleet::start(options).expect("it needs no server");
    fleet.start_coordinator();
    for number in 0..workers {
        fleet.start_worker(&node(number));
    }
    fleet
}

/// Name of a node.
pub(crate) fn node(number: usize) -> String {
    format!("node-{number}")
}

/// Documents in the fleet's folder.
pub(crate) fn documents(fleet: &Fleet, page_counts: &[u32]) -> Known {
    Known::write(&fleet.path("documents"), page_counts)
}

/// A hundred pages in documents of different lengths.
pub(crate) const HUNDRED: &[u32] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 9];

/// Expects every known page in the dataset once, read, and every promise of the format kept.
#[track_caller]
pub(crate) fn expect_exact(fleet: &Fleet, known: &Known, out: &str) {
    fleet.verify(out);
    let tally = match fleet.options.place {
        Place::Local => {
            let output = Output::open_local(out.as_ref()).unwrap();
            fleet.block_on(known.tally(&output)).unwrap()
        }
        Place::S3 => known
            .tally_by_python(out, &fleet.environment(), &fleet.path(""))
            .unwrap(),
    };
    assert!(tally.is_exact(), "{tally:?}");
    assert_eq!(tally.pages, known.n_pages());
}
