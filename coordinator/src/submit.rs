//! Takes a job, or finds the one that the same command made before. A job's identifier is a
//! digest of what it asks for and its place among the jobs of its dataset, so nobody has to
//! remember it.

use bytes::Bytes;
use futures::StreamExt;
use quire_core::{Fault, Faulty, JobId, JobSpec, PlannedDocument};
use quire_dataset::{Closing, CommitLog, Created, JobArea, Output};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::caller::{Caller, DEFAULT_TENANT};
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::plan;
use crate::shared::{Shared, spec_of};
use crate::store::{CreateJob, JobRecord, NewJob};

/// Version of the form of `job.json`.
const JOB_FORM: u32 = 1;
/// How often a place in the sequence is tried for, if others take it first.
const TRIES: usize = 8;
/// Hex digits of a job's identifier.
const ID_DIGITS: usize = 12;

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub job_id: JobId,
    /// An unfinished job with this specification goes on.
    pub is_resumed: bool,
}

/// What is asked for, and by whom.
#[derive(Debug, Clone)]
pub(crate) struct Submission<'a> {
    pub out: &'a str,
    pub spec: &'a JobSpec,
    /// The plan where the caller makes it, as for a retry; not used if the job is known already.
    pub lines: Option<Vec<PlannedDocument>>,
    pub caller: &'a Caller,
    pub priority: i32,
}

/// `job.json`: what is needed to make the job known again after the database is lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct JobObject {
    form: u32,
    job_id: JobId,
    out: String,
    sequence: u64,
    spec: JobSpec,
    #[serde(default = "default_tenant")]
    tenant: String,
    /// As it was asked for; it may have been changed since.
    #[serde(default)]
    priority: i32,
}

fn default_tenant() -> String {
    DEFAULT_TENANT.to_owned()
}

/// Takes a job or goes on with an unfinished equal one.
pub(crate) async fn submit(shared: &Shared, asked: &Submission<'_>) -> Result<Submitted> {
    let Submission {
        spec,
        lines,
        caller,
        ..
    } = asked;
    if spec.retry_where.is_some() && lines.is_none() {
        return Err(Error::Malformed {
            what: "the plan of a retry",
        });
    }
    // Before anything is written down: an address may hold a credential.
    for input in &spec.inputs {
        quire_corpus::check_input(input).map_err(|source| Error::Corpus {
            action: "understand the inputs".into(),
            source,
        })?;
    }
    let (out, output) = shared.output(asked.out)?;
    let spec_json =
        serde_json::to_string(spec).map_err(|source| Error::Specification { source })?;
    let spec_sha256 = hex::encode(Sha256::digest(&spec_json));
    if shared.store.newest_job(&out).await?.is_none() {
        if shared.config.reach_stores {
            reach(quire_corpus::reach_output(&shared.stores, &out)).await?;
        }
        recover(shared, &out, &output).await?;
    }
    let mut is_unreached = shared.config.reach_stores && lines.is_none();
    for _ in 0..TRIES {
        let newest = shared.store.newest_job(&out).await?;
        if let Some(job) = &newest {
            caller.require_tenant(&job.tenant, &format!("the dataset {out}"))?;
        }
        if let Some(job) = newest.as_ref().filter(|job| is_open(job)) {
            if job.spec_sha256 == spec_sha256 {
                return resume(shared, job).await;
            }
            if !job.state.is_final() {
                let differences = differences(&spec_of(job)?, asked.spec)?;
                return Err(Error::JobUnfinished {
                    job_id: job.job_id.clone(),
                    differences,
                });
            }
        }
        // Whoever submits is told what is wrong with the inputs while he looks. A plan that is
        // given was made from them already.
        if std::mem::take(&mut is_unreached) {
            reach(reach_inputs(shared, spec)).await?;
        }
        let tenant = newest.as_ref().map(|job| job.tenant.clone());
        let sequence = newest.map_or(0, |job| job.sequence + 1);
        let new = NewJob {
            job_id: job_id(&out, sequence, &spec_json, lines.as_deref())?,
            out: out.clone(),
            sequence,
            spec_json: spec_json.clone(),
            spec_sha256: spec_sha256.clone(),
            // A dataset stays with the tenant that it began with.
            tenant: tenant.unwrap_or_else(|| caller.tenant().to_owned()),
            priority: asked.priority,
        };
        let area = shared.area(&out, &new.job_id)?;
        write_job(&area, &new, spec).await?;
        // The plan comes before the job: a job that needs a given plan must never be without.
        if let Some(lines) = lines {
            plan::write_given(&area, spec, lines.clone()).await?;
        }
        match shared.store.create_job(&new).await? {
            CreateJob::Created => {
                shared.tick.notify_one();
                // Another coordinator may be the one that plans it.
                shared.work_waits().await;
                let NewJob { job_id, tenant, .. } = &new;
                tracing::info!(%job_id, tenant, out, "job taken");
                return Ok(Submitted {
                    job_id: new.job_id,
                    is_resumed: false,
                });
            }
            CreateJob::Known | CreateJob::Refused => {}
        }
    }
    Err(Error::TaskLost)
}

