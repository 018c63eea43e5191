//! A corpus of made-up documents, a worker that reads them without looking, and a coordinator
//! around both.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file takes what it needs"
)]

pub mod fuse;
pub mod rows;
pub mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quire_coordinator::store::{SqliteStore, Store};
use quire_coordinator::{
    Coordinator, CoordinatorConfig, CoordinatorHandle, CoordinatorService, SealSettings, Survey,
};
use quire_core::{
    Clock, EngineInfo, ImageMode, JobId, JobSpec, RenderSpec, SplitSpec, Stage, SystemClock,
    TextLayerMode, Trouble, TroubleCode,
};
use quire_corpus::Stores;
use quire_dataset::{Dataset, DocumentRow, ErrorRow, Output, PageRow, Table, VersionFile};
use quire_proto::v1;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub fn engine() -> EngineInfo {
    EngineInfo {
        name: "scripted".into(),
        version: "1".into(),
        model_id: "none".into(),
        model_revision: "0".repeat(64),
        mode: "test".into(),
    }
}

/// Counts the pages that a made-up document says it has.
#[derive(Debug)]
pub struct SaidPages;

#[async_trait]
impl Survey for SaidPages {
    async fn count_pages(&self, content: Bytes, _: &str) -> Result<u32, Trouble> {
        let text = String::from_utf8_lossy(&content).into_owned();
        let said = text
            .split("pages=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        match said.and_then(|said| said.parse().ok()) {
            Some(n) => Ok(n),
            None => Err(Trouble::new(
                Stage::Open,
                TroubleCode::Damaged,
                "says no pages",
            )),
        }
    }
}

/// A folder with inputs and a place for the output.
#[derive(Debug)]
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub stores: Stores,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        Self {
            folder,
            stores: Stores::open(&BTreeMap::new()).unwrap(),
        }
    }

    /// Some documents: of one page and of many, one that cannot be opened, one twice.
    pub fn with_corpus() -> Self {
        let bench = Self::new();
        for (name, n_pages) in [("a", 1), ("b", 3), ("c", 25), ("d", 2), ("e", 7), ("f", 1)] {
            bench.add(name, n_pages);
        }
        bench.write("twice.pdf", "%PDF-1.7\nname=e pages=7 \n");
        bench.write("broken.pdf", "%PDF-1.7\nnothing here\n");
        bench.write("page.html", "<!DOCTYPE html><p>no page document");
        bench
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.input().join(name), content).unwrap();
    }

    /// A document that says it has so many pages.
    pub fn add(&self, name: &str, n_pages: u32) {
        self.write(
            &format!("{name}.pdf"),
            &format!("%PDF-1.7\nname={name} pages={n_pages} \n"),
        );
    }

    pub fn input(&self) -> PathBuf {
        self.folder.path().join("in")
    }

    pub fn out(&self) -> String {
        let out = self.folder.path().join("out");
        self.stores.resolve(out.to_str().unwrap()).unwrap().uri
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub fn output(&self) -> Output {
        Output::create_local(&self.folder.path().join("out")).unwrap()
    }

    pub fn spec(&self) -> JobSpec {
        JobSpec {
            inputs: vec![format!("file://{}", self.input().display())],
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

    pub fn config(&self) -> CoordinatorConfig {
        let seal = SealSettings {
            title: None,
            license: None,
            renderer: "none".into(),
            renderer_version: "1".into(),
            scratch: self.folder.path().join("scratch"),
        };
        CoordinatorConfig {
            reap_period: Duration::from_millis(20),
            publish_period: Duration::from_millis(20),
            patience: Some(Duration::ZERO),
            ..CoordinatorConfig::one_machine(seal)
        }
    }

    pub async fn sqlite(&self, clock: Arc<dyn Clock>) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.state(), clock).await.unwrap())
    }

    /// A running coordinator over SQLite and the system's clock.
    pub async fn start(&self) -> Running {
        let store = self.sqlite(Arc::new(SystemClock::default())).await;
        self.start_with(self.config(), store).await
    }

    pub async fn start_with(&self, config: CoordinatorConfig, store: Arc<dyn Store>) -> Running {
        let (service, handle) = self.open(config, store).await;
        Running::start(service, handle)
    }

    pub async fn open(
        &self,
        config: CoordinatorConfig,
        store: Arc<dyn Store>,
    ) -> (CoordinatorService, CoordinatorHandle) {
        let survey = Arc::new(SaidPages);
        Coordinator::open(config, store, self.stores.clone(), survey)
            .await
            .unwrap()
    }

    /// Runs a job to its end with two workers.
    pub async fn run(&self, spec: &JobSpec) -> v1::Job {
        let running = self.start().await;
        let job_id = running
            .handle
            .submit(&self.out(), spec)
            .await
            .unwrap()
            .job_id;
        let workers = worker::Workers::start(&running.handle, self.output(), 2);
        let job = running.ended(&job_id).await;
        workers.stop().await;
        running.stop().await;
        job
    }

    pub async fn version(&self) -> VersionFile {
        self.output().newest_version().await.unwrap().unwrap()
    }

    pub async fn rows(&self) -> Rows {
        Rows::of(&self.output()).await
    }
}

