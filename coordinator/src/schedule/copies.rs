//! Second copies of slow shards: what is known of running leases, looked at every few seconds and
//! only where copies are made at all. Which shard gets one decides `straggle`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use quire_core::{JobId, LeaseId, ShardIdx};
use quire_proto::v1;
use tokio::time::Instant;

use super::grant::{self, Asked, can_read};
use super::pace;
use super::straggle::{self, Attempt, JobFacts};
use super::view::{View, ViewedJob};
use crate::error::Result;
use crate::shared::Shared;
use crate::store::{Grant, LeaseRecord, LeaseStage, ShardRecord};

/// Leases of a job are looked at this often while shards wait...
const LOOK: Duration = Duration::from_secs(5);
/// ...and this often when none does: workers stand idle then.
const LOOK_AT_THE_END: Duration = Duration::from_secs(1);
/// Shards whose pace is looked at.
const PACES: u32 = 128;
/// Fewer tell nothing.
const FEWEST_PACES: usize = 3;
/// Leases that are remembered; far more than a fleet holds.
const MAX_LEASES: usize = 100_000;

/// What this coordinator saw of leases. It may be lost at any time: a copy is made later then.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    leases: Mutex<HashMap<LeaseId, Seen>>,
    paces: Mutex<HashMap<JobId, f64>>,
    /// Time of copies given out, by job.
    copied_ms: Mutex<HashMap<JobId, f64>>,
    looks: tokio::sync::Mutex<HashMap<JobId, Arc<Look>>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    n_rows: Option<u32>,
    /// Its shard has cost workers their lives before: it is no slow shard.
    is_suspect: bool,
    /// When a heartbeat first said that it is worked on.
    started: Option<Instant>,
}

