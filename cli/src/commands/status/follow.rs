//! `--watch` where no page can be drawn: a line for every change, or JSON lines.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quire_core::{Clock, Fault, SystemClock};

use super::{look, print_json, table};
use crate::context::Context;
use crate::failure::Outcome;
use crate::fleet::{Fleet, Rates, SETTLED, state_name};
use crate::output;
use crate::progress::{Snapshot, Speed, line};

/// Between looks.
const PERIOD: Duration = Duration::from_secs(2);

/// Follows a job to a state that it does not leave by itself; exit code 0 only if it is done.
pub(super) async fn job(context: &Context, fleet: &Fleet, job_id: &str) -> Outcome<ExitCode> {
    let clock = SystemClock::default();
    let mut rates = Rates::default();
    let mut speed = Speed::settled_after(SETTLED);
    let mut said = String::new();
    let mut is_first = true;
    loop {
        let seen = look(fleet, Some(job_id), clock.unix_ms()).await;
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) if error.fault == Fault::Unavailable && !is_first => {
                tracing::warn!("the coordinator is away: {error}");
                tokio::time::sleep(PERIOD).await;
                continue;
            }
            Err(error) => return Err(fleet.refused(error)),
        };
        is_first = false;
        rates.observe(clock.monotonic(), &seen);
        let Some(job) = seen.jobs.first() else {
            return Ok(ExitCode::FAILURE);
        };
        let snapshot = Snapshot::from(job);
        speed.observe(clock.monotonic(), snapshot.pages_done);
        if context.json {
            print_json(&seen, &rates)?;
        } else {
            let now = format!("{job_id} {}\n", line(&snapshot, &speed));
            if now != said {
                output::print(&now)?;
            }
            said = now;
        }
        if job.state().is_final() {
            let is_done = job.state() == quire_proto::v1::JobState::Done;
            return Ok(if is_done {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Follows all jobs until it is interrupted: lines of jobs that changed.
pub(super) async fn jobs(context: &Context, fleet: &Fleet) -> Outcome<ExitCode> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut rates = Rates::default();
    let mut said = std::collections::HashMap::new();
    let mut is_first = true;
    loop {
        let seen = match look(fleet, None, clock.unix_ms()).await {
            Ok(seen) => seen,
            Err(error) if error.fault == Fault::Unavailable && !is_first => {
                tracing::warn!("the coordinator is away: {error}");
                tokio::time::sleep(PERIOD).await;
                continue;
            }
            Err(error) => return Err(fleet.refused(error)),
        };
        is_first = false;
        rates.observe(clock.monotonic(), &seen);
        if context.json {
            print_json(&seen, &rates)?;
        } else {
            for job in &seen.jobs {
                let (id, state) = (job.job_id.clone(), state_name(job.state()));
                let now = format!("{id} {state} {}\n", table::pages(job));
                if said.get(&id) != Some(&now) {
                    output::print(&now)?;
                    said.insert(id, now);
                }
            }
            said.retain(|id, _| seen.jobs.iter().any(|job| job.job_id == *id));
        }
        tokio::time::sleep(PERIOD).await;
    }
}
