//! What all parts of a coordinator hold together. Everything here but the store may be lost at
//! any time: it is made anew from the store and from the objects.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use quire_core::{EngineInfo, JobId, JobSpec, SessionId};
use quire_corpus::{OutputLocation, Stores};
use quire_dataset::paths::AREA_SUFFIX;
use quire_dataset::{CommitLog, JobArea, Output};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};

use crate::config::CoordinatorConfig;
use crate::doctor::{self, ProbeReport};
use crate::error::{Error, Result};
use crate::plan::{PlanProgress, Survey};
use crate::schedule::copies::Watches;
use crate::schedule::view::Views;
use crate::store::{JobRecord, SessionRecord, Store};

/// What all parts of a coordinator hold together.
pub(crate) struct Shared {
    pub config: CoordinatorConfig,
    pub store: Arc<dyn Store>,
    pub stores: Stores,
    pub survey: Arc<dyn Survey>,
    pub incarnation: String,
    /// Names this process where it takes duties.
    pub holder: String,
    /// Jobs, tenants and nodes as of a moment ago.
    pub views: Views,
    /// What was seen of leases.
    pub watches: Watches,
    /// Wakes workers that wait for shards.
    pub work: Notify,
    /// Wakes the service's loop.
    pub tick: Notify,
    /// Whether calls can be answered, as the server sees it.
    pub is_ready: watch::Sender<bool>,
    outputs: Mutex<HashMap<String, Output>>,
    planning: Mutex<HashMap<JobId, Arc<PlanProgress>>>,
    logs: tokio::sync::Mutex<HashMap<JobId, CommitLog>>,
    sessions: Mutex<HashMap<SessionId, Arc<KnownSession>>>,
    /// Outputs whose stores were found fit.
    fit: Mutex<HashSet<String>>,
}

/// What never changes about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownSession {
    pub node: String,
    /// What it can read with.
    pub engines: Vec<EngineInfo>,
}

/// Sessions that are remembered; far more than a fleet has.
const MAX_SESSIONS: usize = 10_000;

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
            holder: uuid::Uuid::new_v4().to_string(),
            views: Views::default(),
            watches: Watches::default(),
            work: Notify::new(),
            tick: Notify::new(),
            is_ready: watch::Sender::new(false),
            outputs: Mutex::default(),
            planning: Mutex::default(),
            logs: tokio::sync::Mutex::default(),
            sessions: Mutex::default(),
            fit: Mutex::default(),
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

    /// Probes the store of an output with scratch objects beside it, which are removed again.
    pub(crate) async fn probe(&self, out: &str) -> Result<ProbeReport> {
        let location = self.beside(out)?;
        Ok(doctor::probe(location.store, &location.prefix).await)
    }

    /// Where the job areas of an output lie.
    fn beside(&self, out: &str) -> Result<OutputLocation> {
        let opened = |source| Error::Corpus {
            action: "open the output".into(),
            source,
        };
        let area = quire_corpus::sibling(out, AREA_SUFFIX).map_err(opened)?;
        self.stores.create_output(&area).map_err(opened)
    }

    /// Refuses an output whose store breaks the promises that the commit log rests on. A store
    /// that was fit once is not asked again.
    pub(crate) async fn require_fit(&self, out: &str) -> Result<()> {
        if !self.config.probe_outputs || lock(&self.fit).contains(&store_of(out)) {
            return Ok(());
        }
        let location = self.beside(out)?;
        let report = doctor::probe_briefly(location.store, &location.prefix).await;
        // What is broken for certain outweighs what could not be seen.
        let failed = report.checks.iter().filter(|check| check.result.is_err());
        if let Some(check) = failed.max_by_key(|check| check.is_broken) {
            let wrong = check.result.as_ref().err().cloned().unwrap_or_default();
            let wrong = format!("not so that {}: {wrong}", check.name);
            let out = out.to_owned();
            return Err(match check.is_broken {
                true => Error::StorageUnfit { out, wrong },
                false => Error::StorageUnclear { out, wrong },
            });
        }
        lock(&self.fit).insert(store_of(out));
        Ok(())
    }

    /// A session that is known, with what never changes about it.
    pub(crate) async fn session(&self, session_id: &SessionId) -> Result<Arc<KnownSession>> {
        if let Some(session) = lock(&self.sessions).get(session_id) {
            return Ok(Arc::clone(session));
        }
        let record = self.store.session(session_id).await?;
        let record = record.ok_or_else(|| self.unknown(session_id))?;
        Ok(self.know_session(&record))
    }

    /// Remembers a session.
    pub(crate) fn know_session(&self, record: &SessionRecord) -> Arc<KnownSession> {
        let known = Arc::new(KnownSession {
            node: record.node.clone(),
            engines: serde_json::from_str(&record.engines_json).unwrap_or_default(),
        });
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= MAX_SESSIONS {
            sessions.clear();
        }
        sessions.insert(record.session_id.clone(), Arc::clone(&known));
        known
    }

    /// A session has ended.
    pub(crate) fn forget_session(&self, session_id: &SessionId) {
        lock(&self.sessions).remove(session_id);
    }

    /// A fresh name for a session; tells the incarnation of the database apart.
    pub(crate) fn new_session_id(&self) -> SessionId {
        let drawn = uuid::Uuid::new_v4().to_string();
        let own = mark_of(&self.incarnation);
        SessionId::new(format!(
            "{own}{}",
            drawn.get(MARK_DIGITS..).unwrap_or_default()
        ))
    }

    /// Why a session is not known: it ended, or the database was made anew since.
    pub(crate) fn unknown(&self, session_id: &SessionId) -> Error {
        let session_id = session_id.clone();
        let is_ours = session_id.as_str().starts_with(&mark_of(&self.incarnation));
        let is_id = uuid::Uuid::parse_str(session_id.as_str()).is_ok();
        match is_id && !is_ours {
            true => Error::IncarnationChanged { session_id },
            false => Error::SessionUnknown { session_id },
        }
    }

    /// Shards wait that did not a moment ago: wakes this coordinator's waiting calls, and the
    /// other coordinators on the store. A wake-up that is lost only costs a second.
    pub(crate) async fn work_waits(&self) {
        self.work_is_here();
        if let Err(error) = self.store.announce_work().await {
            let reason = quire_core::chain(&error);
            tracing::debug!(reason, "other coordinators were not woken");
        }
    }

    /// Wakes the waiting calls of this coordinator alone.
    pub(crate) fn work_is_here(&self) {
        self.views.outdated();
        self.work.notify_waiters();
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

/// Digits of a session's name that tell the database's incarnation.
const MARK_DIGITS: usize = 8;

fn mark_of(incarnation: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(incarnation));
    digits.truncate(MARK_DIGITS);
    digits
}

/// What is probed once: a bucket, or a folder of this machine.
fn store_of(out: &str) -> String {
    match out.split_once("://") {
        Some((scheme, rest)) if scheme != "file" => {
            let bucket = rest.split('/').next().unwrap_or_default();
            format!("{scheme}://{bucket}")
        }
        _ => out.to_owned(),
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
