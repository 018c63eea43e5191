//! Which job's shards are given out first.

use quire_core::JobId;

use crate::store::JobRecord;

/// Running jobs with waiting shards: higher priority first, then the older one. Inside a job,
/// shards go in plan order.
pub(crate) fn grant_order(jobs: &[JobRecord]) -> Vec<JobId> {
    let mut waiting: Vec<&JobRecord> = jobs
        .iter()
        .filter(|job| job.state == crate::job::JobState::Running && job.counters.pending > 0)
        .collect();
    waiting.sort_by_key(|job| (std::cmp::Reverse(job.priority), job.number));
    waiting.into_iter().map(|job| job.job_id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobState;
    use crate::store::{Counters, PlanTotals};

    fn job(number: i64, priority: i32, state: JobState, pending: i64) -> JobRecord {
        JobRecord {
            job_id: JobId::new(format!("j-{number}")),
            number,
            out: "file:///out".into(),
            sequence: 0,
            spec_json: String::new(),
            spec_sha256: String::new(),
            tenant: "t".into(),
            state,
            why: None,
            priority,
            plan: PlanTotals::default(),
            counters: Counters {
                pending,
                ..Counters::default()
            },
            last_manifest: 0,
            sealed_version: None,
            already_complete: false,
            created_at_ms: 0,
            planned_at_ms: None,
            finished_at_ms: None,
        }
    }

    #[test]
    fn priority_goes_before_age_and_only_running_jobs_with_work_count() {
        let jobs = [
            job(1, 0, JobState::Running, 3),
            job(2, 5, JobState::Running, 1),
            job(3, 0, JobState::Running, 1),
            job(4, 9, JobState::Paused, 1),
            job(5, 9, JobState::Running, 0),
        ];
        let order: Vec<String> = grant_order(&jobs).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["j-2", "j-1", "j-3"]);
    }
}
