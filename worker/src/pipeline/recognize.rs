//! A document's planned pages through renderer and engine to rows. Comes after `unpack`, before
//! `write`. A page that fails at any step is a row with its reason, and the next page goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quire_core::{JobSpec, Line, PlannedDocument, TextLayerMode, Trouble, page_id};
use quire_dataset::PartRow;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::render::{OpenDocument, RenderPool, RenderedPage};
use super::row::{DocumentFacts, PageFacts, RowMaker};
use super::text_layer::{TextLayer, TextLayerKind, trust};
use crate::engine::EnginePool;
use crate::error::{Error, Result};
use crate::lease::ShardProgress;
use crate::metrics;

/// One page in so many is read although its text layer is trusted, to check the trust.
const CHECKED_IN: u64 = 100;

/// What documents of all shards share.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) renderer: RenderPool,
    pub(crate) engine: EnginePool,
    /// Pages drawn and not yet read: bounds the memory of page images.
    prepared: Arc<Semaphore>,
}

/// Where the time of a document went.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Timings {
    /// Waiting for input objects.
    pub(crate) fetch: Duration,
    pub(crate) render: Duration,
    pub(crate) infer: Duration,
}

/// A page with what was made of it.
struct ReadPage {
    row: PartRow,
    timings: Timings,
}

impl Reader {
    pub(crate) fn new(renderer: RenderPool, engine: EnginePool) -> Self {
        let prepared = Arc::new(Semaphore::new(engine.pages_in_flight() + 2));
        Self {
            renderer,
            engine,
            prepared,
        }
    }

    /// Rows of one line of the plan, in page order; their number is the line's.
    ///
    /// # Errors
    /// Only when the engine itself cannot go on.
    pub(crate) async fn read(
        self: &Arc<Self>,
        maker: Arc<RowMaker>,
        spec: &Arc<JobSpec>,
        content: std::result::Result<Bytes, Trouble>,
        progress: &Arc<ShardProgress>,
        isolated: bool,
        in_memory: OwnedSemaphorePermit,
    ) -> Result<(Vec<PartRow>, Timings)> {
        let doc_id = &maker.planned().doc_id;
        let _in_flight = if isolated {
            progress.suspect(doc_id)
        } else {
            progress.document(doc_id)
        };
        let opened = match content {
            Ok(bytes) => self.renderer.open(bytes, &maker.planned().media_type).await,
            Err(trouble) => Err(trouble),
        };
        let document = match opened {
            Ok(document) => document,
            Err(trouble) => {
                let rows = maker.failed_run(&trouble);
                progress.rows_done(0, rows.len() as u32);
                return Ok((rows, Timings::default()));
            }
        };
        self.read_pages(maker, spec, document, progress, isolated, in_memory)
            .await
    }

    async fn read_pages(
        self: &Arc<Self>,
        maker: Arc<RowMaker>,
        spec: &Arc<JobSpec>,
        mut document: OpenDocument,
        progress: &Arc<ShardProgress>,
        isolated: bool,
        in_memory: OwnedSemaphorePermit,
    ) -> Result<(Vec<PartRow>, Timings)> {
        let info = document.info().clone();
        let with_text = spec.text_layer != TextLayerMode::Ignore;
        let mut layers = TextLayerKind::None;
        let pages = maker.page_indexes();
        let mut read: Vec<Option<ReadPage>> = pages.clone().map(|_| None).collect();
        let mut reading = JoinSet::new();
        for (slot, page_idx) in pages.enumerate() {
            let permit = Arc::clone(&self.prepared)
                .acquire_owned()
                .await
                .map_err(|_| Error::Bug("the page semaphore is never closed".into()))?;
            let start = Instant::now();
            let rendered = document.page(page_idx, &spec.render, with_text).await;
            if let Ok(RenderedPage {
                text_layer: Some(layer),
                ..
            }) = &rendered
            {
                layers = layers.and(layer.kind());
            }
            let (reader, maker, spec) = (Arc::clone(self), Arc::clone(&maker), Arc::clone(spec));
            let progress = Arc::clone(progress);
            reading.spawn(
                async move {
                    let asking = progress.asks(reader.engine.steps());
                    let page = reader
                        .finish_page(&maker, &spec, page_idx, rendered, start)
                        .await?;
                    drop(asking);
                    drop(permit);
                    let failed = u32::from(matches!(page.row, PartRow::Failed { .. }));
                    progress.rows_done(1 - failed, failed);
                    Ok((slot, page))
                }
                .in_current_span(),
            );
            if isolated {
                // Alone in flight, so that a death points at this page.
                collect(&mut reading, &mut read).await?;
            }
        }
        // The child goes back to the pool before the engine has answered.
        drop(document);
        drop(in_memory);
        collect(&mut reading, &mut read).await?;
        let mut rows = Vec::with_capacity(read.len());
        let mut timings = Timings::default();
        for page in read {
            let page = page.ok_or_else(|| Error::Bug("a page was never answered".into()))?;
            timings.render += page.timings.render;
            timings.infer += page.timings.infer;
            rows.push(page.row);
        }
        if maker.planned().carries_document() {
            let facts = DocumentFacts {
                info: Some(info),
                layers,
            };
            maker.attach_document(&mut rows, facts);
        }
        Ok((rows, timings))
    }

