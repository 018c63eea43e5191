//! `quire status`: jobs with their progress, once, as lines, or as a page that stays.

mod detail;
#[cfg(test)]
pub(crate) mod examples;
mod follow;
mod page;
mod table;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use quire_core::{Clock, SystemClock};
use quire_proto::CallError;

use crate::args::StatusArgs;
use crate::context::Context;
use crate::failure::Outcome;
use crate::fleet::{self, Fleet, Look, Rates};
use crate::output;

/// Shows jobs.
pub(crate) async fn execute(context: &Context, args: StatusArgs) -> Outcome<ExitCode> {
    let fleet = Fleet::connect(context).await?;
    if args.watch {
        let at_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if at_terminal && !context.json {
            return page::watch(context, &fleet, args.job).await;
        }
        return match args.job {
            Some(job_id) => follow::job(context, &fleet, &job_id).await,
            None => follow::jobs(context, &fleet).await,
        };
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let look = look(&fleet, args.job.as_deref(), clock.unix_ms()).await;
    let look = look.map_err(|error| fleet.refused(error))?;
    let mut rates = Rates::default();
    rates.observe(Duration::ZERO, &look);
    show(context, &look, &rates, args.job.is_some())?;
    Ok(ExitCode::SUCCESS)
}

/// One look at one job or at all.
async fn look(fleet: &Fleet, job_id: Option<&str>, at_ms: i64) -> Result<Look, CallError> {
    let jobs = match job_id {
        Some(job_id) => vec![fleet::job_of(&fleet.client, job_id).await?],
        None => fleet::jobs(&fleet.client).await?,
    };
    let workers = fleet::workers(&fleet.client).await?;
    Ok(Look {
        jobs,
        workers,
        at_ms,
    })
}

fn show(context: &Context, look: &Look, rates: &Rates, in_detail: bool) -> Outcome<()> {
    if context.json {
        return print_json(look, rates);
    }
    if !in_detail {
        return output::print(&table::jobs_table(look, rates));
    }
    let details = look
        .jobs
        .iter()
        .map(|job| detail::job_detail(job, &look.workers, rates, look.at_ms));
    output::print(&details.collect::<String>())
}

/// One job a line.
fn print_json(look: &Look, rates: &Rates) -> Outcome<()> {
    for job in &look.jobs {
        let eta = rates.eta(job).map(|eta| eta.as_secs());
        output::print_json(&fleet::job_json(job, rates.of(job), eta))?;
    }
    Ok(())
}
