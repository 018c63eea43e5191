//! The parts of a run in one process: renderer, engines, worker; and what planning needs to know
//! of a document, which only the sandboxed renderer may open.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use quire_coordinator::Survey;
use quire_core::{EngineError, EngineInfo, Trouble};
use quire_worker::pipeline::render::{RenderPool, RenderSettings};
use quire_worker::{EnginePool, WorkerConfig};

use crate::context::Context;
use crate::engines::{EngineChoice, LoadedEngines};
use crate::failure::{Failure, Outcome};
use crate::model_folder::{cache_folder, local_folder};
use crate::settings::{DeepSeekSettings, Settings, set};

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
/// keeps no engine waiting. An engine that has many pages in hand needs shards enough for them.
pub(crate) fn n_slots(settings: &Settings) -> usize {
    let by_pages = settings.run.n_workers();
    if !settings.engine.is_deepseek() {
        return by_pages + 1;
    }
    let own = &settings.deepseek_ocr;
    let n_devices = own.devices().map_or(1, |devices| devices.len());
    let in_hand = n_devices
        * match own.places {
            0 => MOST_PLACES,
            places => places as usize,
        };
    by_pages.max(in_hand.div_ceil(settings.job.shard_pages as usize)) + 1
}

/// Pages that an engine writes at the same time at most, where its memory says how many.
const MOST_PLACES: usize = 64;

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

/// Loads the engines and starts a thread for each.
pub(crate) async fn start_engines(context: &Context, settings: &Settings) -> Outcome<EnginePool> {
    let engines = load_engines(context, settings).await?;
    EnginePool::start_on(engines).map_err(Failure::of)
}

/// Loads the engines.
pub(crate) async fn load_engines(context: &Context, settings: &Settings) -> Outcome<LoadedEngines> {
    let choice = engine_choice(context, settings).await?;
    let load = context.engines.load;
    off_the_runtime(move || load(&choice)).await
}

/// Who would read, without a pool.
pub(crate) async fn engine_info(context: &Context, settings: &Settings) -> Outcome<EngineInfo> {
    let choice = engine_choice(context, settings).await?;
    let info = context.engines.info;
    off_the_runtime(move || info(&choice)).await
}

/// Loading reads files and computes for minutes.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Outcome<T> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| {
        Failure::failed(format!(
            "loading the engine ended by a fault of its own: {error}"
        ))
    })?;
    done.map_err(Failure::of)
}

/// What the settings say of the engine, with its checkpoint on this machine.
async fn engine_choice(context: &Context, settings: &Settings) -> Outcome<EngineChoice> {
    let model = match settings.engine.is_deepseek() {
        true => Some(checkpoint(context, &settings.deepseek_ocr).await?),
        false => None,
    };
    Ok(EngineChoice {
        name: settings.engine.name.clone(),
        n_pages: settings.run.n_workers(),
        mode: settings.engine.pp_ocr_mode(),
        deepseek: settings.deepseek_ocr.clone(),
        model,
        cache: cache_folder(context),
    })
}

/// The folder of the checkpoint.
pub(crate) async fn checkpoint(context: &Context, settings: &DeepSeekSettings) -> Outcome<PathBuf> {
    let model = set(&settings.model).ok_or_else(|| {
        Failure::usage("the engine deepseek-ocr has no model").hint(
            "name the folder of its checkpoint with --model DIR, or with `deepseek_ocr.model`; \
             a prefix of an object store is fine, too",
        )
    })?;
    local_folder(context, &model).await
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
