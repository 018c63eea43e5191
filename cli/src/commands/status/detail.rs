//! One job with everything that is known of it.

use quire_proto::v1::{Job, JobState, Worker};

use super::table::{backlog_text, bar, failed, pages, percent};
use crate::fleet::{Rates, average, backlog, shard_states, share, shown, stage_name, state_name};
use crate::output::{counted, grouped, rate, shortened};
use crate::settings::Span;

const BAR_CHARS: usize = 40;
const EXAMPLE_CHARS: usize = 80;

/// A job for a person who looks once.
pub(super) fn job_detail(
    job: &Job,
    workers: &Result<Vec<Worker>, String>,
    rates: &Rates,
    now_ms: i64,
) -> String {
    let mut text = head(job);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<10} {value}\n"));
        }
    };
    line("out", out(job));
    line(
        "tenant",
        format!("{}, priority {}", job.tenant, job.priority),
    );
    line("engine", engine(job));
    line("planned", planned(job));
    line("pages", pages_line(job));
    line("pace", pace(job, rates, now_ms));
    line("shards", shard_states(job));
    line("backlog", left_over(job, workers));
    line("manifest", manifest(job));
    text.push_str(&failures(job));
    text.push_str(&who_works(job, workers));
    text
}

fn head(job: &Job) -> String {
    let mut text = format!("{}  {}", job.job_id, state_name(job.state()));
    if let Some(share) = share(job) {
        text.push_str(&format!("  {} {}", bar(share, BAR_CHARS), percent(share)));
    }
    text.push('\n');
    if !job.state_reason.is_empty() {
        text.push_str(&format!("  because    {}\n", job.state_reason));
    }
    text
}

fn out(job: &Job) -> String {
    match job.sealed_version {
        0 => shown(&job.out).to_owned(),
        version => format!("{}  (version {version})", shown(&job.out)),
    }
}

/// Who reads, as the specification says.
fn engine(job: &Job) -> String {
    let spec: serde_json::Value = serde_json::from_str(&job.job_spec_json).unwrap_or_default();
    let field = |name: &str| spec["engine"][name].as_str().unwrap_or_default().to_owned();
    let revision: String = field("model_revision").chars().take(12).collect();
    if field("name").is_empty() {
        return String::new();
    }
    let (name, version, mode) = (field("name"), field("version"), field("mode"));
    format!("{name} {version} ({mode}), weights {revision}")
}

fn planned(job: &Job) -> String {
    let planning = job.planning.unwrap_or_default();
    let documents = counted(job.documents_planned, "document", "documents");
    let mut text = match job.state() {
        JobState::Planning => format!(
            "{} of {} inputs opened, {documents} found",
            grouped(planning.entries_surveyed),
            grouped(planning.entries_listed)
        ),
        _ => documents,
    };
    if planning.documents_known > 0 {
        let known = grouped(planning.documents_known);
        text.push_str(&format!("; {known} more are in the dataset already"));
    }
    text
}

fn pages_line(job: &Job) -> String {
    let mut text = pages(job);
    let rows = job.rows_committed.unwrap_or_default();
    let mut parts = Vec::new();
    if job.rows_in_flight > 0 {
        parts.push(format!("{} in hand", grouped(job.rows_in_flight)));
    }
    if failed(job) > 0 {
        parts.push(format!("{} failed", grouped(failed(job))));
    }
    if job.rows_quarantined > 0 {
        parts.push(format!("{} given up", grouped(job.rows_quarantined)));
    }
    if rows.skipped > 0 {
        parts.push(format!("{} skipped", grouped(rows.skipped)));
    }
    if !parts.is_empty() {
        text.push_str(&format!("  ({})", parts.join(", ")));
    }
    text
}

fn pace(job: &Job, rates: &Rates, now_ms: i64) -> String {
    if let Some(now) = rates.of(job) {
        let eta = rates.eta(job).map(|eta| format!(", {} left", Span(eta)));
        return format!("{} pages/s{}", rate(now), eta.unwrap_or_default());
    }
    average(job, now_ms).map_or_else(String::new, |average| {
        format!("{} pages/s on average", rate(average))
    })
}

