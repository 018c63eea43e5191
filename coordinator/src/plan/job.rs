//! Plans a job whole: from its specification, or from the plan that it has already, to shards in
//! the store.

use std::sync::Arc;

use super::{KnownDocuments, PlanIndex, Planner};
use crate::commit::catch_up;
use crate::error::{Error, Result};
use crate::shared::{Shared, spec_of};
use crate::store::{JobRecord, NewShard};

/// Shards added in one transaction.
const SHARDS_AT_ONCE: usize = 1000;

/// Plans a job, or takes the plan that it has, and starts it.
pub(crate) async fn plan_job(shared: &Shared, job: &JobRecord) -> Result<()> {
    let area = shared.area(&job.out, &job.job_id)?;
    let index = match super::existing(&area).await? {
        Some(index) => index,
        None => {
            // Not while the owner of the job waits for an answer: some stores take a minute.
            shared.require_fit(&job.out).await?;
            make_plan(shared, job).await?
        }
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
        shared.work_waits().await;
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
