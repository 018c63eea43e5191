//! The loop that nobody calls: plans new jobs, ends what expired, publishes what is committed,
//! seals what is complete. Losing it loses nothing: the next one goes on from the store and the
//! objects.
//!
//! Each piece of work is a task of its own, so that a version that takes an hour to seal keeps
//! nobody from being reaped or published. Where several coordinators share a store, a duty keeps
//! two from doing the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quire_core::{Fault, Faulty, JobId};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::census;
use crate::commit::{finish, publish, sweep};
use crate::duty::{drop_duty, hold, on_duty};
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::plan;
use crate::schedule::reap;
use crate::shared::Shared;
use crate::store::{Duty, JobQuery, JobRecord};

/// Jobs looked at; more unfinished ones than this are not expected, and wait.
const MAX_JOBS: u32 = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Commits may come by the hundred a second; jobs are not looked at for each.
const SHORTEST_TURN: Duration = Duration::from_millis(100);
/// What tenants used is added up, and gauges are set, this often.
const ACCOUNT_PERIOD: Duration = Duration::from_secs(10);
const CENSUS_PERIOD: Duration = Duration::from_secs(5);
/// A duty that another coordinator has is not asked for again sooner.
const DUTY_PERIOD: Duration = Duration::from_secs(2);
/// A job of more parts is swept at its end only.
const MAX_SWEPT: i64 = 1_000_000;
/// Work that may go on at the next start is waited for this long at the end.
const LEAVE_TIME: Duration = Duration::from_secs(10);

/// The loop of a coordinator.
#[derive(Debug)]
pub struct CoordinatorService {
    shared: Arc<Shared>,
    tasks: JoinSet<(Task, Result<Done>)>,
    running: BTreeMap<Task, AbortHandle>,
    ended_at: HashMap<Task, Instant>,
    /// When another coordinator had the duty.
    elsewhere_at: HashMap<Task, Instant>,
    /// Of a task, or of the loop itself.
    troubles: HashMap<Option<Task>, Trouble>,
    census: Arc<Mutex<census::Waiting>>,
    /// The database did not answer lately.
    is_away: bool,
    /// Nothing is ended before: workers that could not report get time to do so.
    reap_from: Instant,
    /// When jobs were last looked at; at first, when the service was made.
    looked_at: Instant,
    made_at: Instant,
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Task {
    Reap,
    Account,
    Census,
    Plan(JobId),
    /// Publishes and finishes.
    Advance(JobId),
    Sweep(JobId),
}

impl Task {
    fn job_id(&self) -> Option<&JobId> {
        match self {
            Self::Plan(job_id) | Self::Advance(job_id) | Self::Sweep(job_id) => Some(job_id),
            Self::Reap | Self::Account | Self::Census => None,
        }
    }

