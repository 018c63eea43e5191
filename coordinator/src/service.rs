//! The loop that nobody calls: plans new jobs, ends what expired, publishes what is committed,
//! seals what is complete. Losing it loses nothing: the next one goes on from the store and the
//! objects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use quire_core::{Fault, Faulty, JobId};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::commit::{catch_up, finish, publish};
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::plan::{self, KnownDocuments, PlanIndex, Planner};
use crate::schedule::reap;
use crate::shared::{Shared, spec_of};
use crate::store::{JobQuery, JobRecord, NewShard};

/// Shards added in one transaction.
const SHARDS_AT_ONCE: usize = 1000;
/// Jobs looked at; more unfinished ones than this are not expected, and wait.
const MAX_JOBS: u32 = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The loop of a coordinator.
#[derive(Debug)]
pub struct CoordinatorService {
    shared: Arc<Shared>,
    planning: JoinSet<(JobId, Result<()>)>,
    planned_now: HashMap<JobId, AbortHandle>,
    published_at: HashMap<JobId, Instant>,
    troubles: HashMap<Option<JobId>, Trouble>,
    reaped_at: Option<Instant>,
}

/// Something that fails again and again.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    pause: Duration,
    not_before: Instant,
}

impl CoordinatorService {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            planning: JoinSet::new(),
            planned_now: HashMap::new(),
            published_at: HashMap::new(),
            troubles: HashMap::new(),
            reaped_at: None,
        }
    }

    /// Works until `shutdown`, then publishes what is committed and returns.
    ///
    /// # Errors
    /// When something outside fails for longer than the configuration's patience. Nothing is
    /// lost: another start goes on.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        loop {
            if let Err(error) = self.turn().await {
                self.bear(None, error)?;
            } else {
                self.troubles.remove(&None);
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = shared.tick.notified() => {}
                () = tokio::time::sleep(self.next_turn()) => {}
                Some(ended) = self.planning.join_next() => self.planned(ended).await?,
            }
        }
        self.planning.shutdown().await;
        self.publish_rest().await;
        Ok(())
    }

    async fn turn(&mut self) -> Result<()> {
        let now = Instant::now();
        let due = |at: Instant| now.duration_since(at) >= self.shared.config.reap_period;
        if self.reaped_at.is_none_or(due) {
            reap::reap(&self.shared).await?;
            self.reaped_at = Some(now);
        }
        let query = JobQuery {
            unfinished: true,
            before: None,
            limit: MAX_JOBS,
        };
        let jobs = self.shared.store.jobs(&query).await?;
        self.stop_planning_of_others(&jobs);
        for job in jobs {
            let waits = self.troubles.get(&Some(job.job_id.clone()));
            if waits.is_some_and(|trouble| trouble.not_before > now) {
                continue;
            }
            match self.advance(&job).await {
                Ok(()) => drop(self.troubles.remove(&Some(job.job_id.clone()))),
                Err(error) => self.fail(&job, error).await?,
            }
        }
        Ok(())
    }

    async fn advance(&mut self, job: &JobRecord) -> Result<()> {
        match job.state {
            JobState::Planning => {
                self.start_planning(job);
                return Ok(());
            }
            JobState::Running | JobState::Paused if self.publish_is_due(job) => {
                publish::publish(&self.shared, &job.job_id, None).await?;
                self.published_at.insert(job.job_id.clone(), Instant::now());
            }
            _ => {}
        }
        let job = self.shared.job(&job.job_id).await?;
        finish::watch_quarantine(&self.shared, &job).await?;
        finish::advance(&self.shared, &job).await
    }

    /// Parts are published now and then, and at once when the last one is in. The first turn
    /// looks at the log in any case: another process may have written to it.
    fn publish_is_due(&self, job: &JobRecord) -> bool {
        let Some(published_at) = self.published_at.get(&job.job_id) else {
            return true;
        };
        let counters = job.counters;
        let waiting = counters.committed > 0 || counters.quarantined > 0;
        let is_last = counters.pending == 0 && counters.leased == 0;
        waiting && (is_last || published_at.elapsed() >= self.shared.config.publish_period)
    }

    fn start_planning(&mut self, job: &JobRecord) {
        if self.planned_now.contains_key(&job.job_id) {
            return;
        }
        let (shared, planned) = (Arc::clone(&self.shared), job.clone());
        let handle = self.planning.spawn(async move {
            let done = plan_job(&shared, &planned).await;
            (planned.job_id, done)
        });
        self.planned_now.insert(job.job_id.clone(), handle);
    }

    /// Stops planning jobs that were canceled meanwhile.
    fn stop_planning_of_others(&mut self, jobs: &[JobRecord]) {
        self.planned_now.retain(|job_id, handle| {
            let goes_on = jobs
                .iter()
                .any(|job| job.job_id == *job_id && job.state == JobState::Planning);
            if !goes_on {
                handle.abort();
            }
            goes_on
        });
    }

    async fn planned(
        &mut self,
        ended: std::result::Result<(JobId, Result<()>), JoinError>,
    ) -> Result<()> {
        let (job_id, done) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return Ok(()),
            Err(_) => {
                // A panic: which job it was is known by who is not planned any more.
                self.planned_now.retain(|_, handle| !handle.is_finished());
                return self.bear(None, Error::TaskLost);
            }
        };
        self.planned_now.remove(&job_id);
        let Err(error) = done else {
            self.troubles.remove(&Some(job_id));
            self.shared.tick.notify_one();
            return Ok(());
        };
        let job = self.shared.job(&job_id).await?;
        self.fail(&job, error).await
    }

    /// Stops the job, or bears with the error for a while.
    async fn fail(&mut self, job: &JobRecord, error: Error) -> Result<()> {
        if finish::stop_on(&self.shared, job, &error).await? {
            self.troubles.remove(&Some(job.job_id.clone()));
            self.shared.work.notify_waiters();
            return Ok(());
        }
        self.bear(Some(job.job_id.clone()), error)
    }

    fn bear(&mut self, job_id: Option<JobId>, error: Error) -> Result<()> {
        if !matches!(
            error.fault(),
            Fault::Unavailable | Fault::Fenced | Fault::Config
        ) {
            return Err(error);
        }
        let now = Instant::now();
        let new = Trouble {
            since: now,
            pause: FIRST_PAUSE,
            not_before: now,
        };
        let trouble = self.troubles.entry(job_id.clone()).or_insert(new);
        trouble.not_before = now + trouble.pause;
        trouble.pause = (trouble.pause * 2).min(LONGEST_PAUSE);
        let patience = self.shared.config.patience;
        if patience.is_some_and(|patience| now.duration_since(trouble.since) >= patience) {
            return Err(error);
        }
        let reason = crate::error::chain(&error);
        tracing::warn!(?job_id, reason, "will be tried again");
        Ok(())
    }

    fn next_turn(&self) -> Duration {
        let periods = [
            self.shared.config.reap_period,
            self.shared.config.publish_period,
        ];
        let shortest = periods.into_iter().min().unwrap_or(LONGEST_PAUSE);
        let pauses = self.troubles.values().map(|trouble| trouble.pause);
        pauses.chain([shortest]).min().unwrap_or(shortest)
    }

    /// Publishes what is committed, so that it is safe from the loss of the database.
    async fn publish_rest(&self) {
        let query = JobQuery {
            unfinished: true,
            before: None,
            limit: MAX_JOBS,
        };
        let jobs = self.shared.store.jobs(&query).await.unwrap_or_default();
        for job in jobs.iter().filter(|job| job.counters.committed > 0) {
            if let Err(error) = publish::publish(&self.shared, &job.job_id, None).await {
                let reason = crate::error::chain(&error);
                tracing::warn!(job_id = %job.job_id, reason, "not published before the end");
            }
        }
    }
}

