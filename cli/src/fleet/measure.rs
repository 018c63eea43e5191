//! What follows from looks at a fleet: pages a second, time left, work left in node-hours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use quire_proto::v1::{Job, JobState, LeaseStage, Worker};

use super::Look;
use crate::progress::Speed;

const MS_PER_HOUR: f64 = 3_600_000.0;

/// Rows that are done, also those that no accepted part holds yet.
pub(crate) fn pages_done(job: &Job) -> u64 {
    let committed = job.rows_committed.map_or(0, |rows| rows.total());
    let done = committed + job.rows_in_flight + job.rows_quarantined;
    // A copy of a slow shard reports the same rows a second time.
    if job.rows_planned > 0 {
        done.min(job.rows_planned)
    } else {
        done
    }
}

/// Rows that are not.
pub(crate) fn pages_left(job: &Job) -> u64 {
    if job.state().is_final() {
        return 0;
    }
    job.rows_planned.saturating_sub(pages_done(job))
}

/// How much of the plan is done, from 0 to 1; nothing is known while it is drawn up.
pub(crate) fn share(job: &Job) -> Option<f64> {
    match job.state() {
        JobState::Planning | JobState::Unspecified => None,
        JobState::Done => Some(1.0),
        _ if job.rows_planned == 0 => None,
        _ => Some(pages_done(job) as f64 / job.rows_planned as f64),
    }
}

/// Pages a second over the whole life of a job's reading.
pub(crate) fn average(job: &Job, now_ms: i64) -> Option<f64> {
    if job.planned_at_ms == 0 {
        return None;
    }
    let end_ms = match job.finished_at_ms {
        0 => now_ms,
        finished_at_ms => finished_at_ms,
    };
    let seconds = (end_ms - job.planned_at_ms) as f64 / 1000.0;
    let done = pages_done(job);
    (seconds > 0.0 && done > 0 && !is_fresh(job, now_ms)).then(|| done as f64 / seconds)
}

/// Whether a job has been read for too short a time to say how fast that goes: its first shards
/// are what was quickest.
fn is_fresh(job: &Job, now_ms: i64) -> bool {
    let since_ms = u64::try_from(now_ms - job.planned_at_ms).unwrap_or(0);
    job.finished_at_ms == 0 && Duration::from_millis(since_ms) < SETTLED
}

/// Pages a second as a single look tells: shards that are worked on now, at the pace of the last
/// ones; where workers cannot be seen, the average since the job was planned.
fn at_a_glance(job: &Job, look: &Look) -> Option<f64> {
    if is_fresh(job, look.at_ms) {
        return None;
    }
    let leases = look.workers().iter().flat_map(|worker| &worker.leases);
    let reading = leases
        .filter(|lease| lease.job_id == job.job_id && !lease.is_copy)
        .filter(|lease| lease.stage() != LeaseStage::Queued)
        .count();
    if reading > 0 && job.ms_per_row > 0.0 {
        return Some(reading as f64 * 1000.0 / job.ms_per_row);
    }
    average(job, look.at_ms)
}

/// Pages a second of each job, from one look or from as many as there were.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    speeds: HashMap<String, Speed>,
    rates: HashMap<String, f64>,
}

impl Rates {
    /// Takes note of a look at a time since some fixed start.
    pub(crate) fn observe(&mut self, now: Duration, look: &Look) {
        let ids: HashSet<&str> = look.jobs.iter().map(|job| job.job_id.as_str()).collect();
        self.speeds
            .retain(|job_id, _| ids.contains(job_id.as_str()));
        self.rates.clear();
        for job in &look.jobs {
            if job.state() != JobState::Running {
                self.speeds.remove(&job.job_id);
                continue;
            }
            let speed = self.speeds.entry(job.job_id.clone()).or_default();
            speed.observe(now, pages_done(job));
            // Workers report every ten seconds: before a few reports are in, successive looks say
            // less than one.
            let is_settled = speed.span() >= SETTLED;
            let measured = speed.recent().filter(|_| is_settled);
            if let Some(rate) = measured.or_else(|| at_a_glance(job, look)) {
                self.rates.insert(job.job_id.clone(), rate);
            }
        }
    }

    /// Pages a second of a job that runs.
    pub(crate) fn of(&self, job: &Job) -> Option<f64> {
        self.rates.get(&job.job_id).copied()
    }

    /// Pages a second of all jobs together.
    pub(crate) fn total(&self) -> f64 {
        self.rates.values().fold(0.0, |sum, rate| sum + rate)
    }

    /// Time that the rest of a job takes at its rate.
    pub(crate) fn eta(&self, job: &Job) -> Option<Duration> {
        let rate = self.of(job).filter(|rate| *rate > 0.0)?;
        Duration::try_from_secs_f64(pages_left(job) as f64 / rate).ok()
    }
}

/// Looks this far apart measure better than one look estimates, and nothing is said of a job that
/// has been read for less.
pub(crate) const SETTLED: Duration = Duration::from_secs(25);

/// Work that is left.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Backlog {
    pub pages: u64,
    /// Hours that one node as those at work needs for it; unknown before the first shards are
    /// done.
    pub node_hours: Option<f64>,
}

/// Work that is left in unfinished jobs, at the pace of their last shards; a job that has none
/// yet is taken to be like the others.
pub(crate) fn backlog(jobs: &[&Job], workers: &[Worker]) -> Backlog {
    let open = jobs.iter().filter(|job| !job.state().is_final());
    let mut pages = 0;
    let (mut slot_ms, mut unknown) = (0.0, 0_u64);
    let mut paces = Vec::new();
    for job in open {
        let left = pages_left(job);
        pages += left;
        if job.ms_per_row > 0.0 {
            paces.push(job.ms_per_row);
            slot_ms += left as f64 * job.ms_per_row;
        } else {
            unknown += left;
        }
    }
    let node_hours = if pages == 0 {
        Some(0.0)
    } else if paces.is_empty() {
        None
    } else {
        let mean = paces.iter().sum::<f64>() / paces.len() as f64;
        slot_ms += unknown as f64 * mean;
        Some(slot_ms / MS_PER_HOUR / slots_per_node(workers))
    };
    Backlog { pages, node_hours }
}

