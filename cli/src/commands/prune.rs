//! `quire prune`: removes files of dropped versions, and parts whose rows a version holds.

use quire_core::{Clock, JobId, SystemClock};
use quire_dataset::{Amount, Pruned, Retention};
use serde_json::json;

use crate::args::PruneArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted};
use crate::settings::{Size, Span};

/// Removes, or with `--dry-run` only says, what the flags allow.
pub(crate) async fn execute(context: &Context, args: PruneArgs) -> Outcome<()> {
    let dataset = context.open_dataset(&args.out)?;
    dataset.newest_version().await?;
    let retention = Retention {
        keep_versions: args.keep_versions.map(|keep| keep as usize),
        sealed_parts: args.parts,
        min_age_ms: i64::try_from(args.older_than.0.as_millis()).unwrap_or(i64::MAX),
        now_ms: SystemClock::default().unix_ms(),
        is_dry_run: args.dry_run,
    };
    let pruned = quire_dataset::prune(&dataset.output, &retention)
        .await
        .map_err(Failure::of)?;
    if context.json {
        return output::print_json(&json!({
            "out": dataset.name,
            "dry_run": args.dry_run,
            "dropped_versions": pruned.dropped,
            "files": pruned.files,
            "files_waiting": pruned.waiting,
            "parts": pruned.parts,
            "jobs": names(&pruned.jobs),
            "jobs_waiting": names(&pruned.waiting_jobs),
        }));
    }
    output::print(&as_text(&args, &pruned))
}

fn names(jobs: &[JobId]) -> Vec<&str> {
    jobs.iter().map(JobId::as_str).collect()
}

fn as_text(args: &PruneArgs, pruned: &Pruned) -> String {
    let verb = if args.dry_run {
        "would be removed"
    } else {
        "removed"
    };
    let mut lines = Vec::new();
    if !pruned.dropped.is_empty() {
        let numbers: Vec<String> = pruned.dropped.iter().map(u64::to_string).collect();
        let verb = if args.dry_run {
            "would be dropped"
        } else {
            "dropped"
        };
        lines.push(format!("versions {verb}: {}", numbers.join(", ")));
    }
    let age = age(args.older_than);
    lines.push(format!(
        "files that no version lists: {} {verb}",
        amount(pruned.files, "file", "files")
    ));
    if pruned.waiting.files > 0 {
        let waiting = amount(pruned.waiting, "file", "files");
        lines.push(format!(
            "  and {waiting} more once they are older than {age}"
        ));
    }
    if args.parts {
        let of_jobs = counted(pruned.jobs.len() as u64, "job", "jobs");
        lines.push(format!(
            "parts whose rows a version holds: {} of {of_jobs} {verb}",
            amount(pruned.parts, "part", "parts")
        ));
        if !pruned.waiting_jobs.is_empty() {
            let n = counted(pruned.waiting_jobs.len() as u64, "job", "jobs");
            lines.push(format!("  and those of {n} once sealed longer than {age}"));
        }
    }
    lines.join("\n") + "\n"
}

/// Whole days as such: `168h 00m` is hard to read.
fn age(span: Span) -> String {
    const DAY: u64 = 86_400;
    match span.0.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(DAY) => format!("{}d", seconds / DAY),
        _ => span.to_string(),
    }
}

fn amount(amount: Amount, one: &str, many: &str) -> String {
    let files = counted(amount.files, one, many);
    format!("{files} ({})", Size(amount.bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_goes_and_what_waits_is_said() {
        let args = PruneArgs {
            out: "o".into(),
            keep_versions: Some(1),
            parts: true,
            older_than: Span(Duration::from_secs(7 * 86_400)),
            dry_run: false,
        };
        let pruned = Pruned {
            dropped: vec![1, 2],
            files: Amount {
                files: 1,
                bytes: 2048,
            },
            waiting: Amount { files: 3, bytes: 1 },
            parts: Amount {
                files: 40,
                bytes: 5 << 20,
            },
            jobs: vec![JobId::new("j-1")],
            waiting_jobs: vec![JobId::new("j-2")],
        };
        let text = as_text(&args, &pruned);
        for words in [
            "versions dropped: 1, 2\n",
            "1 file (2 KiB) removed\n",
            "3 files (1 B) more once they are older than 7d\n",
            "40 parts (5 MiB) of 1 job removed\n",
            "those of 1 job once sealed longer than 7d\n",
        ] {
            assert!(text.contains(words), "{words:?} in {text}");
        }
        let dry = PruneArgs {
            dry_run: true,
            ..args
        };
        let text = as_text(&dry, &pruned);
        assert!(text.contains("versions would be dropped") && text.contains("would be removed"));
    }
}