/// Plans a job, or takes the plan that it has, and starts it.
async fn plan_job(shared: &Shared, job: &JobRecord) -> Result<()> {
    let area = shared.area(&job.out, &job.job_id)?;
    let index = match plan::existing(&area).await? {
        Some(index) => index,
        None => make_plan(shared, job).await?,
    };
    if index.rows == 0 {
        return end_empty(shared, job, &index).await;
    }
    let mut batch: Vec<NewShard> = Vec::with_capacity(SHARDS_AT_ONCE);
    for shard in index.shards() {
        batch.push(shard);
        if batch.len() == SHARDS_AT_ONCE {
            shared.store.add_shards(&job.job_id, &batch).await?;
            batch.clear();
        }
    }
    shared.store.add_shards(&job.job_id, &batch).await?;
    // A database that was made anew learns what is done before anything is given out.
    let mut log = shared.take_log(&job.job_id).await;
    catch_up::catch_up(shared, &area, &mut log).await?;
    shared.keep_log(&job.job_id, log).await;
    if shared.store.start_job(&job.job_id, &index.totals()).await? {
        let (documents, rows) = (index.documents, index.rows);
        tracing::info!(job_id = %job.job_id, documents, rows, "job planned");
        shared.work.notify_waiters();
    }
    Ok(())
}

async fn make_plan(shared: &Shared, job: &JobRecord) -> Result<PlanIndex> {
    let spec = spec_of(job)?;
    let area = shared.area(&job.out, &job.job_id)?;
    if spec.retry_where.is_some() {
        let message = "it is a retry and its plan is gone".to_owned();
        return Err(Error::Contradiction {
            job_id: job.job_id.clone(),
            message,
        });
    }
    let (_, output) = shared.output(&job.out)?;
    let known = Arc::new(KnownDocuments::load(&output).await?);
    let planner = Planner {
        stores: shared.stores.clone(),
        survey: Arc::clone(&shared.survey),
        limits: shared.config.limits.clone(),
        entries_at_once: shared.config.survey_entries,
    };
    let sibling =
        quire_corpus::sibling(&job.out, quire_dataset::paths::AREA_SUFFIX).map_err(|source| {
            Error::Corpus {
                action: "name the job's area".into(),
                source,
            }
        })?;
    let excluded = [job.out.clone(), sibling];
    let progress = shared.planning(&job.job_id);
    planner.make(&area, &spec, &excluded, known, progress).await
}

/// A plan without a row: everything is in the dataset already, or there is nothing at all.
async fn end_empty(shared: &Shared, job: &JobRecord, index: &PlanIndex) -> Result<()> {
    let (_, output) = shared.output(&job.out)?;
    let newest = output
        .newest_version()
        .await
        .map_err(|source| Error::Dataset {
            action: "look for the newest version".into(),
            source: Box::new(source),
        })?;
    if index.documents_known == 0 && newest.is_none() {
        return Err(Error::NothingToRead);
    }
    shared.store.finish_job(&job.job_id, None).await?;
    Ok(())
}