    fn duty(&self) -> Option<Duty> {
        match self {
            Self::Reap => Some(Duty::Reap),
            Self::Account => Some(Duty::Account),
            Self::Census => None,
            Self::Plan(job_id) => Some(Duty::Plan(job_id.clone())),
            Self::Advance(job_id) => Some(Duty::Publish(job_id.clone())),
            Self::Sweep(job_id) => Some(Duty::Sweep(job_id.clone())),
        }
    }
}

/// What became of a piece of work that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Here,
    /// Another coordinator has the duty.
    Elsewhere,
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
        let now = Instant::now();
        // Workers that live elsewhere could not report while no coordinator ran.
        let reap_from = match shared.config.hosts_workers {
            true => now,
            false => now + shared.config.session_ttl,
        };
        Self {
            shared,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            ended_at: HashMap::new(),
            elsewhere_at: HashMap::new(),
            troubles: HashMap::new(),
            census: Arc::default(),
            is_away: false,
            reap_from,
            looked_at: now,
            made_at: now,
        }
    }

    /// Works until `shutdown`, then publishes what is committed and returns.
    ///
    /// # Errors
    /// When something outside fails for longer than the configuration's patience. Nothing is
    /// lost: another start goes on.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut listener = JoinSet::new();
        listener.spawn(hear_of_work(Arc::clone(&shared)));
        loop {
            let start = Instant::now();
            if let Err(error) = self.turn().await {
                self.bear(None, error)?;
            } else {
                self.troubles.remove(&None);
            }
            let wait = self.next_turn();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = ticked(&shared, start) => {}
                () = tokio::time::sleep(wait) => {}
                Some(ended) = self.tasks.join_next() => self.ended(ended).await?,
            }
        }
        self.leave().await;
        Ok(())
    }

    /// After the database was away, or this process stood still, nothing is ended for one
    /// session's time: the workers could not report either.
    fn database_answered(&mut self) {
        let (now, ttl) = (Instant::now(), self.shared.config.session_ttl);
        let was_silent = now.duration_since(self.looked_at) > self.next_turn() + ttl / 2;
        if (self.is_away || was_silent) && !self.shared.config.hosts_workers {
            self.reap_from = now + ttl;
            tracing::info!("workers get time to report: they could not for a while");
        }
        self.is_away = false;
        self.looked_at = now;
    }

    async fn turn(&mut self) -> Result<()> {
        let query = JobQuery {
            unfinished: true,
            before: None,
            limit: MAX_JOBS,
        };
        let jobs = self.shared.store.jobs(&query).await?;
        self.database_answered();
        let config = &self.shared.config;
        let (reap_period, sweep_period) = (config.reap_period, config.sweep_period);
        let is_fleet = !config.is_alone || !config.hosts_workers;
        if Instant::now() >= self.reap_from {
            self.start_every(Task::Reap, reap_period);
        }
        if is_fleet {
            self.start_every(Task::Account, ACCOUNT_PERIOD);
            self.start_every(Task::Census, CENSUS_PERIOD);
        }
        self.stop_planning_of_others(&jobs);
        self.forget_others(&jobs);
        for job in &jobs {
            self.look_at(job);
            if let Some(period) = sweep_period.filter(|period| self.may_sweep(job, *period)) {
                self.start_every(Task::Sweep(job.job_id.clone()), period);
            }
        }
        Ok(())
    }

    /// A coordinator that just started has better things to do, and a job of very many parts
    /// would take more memory to list than they are worth before its end.
    fn may_sweep(&self, job: &JobRecord, period: Duration) -> bool {
        let parts = job.counters.committed + job.counters.published;
        job.planned_at_ms.is_some() && parts <= MAX_SWEPT && self.made_at.elapsed() >= period
    }

    /// Starts what is due of a job.
    fn look_at(&mut self, job: &JobRecord) {
        let job_id = &job.job_id;
        if job.state == JobState::Planning {
            self.start_every(Task::Plan(job_id.clone()), Duration::ZERO);
        } else if self.publish_is_due(job) || finish::is_due(job) {
            self.start_every(Task::Advance(job_id.clone()), Duration::ZERO);
        }
    }

    /// Parts are published now and then, and at once when the last one is in. The first turn
    /// looks at the log in any case: another process may have written to it.
    fn publish_is_due(&self, job: &JobRecord) -> bool {
        if !matches!(job.state, JobState::Running | JobState::Paused) {
            return false;
        }
        let Some(published_at) = self.ended_at.get(&Task::Advance(job.job_id.clone())) else {
            return true;
        };
        let counters = job.counters;
        let waiting = counters.committed > 0 || counters.quarantined > 0;
        let is_last = counters.pending == 0 && counters.leased == 0;
        waiting && (is_last || published_at.elapsed() >= self.shared.config.publish_period)
    }

    /// Starts a task unless it runs, waits after a failure, or ended less than `period` ago.
    fn start_every(&mut self, task: Task, period: Duration) {
        let now = Instant::now();
        let trouble = self.troubles.get(&Some(task.clone()));
        let is_within = |at: Option<&Instant>, period: Duration| {
            at.is_some_and(|at| now.duration_since(*at) < period)
        };
        if self.running.contains_key(&task)
            || trouble.is_some_and(|trouble| trouble.not_before > now)
            || is_within(self.ended_at.get(&task), period)
            || is_within(self.elsewhere_at.get(&task), DUTY_PERIOD)
        {
            return;
        }
        let (shared, census) = (Arc::clone(&self.shared), Arc::clone(&self.census));
        let named = task.clone();
        let handle = self.tasks.spawn(async move {
            let done = work(&shared, &named, &census).await;
            (named, done)
        });
        self.running.insert(task, handle);
    }

    /// Stops planning jobs that were canceled meanwhile.
    fn stop_planning_of_others(&mut self, jobs: &[JobRecord]) {
        self.running.retain(|task, handle| {
            let Task::Plan(job_id) = task else {
                return true;
            };
            let goes_on = jobs
                .iter()
                .any(|job| job.job_id == *job_id && job.state == JobState::Planning);
            if !goes_on {
                handle.abort();
            }
            goes_on
        });
    }

    /// Forgets when finished jobs were worked on.
    fn forget_others(&mut self, jobs: &[JobRecord]) {
        let is_known = |task: &Task| {
            task.job_id()
                .is_none_or(|job_id| jobs.iter().any(|job| job.job_id == *job_id))
        };
        self.ended_at.retain(|task, _| is_known(task));
        self.elsewhere_at.retain(|task, _| is_known(task));
        self.troubles
            .retain(|task, _| task.as_ref().is_none_or(is_known));
    }

    async fn ended(
        &mut self,
        ended: std::result::Result<(Task, Result<Done>), JoinError>,
    ) -> Result<()> {
        let (task, done) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return Ok(()),
            Err(_) => {
                // A panic: which task it was is known by who does not run any more.
                self.running.retain(|_, handle| !handle.is_finished());
                return self.bear(None, Error::TaskLost);
            }
        };
        self.running.remove(&task);
        self.ended_at.insert(task.clone(), Instant::now());
        match done {
            Ok(done) => {
                match done {
                    Done::Here if task.job_id().is_some() => self.shared.tick.notify_one(),
                    Done::Here => {}
                    Done::Elsewhere => {
                        self.elsewhere_at.insert(task.clone(), Instant::now());
                    }
                }
                self.troubles.remove(&Some(task));
                Ok(())
            }
            Err(error) => {
                let Some(job_id) = task.job_id() else {
                    return self.bear(Some(task), error);
                };
                match self.shared.job(job_id).await {
                    Ok(job) => self.fail(task, &job, error).await,
                    Err(away) => self.bear(Some(task), away),
                }
            }
        }
    }

    /// Stops the job, or bears with the error for a while.
    async fn fail(&mut self, task: Task, job: &JobRecord, error: Error) -> Result<()> {
        // A sweep that fails leaves objects behind, and nothing else.
        let is_vital = !matches!(task, Task::Sweep(_));
        match is_vital {
            true => match finish::stop_on(&self.shared, job, &error).await {
                Ok(true) => {
                    self.troubles.remove(&Some(task));
                    self.shared.work_is_here();
                    Ok(())
                }
                Ok(false) => self.bear(Some(task), error),
                Err(away) => self.bear(Some(task), away),
            },
            false => self.bear(Some(task), error),
        }
    }

    fn bear(&mut self, task: Option<Task>, error: Error) -> Result<()> {
        let patience = self.shared.config.patience;
        let may_pass = matches!(
            error.fault(),
            Fault::Unavailable | Fault::Fenced | Fault::Config
        );
        // A fleet's coordinator goes on with what it can, whatever fails.
        if !may_pass && patience.is_some() {
            return Err(error);
        }
        self.is_away |= matches!(error, Error::Database { .. });
        let now = Instant::now();
        let new = Trouble {
            since: now,
            pause: FIRST_PAUSE,
            not_before: now,
        };
        let trouble = self.troubles.entry(task.clone()).or_insert(new);
        trouble.not_before = now + trouble.pause;
        trouble.pause = (trouble.pause * 2).min(LONGEST_PAUSE);
        if patience.is_some_and(|patience| now.duration_since(trouble.since) >= patience) {
            return Err(error);
        }
        let reason = quire_core::chain(&error);
        let job_id = task
            .as_ref()
            .and_then(Task::job_id)
            .map(ToString::to_string);
        match may_pass {
            true => tracing::warn!(job_id, ?task, reason, "will be tried again"),
            false => tracing::error!(job_id, ?task, reason, "will be tried again"),
        }
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

    /// Ends the tasks and publishes what is committed, so that it is safe from the loss of the
    /// database.
    async fn leave(&mut self) {
        for (task, handle) in &self.running {
            // A plan may take hours, and goes on where it stopped.
            if matches!(task, Task::Plan(_) | Task::Sweep(_)) {
                handle.abort();
            }
        }
        let tasks = &mut self.tasks;
        let all_ended = async { while tasks.join_next().await.is_some() {} };
        if self.shared.config.hosts_workers {
            all_ended.await;
        } else if tokio::time::timeout(LEAVE_TIME, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        let rest = self.publish_rest();
        if self.shared.config.hosts_workers {
            rest.await;
        } else if tokio::time::timeout(LEAVE_TIME, rest).await.is_err() {
            tracing::warn!("not everything was published before the end; another start goes on");
        }
        let duties: Vec<Duty> = self.running.keys().filter_map(Task::duty).collect();
        for duty in duties.iter().chain(&[Duty::Reap, Duty::Account]) {
            drop_duty(&self.shared, duty).await;
        }
    }

    async fn publish_rest(&self) {
        let query = JobQuery {
            unfinished: true,
            before: None,
            limit: MAX_JOBS,
        };
        let jobs = self.shared.store.jobs(&query).await.unwrap_or_default();
        for job in jobs.iter().filter(|job| job.counters.committed > 0) {
            if let Err(error) = publish::publish(&self.shared, &job.job_id, None).await {
                let reason = quire_core::chain(&error);
                tracing::warn!(job_id = %job.job_id, reason, "not published before the end");
            }
        }
    }
}

/// Something happened, and the last turn is a moment ago.
async fn ticked(shared: &Shared, last_turn: Instant) {
    shared.tick.notified().await;
    let shortest = SHORTEST_TURN
        .min(shared.config.reap_period)
        .min(shared.config.publish_period);
    tokio::time::sleep_until(last_turn + shortest).await;
}

/// Passes on what other coordinators on the store say.
async fn hear_of_work(shared: Arc<Shared>) {
    loop {
        shared.store.work_announced().await;
        shared.work_is_here();
        shared.tick.notify_one();
        // However often it is said, it is passed on ten times a second.
        tokio::time::sleep(SHORTEST_TURN).await;
    }
}

async fn work(shared: &Shared, task: &Task, census: &Mutex<census::Waiting>) -> Result<Done> {
    let done = match task {
        Task::Census => return census::take(shared, census).await.map(|()| Done::Here),
        // These two are kept from turn to turn.
        Task::Reap => {
            let start = Instant::now();
            match hold(shared, &Duty::Reap).await? {
                true => Some(reap::reap(shared, start).await.map(drop)?),
                false => None,
            }
        }
        Task::Account => match hold(shared, &Duty::Account).await? {
            true => {
                let half_life = shared.config.use_half_life.as_millis();
                let half_life = i64::try_from(half_life).unwrap_or(i64::MAX);
                Some(shared.store.account(half_life).await?)
            }
            false => None,
        },
        Task::Plan(job_id) => {
            let duty = Duty::Plan(job_id.clone());
            on_duty(shared, &duty, Box::pin(plan_job(shared, job_id))).await?
        }
        Task::Advance(job_id) => {
            let duty = Duty::Publish(job_id.clone());
            on_duty(shared, &duty, Box::pin(advance(shared, job_id))).await?
        }
        Task::Sweep(job_id) => {
            let duty = Duty::Sweep(job_id.clone());
            on_duty(
                shared,
                &duty,
                Box::pin(sweep::of_living_job(shared, job_id)),
            )
            .await?
        }
    };
    Ok(done.map_or(Done::Elsewhere, |()| Done::Here))
}

async fn plan_job(shared: &Shared, job_id: &JobId) -> Result<()> {
    let job = shared.job(job_id).await?;
    // Another coordinator may have planned it since the last look.
    if job.state != JobState::Planning {
        return Ok(());
    }
    plan::job::plan_job(shared, &job).await
}

async fn advance(shared: &Shared, job_id: &JobId) -> Result<()> {
    let job = shared.job(job_id).await?;
    if matches!(job.state, JobState::Running | JobState::Paused) {
        publish::publish(shared, job_id, None).await?;
    }
    let job = shared.job(job_id).await?;
    finish::advance(shared, &job).await
}
