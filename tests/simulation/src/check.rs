//! What must hold when a run is over.

use futures::TryStreamExt;
use quire_coordinator::PlanIndex;
use quire_dataset::{Closing, CommitLog, Manifest, manifests, verify};

use crate::world::World;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) n_rows: u64,
    pub(crate) n_manifests: u64,
    pub(crate) n_parts: usize,
}

/// Every planned row is listed once, what is listed is there, and the sealed dataset is sound.
pub(crate) async fn check(world: &World) -> Found {
    let output = world.calm_output();
    let area = output.job_area(&world.job_id).unwrap();
    let index = area.plan_index().await.unwrap().unwrap();
    let planned = serde_json::from_slice::<PlanIndex>(&index).unwrap().rows;
    let log = CommitLog::read(&area).await.unwrap();
    assert_eq!(
        log.closing(),
        Some(Closing::Done),
        "how the commit log ends"
    );

    let read: Vec<Manifest> = manifests(&area, 1..=log.head())
        .try_collect()
        .await
        .unwrap();
    let mut parts: Vec<_> = read.iter().flat_map(|manifest| &manifest.parts).collect();
    assert_eq!(parts.len() as u64, log.n_parts());
    parts.sort_by_key(|part| part.first_row);
    let mut next_row = 0;
    for part in &parts {
        let first_row = part.first_row.expect("every part says where it begins");
        assert!(
            first_row <= next_row,
            "rows {next_row} to {first_row} are lost"
        );
        assert!(
            first_row >= next_row,
            "rows {first_row} to {next_row} are listed twice"
        );
        next_row += part.rows;
        // Sealing may have removed what it has taken in, but never ruined it.
        if let Some(bytes) = area.part_bytes(&part.key).await.unwrap() {
            assert_eq!(bytes, part.bytes, "size of {}", part.key);
        }
    }
    assert_eq!(next_row, planned, "rows listed");

    let report = verify(&output).await.unwrap();
    assert!(report.is_sound(), "{:#?}", report.violations);
    let skipped: u64 = parts.iter().map(|part| part.skipped).sum();
    assert_eq!(
        report.pages + report.errors,
        planned - skipped,
        "rows of the dataset"
    );
    Found {
        n_rows: planned,
        n_manifests: log.head(),
        n_parts: parts.len(),
    }
}
