//! What all hosts share and no crash takes away: the database, the objects, the weather.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use object_store::memory::InMemory;
use object_store::path::Path;
use quire_coordinator::store::MemoryStore;
use quire_core::JobId;
use quire_dataset::Output;

use crate::chance::Chance;
use crate::clock::SimulatedClock;
use crate::objects::Objects;
use crate::trace::Trace;

/// Where the dataset goes, as jobs name it.
pub(crate) const OUT: &str = "s3://bucket/out";

pub(crate) const COORDINATORS: [&str; 2] = ["coordinator-0", "coordinator-1"];
pub(crate) const WORKERS: [&str; 3] = ["worker-0", "worker-1", "worker-2"];
pub(crate) const OWNER: &str = "owner";

/// What all hosts share and no crash takes away.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) objects: Arc<InMemory>,
    pub(crate) scratch: PathBuf,
    pub(crate) job_id: JobId,
    /// Pages that kill whoever reads them, as `doc_id/page_idx`.
    pub(crate) poison: BTreeSet<String>,
    pub(crate) weather: Weather,
    database: Mutex<Arc<MemoryStore>>,
}

/// What is wrong at the moment.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Single operations may fail or lose their answer.
    is_rough: AtomicBool,
    /// The job's log is closed: what follows is sealed by threads, for which time must not pass.
    is_closed: AtomicBool,
    /// What a host cannot reach or do: `database`, `objects`, or to go on at all: `time`.
    cut_off: Mutex<BTreeSet<(String, &'static str)>>,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Weather {
    pub(crate) fn set_rough(&self, is_rough: bool) {
        self.is_rough.store(is_rough, Ordering::SeqCst);
    }

    pub(crate) fn is_rough(&self) -> bool {
        self.is_rough.load(Ordering::SeqCst)
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn set_cut_off(&self, host: &str, from: &'static str, is_cut_off: bool) {
        let mut cut_off = self.cut_off.lock().unwrap();
        let pair = (host.to_owned(), from);
        if is_cut_off {
            cut_off.insert(pair);
        } else {
            cut_off.remove(&pair);
        }
    }

    pub(crate) fn is_cut_off(&self, host: &str, from: &'static str) -> bool {
        let cut_off = self.cut_off.lock().unwrap();
        cut_off.contains(&(host.to_owned(), from))
    }

    /// How often something was done before.
    pub(crate) fn count(&self, what: &str) -> u64 {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(what.to_owned()).or_default();
        *count += 1;
        *count - 1
    }
}

impl World {
    pub(crate) fn new(
        chance: Chance,
        planned: crate::corpus::Planned,
        scratch: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            chance,
            trace: Trace::default(),
            clock: planned.clock,
            objects: planned.objects,
            scratch,
            job_id: planned.job_id,
            poison: planned.poison,
            weather: Weather::default(),
            database: Mutex::new(planned.database),
        })
    }

    /// The database as it is at present.
    pub(crate) fn database(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.database.lock().unwrap())
    }

    /// Another database takes its place.
    pub(crate) fn replace_database(&self, by: MemoryStore) {
        *self.database.lock().unwrap() = Arc::new(by);
    }

    /// The dataset as a host reaches it.
    pub(crate) fn output(self: &Arc<Self>, host: &str) -> Output {
        let objects = Objects::new(Arc::clone(self), host);
        Output::remote(Arc::new(objects), Path::from("out"))
    }

    /// The dataset as it is.
    pub(crate) fn calm_output(&self) -> Output {
        Output::remote(Arc::clone(&self.objects) as _, Path::from("out"))
    }
}
