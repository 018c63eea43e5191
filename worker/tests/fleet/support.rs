//! A coordinator over a store in memory, a worker beside it, and everything between them that a
//! test wants to break.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use quire_coordinator::store::MemoryStore;
use quire_coordinator::{Coordinator, CoordinatorConfig, CoordinatorHandle, SealSettings, Survey};
use quire_core::{
    AnswerSink, DocId, Engine, EngineError, EngineInfo, Fault, ImageMode, JobId, JobSpec,
    ManualClock, PageAnswer, PageSource, Recognition, RenderSpec, SplitSpec, TextLayerMode,
    Trouble,
};
use quire_corpus::Stores;
use quire_dataset::Output;
use quire_dataset::paths::in_job;
use quire_proto::v1::{self, LeaseStage};
use quire_proto::{CallError, JobCalls, Reason, WorkerCalls};
use quire_worker::pipeline::render::{RenderPool, RenderSettings};
use quire_worker::{EnginePool, Left, Shutdown, Worker, WorkerConfig, WorkerStatus};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::documents::Pdf;

/// Tries of [`until`]: what never comes about fails and does not hang.
const TRIES: usize = 30_000;

/// Waits until `is_so` holds.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it did not come about: {what}");
}

/// Lets pages through, or holds them.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut is_open = self.0.0.lock().unwrap();
        while !*is_open {
            is_open = self.0.1.wait(is_open).unwrap();
        }
    }
}

/// An engine that reads nothing, behind a gate.
struct GatedEngine {
    info: EngineInfo,
    gate: Gate,
    /// Gives up at its first page.
    breaks: bool,
}

impl Engine for GatedEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn pages_in_flight(&self) -> usize {
        4
    }

    fn serve(
        &mut self,
        pages: &mut dyn PageSource,
        answers: &mut dyn AnswerSink,
    ) -> Result<(), EngineError> {
        while let Some(page) = pages.next() {
            self.gate.pass();
            if self.breaks {
                return Err(EngineError {
                    engine: "scripted".into(),
                    message: "the device is lost".into(),
                    fault: Fault::Bug,
                });
            }
            answers.answer(PageAnswer {
                ticket: page.ticket,
                result: Ok(Recognition::default()),
            });
        }
        Ok(())
    }
}

fn engine_info() -> EngineInfo {
    EngineInfo {
        name: "scripted".into(),
        version: "1".into(),
        model_id: "none".into(),
        model_revision: "0".repeat(64),
        mode: "test".into(),
    }
}

/// Counts pages as the product does.
#[derive(Debug)]
struct RenderSurvey(RenderPool);

#[async_trait]
impl Survey for RenderSurvey {
    async fn count_pages(&self, content: Bytes, media_type: &str) -> Result<u32, Trouble> {
        Ok(self.0.open(content, media_type).await?.info().n_pages)
    }
}

/// The way to the coordinator, with what went over it.
pub(crate) struct Line {
    pub(crate) inner: CoordinatorHandle,
    /// Nothing arrives.
    pub(crate) is_cut: AtomicBool,
    /// Heartbeats that did not arrive. A worker sends one after the other: once one is lost,
    /// none that was answered is still on its way.
    pub(crate) lost_beats: AtomicUsize,
    /// Replies to so many commits get lost.
    pub(crate) lost_commit_replies: AtomicU32,
    /// So many commits panic on their way.
    pub(crate) panicking_commits: AtomicU32,
    /// Heartbeats are answered with the order to drain.
    pub(crate) drains: AtomicBool,
    /// Every document is under suspicion.
    pub(crate) suspects_all: AtomicBool,
    /// Of the whole job.
    documents: Vec<String>,
    pub(crate) log: Mutex<Log>,
}

/// What went over the line.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    pub(crate) sessions: Vec<String>,
    pub(crate) registers: Vec<v1::RegisterRequest>,
    pub(crate) leases: Vec<v1::Lease>,
    pub(crate) beats: Vec<v1::HeartbeatRequest>,
    /// Commits that were sent, with how they ended.
    pub(crate) commits: Vec<(String, Result<v1::CommitOutcome, Reason>)>,
    pub(crate) fails: Vec<v1::FailRequest>,
}

