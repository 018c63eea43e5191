//! The end of a run: the summary of what is in the dataset now, or why it is not finished.

use std::process::ExitCode;
use std::time::Duration;

use quire_core::TroubleCode;

use crate::context::{Context, Dataset};
use crate::events::Event;
use crate::facts;
use crate::failure::{Failure, Outcome};
use crate::output::{self, grouped};
use crate::progress::{PagesRead, Phase, Progress, Snapshot};
use crate::summary::{RunFigures, Summary, load_line};

/// What this run did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    /// From its start.
    pub seconds: Duration,
    pub read: PagesRead,
}

/// Tells how a job stands after the run.
pub(crate) async fn tell(
    context: &Context,
    dataset: &Dataset,
    progress: &Progress,
    snapshot: Snapshot,
    ran: Ran,
) -> Outcome<ExitCode> {
    match snapshot.phase {
        Phase::Done => done(context, dataset, progress, &snapshot, ran).await,
        Phase::Stopped | Phase::Paused => Err(stopped(&snapshot)),
        Phase::Planning | Phase::Reading | Phase::Sealing => {
            interrupted(context, progress, &snapshot)
        }
    }
}

async fn done(
    context: &Context,
    dataset: &Dataset,
    progress: &Progress,
    snapshot: &Snapshot,
    ran: Ran,
) -> Outcome<ExitCode> {
    let (text, code) = finished(context, dataset, progress, snapshot, ran).await?;
    if !context.json {
        output::print(&text)?;
    }
    Ok(code)
}

/// Sends the last events of a job that is done; what a person reads of it, and the exit code.
pub(crate) async fn finished(
    context: &Context,
    dataset: &Dataset,
    progress: &Progress,
    snapshot: &Snapshot,
    ran: Ran,
) -> Outcome<(String, ExitCode)> {
    let summary = summary(dataset, snapshot, ran).await?;
    if !snapshot.already_complete {
        let (version, out) = (summary.version, summary.out.clone());
        progress.event(&Event::Sealed { version, out })?;
    }
    let text = summary.text();
    progress.event(&Event::Summary(Box::new(summary)))?;
    Ok((text, judge(context, snapshot)))
}

async fn summary(dataset: &Dataset, snapshot: &Snapshot, ran: Ran) -> Outcome<Summary> {
    let reader = dataset.reader().await?;
    let version = reader.version();
    let page_files = version.files_of(quire_dataset::Table::Pages);
    let page_files: Vec<String> = page_files.map(|file| file.path.clone()).collect();
    Ok(Summary {
        out: dataset.name.clone(),
        version: version.version,
        documents: facts::documents(&reader).await?,
        pages: version.totals.pages,
        errors: version.totals.errors,
        failures: facts::failures(&reader).await?,
        run: RunFigures {
            seconds: round(ran.seconds.as_secs_f64()),
            pages: ran.read.pages,
            pages_per_second: ran.read.per_second.map(round),
            pages_done_before: ran.read.before,
        },
        load: load_line(&dataset.name, &page_files),
        already_complete: snapshot.already_complete,
    })
}

/// To the millisecond.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Too many failed pages are no success, though the dataset is written.
pub(crate) fn judge(context: &Context, snapshot: &Snapshot) -> ExitCode {
    let allowance = context.settings().run.failed_allowance;
    let (failed, of) = failed_documents_pages(snapshot);
    if failed as f64 <= allowance * of as f64 {
        return ExitCode::SUCCESS;
    }
    output::tell(&format!(
        "error: {} of {} pages failed, more than `run.failed_allowance` = {allowance} permits\n\
         hint: the dataset is written all the same; `quire inspect` shows why pages failed\n",
        grouped(failed),
        grouped(of),
    ));
    ExitCode::FAILURE
}

/// Failed pages of all pages. A folder of scans may hold any number of notes and spreadsheets:
/// they have their errors rows, but are no pages that failed.
fn failed_documents_pages(snapshot: &Snapshot) -> (u64, u64) {
    let unsupported = TroubleCode::Unsupported.as_str();
    let of_code = snapshot
        .failures
        .iter()
        .find(|failure| failure.code == unsupported);
    let not_pages = of_code.map_or(0, |failure| failure.count);
    (
        snapshot.pages_failed.saturating_sub(not_pages),
        snapshot.pages_planned.saturating_sub(not_pages),
    )
}

fn interrupted(context: &Context, progress: &Progress, snapshot: &Snapshot) -> Outcome<ExitCode> {
    let (pages_done, pages_planned) = (snapshot.pages_safe, snapshot.pages_planned);
    progress.event(&Event::Interrupted {
        pages_done,
        pages_planned,
    })?;
    let what = match snapshot.phase {
        Phase::Planning => "Stopped while looking for documents.".to_owned(),
        _ => format!(
            "Stopped: {} of {} pages are done and safe.",
            grouped(pages_done),
            grouped(pages_planned)
        ),
    };
    context
        .screen
        .aside(&format!("{what} The same command goes on from here.\n"));
    Ok(ExitCode::FAILURE)
}

fn stopped(snapshot: &Snapshot) -> Failure {
    let reason = &snapshot.reason;
    if snapshot.phase == Phase::Paused {
        return Failure::failed(format!("the job is paused: {reason}"))
            .hint("`quire run` with the same inputs goes on with it");
    }
    let failure = Failure::of_fault(snapshot.fault, format!("the job stopped: {reason}"));
    if reason.contains("`http.hosts`") {
        return failure.hint(
            "web addresses are read from the hosts that the settings allow: [http] \
             hosts = [\"data.example.org\"]",
        );
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::FailuresOfCode;

    #[test]
    fn inputs_that_are_no_documents_are_not_held_against_a_run() {
        let failures = [("unsupported", 60), ("damaged", 3)].map(|(code, count)| FailuresOfCode {
            code: code.into(),
            count,
            example: String::new(),
        });
        let snapshot = Snapshot {
            failures: failures.into(),
            pages_planned: 100,
            pages_failed: 63,
            ..Snapshot::for_test()
        };
        assert_eq!(failed_documents_pages(&snapshot), (3, 40));
    }
}