/// Inputs whose stores are asked before a job is taken, and how many of them at once. Of a job
/// with more the rest is seen while it is planned.
const REACHED_INPUTS: usize = 64;
const REACHED_AT_ONCE: usize = 8;

/// Checks that stores have what the inputs name. A store that does not answer now may do so when
/// the job is planned.
async fn reach_inputs(shared: &Shared, spec: &JobSpec) -> quire_corpus::Result<()> {
    let inputs = spec.inputs.iter().take(REACHED_INPUTS);
    let asked: Vec<_> = inputs
        .map(|input| quire_corpus::reach_input(&shared.stores, input))
        .collect();
    let mut reached = futures::stream::iter(asked).buffered(REACHED_AT_ONCE);
    while let Some(reached) = reached.next().await {
        match reached {
            Err(error) if error.fault() == Fault::Config => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

async fn reach(reached: impl Future<Output = quire_corpus::Result<()>>) -> Result<()> {
    reached.await.map_err(|source| Error::Corpus {
        action: "the job cannot be taken".into(),
        source,
    })
}

/// Whether the job may go on: it is unfinished, or failed after it was planned.
fn is_open(job: &JobRecord) -> bool {
    !job.state.is_final() || (job.state == JobState::Failed && job.planned_at_ms.is_some())
}

async fn resume(shared: &Shared, job: &JobRecord) -> Result<Submitted> {
    let next = match job.state {
        // Given up a moment ago, and not ended yet.
        JobState::Canceling => {
            let (job_id, state) = (job.job_id.clone(), job.state);
            return Err(Error::JobNotRunning { job_id, state });
        }
        JobState::Paused => Some(JobState::Running),
        JobState::Failed => Some(JobState::Planning),
        _ => None,
    };
    if let Some(next) = next {
        shared
            .store
            .move_job(&job.job_id, job.state, next, None)
            .await?;
    }
    shared.tick.notify_one();
    shared.work_waits().await;
    tracing::info!(job_id = %job.job_id, state = %job.state, "job goes on");
    Ok(Submitted {
        job_id: job.job_id.clone(),
        is_resumed: true,
    })
}

fn job_id(
    out: &str,
    sequence: u64,
    spec_json: &str,
    lines: Option<&[PlannedDocument]>,
) -> Result<JobId> {
    let mut hash = Sha256::new();
    hash.update(out);
    hash.update([0]);
    hash.update(sequence.to_be_bytes());
    hash.update(spec_json);
    // Retries with equal conditions find other pages each time.
    if let Some(lines) = lines {
        let json = serde_json::to_vec(lines).map_err(|source| Error::Specification { source })?;
        hash.update([0]);
        hash.update(json);
    }
    let mut digits = hex::encode(hash.finalize());
    digits.truncate(ID_DIGITS);
    Ok(JobId::new(format!("j-{digits}")))
}

async fn write_job(area: &JobArea, new: &NewJob, spec: &JobSpec) -> Result<()> {
    let object = JobObject {
        form: JOB_FORM,
        job_id: new.job_id.clone(),
        out: new.out.clone(),
        sequence: new.sequence,
        spec: spec.clone(),
        tenant: new.tenant.clone(),
        priority: new.priority,
    };
    let mut content =
        serde_json::to_vec_pretty(&object).map_err(|source| Error::Specification { source })?;
    content.push(b'\n');
    let created = area
        .create_job(Bytes::from(content))
        .await
        .map_err(|source| Error::Dataset {
            action: format!("write job {}", new.job_id),
            source: Box::new(source),
        })?;
    match created {
        Created::Mine => Ok(()),
        Created::Theirs(content) => {
            let mut kept = parse_job(&new.job_id, &content)?;
            kept.priority = object.priority;
            if kept == object {
                return Ok(());
            }
            let message = "its area holds another job of the same name".to_owned();
            Err(Error::Contradiction {
                job_id: new.job_id.clone(),
                message,
            })
        }
    }
}

fn parse_job(job_id: &JobId, content: &[u8]) -> Result<JobObject> {
    serde_json::from_slice(content).map_err(|source| Error::Stored {
        what: "job.json".into(),
        job_id: job_id.clone(),
        source,
    })
}

/// The fields in which two specifications differ, for people.
fn differences(kept: &JobSpec, asked: &JobSpec) -> Result<String> {
    let fields = |spec: &JobSpec| {
        serde_json::to_value(spec).map_err(|source| Error::Specification { source })
    };
    let (kept, asked) = (fields(kept)?, fields(asked)?);
    let mut named = Vec::new();
    if let (Some(kept), Some(asked)) = (kept.as_object(), asked.as_object()) {
        for (field, value) in kept {
            let other = asked.get(field).unwrap_or(&serde_json::Value::Null);
            if value != other {
                named.push(format!("{field}: {value}, now {other}"));
            }
        }
    }
    Ok(named.join("; "))
}

/// Makes the jobs of a dataset known to a store that has lost them, and says which. Of all but
/// the newest only the fact is kept; the newest goes on from its plan and its manifests.
pub(crate) async fn recover(shared: &Shared, out: &str, output: &Output) -> Result<Vec<JobId>> {
    let unread = |source| Error::Dataset {
        action: "look for earlier jobs".into(),
        source: Box::new(source),
    };
    let mut jobs = Vec::new();
    for job_id in output.jobs().await.map_err(unread)? {
        let area = shared.area(out, &job_id)?;
        if let Some(content) = area.job().await.map_err(unread)? {
            let is_planned = area.plan_index().await.map_err(unread)?.is_some();
            jobs.push((parse_job(&job_id, &content)?, is_planned, area));
        }
    }
    // Two submissions may have raced for one place before the loss: the one that became a job is
    // the one that was planned.
    jobs.sort_by(|(a, a_planned, _), (b, b_planned, _)| {
        (a.sequence, !a_planned, &a.job_id).cmp(&(b.sequence, !b_planned, &b.job_id))
    });
    let newest = jobs.iter().map(|(object, _, _)| object.sequence).max();
    let mut made_known = Vec::new();
    for (object, _, area) in jobs {
        let spec_json = serde_json::to_string(&object.spec)
            .map_err(|source| Error::Specification { source })?;
        let new = NewJob {
            job_id: object.job_id.clone(),
            out: out.to_owned(),
            sequence: object.sequence,
            spec_sha256: hex::encode(Sha256::digest(&spec_json)),
            spec_json,
            tenant: object.tenant,
            priority: object.priority,
        };
        let is_newest = newest == Some(object.sequence);
        match shared.store.create_job(&new).await? {
            CreateJob::Created => {}
            // An earlier call may have ended before it said how far the job was; otherwise it
            // stands where the store says.
            CreateJob::Known if !is_newest && is_planning(shared, &object.job_id).await? => {}
            CreateJob::Known | CreateJob::Refused => continue,
        }
        settle(shared, output, &area, is_newest).await?;
        tracing::warn!(job_id = %object.job_id, "job made known again from its area");
        made_known.push(object.job_id);
    }
    shared.tick.notify_one();
    Ok(made_known)
}

async fn is_planning(shared: &Shared, job_id: &JobId) -> Result<bool> {
    let job = shared.store.job(job_id).await?;
    Ok(job.is_some_and(|job| job.state == JobState::Planning))
}

/// Puts a job that was made known again where it stood.
async fn settle(shared: &Shared, output: &Output, area: &JobArea, is_newest: bool) -> Result<()> {
    let job_id = area.job_id();
    let unread = |source| Error::Dataset {
        action: format!("see how far job {job_id} is"),
        source: Box::new(source),
    };
    let log = CommitLog::read(area).await.map_err(unread)?;
    if log.closing() == Some(Closing::Canceled) {
        for (from, to) in [
            (JobState::Planning, JobState::Canceling),
            (JobState::Canceling, JobState::Canceled),
        ] {
            shared.store.move_job(job_id, from, to, None).await?;
        }
        return Ok(());
    }
    let newest = output.newest_version().await.map_err(unread)?;
    let sealed = newest.filter(|version| version.jobs.iter().any(|job| job.job_id == *job_id));
    match sealed {
        Some(version) => drop(
            shared
                .store
                .finish_job(job_id, Some(version.version))
                .await?,
        ),
        None if !is_newest => drop(shared.store.finish_job(job_id, None).await?),
        // It is planned again, which finds the plan that it has.
        None => {}
    }
    Ok(())
}