impl Line {
    fn new(inner: CoordinatorHandle, documents: Vec<String>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            documents,
            is_cut: AtomicBool::new(false),
            lost_beats: AtomicUsize::new(0),
            lost_commit_replies: AtomicU32::new(0),
            panicking_commits: AtomicU32::new(0),
            drains: AtomicBool::new(false),
            suspects_all: AtomicBool::new(false),
            log: Mutex::default(),
        })
    }

    fn carries(&self) -> Result<(), CallError> {
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(CallError::new(Reason::Unavailable, "the line is cut"));
        }
        Ok(())
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    pub(crate) fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }

    fn note(&self, note: impl FnOnce(&mut Log)) {
        note(&mut self.log.lock().unwrap());
    }

    /// Whether the newest heartbeat says that the worker is as `state` says.
    pub(crate) fn says(&self, state: v1::WorkerState) -> bool {
        let log = self.log.lock().unwrap();
        log.beats.last().is_some_and(|beat| beat.state() == state)
    }

    /// Whether the newest heartbeat reports so many leases in each of the stages queued, reading
    /// and uploading.
    pub(crate) fn reports(&self, queued: usize, reading: usize, uploading: usize) -> bool {
        let log = self.log.lock().unwrap();
        let Some(beat) = log.beats.last() else {
            return false;
        };
        let count = |stage| {
            let of_stage = |lease: &&v1::LeaseProgress| lease.stage() == stage;
            beat.leases.iter().filter(of_stage).count()
        };
        count(LeaseStage::Queued) == queued
            && count(LeaseStage::Reading) == reading
            && count(LeaseStage::Uploading) == uploading
    }

    /// Documents in flight by the newest heartbeat.
    pub(crate) fn n_in_flight(&self) -> usize {
        let log = self.log.lock().unwrap();
        let beat = log.beats.last().unwrap();
        let of_lease = |lease: &v1::LeaseProgress| lease.documents_in_flight.len();
        beat.leases.iter().map(of_lease).sum()
    }

    /// Commits that were accepted.
    pub(crate) fn n_committed(&self) -> usize {
        let is_accepted = |commit: &&(String, Result<v1::CommitOutcome, Reason>)| commit.1.is_ok();
        self.log().commits.iter().filter(is_accepted).count()
    }

    /// Ends leases behind the worker's back, as if somebody else had got their shards.
    pub(crate) async fn take_away(&self, lease_ids: Vec<String>, end_session: bool) {
        let request = v1::ReleaseRequest {
            session_id: self.log().sessions.last().unwrap().clone(),
            lease_ids,
            reason: "the test wants it".into(),
            end_session,
        };
        self.inner.release(request).await.unwrap();
    }
}

fn one_less(count: &AtomicU32) -> bool {
    let less = |n: u32| n.checked_sub(1);
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

#[async_trait]
impl WorkerCalls for Line {
    async fn register(
        &self,
        request: v1::RegisterRequest,
    ) -> Result<v1::RegisterResponse, CallError> {
        self.carries()?;
        let answer = self.inner.register(request.clone()).await?;
        self.note(|log| {
            log.registers.push(request);
            log.sessions.push(answer.session_id.clone());
        });
        Ok(answer)
    }

    async fn acquire(&self, request: v1::AcquireRequest) -> Result<v1::AcquireResponse, CallError> {
        self.carries()?;
        let mut answer = self.inner.acquire(request).await?;
        if self.suspects_all.load(Ordering::SeqCst) {
            for lease in &mut answer.leases {
                lease.isolate_documents = self.documents.clone();
            }
        }
        self.note(|log| log.leases.extend(answer.leases.iter().cloned()));
        Ok(answer)
    }

    async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
    ) -> Result<v1::HeartbeatResponse, CallError> {
        if let Err(error) = self.carries() {
            self.lost_beats.fetch_add(1, Ordering::SeqCst);
            return Err(error);
        }
        self.note(|log| log.beats.push(request.clone()));
        let mut answer = self.inner.heartbeat(request).await?;
        answer.drain |= self.drains.load(Ordering::SeqCst);
        Ok(answer)
    }

    async fn commit(&self, request: v1::CommitRequest) -> Result<v1::CommitResponse, CallError> {
        let lease_id = request.lease_id.clone();
        if one_less(&self.panicking_commits) {
            panic!("the test wants it");
        }
        let answer = match self.carries() {
            Ok(()) => self.inner.commit(request).await,
            Err(error) => Err(error),
        };
        let is_lost = one_less(&self.lost_commit_replies);
        let answer = if is_lost {
            Err(CallError::new(Reason::Unavailable, "the reply is lost"))
        } else {
            answer
        };
        let ended = match &answer {
            Ok(answer) => Ok(answer.outcome()),
            Err(error) => Err(error.reason),
        };
        self.note(|log| log.commits.push((lease_id, ended)));
        answer
    }

    async fn fail(&self, request: v1::FailRequest) -> Result<v1::FailResponse, CallError> {
        self.carries()?;
        self.note(|log| log.fails.push(request.clone()));
        self.inner.fail(request).await
    }

    async fn release(&self, request: v1::ReleaseRequest) -> Result<v1::ReleaseResponse, CallError> {
        self.carries()?;
        self.inner.release(request).await
    }
}

