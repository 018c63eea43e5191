//! Looks at the whole store now and then, for those who watch the fleet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use quire_core::JobId;
use tokio::time::Instant;

use crate::error::Result;
use crate::job::{JobState, ShardState};
use crate::metrics::{self, Census};
use crate::schedule::pace;
use crate::shared::Shared;
use crate::store::{Counters, JobQuery, JobRecord, NodeStanding};

/// More unfinished jobs than this are not counted.
const MAX_JOBS: u32 = 1000;
const PACES: u32 = 128;

/// Since when accepted parts of a job wait for a manifest after the last one.
pub(crate) type Waiting = HashMap<JobId, (u64, Instant)>;

/// Counts what is there, and shows it.
pub(crate) async fn take(shared: &Shared, waiting: &Mutex<Waiting>) -> Result<()> {
    let query = JobQuery {
        unfinished: true,
        before: None,
        limit: MAX_JOBS,
    };
    let jobs = shared.store.jobs(&query).await?;
    let mut census = count(&jobs);
    for job in &jobs {
        let rows = job.rows_waiting();
        census.backlog_rows += rows;
        let mut paces = shared.store.paces(&job.job_id, PACES).await?;
        let pace = pace::median(&mut paces).unwrap_or(0.0);
        census.backlog_seconds += rows as f64 * pace / 1000.0;
    }
    census.sessions = shared.store.sessions().await?.len() as u64;
    let nodes = shared.store.nodes().await?;
    census.nodes_closed = [NodeStanding::Cordoned, NodeStanding::Draining]
        .map(|standing| {
            let closed = nodes.iter().filter(|node| node.standing == standing);
            (standing.as_str(), closed.count() as u64)
        })
        .to_vec();
    census.publish_lag = publish_lag(&jobs, waiting, Instant::now());
    metrics::show(&census);
    shared
        .watches
        .retain(|job_id| jobs.iter().any(|job| job.job_id == *job_id))
        .await;
    Ok(())
}

fn count(jobs: &[JobRecord]) -> Census {
    let mut sums = Counters::default();
    for job in jobs {
        sums.add(&job.counters);
    }
    let of_state = |state: ShardState| match state {
        ShardState::Pending => sums.pending,
        ShardState::Leased => sums.leased,
        ShardState::Committed => sums.committed,
        ShardState::Published => sums.published,
        ShardState::Halved => sums.halved,
        ShardState::Quarantined => sums.quarantined,
    };
    let in_state = |state: JobState| jobs.iter().filter(|job| job.state == state).count() as u64;
    let unfinished = JobState::ALL.iter().filter(|state| !state.is_final());
    Census {
        jobs: unfinished
            .map(|&state| (state.as_str(), in_state(state)))
            .collect(),
        shards: ShardState::ALL
            .iter()
            .map(|&state| (state.as_str(), of_state(state)))
            .collect(),
        leases: sums.leased,
        rows_quarantined: sums.rows_quarantined,
        ..Census::default()
    }
}

/// The longest that accepted parts of a job are seen to wait: since they were first seen after
/// the job's last manifest.
fn publish_lag(jobs: &[JobRecord], waiting: &Mutex<Waiting>, now: Instant) -> Duration {
    let mut waiting = waiting
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let with_parts: BTreeMap<&JobId, u64> = jobs
        .iter()
        .filter(|job| job.counters.committed > 0)
        .map(|job| (&job.job_id, job.last_manifest))
        .collect();
    waiting.retain(|job_id, (manifest, _)| with_parts.get(job_id) == Some(manifest));
    for (job_id, manifest) in with_parts {
        waiting.entry(job_id.clone()).or_insert((manifest, now));
    }
    let lags = waiting
        .values()
        .map(|(_, since)| now.duration_since(*since));
    lags.max().unwrap_or_default()
}
