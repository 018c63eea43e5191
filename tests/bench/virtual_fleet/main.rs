//! A whole job of any size in virtual time:
//! `virtual-fleet --pages 1000000000 --shard-pages 2000`.
//!
//! Everything of the coordinator is real and in this process: it lists and surveys inputs, writes
//! the plan, grants, accepts and publishes, and another one with an empty database recovers the
//! job from its manifests. Only the pages are not: documents say how many they have, nobody reads
//! them, and the object store answers for parts that nobody wrote. The clock moves as far with
//! each shard as the fleet would need for it. Sealing reads every row and so is left out.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its report is for people"
)]

mod hollow;
mod inputs;
mod report;
mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use object_store::path::Path;
use quire_coordinator::store::{SqliteStore, Store};
use quire_coordinator::{
    Coordinator, CoordinatorConfig, CoordinatorHandle, CoordinatorService, SealSettings,
};
use quire_core::{
    Clock, EngineInfo, ImageMode, JobId, JobSpec, ManualClock, RenderSpec, SplitSpec, TextLayerMode,
};
use quire_corpus::Stores;
use quire_dataset::Output;
use quire_proto::v1;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use hollow::HollowStore;
use report::{Phase, Report};

/// Plans, grants, accepts and publishes a job of made-up pages as fast as the coordinator can.
#[derive(Debug, Parser)]
struct Args {
    /// Of the whole job
    #[arg(long, default_value_t = 1_000_000)]
    pages: u64,
    /// Pages of a document
    #[arg(long, default_value_t = 1000)]
    document_pages: u32,
    /// Pages of a shard
    #[arg(long, default_value_t = 100)]
    shard_pages: u32,
    /// Of the fleet whose time is simulated
    #[arg(long, default_value_t = 400.0)]
    pages_per_second: f64,
    /// Sessions that ask for shards
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// Where inputs and databases lie [default: a temporary folder]
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// Where the dataset would lie. Only the probe of its store finds the folder; all else goes into
/// memory, where parts need not be to be there.
fn out(folder: &std::path::Path) -> anyhow::Result<String> {
    let stores = Stores::open(&BTreeMap::new())?;
    let path = folder.join("dataset").display().to_string();
    Ok(stores.create_output(&path)?.uri)
}

/// What the clock says when the job begins; a time of 0 means "never" to those who read it.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .context("a runtime")
        .and_then(|runtime| runtime.block_on(run(&args)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir().context("a temporary folder")?;
    let folder = args.folder.clone().unwrap_or(temporary.path().to_owned());
    let input = folder.join("inputs");
    let documents = args.pages.div_ceil(u64::from(args.document_pages));
    println!("writing {documents} documents");
    inputs::write(&input, documents, args.document_pages)?;

    let objects = Arc::new(HollowStore::default());
    let clock = Arc::new(ManualClock::default());
    clock.advance(BEGINNING);
    let mut report = Report::new(args.pages, args.shard_pages);

    let out = out(&folder)?;
    let began = Instant::now();
    let database = folder.join("first.db");
    let first = Running::start(&database, &clock, &objects, &folder).await?;
    let submitted = first.handle.submit(&out, &spec(args, &input)).await?;
    let job_id = submitted.job_id;
    let job = first
        .until(&job_id, "planned", |job| {
            job.planned_at_ms > 0 || is_over(job)
        })
        .await?;
    if is_over(&job) {
        bail!("not planned: {}", job.state_reason);
    }
    report.phase(Phase::Plan, began.elapsed(), &objects);
    println!("planned {} pages", job.rows_planned);

    let began = Instant::now();
    let work = workers::Work {
        handle: first.handle.clone(),
        clock: Arc::clone(&clock),
        page: Duration::from_secs_f64(1.0 / args.pages_per_second),
        shards: args.pages.div_ceil(u64::from(args.shard_pages)),
        engine: engine(),
    };
    workers::run(work, args.workers, &mut report).await?;
    report.phase(Phase::Commit, began.elapsed(), &objects);
    let began = Instant::now();
    let job = first
        .until(&job_id, "published", |job| {
            let shards = job.shards.unwrap_or_default();
            shards.pending + shards.leased + shards.committed == 0
        })
        .await?;
    report.phase(Phase::Publish, began.elapsed(), &objects);
    report.published(&job, clock.monotonic().saturating_sub(BEGINNING));
    first.stop().await;

    let began = Instant::now();
    let database_bytes = report::folder_bytes(&folder, "first.db");
    let second = Running::start(&folder.join("second.db"), &clock, &objects, &folder).await?;
    second.handle.recover(&out).await?;
    let shards = job.shards.unwrap_or_default().published;
    second
        .until(&job_id, "recovered", |job| {
            job.shards.unwrap_or_default().published >= shards
        })
        .await?;
    report.phase(Phase::Recover, began.elapsed(), &objects);
    second.stop().await;
    println!("{}", report.text(database_bytes));
    Ok(())
}

fn is_over(job: &v1::Job) -> bool {
    matches!(
        job.state(),
        v1::JobState::Failed | v1::JobState::Canceled | v1::JobState::Done
    )
}

fn engine() -> EngineInfo {
    EngineInfo {
        name: "none".into(),
        version: "1".into(),
        model_id: "none".into(),
        model_revision: "0".repeat(64),
        mode: "none".into(),
    }
}

fn spec(args: &Args, input: &std::path::Path) -> JobSpec {
    JobSpec {
        inputs: vec![format!("file://{}", input.display())],
        engine: engine(),
        image_mode: ImageMode::None,
        text_layer: TextLayerMode::Ignore,
        render: RenderSpec {
            dpi: 144.0,
            max_edge_px: 4096,
            max_area_px: 12_000_000,
        },
        split: SplitSpec {
            salt: "virtual".into(),
            validation_fraction: 0.005,
        },
        shard_pages: args.shard_pages,
        shuffle_seed: 0,
        retry_where: None,
    }
}

/// A coordinator that runs.
struct Running {
    handle: CoordinatorHandle,
    shutdown: CancellationToken,
    service: JoinSet<quire_coordinator::Result<()>>,
}

impl Running {
    async fn start(
        database: &std::path::Path,
        clock: &Arc<ManualClock>,
        objects: &Arc<HollowStore>,
        folder: &std::path::Path,
    ) -> anyhow::Result<Self> {
        let seal = SealSettings {
            title: None,
            license: None,
            renderer: "none".into(),
            renderer_version: "1".into(),
            scratch: folder.join("scratch"),
        };
        let config = CoordinatorConfig {
            // Virtual seconds pass faster than real ones, and every heartbeat is a transaction:
            // their cost is for `fleet-load` to measure.
            heartbeat_period: Duration::from_secs(600),
            session_ttl: Duration::from_secs(1800),
            progress_timeout: Duration::from_secs(1800),
            publish_period: Duration::from_secs(1),
            ..CoordinatorConfig::fleet(seal)
        };
        let store = SqliteStore::open(database, Arc::clone(clock) as Arc<_>).await?;
        let stores = Stores::open(&BTreeMap::new())?;
        let survey = Arc::new(inputs::SaidPages);
        let store: Arc<dyn Store> = Arc::new(store);
        let (service, handle) = Coordinator::open(config, store, stores, survey).await?;
        handle.use_output(
            &out(folder)?,
            Output::remote(Arc::clone(objects) as Arc<_>, Path::from("dataset")),
        );
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(CoordinatorService::run(service, shutdown.clone()));
        Ok(Self {
            handle,
            shutdown,
            service: running,
        })
    }

    /// Waits until the job is as it should be.
    async fn until(
        &self,
        job_id: &JobId,
        what: &str,
        is_so: impl Fn(&v1::Job) -> bool,
    ) -> anyhow::Result<v1::Job> {
        loop {
            let job = self.handle.job(job_id).await?;
            if is_so(&job) {
                return Ok(job);
            }
            if is_over(&job) {
                bail!("not {what}, but {:?}: {}", job.state(), job.state_reason);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        // It may be sealing parts that nobody wrote.
        let ended = tokio::time::timeout(Duration::from_secs(10), self.service.join_next()).await;
        if ended.is_err() {
            self.service.abort_all();
        }
    }
}