/// Shards that a node works on at once, on average over the nodes that do; what waits on a worker
/// is not counted.
fn slots_per_node(workers: &[Worker]) -> f64 {
    let mut by_node: BTreeMap<&str, usize> = BTreeMap::new();
    for worker in workers {
        let at_work = worker
            .leases
            .iter()
            .filter(|lease| lease.stage() != LeaseStage::Queued)
            .count();
        if at_work > 0 {
            *by_node.entry(&worker.node).or_default() += at_work;
        }
    }
    match by_node.len() {
        0 => 1.0,
        nodes => by_node.values().sum::<usize>() as f64 / nodes as f64,
    }
}

#[cfg(test)]
mod tests {
    use quire_proto::v1::{HeldLease, RowCounts};

    use super::*;

    fn job(job_id: &str, done: u64) -> Job {
        Job {
            job_id: job_id.into(),
            state: JobState::Running.into(),
            rows_planned: 1000,
            rows_committed: Some(RowCounts {
                ok: done,
                ..RowCounts::default()
            }),
            ms_per_row: 500.0,
            planned_at_ms: 1000,
            ..Job::default()
        }
    }

    fn worker(node: &str, stages: &[LeaseStage]) -> Worker {
        let leases = stages.iter().map(|&stage| HeldLease {
            job_id: "a".into(),
            stage: stage.into(),
            ..HeldLease::default()
        });
        Worker {
            node: node.into(),
            leases: leases.collect(),
            ..Worker::default()
        }
    }

    fn look(jobs: Vec<Job>, workers: Vec<Worker>) -> Look {
        Look {
            jobs,
            workers: Ok(workers),
            at_ms: 101_000,
        }
    }

    #[test]
    fn one_look_tells_the_rate_by_the_shards_that_are_worked_on() {
        let stages = [
            LeaseStage::Reading,
            LeaseStage::Uploading,
            LeaseStage::Queued,
        ];
        let mut rates = Rates::default();
        let seen = look(vec![job("a", 200)], vec![worker("n", &stages)]);
        rates.observe(Duration::ZERO, &seen);
        assert_eq!(rates.of(&seen.jobs[0]), Some(4.0));
        assert_eq!(rates.eta(&seen.jobs[0]), Some(Duration::from_secs(200)));
    }

    #[test]
    fn without_workers_the_average_since_planning_counts() {
        let mut rates = Rates::default();
        let seen = look(vec![job("a", 200)], Vec::new());
        rates.observe(Duration::ZERO, &seen);
        assert_eq!(rates.of(&seen.jobs[0]), Some(2.0));
    }

    #[test]
    fn nothing_is_said_of_the_first_seconds_of_a_job() {
        let mut rates = Rates::default();
        // A handful of pages at once, four seconds after planning.
        let fresh = Job {
            planned_at_ms: 97_000,
            ms_per_row: 4.7,
            ..job("a", 200)
        };
        for second in [0, 2] {
            let seen = look(
                vec![fresh.clone()],
                vec![worker("n", &[LeaseStage::Reading])],
            );
            rates.observe(Duration::from_secs(second), &seen);
            assert_eq!((rates.of(&fresh), rates.eta(&fresh)), (None, None));
        }
        assert_eq!((average(&fresh, 101_000), rates.total()), (None, 0.0));
        let done = Job {
            finished_at_ms: 101_000,
            ..fresh
        };
        assert_eq!(average(&done, 999_000), Some(50.0));
    }

    #[test]
    fn looks_that_lie_apart_measure_the_rate() {
        let mut rates = Rates::default();
        for (second, done) in [(0, 0), (10, 0), (20, 100), (30, 300)] {
            let seen = look(vec![job("a", done)], Vec::new());
            rates.observe(Duration::from_secs(second), &seen);
        }
        assert_eq!(rates.of(&job("a", 300)), Some(10.0));
        assert_eq!(rates.total(), 10.0);
        rates.observe(Duration::from_secs(31), &look(Vec::new(), Vec::new()));
        assert_eq!(rates.of(&job("a", 300)), None);
    }

    #[test]
    fn backlog_is_in_hours_of_a_node_with_its_slots() {
        let stages = [LeaseStage::Reading, LeaseStage::Reading, LeaseStage::Queued];
        let workers = [worker("n", &stages[..1]), worker("n", &stages[1..])];
        let half = Job {
            rows_planned: 28_800,
            ..job("a", 14_400)
        };
        let fresh = Job {
            ms_per_row: 0.0,
            rows_planned: 14_400,
            ..job("b", 0)
        };
        let one = backlog(&[&half], &workers);
        assert_eq!((one.pages, one.node_hours), (14_400, Some(1.0)));
        let both = backlog(&[&half, &fresh], &workers);
        assert_eq!((both.pages, both.node_hours), (28_800, Some(2.0)));
        assert_eq!(backlog(&[&fresh], &workers).node_hours, None);
        assert_eq!(backlog(&[], &workers).node_hours, Some(0.0));
    }

    #[test]
    fn rows_of_copies_are_not_done_twice() {
        let doubled = Job {
            rows_in_flight: 300,
            ..job("a", 900)
        };
        assert_eq!((pages_done(&doubled), pages_left(&doubled)), (1000, 0));
        assert_eq!(share(&doubled), Some(1.0));
    }
}
