//! `quire verify`: checks the newest version against every promise of the format.

use std::process::ExitCode;

use quire_dataset::VerifyReport;
use serde_json::json;

use crate::args::DatasetArgs;
use crate::context::{Context, Dataset};
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted, grouped};

/// Violations that people are shown; JSON has all that were kept.
const SHOWN: usize = 20;

/// Exit code 0 if every promise holds, else 1.
pub(crate) async fn execute(context: &Context, args: DatasetArgs) -> Outcome<ExitCode> {
    let dataset = context.open_dataset(&args.out)?;
    dataset.newest_version().await?;
    // A big future: checking holds a file's reader and all tallies.
    let report = Box::pin(quire_dataset::verify(&dataset.output))
        .await
        .map_err(Failure::of)?;
    if context.json {
        output::print_json(&as_json(&dataset, &report))?;
    } else {
        output::print(&as_text(&dataset, &report))?;
    }
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn as_text(dataset: &Dataset, report: &VerifyReport) -> String {
    let looked_at = format!(
        "{}, {}, {} in {}",
        counted(report.documents, "document", "documents"),
        counted(report.pages, "page", "pages"),
        counted(report.errors, "error", "errors"),
        counted(report.files, "file", "files"),
    );
    let mut text = format!(
        "{}  version {}\n{looked_at}\n",
        dataset.name, report.version
    );
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if report.is_sound() {
        text.push_str(&format!(
            "rows digest {}\nevery promise holds\n",
            report.content_digest
        ));
        return text;
    }
    for violation in report.violations.iter().take(SHOWN) {
        text.push_str(&format!("BROKEN  {violation}\n"));
    }
    let more = report.n_violations.saturating_sub(SHOWN as u64);
    if more > 0 {
        text.push_str(&format!("and {} more\n", grouped(more)));
    }
    let broken = counted(report.n_violations, "promise does", "promises do");
    text.push_str(&format!("{broken} not hold\n"));
    text
}

fn as_json(dataset: &Dataset, report: &VerifyReport) -> serde_json::Value {
    let violations = report.violations.iter().map(
        |violation| json!({ "file": violation.file, "row": violation.row, "what": violation.what }),
    );
    json!({
        "out": dataset.name,
        "version": report.version,
        "sound": report.is_sound(),
        "files": report.files,
        "documents": report.documents,
        "pages": report.pages,
        "errors": report.errors,
        "rows_digest": report.content_digest,
        "violations": violations.collect::<Vec<_>>(),
        "n_violations": report.n_violations,
        "notes": report.notes,
    })
}