/// Settings that tests change.
pub(crate) struct Setup {
    pub(crate) n_shards: usize,
    pub(crate) slots: usize,
    pub(crate) prefetch: usize,
    /// What the coordinator allows.
    pub(crate) max_prefetch: u32,
    pub(crate) heartbeat_period: Duration,
    pub(crate) session_ttl: Duration,
    pub(crate) drain_deadline: Duration,
    pub(crate) engine_breaks: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            n_shards: 4,
            slots: 1,
            prefetch: 0,
            max_prefetch: 2,
            heartbeat_period: Duration::from_millis(20),
            session_ttl: Duration::from_secs(60),
            drain_deadline: Duration::from_secs(60),
            engine_breaks: false,
        }
    }
}

/// A job of so many shards with a coordinator that hands them out.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) line: Arc<Line>,
    pub(crate) gate: Gate,
    pub(crate) job_id: JobId,
    /// The coordinator's: sessions end when a test says so, however slow the machine is.
    pub(crate) clock: Arc<ManualClock>,
    setup: Setup,
    stores: Stores,
    renderer: RenderPool,
    stop: CancellationToken,
    service: JoinHandle<quire_coordinator::Result<()>>,
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) shutdown: Shutdown,
    pub(crate) status: watch::Receiver<WorkerStatus>,
    pub(crate) worker: JoinHandle<quire_worker::Result<Left>>,
}

impl Running {
    pub(crate) async fn drain(self) -> Left {
        self.shutdown.drain.cancel();
        self.worker.await.unwrap().unwrap()
    }
}

/// Pages of each shard.
pub(crate) const SHARD_PAGES: u32 = 2;