/// All rows of the newest version.
#[derive(Debug)]
pub struct Rows {
    pub pages: Vec<PageRow>,
    pub documents: Vec<DocumentRow>,
    pub errors: Vec<ErrorRow>,
}

impl Rows {
    pub async fn of(output: &Output) -> Self {
        let dataset = Dataset::open(output).await.unwrap();
        let (mut pages, mut documents, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = dataset.rows::<PageRow>();
        while let Some(row) = rows.next().await.unwrap() {
            pages.push(row);
        }
        let mut rows = dataset.rows::<DocumentRow>();
        while let Some(row) = rows.next().await.unwrap() {
            documents.push(row);
        }
        let mut rows = dataset.rows::<ErrorRow>();
        while let Some(row) = rows.next().await.unwrap() {
            errors.push(row);
        }
        Self {
            pages,
            documents,
            errors,
        }
    }
}

/// A digest of all rows of a version, whatever the run that made them.
pub fn digests(version: &VersionFile) -> Vec<String> {
    [Table::Pages, Table::Documents, Table::Errors]
        .map(|table| format!("{:?}", version.rows_digest(table).unwrap()))
        .to_vec()
}

/// A coordinator whose service runs.
#[derive(Debug)]
pub struct Running {
    pub handle: CoordinatorHandle,
    shutdown: CancellationToken,
    service: JoinHandle<quire_coordinator::Result<()>>,
}

impl Running {
    #[allow(clippy::disallowed_methods, reason = "the task is awaited in `stop`")]
    pub fn start(service: CoordinatorService, handle: CoordinatorHandle) -> Self {
        let shutdown = CancellationToken::new();
        let service = tokio::spawn(service.run(shutdown.clone()));
        Self {
            handle,
            shutdown,
            service,
        }
    }

    pub async fn job(&self, job_id: &JobId) -> v1::Job {
        self.handle.job(job_id).await.unwrap()
    }

    /// Waits until `is_so` holds of the job.
    pub async fn until(&self, job_id: &JobId, is_so: impl Fn(&v1::Job) -> bool) -> v1::Job {
        // Bounded, so that what never comes about fails and does not hang.
        for _ in 0..60_000 {
            let job = self.job(job_id).await;
            if is_so(&job) {
                return job;
            }
            assert!(!self.service.is_finished(), "the service ended: {job:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("it did not come about: {:?}", self.job(job_id).await);
    }

    pub async fn ended(&self, job_id: &JobId) -> v1::Job {
        self.until(job_id, |job| job.state().is_final()).await
    }

    pub async fn in_state(&self, job_id: &JobId, state: v1::JobState) -> v1::Job {
        self.until(job_id, |job| job.state() == state).await
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.service.await.unwrap().unwrap();
    }

    /// The process dies. What it was in the middle of may end a moment later.
    pub async fn kill(self) {
        self.service.abort();
        drop(self.service.await);
    }
}

/// Bytes of every file below a folder, by relative path.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}