fn left_over(job: &Job, workers: &Result<Vec<Worker>, String>) -> String {
    let workers = workers.as_deref().unwrap_or_default();
    if job.state().is_final() {
        return String::new();
    }
    backlog_text(&backlog(&[job], workers))
}

fn manifest(job: &Job) -> String {
    match job.last_manifest {
        0 => String::new(),
        number => format!("{} written", counted(number, "manifest", "manifests")),
    }
}

fn failures(job: &Job) -> String {
    if job.failures.is_empty() {
        return String::new();
    }
    let widest = job.failures.iter().map(|failure| failure.code.len()).max();
    let widest = widest.unwrap_or(0);
    let mut text = "\nFailures\n".to_owned();
    for failure in &job.failures {
        let count = grouped(failure.count);
        let example = shortened(&failure.example, EXAMPLE_CHARS);
        let code = &failure.code;
        text.push_str(&format!("  {code:<widest$} {count:>7}  {example}\n"));
    }
    text
}

/// Workers that hold a shard of the job.
fn who_works(job: &Job, workers: &Result<Vec<Worker>, String>) -> String {
    let workers = match workers {
        Ok(workers) => workers,
        Err(_) if job.workers == 0 => return String::new(),
        Err(_) => {
            let workers = counted(u64::from(job.workers), "worker", "workers");
            return format!("\n{workers} at work; who they are is for admins to see\n");
        }
    };
    let mut text = String::new();
    for worker in workers {
        for lease in worker.leases.iter().filter(|l| l.job_id == job.job_id) {
            let copy = if lease.is_copy { ", a copy" } else { "" };
            text.push_str(&format!(
                "  {:<16} {:<20} {:<9} shard {}, {} of {} pages{copy}\n",
                shortened(&worker.node, 16),
                shortened(&worker.worker_name, 20),
                stage_name(lease.stage()),
                lease.shard_idx,
                grouped(u64::from(lease.rows_done)),
                grouped(u64::from(lease.n_rows)),
            ));
        }
    }
    if text.is_empty() {
        return text;
    }
    format!("\nWorkers\n{text}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::examples;
    use super::*;

    #[test]
    fn detail_says_everything_of_a_job() {
        let look = examples::look();
        let mut rates = Rates::default();
        rates.observe(Duration::ZERO, &look);
        let expected = "\
j-5f0c1d2e3a4b  running  ████████████████████░░░░░░░░░░░░░░░░░░░░ 52%
  out        s3://datasets/j-5f0c1d2e3a4b
  tenant     vision, priority 5
  engine     pp-ocr 0.1.0 (small), weights 0123456789ab
  planned    19,167 documents
  pages      120,411 / 230,004  (420 in hand, 312 failed, 2 given up)
  pace       8.00 pages/s, 3h 48m left
  shards     3,412 pending, 5 leased, 31 committed, 3,720 published, 1 halved, 2 given up
  backlog    109,593 pages, 7.6 node-hours
  manifest   118 manifests written

Failures
  encrypted     201  s3://scans/2024/a.pdf: needs a password
  timeout       109  s3://scans/2024/plan.pdf page 7: took over 30s

Workers
  node-1           node-1-4021          reading   shard 3801, 1,204 of 2,000 pages
  node-1           node-1-4021          reading   shard 3802, 388 of 2,000 pages
  node-1           node-1-4021          queued    shard 3811, 0 of 2,000 pages
  node-1           node-1-4022          reading   shard 3805, 1,999 of 2,000 pages
  node-2           node-2-811           uploading shard 3807, 2,000 of 2,000 pages
";
        let found = job_detail(&look.jobs[0], &look.workers, &rates, look.at_ms);
        assert_eq!(found, expected, "\n{found}");
    }

    #[test]
    fn who_may_not_see_workers_sees_how_many_there_are() {
        let look = examples::look();
        let hidden = Err("no".to_owned());
        let found = job_detail(&look.jobs[0], &hidden, &Rates::default(), look.at_ms);
        assert!(found.ends_with("3 workers at work; who they are is for admins to see\n"));
        let paused = job_detail(&look.jobs[2], &hidden, &Rates::default(), look.at_ms);
        assert!(paused.contains("  because    12 of 10,000 pages killed"));
    }
}
