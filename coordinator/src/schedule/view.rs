//! What calls need to know of jobs, tenants and nodes, read from the store once a second at most:
//! a fleet's workers ask far more often than these change. Nothing rests on it: a grant looks at
//! job, session and node again in its own transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use quire_core::{EngineInfo, JobId};
use tokio::time::Instant;

use super::share::{self, JobLoad, TenantLoad};
use crate::error::Result;
use crate::job::JobState;
use crate::shared::spec_of;
use crate::store::{JobQuery, JobRecord, NodeRecord, NodeStanding, Store, TenantRecord};

const LIFETIME: Duration = Duration::from_secs(1);
/// More unfinished jobs than this are not expected, and wait.
const MAX_JOBS: u32 = 1000;

/// The last view, while it is fresh.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// Counts events after which an older view misleads.
    events: AtomicU64,
    kept: tokio::sync::Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    view: Arc<View>,
    at: Instant,
    events: u64,
}

impl Views {
    /// Something changed that workers wait for: the next call looks anew.
    pub(crate) fn outdated(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// A view that is fresh enough. Calls that come meanwhile wait for the one that reads.
    pub(crate) async fn get(&self, store: &dyn Store) -> Result<Arc<View>> {
        let mut kept = self.kept.lock().await;
        let events = self.events.load(Ordering::Relaxed);
        if let Some(kept) = kept.as_ref()
            && kept.events == events
            && kept.at.elapsed() < LIFETIME
        {
            return Ok(Arc::clone(&kept.view));
        }
        let before = kept.as_ref().map(|kept| Arc::clone(&kept.view));
        let view = Arc::new(View::read(store, before.as_deref()).await?);
        *kept = Some(Kept {
            view: Arc::clone(&view),
            at: Instant::now(),
            events,
        });
        Ok(view)
    }
}

/// Unfinished jobs, tenants and nodes at one moment.
#[derive(Debug)]
pub(crate) struct View {
    /// Running jobs whose specification can be read.
    jobs: Vec<Arc<ViewedJob>>,
    nodes: Vec<NodeRecord>,
    /// What was given out since, so that one view serves many grants.
    deal: Mutex<Deal>,
}

/// A running job.
#[derive(Debug)]
pub(crate) struct ViewedJob {
    pub record: JobRecord,
    /// What its pages are to be read with.
    pub engine: EngineInfo,
}

#[derive(Debug, Default)]
struct Deal {
    tenants: Vec<TenantLoad>,
    jobs: Vec<JobLoad>,
}

impl View {
    async fn read(store: &dyn Store, before: Option<&Self>) -> Result<Self> {
        let query = JobQuery {
            unfinished: true,
            before: None,
            limit: MAX_JOBS,
        };
        let records = store.jobs(&query).await?;
        let tenants = store.tenants().await?;
        let nodes = store.nodes().await?;
        let known: HashMap<&JobId, &EngineInfo> = before
            .iter()
            .flat_map(|view| &view.jobs)
            .map(|job| (&job.record.job_id, &job.engine))
            .collect();
        let mut jobs = Vec::new();
        for record in records {
            if record.state != JobState::Running {
                continue;
            }
            let engine = match known.get(&record.job_id) {
                Some(&engine) => engine.clone(),
                // A job that cannot be understood must not keep others from their work.
                None => match spec_of(&record) {
                    Ok(spec) => spec.engine,
                    Err(error) => {
                        let reason = quire_core::chain(&error);
                        tracing::error!(job_id = %record.job_id, reason, "job is left out");
                        continue;
                    }
                },
            };
            jobs.push(Arc::new(ViewedJob { record, engine }));
        }
        let deal = Mutex::new(Deal::new(&jobs, &tenants));
        Ok(Self { jobs, nodes, deal })
    }

    fn deal(&self) -> MutexGuard<'_, Deal> {
        self.deal
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Running jobs, newest first.
    pub(crate) fn jobs(&self) -> &[Arc<ViewedJob>] {
        &self.jobs
    }

    /// The job that the next shard is taken from, among those that `may`.
    pub(crate) fn next_job(
        &self,
        may: impl Fn(&ViewedJob) -> bool,
    ) -> Option<(usize, &Arc<ViewedJob>)> {
        let deal = self.deal();
        let may = |at: usize| self.jobs.get(at).is_some_and(|job| may(job));
        let at = share::next_job(&deal.tenants, &deal.jobs, may)?;
        self.jobs.get(at).map(|job| (at, job))
    }

    /// Counts a shard that was given out.
    pub(crate) fn granted(&self, at: usize, n_rows: u32) {
        let mut deal = self.deal();
        let Some(job) = deal.jobs.get_mut(at) else {
            return;
        };
        job.pending -= 1;
        let tenant = job.tenant;
        if let Some(tenant) = deal.tenants.get_mut(tenant) {
            tenant.rows_in_flight += f64::from(n_rows);
        }
    }

    /// The job has nothing to give now, whatever its counters said.
    pub(crate) fn exhausted(&self, at: usize) {
        if let Some(job) = self.deal().jobs.get_mut(at) {
            job.pending = 0;
        }
    }

    /// Whether nothing of the job waits, as far as this view tells.
    pub(crate) fn is_exhausted(&self, at: usize) -> bool {
        self.deal().jobs.get(at).is_none_or(|job| job.pending <= 0)
    }

    /// What may be given to a node.
    pub(crate) fn standing(&self, node: &str) -> NodeStanding {
        let known = self.nodes.iter().find(|known| known.node == node);
        known.map_or(NodeStanding::Open, |known| known.standing)
    }

    /// Whether the coordinator itself closed the node, because workers die on it.
    pub(crate) fn is_sick(&self, node: &str) -> bool {
        self.nodes.iter().any(|known| {
            known.node == node && known.is_automatic && known.standing != NodeStanding::Open
        })
    }
}

impl Deal {
    fn new(jobs: &[Arc<ViewedJob>], known: &[TenantRecord]) -> Self {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut deal = Self::default();
        for job in jobs {
            let record = &job.record;
            let tenant = *places.entry(&record.tenant).or_insert_with(|| {
                let known = known.iter().find(|known| known.tenant == record.tenant);
                deal.tenants.push(TenantLoad {
                    weight: known.map_or(1.0, |known| known.weight),
                    used_rows: known.map_or(0.0, |known| known.used_rows),
                    rows_in_flight: 0.0,
                });
                deal.tenants.len() - 1
            });
            if let Some(load) = deal.tenants.get_mut(tenant) {
                load.rows_in_flight += rows_in_flight(record);
            }
            deal.jobs.push(JobLoad {
                tenant,
                priority: record.priority,
                number: record.number,
                pending: record.counters.pending,
            });
        }
        deal
    }
}

/// Rows of leased shards, by the mean of shards that are not done: no lease is looked at.
fn rows_in_flight(job: &JobRecord) -> f64 {
    let open = job.counters.pending + job.counters.leased;
    if open <= 0 || job.counters.leased <= 0 {
        return 0.0;
    }
    job.rows_waiting() as f64 * job.counters.leased as f64 / open as f64
}
