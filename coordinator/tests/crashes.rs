//! A process that dies at any moment, and the same command again: in the end the rows are those
//! of a run that nobody disturbed, each once.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use quire_coordinator::store::SqliteStore;
use quire_core::SystemClock;
use quire_dataset::{Output, Place, verify};
use quire_proto::v1;
use support::fuse::{Fuse, FusedObjects, FusedStore};
use support::worker::{TestWorker, Workers};
use support::{Bench, Running, digests};

/// More operations than any of these runs makes.
const NEVER: i64 = 1 << 40;

/// Objects and database as they outlive processes.
struct Disk {
    bench: Bench,
    objects: Arc<InMemory>,
    n_wiped: usize,
}

impl Disk {
    fn new() -> Self {
        Self {
            bench: Bench::with_corpus(),
            objects: Arc::new(InMemory::new()),
            n_wiped: 0,
        }
    }

    fn output(&self, objects: Arc<dyn ObjectStore>) -> Output {
        let place = |prefix| Place::remote(Arc::clone(&objects), Path::from(prefix));
        Output::at(place("out"), place("out.quire"))
    }

    /// One process from start to its end or death; whether the job is done.
    fn live(&self, fuse: &Arc<Fuse>) -> bool {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let is_done = runtime.block_on(async {
            tokio::select! {
                () = fuse.dead.cancelled() => false,
                job = self.run(fuse) => {
                    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
                    assert_eq!(job.rows_quarantined, 0);
                    true
                }
            }
        });
        // Nothing is awaited: whatever was under way stops where it is.
        runtime.shutdown_background();
        is_done
    }

    async fn run(&self, fuse: &Arc<Fuse>) -> v1::Job {
        let inner = Arc::clone(&self.objects) as Arc<dyn ObjectStore>;
        let objects = Arc::new(FusedObjects {
            inner,
            fuse: Arc::clone(fuse),
        });
        let output = self.output(objects);
        let clock = Arc::new(SystemClock::default());
        let database = SqliteStore::open(&self.database(), clock).await.unwrap();
        let store = FusedStore {
            inner: Arc::new(database),
            fuse: Arc::clone(fuse),
        };
        let (service, handle) = self.bench.open(self.bench.config(), Arc::new(store)).await;
        handle.use_output(&self.bench.out(), output.clone());
        let running = Running::start(service, handle);
        let submitted = running
            .handle
            .submit(&self.bench.out(), &self.bench.spec())
            .await
            .unwrap();
        let _workers = Workers::start(&running.handle, output, 2);
        running.ended(&submitted.job_id).await
    }

    /// What is in the newest version, verified.
    fn digests(&self) -> Vec<String> {
        let output = self.output(Arc::clone(&self.objects) as _);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let report = verify(&output).await.unwrap();
            assert!(report.violations.is_empty(), "{report:?}");
            let version = output.newest_version().await.unwrap().unwrap();
            assert_eq!(version.version, 1);
            // The inputs' folder differs between tests, and document ids with it.
            digests(&version)
        })
    }

    /// Forgets everything but the inputs. The database gets a new name: connections of a process
    /// that only plays dead may still be closing the old one.
    fn wipe(&mut self) {
        self.objects = Arc::new(InMemory::new());
        self.n_wiped += 1;
    }

    fn database(&self) -> PathBuf {
        self.bench
            .folder
            .path()
            .join(format!("state-{}.db", self.n_wiped))
    }
}

/// A small random number generator: the same moments of death in every run of the test.
fn draw(state: &mut u64, below: i64) -> i64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    i64::try_from(*state >> 33).unwrap() % below
}