/// Leases of a job at one moment.
#[derive(Debug)]
struct Look {
    at: Instant,
    facts: JobFacts,
    attempts: Vec<Attempt>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Watches {
    /// Remembers of which shard a lease is.
    pub(crate) fn note_lease(&self, lease_id: &LeaseId, shard: &ShardRecord) {
        let mut leases = lock(&self.leases);
        if leases.len() >= MAX_LEASES {
            leases.clear();
        }
        let seen = leases.entry(lease_id.clone()).or_default();
        seen.n_rows = Some(shard.span.n_rows);
        seen.is_suspect = shard.deaths > 0;
    }

    /// A heartbeat says how far a lease is.
    pub(crate) fn note_progress(&self, lease_id: &LeaseId, stage: LeaseStage) {
        if stage == LeaseStage::Queued {
            return;
        }
        let mut leases = lock(&self.leases);
        if leases.len() < MAX_LEASES || leases.contains_key(lease_id) {
            let seen = leases.entry(lease_id.clone()).or_default();
            seen.started.get_or_insert_with(Instant::now);
        }
    }

    /// A lease ended.
    pub(crate) fn forget(&self, lease_id: &LeaseId) {
        lock(&self.leases).remove(lease_id);
    }

    /// Milliseconds a row of the job takes, as of the last look.
    pub(crate) fn pace(&self, job_id: &JobId) -> Option<f64> {
        lock(&self.paces).get(job_id).copied()
    }

    /// Keeps what is known of these jobs only.
    pub(crate) async fn retain(&self, is_known: impl Fn(&JobId) -> bool) {
        lock(&self.paces).retain(|job_id, _| is_known(job_id));
        lock(&self.copied_ms).retain(|job_id, _| is_known(job_id));
        self.looks.lock().await.retain(|job_id, _| is_known(job_id));
    }

    /// How many rows a live lease has.
    pub(crate) async fn rows_of(&self, shared: &Shared, lease_id: &LeaseId) -> Result<Option<u32>> {
        if let Some(n_rows) = lock(&self.leases)
            .get(lease_id)
            .and_then(|seen| seen.n_rows)
        {
            return Ok(Some(n_rows));
        }
        let found = shared.store.lease(lease_id).await?;
        if let Some((_, shard)) = &found {
            self.note_lease(lease_id, shard);
        }
        Ok(found.map(|(_, shard)| shard.span.n_rows))
    }

    /// Whether the shard of a lease may be what killed earlier workers.
    fn is_suspect(&self, lease_id: &LeaseId) -> bool {
        lock(&self.leases)
            .get(lease_id)
            .is_some_and(|seen| seen.is_suspect)
    }
}

/// Grants a copy of a slow shard, if there is one: with `is_idle` also of one that is not slow
/// but would end later than its copy, since the worker has nothing else to do.
pub(super) async fn grant(
    shared: &Shared,
    view: &View,
    asked: &Asked<'_>,
    is_idle: bool,
) -> Result<Option<v1::Lease>> {
    let Some(policy) = shared.config.stragglers else {
        return Ok(None);
    };
    for (at, job) in view.jobs().iter().enumerate() {
        if job.record.counters.leased <= 0 || !can_read(asked.session, &job.engine) {
            continue;
        }
        let queue_is_empty = is_idle && view.is_exhausted(at);
        let look = look(shared, job, queue_is_empty).await?;
        let job_id = &job.record.job_id;
        let facts = JobFacts {
            queue_is_empty,
            copies_ms: lock(&shared.watches.copied_ms)
                .get(job_id)
                .copied()
                .unwrap_or(0.0),
            ..look.facts
        };
        let node = &asked.session.node;
        let Some(slow) = straggle::pick(&policy, &facts, &look.attempts, node) else {
            continue;
        };
        let cost_ms = facts.ms_per_row * f64::from(slow.n_rows);
        if let Some(lease) = copy(shared, job, asked, slow.shard_idx).await? {
            *lock(&shared.watches.copied_ms)
                .entry(job_id.clone())
                .or_default() += cost_ms;
            return Ok(Some(lease));
        }
    }
    Ok(None)
}

async fn copy(
    shared: &Shared,
    job: &ViewedJob,
    asked: &Asked<'_>,
    shard_idx: ShardIdx,
) -> Result<Option<v1::Lease>> {
    let job_id = &job.record.job_id;
    let lease_id = grant::new_lease_id();
    let store = &shared.store;
    let granted = store.grant_copy(asked.session_id, job_id, shard_idx, &lease_id);
    let granted = granted.await?;
    // Whatever the answer, the last look is not true any more.
    shared.watches.looks.lock().await.remove(job_id);
    let Grant::Granted(shard) = granted else {
        return Ok(None);
    };
    let lease = grant::message(shared, job, &shard, &lease_id);
    grant::report(asked, &lease, true);
    Ok(Some(lease))
}

/// The leases of a job, not older than a few seconds.
async fn look(shared: &Shared, job: &ViewedJob, queue_is_empty: bool) -> Result<Arc<Look>> {
    let lifetime = if queue_is_empty {
        LOOK_AT_THE_END
    } else {
        LOOK
    };
    let job_id = &job.record.job_id;
    let mut looks = shared.watches.looks.lock().await;
    if let Some(look) = looks.get(job_id)
        && look.at.elapsed() < lifetime
    {
        return Ok(Arc::clone(look));
    }
    let look = Arc::new(look_now(shared, job).await?);
    looks.insert(job_id.clone(), Arc::clone(&look));
    Ok(look)
}

async fn look_now(shared: &Shared, job: &ViewedJob) -> Result<Look> {
    let (watches, store) = (&shared.watches, &shared.store);
    let job_id = &job.record.job_id;
    let mut paces = store.paces(job_id, PACES).await?;
    let ms_per_row = if paces.len() < FEWEST_PACES {
        0.0
    } else {
        pace::median(&mut paces).unwrap_or(0.0)
    };
    let mut facts = JobFacts {
        ms_per_row,
        queue_is_empty: false,
        total_ms: job.record.counters.rows_accepted().max(0) as f64 * ms_per_row,
        copies_ms: 0.0,
        live_copies: 0,
    };
    let mut attempts = Vec::new();
    if ms_per_row > 0.0 {
        lock(&watches.paces).insert(job_id.clone(), ms_per_row);
        let leases = store.leases_of_job(job_id).await?;
        let mut of_shard: HashMap<ShardIdx, usize> = HashMap::new();
        for lease in &leases {
            *of_shard.entry(lease.shard_idx).or_default() += 1;
        }
        facts.live_copies = of_shard.values().filter(|&&n_leases| n_leases > 1).count();
        let now_ms = store.now_ms().await?;
        for lease in &leases {
            let Some(n_rows) = watches.rows_of(shared, &lease.lease_id).await? else {
                continue;
            };
            let elapsed_ms = elapsed_ms(shared, lease, now_ms, ms_per_row * f64::from(n_rows));
            facts.total_ms += elapsed_ms;
            // A copy puts off what becomes of a shard that kills its workers, and costs another
            // worker: with copy upon copy that would never end.
            let may_be_copied = !watches.is_suspect(&lease.lease_id);
            if of_shard.get(&lease.shard_idx) == Some(&1) && may_be_copied {
                attempts.push(attempt(lease, n_rows, elapsed_ms));
            }
        }
    }
    Ok(Look {
        at: Instant::now(),
        facts,
        attempts,
    })
}

fn attempt(lease: &LeaseRecord, n_rows: u32, elapsed_ms: f64) -> Attempt {
    Attempt {
        shard_idx: lease.shard_idx,
        node: lease.node.clone(),
        n_rows,
        rows_done: lease.rows_done,
        is_queued: lease.stage == LeaseStage::Queued,
        elapsed_ms,
    }
}

/// How long a lease is worked on. Where no heartbeat of it came here while it began, it is taken
/// to have waited behind all that its worker may hold.
fn elapsed_ms(shared: &Shared, lease: &LeaseRecord, now_ms: i64, expected_ms: f64) -> f64 {
    let since_grant = now_ms.saturating_sub(lease.granted_at_ms).max(0) as f64;
    if lease.stage == LeaseStage::Queued {
        return since_grant;
    }
    let started = lock(&shared.watches.leases)
        .get(&lease.lease_id)
        .and_then(|seen| seen.started);
    match started {
        Some(started) => (started.elapsed().as_secs_f64() * 1000.0).min(since_grant),
        None => (since_grant - expected_ms * f64::from(shared.config.max_prefetch)).max(0.0),
    }
}
