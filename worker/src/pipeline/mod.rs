//! A shard's way from plan to part, one stage a file, in this order.

pub(crate) mod shard;

mod fetch;

pub(crate) mod unpack;

pub mod render;
pub mod text_layer;

mod embed;
pub(crate) mod recognize;
pub(crate) mod row;

pub(crate) mod write;

pub(crate) mod upload;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use quire_core::{DocId, EngineInfo, Stage, Trouble, TroubleCode};
use quire_corpus::Stores;
use quire_dataset::PartRow;
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::config::WorkerConfig;
use crate::engine::EnginePool;
use crate::error::{Error, Result};
use crate::lease::words_of;
use crate::storage::Storage;
pub(crate) use fetch::FetchedObjects;
use fetch::Fetcher;
use recognize::Reader;
pub(crate) use recognize::Timings;
use render::RenderPool;
use row::RowMaker;
pub(crate) use shard::Shard;
use unpack::{Objects, UnpackedDocument, by_object, unpack};
pub(crate) use write::WrittenPart;

/// What all shards of a worker share.
#[derive(Debug)]
pub(crate) struct Pipeline {
    config: Arc<WorkerConfig>,
    scratch: PathBuf,
    stores: Arc<Stores>,
    storage: Storage,
    reader: Arc<Reader>,
    /// Documents in memory at once: bounds their bytes.
    open_documents: Arc<Semaphore>,
    /// Held together by documents that are read, and alone by one that may kill this worker: a
    /// death must point at it and at nothing else, whatever shard the others are of.
    alone: Arc<RwLock<()>>,
}

/// The rows of one line of a plan.
type LineRows = (usize, Vec<PartRow>, Timings);

impl Pipeline {
    pub(crate) fn new(
        config: Arc<WorkerConfig>,
        scratch: PathBuf,
        stores: Arc<Stores>,
        storage: Storage,
        renderer: RenderPool,
        engine: EnginePool,
    ) -> Self {
        let open_documents = Arc::new(Semaphore::new(engine.pages_in_flight() + 1));
        let reader = Arc::new(Reader::new(renderer, engine));
        Self {
            config,
            scratch,
            stores,
            storage,
            reader,
            open_documents,
            alone: Arc::default(),
        }
    }

    fn engine_info(&self) -> &EngineInfo {
        self.reader.engine.info()
    }

    /// Whether no engine is left to read with.
    pub(crate) fn engine_is_lost(&self) -> bool {
        self.reader.engine.is_lost()
    }

    /// Copies the input objects of a shard that waits to the scratch disk.
    pub(crate) async fn fetch(&self, shard: &Shard, fetched: &mut FetchedObjects) {
        let fetcher = Fetcher {
            stores: &self.stores,
            scratch: &self.scratch,
            storage: &self.storage,
            most_bytes: self.config.prefetch_bytes,
        };
        fetcher.fetch(&shard.plan, fetched).await;
    }

    /// Reads a whole shard into rows. With `outage_is_error` an input whose store is away ends
    /// the shard, so that another try reads it; without, it is a failed row.
    ///
    /// # Errors
    /// Trouble with the shard as a whole; pages that cannot be read are rows.
    pub(crate) async fn read(
        &self,
        shard: &Arc<Shard>,
        fetched: &Arc<FetchedObjects>,
        outage_is_error: bool,
    ) -> Result<(Vec<PartRow>, Timings)> {
        let spec = Arc::new(shard.spec.clone());
        let makers = self.makers(shard);
        let mut lines = settled(shard, &makers);
        let mut timings = Timings::default();
        let mut reading: JoinSet<Result<LineRows>> = JoinSet::new();
        let (found, mut documents) = tokio::sync::mpsc::channel::<UnpackedDocument>(1);
        let mut unpacking = JoinSet::new();
        unpacking.spawn(self.unpack_all(shard, fetched, found).in_current_span());
        loop {
            let permit = Arc::clone(&self.open_documents)
                .acquire_owned()
                .await
                .map_err(|_| Error::Bug("the document semaphore is never closed".into()))?;
            let Some(document) = documents.recv().await else {
                break;
            };
            if let (true, Err(trouble)) = (outage_is_error, &document.content)
                && is_outage(trouble)
            {
                return Err(Error::Inputs {
                    uri: shard.plan[document.line].source_uri.clone(),
                    message: trouble.message.clone(),
                });
            }
            let maker = Arc::clone(&makers[document.line]);
            let doc_id = maker.planned().doc_id.clone();
            let isolated = shard.isolated.iter().any(|id| *id == doc_id.as_str());
            if isolated {
                gather(&mut reading, &mut lines, &mut timings).await?;
            }
            let (reader, spec) = (Arc::clone(&self.reader), Arc::clone(&spec));
            let progress = Arc::clone(&shard.progress);
            let alone = Arc::clone(&self.alone);
            let read = async move {
                let _together_or_alone = if isolated {
                    (None, Some(alone.write_owned().await))
                } else {
                    (Some(alone.read_owned().await), None)
                };
                let UnpackedDocument { line, content } = document;
                let (rows, timings) = reader
                    .read(maker, &spec, content, &progress, isolated, permit)
                    .await?;
                Ok((line, rows, timings))
            };
            reading.spawn(contained(doc_id, read).in_current_span());
            if isolated {
                gather(&mut reading, &mut lines, &mut timings).await?;
            }
        }
        gather(&mut reading, &mut lines, &mut timings).await?;
        match unpacking.join_next().await {
            Some(Ok(waited)) => timings.fetch += waited,
            Some(Err(error)) => {
                return Err(Error::Bug(format!("opening containers ended: {error}")));
            }
            None => {}
        }
        let rows: Vec<PartRow> = lines.into_iter().flatten().collect();
        if rows.len() != shard.n_rows as usize {
            return Err(Error::Bug(format!(
                "shard {} of job {} gave {} rows, its plan says {}",
                shard.shard_idx,
                shard.job_id,
                rows.len(),
                shard.n_rows
            )));
        }
        Ok((rows, timings))
    }