#[test]
fn death_at_any_moment_changes_no_row() {
    let mut disk = Disk::new();
    let undisturbed = Fuse::of(NEVER, false);
    assert!(disk.live(&undisturbed));
    let expected = disk.digests();
    let n_operations = undisturbed.burnt();
    let mut seed = 1;
    for round in 0..40 {
        disk.wipe();
        let mut n_deaths = 0;
        loop {
            let n_deaths_wanted = 1 + round % 4;
            let burns = match n_deaths < n_deaths_wanted {
                true => draw(&mut seed, n_operations),
                false => NEVER,
            };
            let fuse = Fuse::of(burns, draw(&mut seed, 2) == 0);
            if disk.live(&fuse) {
                break;
            }
            n_deaths += 1;
        }
        assert_eq!(disk.digests(), expected, "round {round}, {n_deaths} deaths");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_on_one_store_publish_every_part_once() {
    let bench = Bench::with_corpus();
    let clock = Arc::new(SystemClock::default());
    let store = bench.sqlite(clock).await;
    let mut config = bench.config();
    config.is_alone = false;
    let one = bench
        .start_with(config.clone(), Arc::clone(&store) as _)
        .await;
    let two = bench.start_with(config, store).await;
    let spec = bench.spec();
    let submitted = one.handle.submit(&bench.out(), &spec).await.unwrap();
    let also = two.handle.submit(&bench.out(), &spec).await.unwrap();
    assert_eq!(also.job_id, submitted.job_id);
    let here = Workers::start(&one.handle, bench.output(), 1);
    let there = Workers::start(&two.handle, bench.output(), 1);
    let job = one.ended(&submitted.job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    assert_eq!(here.stop().await + there.stop().await, job.rows_planned);
    one.stop().await;
    two.stop().await;
    assert!(verify(&bench.output()).await.unwrap().violations.is_empty());
    assert_eq!(bench.version().await.version, 1);
}

/// Halves a shard, publishes one half, then puts back a database that knows of neither.
async fn forgets_a_halving(forget: impl Fn(&Bench)) {
    let bench = Bench::with_corpus();
    let mut config = bench.config();
    config.deaths.to_halve = 1;
    let start = async |bench: &Bench| {
        let store = bench.sqlite(Arc::new(SystemClock::default())).await;
        let running = bench
            .start_with(config.clone(), Arc::clone(&store) as _)
            .await;
        (running, store)
    };
    let (running, store) = start(&bench).await;
    let job_id = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap()
        .job_id;
    running.in_state(&job_id, v1::JobState::Running).await;
    running.stop().await;
    store.close().await;
    std::fs::copy(bench.state(), bench.folder.path().join("old.db")).unwrap();

    let (running, store) = start(&bench).await;
    let calls = Arc::new(running.handle.clone());
    let worker = TestWorker::register(calls, bench.output(), "a").await;
    // A shard of one row cannot be halved.
    let whole = worker.pick(|lease| lease.n_rows > 1).await;
    running.kill().await;
    store.close().await;
    let (running, store) = start(&bench).await;
    running
        .until(&job_id, |job| job.shards.unwrap().halved == 1)
        .await;
    let calls = Arc::new(running.handle.clone());
    let worker = TestWorker::register(calls, bench.output(), "a").await;
    // Halves have numbers after all others; this is the first one.
    let half = worker
        .pick(|lease| {
            lease.epoch == 1
                && lease.n_rows < whole.n_rows
                && lease.plan_key == whole.plan_key
                && lease.line_start == whole.line_start
        })
        .await;
    worker.finish(&half).await.unwrap();
    running
        .until(&job_id, |job| job.shards.unwrap().published == 1)
        .await;
    running.stop().await;
    store.close().await;

    forget(&bench);
    let (running, store) = start(&bench).await;
    let again = running
        .handle
        .submit(&bench.out(), &bench.spec())
        .await
        .unwrap();
    assert_eq!((&again.job_id, again.is_resumed), (&job_id, true));
    running
        .until(&job_id, |job| job.shards.unwrap().published == 1)
        .await;
    let workers = Workers::start(&running.handle, bench.output(), 2);
    let job = running.ended(&job_id).await;
    assert_eq!(job.state(), v1::JobState::Done, "{}", job.state_reason);
    assert_eq!(
        workers.stop().await,
        job.rows_planned - u64::from(half.n_rows)
    );
    running.stop().await;
    store.close().await;
    let report = verify(&bench.output()).await.unwrap();
    assert!(report.violations.is_empty(), "{report:?}");
    assert_eq!(bench.rows().await.pages.len(), 39);
}

#[tokio::test(flavor = "multi_thread")]
async fn database_set_back_before_a_halving_learns_of_it_from_the_manifests() {
    forgets_a_halving(|bench| {
        std::fs::rename(bench.folder.path().join("old.db"), bench.state()).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_lost_after_a_halving_learns_of_it_from_the_manifests() {
    forgets_a_halving(|bench| std::fs::remove_file(bench.state()).unwrap()).await;
}