impl Bench {
    pub(crate) async fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        std::fs::create_dir(&input).unwrap();
        let mut documents = Vec::new();
        for at in 0..setup.n_shards {
            let mut pdf = Pdf::new().media_box(72.0, 72.0);
            for page in 0..SHARD_PAGES {
                pdf = pdf.page(&Pdf::text(5.0, 30.0, 10.0, &format!("{at} {page}")));
            }
            let file = input.join(format!("{at}.pdf"));
            std::fs::write(&file, pdf.build()).unwrap();
            let uri = format!("file://{}", file.display());
            documents.push(DocId::of(&uri, None).as_str().to_owned());
        }
        let renderer = RenderPool::start(RenderSettings {
            program: env!("CARGO_BIN_EXE_quire-render-child").into(),
            args: Vec::new(),
            memory_limit_bytes: 1 << 30,
            page_timeout: Duration::from_secs(60),
            open_timeout: Duration::from_secs(60),
            passwords: Vec::new(),
            font_folder: None,
            require_sandbox: false,
            children: 4,
        });
        let renderer = renderer.await.unwrap();
        let stores = Stores::open(&BTreeMap::new()).unwrap();
        let seal = SealSettings {
            title: None,
            license: None,
            renderer: "none".into(),
            renderer_version: "1".into(),
            scratch: folder.path().join("seal"),
        };
        let config = CoordinatorConfig {
            heartbeat_period: setup.heartbeat_period,
            session_ttl: setup.session_ttl,
            reap_period: Duration::from_millis(20),
            publish_period: Duration::from_millis(50),
            max_prefetch: setup.max_prefetch,
            ..CoordinatorConfig::fleet(seal)
        };
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock) as _));
        let survey = Arc::new(RenderSurvey(renderer.clone()));
        let opened = Coordinator::open(config, store, stores.clone(), survey).await;
        let (service, handle) = opened.unwrap();
        let stop = CancellationToken::new();
        let service = spawn(service.run(stop.clone()));
        let out = stores.resolve(folder.path().join("out").to_str().unwrap());
        let submitted = handle
            .submit(&out.unwrap().uri, &spec(&input))
            .await
            .unwrap();
        let bench = Self {
            folder,
            line: Line::new(handle, documents),
            gate: Gate::default(),
            job_id: submitted.job_id,
            clock,
            setup,
            stores,
            renderer,
            stop,
            service,
        };
        bench.in_state(v1::JobState::Running).await;
        assert_eq!(bench.shards().await.len(), bench.setup.n_shards);
        bench
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    pub(crate) fn work(&self) -> Running {
        let config = WorkerConfig {
            name: "worker".into(),
            node: "node".into(),
            slots: self.setup.slots,
            prefetch: self.setup.prefetch,
            prefetch_bytes: 1 << 20,
            scratch: self.scratch(),
            limits: quire_corpus::Limits::default(),
            acquire_wait: Duration::from_millis(200),
            drain_deadline: self.setup.drain_deadline,
            patience: None,
        };
        let engine = Box::new(GatedEngine {
            info: engine_info(),
            gate: self.gate.clone(),
            breaks: self.setup.engine_breaks,
        });
        let worker = Worker::new(
            config,
            Arc::clone(&self.line) as Arc<dyn WorkerCalls>,
            Arc::new(self.stores.clone()),
            self.renderer.clone(),
            EnginePool::start_on(vec![("test:0".into(), engine)]).unwrap(),
        );
        let (status, shutdown) = (worker.status(), Shutdown::default());
        Running {
            status,
            worker: spawn(worker.run(shutdown.clone())),
            shutdown,
        }
    }

    pub(crate) async fn job(&self) -> v1::Job {
        self.line.inner.job(&self.job_id).await.unwrap()
    }

    pub(crate) async fn in_state(&self, state: v1::JobState) {
        for _ in 0..TRIES {
            let job = self.job().await;
            if job.state() == state {
                return;
            }
            assert!(!job.state().is_final(), "{job:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("the job did not become {state:?}: {:?}", self.job().await);
    }

    pub(crate) async fn shards(&self) -> Vec<v1::Shard> {
        let request = v1::ListShardsRequest {
            job_id: self.job_id.to_string(),
            page_size: 1000,
            ..v1::ListShardsRequest::default()
        };
        self.line.inner.list_shards(request).await.unwrap().shards
    }

    pub(crate) async fn n_pending(&self) -> usize {
        let shards = self.shards().await;
        let is_pending = |shard: &&v1::Shard| shard.state() == v1::ShardState::Pending;
        shards.iter().filter(is_pending).count()
    }

    /// Waits until so many shards wait for a worker.
    pub(crate) async fn pending(&self, n: usize) {
        for _ in 0..TRIES {
            if self.n_pending().await == n {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("not {n} shards are pending: {:?}", self.shards().await);
    }

    /// The job ends with every page read once.
    pub(crate) async fn is_done(&self) {
        self.in_state(v1::JobState::Done).await;
        let counts = self.job().await.rows_committed.unwrap();
        let pages = self.setup.n_shards as u64 * u64::from(SHARD_PAGES);
        assert_eq!((counts.ok, counts.failed), (pages, 0));
    }

    fn parts_folder(&self) -> PathBuf {
        let output = Output::open_local(&self.folder.path().join("out")).unwrap();
        let area = output.job_area(&self.job_id).unwrap();
        area.folder()
            .unwrap()
            .join(in_job::PARTS.trim_end_matches('/'))
    }

    /// Parts in the store, committed or not.
    pub(crate) fn n_parts(&self) -> usize {
        count_files(&self.parts_folder())
    }

    /// From now on the store takes no parts, or takes them again.
    pub(crate) fn close_store(&self, is_closed: bool) {
        let parts = self.parts_folder();
        if is_closed {
            assert_eq!(self.n_parts(), 0);
            drop(std::fs::remove_dir_all(&parts));
            std::fs::write(&parts, "no folder").unwrap();
        } else {
            std::fs::remove_file(&parts).unwrap();
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.service.await.unwrap().unwrap();
    }
}

/// Files below a folder.
pub(crate) fn count_files(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&entry.path()),
            _ => 1,
        })
        .sum()
}

#[allow(clippy::disallowed_methods, reason = "the tests await what they start")]
fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}

fn spec(input: &std::path::Path) -> JobSpec {
    JobSpec {
        inputs: vec![format!("file://{}", input.display())],
        engine: engine_info(),
        image_mode: ImageMode::None,
        text_layer: TextLayerMode::Ignore,
        render: RenderSpec {
            dpi: 72.0,
            max_edge_px: 500,
            max_area_px: 250_000,
        },
        split: SplitSpec {
            salt: "s".into(),
            validation_fraction: 0.1,
        },
        shard_pages: SHARD_PAGES,
        shuffle_seed: 7,
        retry_where: None,
    }
}
