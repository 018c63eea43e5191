//! The end of a job: all rows accounted for, a closing manifest, a sealed version; or a cancel.

use quire_core::{Fault, Faulty, JobId, chain};
use quire_dataset::{Closing, SealRequest, seal};

use super::publish::publish;
use super::sweep;
use crate::config::QuarantinePause;
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::shared::{Shared, spec_of};
use crate::store::{Counters, JobRecord, Why, records::signed};

/// Moves a job on if its rows are all published, or its cancel is due.
pub(crate) async fn advance(shared: &Shared, job: &JobRecord) -> Result<()> {
    match job.state {
        JobState::Running if is_published(job) => {
            check_sums(job)?;
            let finishing = JobState::Finishing;
            shared
                .store
                .move_job(&job.job_id, JobState::Running, finishing, None)
                .await?;
            finish(shared, job).await
        }
        JobState::Finishing => finish(shared, job).await,
        JobState::Canceling => cancel(shared, &job.job_id).await,
        _ => Ok(()),
    }
}

/// Whether [`advance`] has something to do.
pub(crate) fn is_due(job: &JobRecord) -> bool {
    match job.state {
        JobState::Running => is_published(job),
        JobState::Finishing | JobState::Canceling => true,
        _ => false,
    }
}

fn is_published(job: &JobRecord) -> bool {
    let Counters {
        pending,
        leased,
        committed,
        rows_published,
        ..
    } = job.counters;
    pending == 0 && leased == 0 && committed == 0 && rows_published == signed(job.plan.rows)
}

/// Every planned row is read, failed, skipped or given up, and counted once.
fn check_sums(job: &JobRecord) -> Result<()> {
    let Counters {
        rows_ok,
        rows_failed,
        rows_skipped,
        rows_quarantined,
        ..
    } = job.counters;
    let sum = rows_ok + rows_failed + rows_skipped + rows_quarantined;
    if sum == signed(job.plan.rows) {
        return Ok(());
    }
    Err(Error::Contradiction {
        job_id: job.job_id.clone(),
        message: format!(
            "{sum} rows are accounted for, {} were planned",
            job.plan.rows
        ),
    })
}

async fn finish(shared: &Shared, job: &JobRecord) -> Result<()> {
    publish(shared, &job.job_id, Some(Closing::Done)).await?;
    let (_, output) = shared.output(&job.out)?;
    let area = shared.area(&job.out, &job.job_id)?;
    let settings = shared.config.seal.clone();
    let request = SealRequest {
        spec: spec_of(job)?,
        created_at_unix_ms: shared.store.now_ms().await?,
        planned_rows: Some(job.plan.rows),
        title: settings.title,
        license: settings.license,
        renderer: settings.renderer,
        renderer_version: settings.renderer_version,
        scratch: settings.scratch,
    };
    // A big future: sealing holds readers and writers of several files.
    let sealed = Box::pin(seal(&output, &area, request))
        .await
        .map_err(|source| Error::Dataset {
            action: format!("seal job {}", job.job_id),
            source: Box::new(source),
        })?;
    let version = sealed.version.version;
    sweep::of_ended_job(&area).await;
    shared.store.finish_job(&job.job_id, Some(version)).await?;
    tracing::info!(job_id = %job.job_id, version, "the dataset has a new version");
    Ok(())
}

async fn cancel(shared: &Shared, job_id: &JobId) -> Result<()> {
    shared.store.fence_job(job_id).await?;
    publish(shared, job_id, Some(Closing::Canceled)).await?;
    shared
        .store
        .move_job(job_id, JobState::Canceling, JobState::Canceled, None)
        .await?;
    Ok(())
}

/// Pauses a job that gave up too many rows: that is no bad page but something systematic. Called
/// after a row was given up. Its owner may resume it; then as many again pause it again.
pub(crate) async fn watch_quarantine(shared: &Shared, job_id: &JobId) -> Result<()> {
    let job = shared.job(job_id).await?;
    let lost = u64::try_from(job.counters.rows_quarantined).unwrap_or(0);
    let limit = quarantine_limit(&shared.config.quarantine_pause, job.plan.rows);
    if lost == 0 || lost % limit != 0 {
        return Ok(());
    }
    let reason = format!(
        "{lost} of {} rows were given up because they kill their workers: requeue them once the \
         cause is mended, or resume the job to go on without them",
        job.plan.rows
    );
    let why = Why {
        reason,
        fault: Some(Fault::Bug),
    };
    let store = &shared.store;
    let (running, paused) = (JobState::Running, JobState::Paused);
    if store.move_job(job_id, running, paused, Some(&why)).await? {
        tracing::error!(%job_id, lost, "the job pauses: too many rows were given up");
    }
    Ok(())
}

/// So many lost rows pause a job: the first count that is more than its share.
fn quarantine_limit(policy: &QuarantinePause, rows: u64) -> u64 {
    let share = (policy.fraction * rows as f64).floor() as u64;
    policy.min_rows.max(share.saturating_add(1))
}

/// Stops a job after an error that trying again does not cure. Whether it was stopped; anything
/// else is left for another try.
pub(crate) async fn stop_on(shared: &Shared, job: &JobRecord, error: &Error) -> Result<bool> {
    let fault = error.fault();
    let current = shared.job(&job.job_id).await?.state;
    let next = match (fault, current) {
        (Fault::Unavailable | Fault::Fenced, _) => return Ok(false),
        // Nothing is done yet, so nothing is lost: the next command is a new job.
        (Fault::Config, JobState::Planning) => JobState::Failed,
        (Fault::Config, JobState::Running) => JobState::Paused,
        (Fault::Config, _) => return Ok(false),
        (Fault::Input | Fault::Corrupt | Fault::Bug, _) => JobState::Failed,
    };
    let reason = chain(error);
    tracing::error!(job_id = %job.job_id, ?fault, reason, "the job stops");
    let why = Why {
        reason,
        fault: Some(fault),
    };
    shared
        .store
        .move_job(&job.job_id, current, next, Some(&why))
        .await?;
    shared.store.fence_job(&job.job_id).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_share_and_no_fewer_than_the_least_pause_a_job() {
        let check = |fraction, min_rows, rows, expected| {
            let policy = QuarantinePause { fraction, min_rows };
            assert_eq!(
                quarantine_limit(&policy, rows),
                expected,
                "{policy:?} of {rows}"
            );
        };
        check(0.001, 100, 1_000, 100);
        check(0.001, 100, 1_000_000, 1_001);
        check(0.0, 1, 10, 1);
        check(1.0, 1, 10, 11);
    }
}
