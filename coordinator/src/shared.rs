//! What all parts of a coordinator hold together. Everything here but the store may be lost at
//! any time: it is made anew from the store and from the objects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use quire_core::{JobId, JobSpec};
use quire_corpus::Stores;
use quire_dataset::{CommitLog, JobArea, Output};
use tokio::sync::Notify;

use crate::config::CoordinatorConfig;
use crate::doctor::{self, ProbeReport};
use crate::error::{Error, Result};
use crate::plan::{PlanProgress, Survey};
use crate::store::{JobRecord, Store};

/// What all parts of a coordinator hold together.
pub(crate) struct Shared {
    pub config: CoordinatorConfig,
    pub store: Arc<dyn Store>,
    pub stores: Stores,
    pub survey: Arc<dyn Survey>,
    pub incarnation: String,
    /// Wakes workers that wait for shards.
    pub work: Notify,
    /// Wakes the service's loop.
    pub tick: Notify,
    outputs: Mutex<HashMap<String, Output>>,
    planning: Mutex<HashMap<JobId, Arc<PlanProgress>>>,
    logs: tokio::sync::Mutex<HashMap<JobId, CommitLog>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Shared {
    pub(crate) fn new(
        config: CoordinatorConfig,
        store: Arc<dyn Store>,
        incarnation: String,
        stores: Stores,
        survey: Arc<dyn Survey>,
    ) -> Self {
        Self {
            config,
            store,
            stores,
            survey,
            incarnation,
            work: Notify::new(),
            tick: Notify::new(),
            outputs: Mutex::default(),
            planning: Mutex::default(),
            logs: tokio::sync::Mutex::default(),
        }
    }

    /// The canonical URI of a dataset, and the dataset; a local folder is made if it is missing.
    pub(crate) fn output(&self, out: &str) -> Result<(String, Output)> {
        if let Some(output) = lock(&self.outputs).get(out) {
            return Ok((out.to_owned(), output.clone()));
        }
        let location = self
            .stores
            .create_output(out)
            .map_err(|source| Error::Corpus {
                action: "open the output".into(),
                source,
            })?;
        let output = match &location.folder {
            Some(folder) => Output::create_local(folder).map_err(|source| Error::Dataset {
                action: "open the output".into(),
                source: Box::new(source),
            })?,
            None => Output::remote(location.store, location.prefix),
        };
        self.use_output(&location.uri, output.clone());
        Ok((location.uri, output))
    }

    /// A dataset that is only looked at: nothing is made for it.
    pub(crate) fn known_output(&self, out: &str) -> Result<(String, Output)> {
        if let Some(output) = lock(&self.outputs).get(out) {
            return Ok((out.to_owned(), output.clone()));
        }
        let location = self
            .stores
            .open_output(out)
            .map_err(|source| Error::Corpus {
                action: "open the dataset".into(),
                source,
            })?;
        let output = match &location.folder {
            Some(folder) => Output::open_local(folder).map_err(|source| Error::Dataset {
                action: "open the dataset".into(),
                source: Box::new(source),
            })?,
            None => Output::remote(location.store, location.prefix),
        };
        Ok((location.uri, output))
    }

    /// Probes the store of an output with scratch objects, which are removed again.
    pub(crate) async fn probe(&self, out: &str) -> Result<ProbeReport> {
        let location = self
            .stores
            .create_output(out)
            .map_err(|source| Error::Corpus {
                action: "open the output".into(),
                source,
            })?;
        Ok(doctor::probe(location.store, &location.prefix).await)
    }

    /// Shards wait that did not a moment ago: wakes this coordinator's waiting calls, and the
    /// other coordinators on the store. A wake-up that is lost only costs a second.
    pub(crate) async fn work_waits(&self) {
        self.work.notify_waiters();
        if let Err(error) = self.store.announce_work().await {
            let reason = crate::error::chain(&error);
            tracing::debug!(reason, "other coordinators were not woken");
        }
    }

    /// Uses this output for a canonical URI, such as one behind a store that fails in tests.
    pub(crate) fn use_output(&self, uri: &str, output: Output) {
        lock(&self.outputs).insert(uri.to_owned(), output);
    }

    /// The job, which must be known.
    pub(crate) async fn job(&self, job_id: &JobId) -> Result<JobRecord> {
        let job = self.store.job(job_id).await?;
        job.ok_or_else(|| Error::JobUnknown {
            job_id: job_id.clone(),
        })
    }

    /// The area of a job.
    pub(crate) fn area(&self, out: &str, job_id: &JobId) -> Result<JobArea> {
        let (_, output) = self.output(out)?;
        output.job_area(job_id).map_err(|source| Error::Dataset {
            action: format!("open the area of job {job_id}"),
            source: Box::new(source),
        })
    }

    /// The area of a known job.
    pub(crate) async fn area_of(&self, job_id: &JobId) -> Result<JobArea> {
        let job = self.job(job_id).await?;
        self.area(&job.out, job_id)
    }

    /// Progress of a job's planning, as far as this process did it.
    pub(crate) fn planning(&self, job_id: &JobId) -> Arc<PlanProgress> {
        Arc::clone(lock(&self.planning).entry(job_id.clone()).or_default())
    }

    /// Takes the commit log of a job as far as it is read; whoever takes it puts it back.
    pub(crate) async fn take_log(&self, job_id: &JobId) -> CommitLog {
        let kept = self.logs.lock().await.remove(job_id);
        kept.unwrap_or_else(|| CommitLog::empty(job_id.clone()))
    }

    /// Puts a commit log back.
    pub(crate) async fn keep_log(&self, job_id: &JobId, log: CommitLog) {
        self.logs.lock().await.insert(job_id.clone(), log);
    }
}

/// The specification of a known job.
pub(crate) fn spec_of(job: &JobRecord) -> Result<JobSpec> {
    serde_json::from_str(&job.spec_json).map_err(|source| Error::Stored {
        what: "the specification".into(),
        job_id: job.job_id.clone(),
        source,
    })
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