    /// Writes the rows of a shard into a part on the scratch disk.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub(crate) async fn write(&self, shard: &Shard, rows: Vec<PartRow>) -> Result<WrittenPart> {
        let (scratch, key) = (self.scratch.clone(), shard.part_key.clone());
        tokio::task::spawn_blocking(move || write::write(rows, &scratch, &key))
            .await
            .map_err(|error| Error::Bug(format!("writing a part panicked: {error}")))?
    }

    fn makers(&self, shard: &Shard) -> Vec<Arc<RowMaker>> {
        let spec = Arc::new(shard.spec.clone());
        let maker = |planned: &quire_core::PlannedDocument| {
            Arc::new(RowMaker::new(
                planned.clone(),
                shard.job_id.clone(),
                shard.shard_idx,
                Arc::clone(&spec),
                self.engine_info().clone(),
            ))
        };
        shard.plan.iter().map(maker).collect()
    }

    /// Opens the objects of a shard one after another; returns the time it waited for them.
    fn unpack_all(
        &self,
        shard: &Arc<Shard>,
        fetched: &Arc<FetchedObjects>,
        found: tokio::sync::mpsc::Sender<UnpackedDocument>,
    ) -> impl Future<Output = Duration> + Send + 'static {
        let (stores, limits) = (Arc::clone(&self.stores), self.config.limits.clone());
        let (shard, fetched) = (Arc::clone(shard), Arc::clone(fetched));
        async move {
            let objects = Objects {
                stores: &stores,
                limits: &limits,
                fetched: &fetched,
            };
            let mut waited = Duration::ZERO;
            for run in by_object(&shard.plan) {
                waited += unpack(objects, &shard.plan, run, |document| {
                    let found = found.clone();
                    async move { found.send(document).await.is_ok() }
                })
                .await;
            }
            waited
        }
    }
}

/// Rows that need no reading, at their lines.
fn settled(shard: &Shard, makers: &[Arc<RowMaker>]) -> Vec<Vec<PartRow>> {
    let rows_of = |maker: &Arc<RowMaker>| match maker.settled() {
        Some(row) => {
            match row {
                PartRow::Failed { .. } => shard.progress.rows_done(0, 1),
                _ => shard.progress.rows_skipped(1),
            }
            vec![row]
        }
        None => Vec::new(),
    };
    makers.iter().map(rows_of).collect()
}

/// Whether a store, and not its object, is at fault. Its client has tried for minutes by then.
fn is_outage(trouble: &Trouble) -> bool {
    trouble.stage == Stage::Fetch && trouble.code == TroubleCode::Timeout
}

/// The work on one document; if it panics, an error that names the document.
async fn contained<T>(doc_id: DocId, work: impl Future<Output = Result<T>>) -> Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(ended) => ended,
        Err(panic) => Err(Error::Document {
            doc_id,
            message: format!("reading it panicked: {}", words_of(&*panic)),
        }),
    }
}

/// Waits for every document that is being read and puts its rows at its line.
async fn gather(
    reading: &mut JoinSet<Result<LineRows>>,
    lines: &mut [Vec<PartRow>],
    timings: &mut Timings,
) -> Result<()> {
    while let Some(joined) = reading.join_next().await {
        let (line, rows, spent) =
            joined.map_err(|error| Error::Bug(format!("a document's task ended: {error}")))??;
        lines[line] = rows;
        timings.render += spent.render;
        timings.infer += spent.infer;
    }
    Ok(())
}
