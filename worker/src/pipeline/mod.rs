//! A shard's way from plan to part, one stage a file, in this order.

pub(crate) mod shard;

pub(crate) mod unpack;

pub mod render;
pub mod text_layer;

mod embed;
pub(crate) mod recognize;
pub(crate) mod row;

pub(crate) mod write;

pub(crate) mod upload;

use std::sync::Arc;

use quire_core::EngineInfo;
use quire_corpus::Stores;
use quire_dataset::PartRow;
use quire_proto::v1::Part;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::WorkerConfig;
use crate::engine::EnginePool;
use crate::error::{Error, Result};
use recognize::{Reader, Timings};
use render::RenderPool;
use row::RowMaker;
pub(crate) use shard::Shard;
use unpack::{UnpackedDocument, by_object, unpack};
use write::WrittenPart;

/// What all shards of a worker share.
#[derive(Debug)]
pub(crate) struct Pipeline {
    config: Arc<WorkerConfig>,
    stores: Arc<Stores>,
    reader: Arc<Reader>,
    /// Documents in memory at once: bounds their bytes.
    open_documents: Arc<Semaphore>,
}

impl Pipeline {
    pub(crate) fn new(
        config: Arc<WorkerConfig>,
        stores: Arc<Stores>,
        renderer: RenderPool,
        engine: EnginePool,
    ) -> Self {
        let open_documents = Arc::new(Semaphore::new(engine.pages_in_flight() + 1));
        let reader = Arc::new(Reader::new(renderer, engine));
        Self {
            config,
            stores,
            reader,
            open_documents,
        }
    }

    pub(crate) fn engine_info(&self) -> &EngineInfo {
        self.reader.engine.info()
    }

    /// Reads a whole shard into a part on the scratch disk.
    ///
    /// # Errors
    /// Trouble with the shard as a whole; pages that cannot be read are rows.
    pub(crate) async fn read(&self, shard: &Arc<Shard>) -> Result<(WrittenPart, Timings)> {
        let spec = Arc::new(shard.spec.clone());
        let mut lines: Vec<Vec<PartRow>> = shard.plan.iter().map(|_| Vec::new()).collect();
        let makers: Vec<Arc<RowMaker>> = shard
            .plan
            .iter()
            .map(|planned| {
                let engine = self.engine_info().clone();
                let job_id = shard.job_id.clone();
                let spec = Arc::clone(&spec);
                Arc::new(RowMaker::new(
                    planned.clone(),
                    job_id,
                    shard.shard_idx,
                    spec,
                    engine,
                ))
            })
            .collect();
        for (rows, maker) in lines.iter_mut().zip(&makers) {
            if let Some(row) = maker.settled() {
                let failed = u32::from(matches!(row, PartRow::Failed { .. }));
                shard.progress.rows_done(1 - failed, failed);
                rows.push(row);
            }
        }
        let mut timings = Timings::default();
        let mut reading: JoinSet<Result<(usize, Vec<PartRow>, Timings)>> = JoinSet::new();
        let (found, mut documents) = tokio::sync::mpsc::channel::<UnpackedDocument>(1);
        let unpacking = {
            let (stores, limits) = (Arc::clone(&self.stores), self.config.limits.clone());
            let shard = Arc::clone(shard);
            async move {
                for run in by_object(&shard.plan) {
                    unpack(&stores, &limits, &shard.plan, run, |document| {
                        let found = found.clone();
                        async move { found.send(document).await.is_ok() }
                    })
                    .await;
                }
            }
        };
        let mut unpacking_task = JoinSet::new();
        unpacking_task.spawn(unpacking);
        loop {
            let permit = Arc::clone(&self.open_documents)
                .acquire_owned()
                .await
                .map_err(|_| Error::Bug("the document semaphore is never closed".into()))?;
            let Some(document) = documents.recv().await else {
                break;
            };
            let maker = Arc::clone(&makers[document.line]);
            let isolated = shard
                .isolated
                .iter()
                .any(|doc_id| *doc_id == maker.planned().doc_id.as_str());
            if isolated {
                gather(&mut reading, &mut lines, &mut timings).await?;
            }
            let (reader, spec) = (Arc::clone(&self.reader), Arc::clone(&spec));
            let progress = Arc::clone(&shard.progress);
            reading.spawn(async move {
                let UnpackedDocument { line, content } = document;
                let (rows, timings) = reader
                    .read(maker, &spec, content, &progress, isolated, permit)
                    .await?;
                Ok((line, rows, timings))
            });
            if isolated {
                gather(&mut reading, &mut lines, &mut timings).await?;
            }
        }
        gather(&mut reading, &mut lines, &mut timings).await?;
        if let Some(Err(error)) = unpacking_task.join_next().await {
            return Err(Error::Bug(format!("opening containers ended: {error}")));
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
        let (scratch, key) = (self.config.scratch.clone(), shard.part_key.clone());
        let written = tokio::task::spawn_blocking(move || write::write(rows, &scratch, &key))
            .await
            .map_err(|error| Error::Bug(format!("writing a part panicked: {error}")))??;
        Ok((written, timings))
    }

    /// Stores the part under its lease's key.
    pub(crate) async fn upload(&self, shard: &Shard, written: &WrittenPart) -> Result<Part> {
        upload::upload(shard, written, self.config.upload_patience).await
    }
}

/// Waits for every document that is being read and puts its rows at its line.
async fn gather(
    reading: &mut JoinSet<Result<(usize, Vec<PartRow>, Timings)>>,
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
