//! The parts of a run in one process: renderer, engines, worker; and what planning needs to know
//! of a document, which only the sandboxed renderer may open.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use pp_ocr::{PpOcr, PpOcrOptions};
use quire_coordinator::Survey;
use quire_core::{Engine, EngineError, EngineInfo, Trouble};
use quire_worker::pipeline::render::{RenderPool, RenderSettings};
use quire_worker::{EnginePool, WorkerConfig};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;

/// Opens documents for planning.
#[derive(Debug)]
pub(crate) struct RenderSurvey(pub RenderPool);

#[async_trait]
impl Survey for RenderSurvey {
    async fn count_pages(&self, content: Bytes, media_type: &str) -> Result<u32, Trouble> {
        Ok(self.0.open(content, media_type).await?.info().n_pages)
    }
}

/// Shards worked on at once: one more than pages are read, so that writing and uploading one
/// keeps no engine waiting.
pub(crate) fn n_slots(settings: &Settings) -> usize {
    settings.run.n_workers() + 1
}

/// Starts the renderer's first child process and warns of walls that are missing around it.
pub(crate) async fn start_renderer(settings: &Settings, children: usize) -> Outcome<RenderPool> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::from(error).context("cannot find this program to start it as a renderer")
    })?;
    let render = &settings.render;
    let passwords = render
        .passwords
        .iter()
        .map(|password| password.expose().to_owned());
    let pool = RenderPool::start(RenderSettings {
        program,
        args: vec!["render-child".to_owned()],
        memory_limit_bytes: render.memory_limit.0,
        page_timeout: render.page_timeout.0,
        open_timeout: render.open_timeout.0,
        passwords: passwords.collect(),
        font_folder: render.font_folder(),
        require_sandbox: render.require_sandbox,
        children,
    });
    let pool = pool.await.map_err(Failure::of)?;
    let status = pool.sandbox_status();
    if !status.is_complete() {
        let missing = status.missing.join("; ");
        tracing::warn!("documents are opened in an incomplete sandbox: {missing}");
    }
    Ok(pool)
}

/// Loads the engine once and starts a thread for each page that is read at the same time.
pub(crate) fn start_engines(context: &Context) -> Outcome<EnginePool> {
    let n = context.settings().run.n_workers();
    let engines = (context.engines)(n).map_err(Failure::of)?;
    EnginePool::start(engines).map_err(Failure::of)
}

/// PP-OCR engines that share their weights.
pub fn pp_ocr_engines(n: usize) -> Result<Vec<Box<dyn Engine>>, EngineError> {
    let first = PpOcr::load(PpOcrOptions::default())?;
    let mut engines: Vec<Box<dyn Engine>> = Vec::with_capacity(n);
    for _ in 1..n {
        engines.push(Box::new(first.fork()?));
    }
    engines.push(Box::new(first));
    Ok(engines)
}

/// Who would read, without a pool.
pub(crate) fn engine_info(context: &Context) -> Outcome<EngineInfo> {
    let engines = (context.engines)(1).map_err(Failure::of)?;
    let first = engines
        .first()
        .ok_or_else(|| Failure::failed("this build has no engine"))?;
    Ok(first.info().clone())
}

/// How this process works.
pub(crate) fn worker_config(settings: &Settings, scratch: PathBuf) -> WorkerConfig {
    WorkerConfig {
        name: format!("run-{}", std::process::id()),
        node: "local".to_owned(),
        slots: n_slots(settings),
        prefetch: 0,
        prefetch_bytes: 0,
        scratch,
        limits: settings.input.limits(),
        acquire_wait: std::time::Duration::from_secs(2),
        drain_deadline: settings.run.drain_deadline.0,
        // Somebody waits, and the same command goes on later.
        patience: Some(std::time::Duration::from_secs(300)),
    }
}
