//! Jobs as a table, one line each, for people who look once.

use quire_proto::v1::{Job, JobState};

use crate::fleet::Look;
use crate::fleet::{Rates, average, backlog, pages_done, share, state_name};
use crate::output::{counted, grouped, rate, shortened};
use crate::settings::Span;

const BAR_CHARS: usize = 16;
const REASON_CHARS: usize = 110;

/// All jobs, newest first, and what is left of them.
pub(super) fn jobs_table(look: &Look, rates: &Rates) -> String {
    if look.jobs.is_empty() {
        return "There are no jobs. `quire submit` gives the fleet one.\n".to_owned();
    }
    let header = [
        "JOB", "STATE", "PROGRESS", "PAGES", "PAGES/S", "LEFT", "FAILED", "TENANT",
    ];
    let mut rows = vec![(header.map(str::to_owned), String::new())];
    for job in &look.jobs {
        rows.push((cells(job, rates, look.at_ms), reason_line(job)));
    }
    let mut text = aligned(&rows);
    text.push('\n');
    text.push_str(&fleet_line(look, rates));
    text
}

fn cells(job: &Job, rates: &Rates, now_ms: i64) -> [String; 8] {
    [
        job.job_id.clone(),
        state_name(job.state()).to_owned(),
        progress(job),
        pages(job),
        pace(job, rates, now_ms),
        left(job, rates),
        grouped(failed(job)),
        job.tenant.clone(),
    ]
}

/// Every column as wide as its widest cell; numbers to the right.
fn aligned<const N: usize>(rows: &[([String; N], String)]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|(cells, _)| cells[at].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for (cells, below) in rows {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let width = widths[at];
            let padded = match at {
                3..=6 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            };
            line.push_str(&padded);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
        text.push_str(below);
    }
    text
}

/// A bar and how much it is of the whole.
fn progress(job: &Job) -> String {
    match share(job) {
        Some(share) => format!("{} {:>4}", bar(share, BAR_CHARS), percent(share)),
        None => String::new(),
    }
}

/// `done` is drawn only when all is done.
pub(super) fn bar(share: f64, chars: usize) -> String {
    let full = ((share.clamp(0.0, 1.0) * chars as f64).floor() as usize).min(chars);
    format!("{}{}", "█".repeat(full), "░".repeat(chars - full))
}

/// 100% only when all is done.
pub(super) fn percent(share: f64) -> String {
    format!("{}%", (share.clamp(0.0, 1.0) * 100.0).floor())
}

pub(super) fn pages(job: &Job) -> String {
    if job.state() == JobState::Planning {
        return format!("{} found", grouped(job.rows_planned));
    }
    let (done, of) = (grouped(pages_done(job)), grouped(job.rows_planned));
    format!("{done} / {of}")
}

fn pace(job: &Job, rates: &Rates, now_ms: i64) -> String {
    let known = match job.state() {
        JobState::Done => average(job, now_ms),
        _ => rates.of(job),
    };
    known.map_or_else(|| "-".to_owned(), rate)
}

fn left(job: &Job, rates: &Rates) -> String {
    rates
        .eta(job)
        .map_or_else(|| "-".to_owned(), |eta| Span(eta).to_string())
}

pub(super) fn failed(job: &Job) -> u64 {
    job.rows_committed.map_or(0, |rows| rows.failed) + job.rows_quarantined
}

/// Why a job does not go on.
fn reason_line(job: &Job) -> String {
    if job.state_reason.is_empty() {
        return String::new();
    }
    let reason = shortened(&job.state_reason, REASON_CHARS);
    format!("  {}: {reason}\n", state_name(job.state()))
}

/// Workers, rate and work that is left, of all jobs together.
pub(super) fn fleet_line(look: &Look, rates: &Rates) -> String {
    let jobs: Vec<&Job> = look.jobs.iter().collect();
    let backlog = backlog(&jobs, look.workers());
    let mut parts = Vec::new();
    if let Ok(workers) = &look.workers {
        let mut nodes: Vec<&str> = workers.iter().map(|worker| worker.node.as_str()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let workers = counted(workers.len() as u64, "worker", "workers");
        parts.push(format!(
            "{workers} on {}",
            counted(nodes.len() as u64, "node", "nodes")
        ));
    }
    if rates.total() > 0.0 {
        parts.push(format!("{} pages/s", rate(rates.total())));
    }
    parts.push(format!("backlog {}", backlog_text(&backlog)));
    format!("{}\n", parts.join(", "))
}

/// `1,200 pages, 0.4 node-hours`
pub(super) fn backlog_text(backlog: &crate::fleet::Backlog) -> String {
    let pages = counted(backlog.pages, "page", "pages");
    match backlog.node_hours {
        _ if backlog.pages == 0 => "none".to_owned(),
        Some(hours) => format!("{pages}, {} node-hours", node_hours(hours)),
        None => pages,
    }
}

fn node_hours(hours: f64) -> String {
    match hours {
        _ if hours >= 100.0 => grouped(hours.round() as u64),
        _ if hours >= 1.0 => format!("{hours:.1}"),
        _ if hours >= 0.01 => format!("{hours:.2}"),
        _ => "under 0.01".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::examples;
    use super::*;

    #[test]
    fn table_of_jobs_is_read_at_a_glance() {
        let look = examples::look();
        let mut rates = Rates::default();
        rates.observe(Duration::ZERO, &look);
        let expected = "\
JOB             STATE     PROGRESS                           PAGES  PAGES/S    LEFT  FAILED  TENANT
j-5f0c1d2e3a4b  running   ████████░░░░░░░░  52%  120,411 / 230,004     8.00  3h 48m     312  vision
j-77aa01b2c3d4  planning                              18,200 found        -       -       0  default
j-0a1b2c3d4e5f  paused    ██░░░░░░░░░░░░░░  15%     1,500 / 10,000        -       -      12  default
  paused: 12 of 10,000 pages killed their workers again and again, more than 0.1%
j-c0ffee123456  done      ████████████████ 100%      5,000 / 5,000       50       -       3  default

3 workers on 2 nodes, 8.00 pages/s, backlog 136,293 pages, 9.5 node-hours
";
        let found = jobs_table(&look, &rates);
        assert_eq!(found, expected, "\n{found}");
    }

    #[test]
    fn bar_is_full_only_when_all_is_done() {
        assert_eq!(bar(0.9999, 4), "███░");
        assert_eq!(bar(1.0, 4), "████");
        assert_eq!(percent(0.9999), "99%");
    }
}
