//! `quire retry`: reads again what the errors table holds and a condition chooses. What then
//! succeeds is in the next version.

mod lines;
mod select;

use std::collections::HashSet;
use std::process::ExitCode;

use quire_coordinator::Survey;
use quire_core::{DocId, JobSpec, SplitSpec};
use quire_dataset::reader::Dataset as Reader;
use quire_dataset::{DocumentRow, ErrorRow};
use serde_json::json;

use crate::args::{RetryArgs, Target};
use crate::commands::control;
use crate::commands::run::parts::RenderSurvey;
use crate::commands::run::{self, Session};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted};

use lines::{Documents, Sources};

/// Reads chosen pages of a dataset again, or lets a job of the fleet try again what it gave up.
pub(crate) async fn execute(context: &Context, args: RetryArgs) -> Outcome<ExitCode> {
    match &args.target {
        Target::Job(job_id) => {
            if args.condition.is_some() {
                return Err(control::not_for_jobs("--where"));
            }
            if args.dry_run {
                return Err(control::not_for_jobs("--dry-run"));
            }
            control::requeue(context, job_id).await?;
            Ok(ExitCode::SUCCESS)
        }
        Target::Dataset(out) => {
            let condition = args.condition.as_deref().ok_or_else(|| {
                Failure::usage("`--where` is missing: which errors are to be read again?")
                    .hint("such as --where \"code = 'timeout'\"; --where \"true\" is all of them")
            })?;
            read_again(context, out, condition, args.dry_run).await
        }
    }
}

async fn read_again(
    context: &Context,
    out: &str,
    condition: &str,
    dry_run: bool,
) -> Outcome<ExitCode> {
    let dataset = context.open_dataset(out)?;
    let reader = dataset.reader().await?;
    let errors = reader
        .rows::<ErrorRow>()
        .collect()
        .await
        .map_err(Failure::of)?;
    let chosen = select::matching(errors, condition).await?;
    if dry_run || chosen.is_empty() {
        show(context, &chosen)?;
        return Ok(ExitCode::SUCCESS);
    }
    tracing::info!("{} chosen", counted(chosen.len() as u64, "error", "errors"));
    let session = Session::start(context, out).await?;
    let survey = RenderSurvey(session.renderer.clone());
    let lines = sources(context, &survey)
        .lines(&chosen, &documents(&reader, &chosen).await?)
        .await;
    if lines.is_empty() {
        let what = "none of the chosen pages can be read again: their sources are gone or changed";
        return Err(Failure::failed(what));
    }
    let spec = JobSpec {
        retry_where: Some(condition.to_owned()),
        ..run::spec(
            context.settings(),
            inputs(&chosen),
            session.engine().clone(),
        )
    };
    // The split of a dataset is one rule for all its versions.
    let rule = &reader.version().split;
    let split = SplitSpec {
        salt: rule.salt.clone(),
        validation_fraction: rule.fraction,
    };
    let spec = JobSpec { split, ..spec };
    let submitted = session
        .handle
        .submit_planned(&session.dataset.uri, &spec, lines)
        .await;
    session.follow(submitted.map_err(run::refused)?).await
}

fn sources<'a>(context: &'a Context, survey: &'a dyn Survey) -> Sources<'a> {
    Sources {
        stores: &context.stores,
        limits: context.settings().input.limits(),
        survey,
    }
}

/// The sources that are read again: what the job says it read.
fn inputs(chosen: &[ErrorRow]) -> Vec<String> {
    let mut uris: Vec<String> = chosen
        .iter()
        .map(|error| error.source_uri.clone())
        .collect();
    uris.sort();
    uris.dedup();
    uris
}

/// The rows of the documents with chosen errors.
async fn documents(reader: &Reader, chosen: &[ErrorRow]) -> Outcome<Documents> {
    let wanted: HashSet<&DocId> = chosen.iter().map(|error| &error.doc_id).collect();
    let mut documents = Documents::new();
    let mut rows = reader.rows::<DocumentRow>();
    while let Some(row) = rows.next().await.map_err(Failure::of)? {
        if wanted.contains(&row.doc_id) {
            documents.insert(row.doc_id.clone(), row);
        }
    }
    Ok(documents)
}

fn show(context: &Context, chosen: &[ErrorRow]) -> Outcome<()> {
    if context.json {
        let rows = chosen.iter().map(|error| {
            json!({
                "doc_id": error.doc_id.as_str(),
                "page_id": error.page_id,
                "page_number": error.page_number,
                "source_uri": error.source_uri,
                "source_member": error.source_member,
                "code": error.code.as_str(),
                "attempts": error.attempts,
                "message": error.message,
            })
        });
        return output::print_json(&rows.collect::<Vec<_>>());
    }
    if chosen.is_empty() {
        return output::print("The condition chooses no row of the errors table.\n");
    }
    let mut text = String::new();
    for error in chosen {
        let member = error
            .source_member
            .as_ref()
            .map_or_else(String::new, |m| format!(" > {m}"));
        let page = error
            .page_number
            .map_or_else(String::new, |page| format!(" page {page}"));
        let (uri, code) = (&error.source_uri, error.code);
        text.push_str(&format!("{code:<14} {uri}{member}{page}\n"));
    }
    output::print(&text)
}
