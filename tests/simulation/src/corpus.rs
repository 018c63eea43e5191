//! A job of made-up documents, planned before the simulation starts.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use quire_coordinator::store::{MemoryStore, Store};
use quire_coordinator::{Coordinator, JobState};
use quire_core::{
    DocId, EngineInfo, ImageMode, JobId, JobSpec, PlannedDocument, PlannedWork, RenderSpec,
    SplitSpec, Stage, TextLayerMode, Trouble, TroubleCode,
};
use quire_corpus::Stores;
use quire_dataset::Output;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::chance::Chance;
use crate::clock::SimulatedClock;
use crate::coordinator::{NothingOpened, config};
use crate::world::OUT;

/// A job that is about to run.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) job_id: JobId,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) database: Arc<MemoryStore>,
    pub(crate) objects: Arc<InMemory>,
    pub(crate) poison: BTreeSet<String>,
}

pub(crate) fn engine() -> EngineInfo {
    EngineInfo {
        name: "simulated".into(),
        version: "1".into(),
        model_id: "none".into(),
        model_revision: "0".repeat(64),
        mode: "test".into(),
    }
}

fn spec() -> JobSpec {
    JobSpec {
        inputs: vec!["s3://bucket/in/".into()],
        engine: engine(),
        image_mode: ImageMode::None,
        text_layer: TextLayerMode::Ignore,
        render: RenderSpec {
            dpi: 144.0,
            max_edge_px: 3000,
            max_area_px: 9_000_000,
        },
        split: SplitSpec {
            salt: "s".into(),
            validation_fraction: 0.1,
        },
        shard_pages: 6,
        shuffle_seed: 7,
        retry_where: None,
    }
}

/// Some dozen documents of one page to many, one of which cannot be opened and one is there
/// twice.
fn documents(chance: Chance) -> Vec<PlannedDocument> {
    let n_documents = chance.within("documents", 8..20);
    let mut documents: Vec<PlannedDocument> = (0..n_documents)
        .map(|at| {
            let count = u32::try_from(chance.within(&format!("pages of {at}"), 1..14)).unwrap();
            document(
                at,
                PlannedWork::Read {
                    first_idx: 0,
                    count,
                },
            )
        })
        .collect();
    let broken = Trouble::new(Stage::Open, TroubleCode::Damaged, "says no pages");
    documents.push(document(100, PlannedWork::Failed { trouble: broken }));
    let of = documents[0].doc_id.clone();
    documents.push(PlannedDocument {
        content_sha256: documents[0].content_sha256.clone(),
        ..document(101, PlannedWork::Duplicate { of })
    });
    documents
}

fn document(at: u64, work: PlannedWork) -> PlannedDocument {
    let source_uri = format!("s3://bucket/in/{at}.pdf");
    let page_count = match work {
        PlannedWork::Read { count, .. } => Some(count),
        _ => None,
    };
    PlannedDocument {
        doc_id: DocId::of(&source_uri, None),
        content_sha256: hex::encode(Sha256::digest(&source_uri)),
        source_uri,
        source_member: None,
        object_bytes: 1000,
        object_etag: None,
        media_type: "application/pdf".into(),
        file_bytes: 1000,
        source_offset: None,
        source_length: None,
        page_count,
        license: None,
        whole_document: true,
        earlier_attempts: 0,
        work,
    }
}

/// In some runs a page kills whoever reads it.
fn poison(chance: Chance, documents: &[PlannedDocument]) -> BTreeSet<String> {
    let mut poison = BTreeSet::new();
    if chance.share("poison") < 0.25 {
        let at = chance.within("poisoned document", 0..documents.len() as u64 - 2);
        let document = &documents[usize::try_from(at).unwrap()];
        let page_idx = chance.within("poisoned page", 0..u64::from(document.n_rows()));
        poison.insert(format!("{}/{page_idx}", document.doc_id));
    }
    poison
}

/// Takes the job and plans it, in calm weather.
pub(crate) async fn plan(chance: Chance, scratch: &Path) -> Planned {
    let clock = Arc::new(SimulatedClock::default());
    let database = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
    let objects = Arc::new(InMemory::new());
    let opened = Coordinator::open(
        config(scratch.to_owned()),
        Arc::clone(&database) as _,
        Stores::open(&Default::default()).unwrap(),
        Arc::new(NothingOpened),
    );
    let (service, handle) = opened.await.unwrap();
    let output = Output::remote(
        Arc::clone(&objects) as _,
        object_store::path::Path::from("out"),
    );
    handle.use_output(OUT, output);
    let documents = documents(chance);
    let poison = poison(chance, &documents);
    let submitted = handle
        .submit_planned(OUT, &spec(), documents)
        .await
        .unwrap();
    let job_id = submitted.job_id;
    let shutdown = CancellationToken::new();
    let running = async {
        loop {
            let job = database.job(&job_id).await.unwrap().unwrap();
            if job.state == JobState::Running {
                return shutdown.cancel();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (served, ()) = tokio::join!(service.run(shutdown.clone()), running);
    served.unwrap();
    Planned {
        job_id,
        clock,
        database,
        objects,
        poison,
    }
}