    async fn finish_page(
        &self,
        maker: &Arc<RowMaker>,
        spec: &Arc<JobSpec>,
        page_idx: u32,
        rendered: std::result::Result<RenderedPage, Trouble>,
        start: Instant,
    ) -> Result<ReadPage> {
        let failed = |trouble: Trouble| ReadPage {
            row: maker.failed_page(page_idx, &trouble, start.elapsed()),
            timings: Timings::default(),
        };
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(trouble) => return Ok(failed(trouble)),
        };
        let RenderedPage {
            image,
            rotation,
            width_pt,
            height_pt,
            text_layer,
            warnings,
            render,
        } = rendered;
        if !warnings.is_empty() {
            tracing::debug!(doc_id = %maker.planned().doc_id, page_idx, ?warnings, "page was drawn with warnings");
        }
        let image = Arc::new(image);
        let known_lines = text_layer
            .as_ref()
            .filter(|_| spec.text_layer == TextLayerMode::Prefer)
            .filter(|_| self.engine.takes_known_lines())
            .and_then(|layer| trusted_lines(maker.planned(), page_idx, layer));
        let from_layer = known_lines.is_some();
        let recognition = match self.engine.read(Arc::clone(&image), known_lines).await? {
            Ok(recognition) => recognition,
            Err(trouble) => return Ok(failed(trouble)),
        };
        let timings = Timings {
            fetch: Duration::ZERO,
            render,
            infer: recognition.infer,
        };
        metrics::stage("render", timings.render);
        metrics::stage("infer", timings.infer);
        let facts = PageFacts {
            page_idx,
            image,
            rotation,
            width_pt,
            height_pt,
            text_layer,
            from_layer,
            render,
            start,
        };
        let maker = Arc::clone(maker);
        // Hashing, encoding and comparing text are work for a thread that may block.
        let row = tokio::task::spawn_blocking(move || maker.page(facts, recognition))
            .await
            .map_err(|error| Error::Bug(format!("making a row panicked: {error}")))?;
        Ok(ReadPage { row, timings })
    }
}

/// Waits for every page that is being read and puts each into its slot.
async fn collect(
    reading: &mut JoinSet<Result<(usize, ReadPage)>>,
    read: &mut [Option<ReadPage>],
) -> Result<()> {
    while let Some(joined) = reading.join_next().await {
        let (slot, page) =
            joined.map_err(|error| Error::Bug(format!("a page's task ended: {error}")))??;
        read[slot] = Some(page);
    }
    Ok(())
}

/// The layer's lines, if it passes every test and this page is not one that checks the trust.
fn trusted_lines(planned: &PlannedDocument, page_idx: u32, layer: &TextLayer) -> Option<Vec<Line>> {
    let page = page_id(&planned.doc_id, page_idx + 1);
    if let Err(distrust) = trust(layer) {
        tracing::debug!(
            page,
            distrust = distrust.as_str(),
            "the text layer is not used"
        );
        return None;
    }
    let digest = Sha256::digest(page.as_bytes());
    let draw = digest
        .iter()
        .take(8)
        .fold(0u64, |sum, &byte| (sum << 8) | u64::from(byte));
    (!draw.is_multiple_of(CHECKED_IN)).then(|| layer.lines.clone())
}
