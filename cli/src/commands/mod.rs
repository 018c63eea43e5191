//! One file for each command.

mod bench;
mod cancel;
mod control;
mod coordinator;
mod doctor;
mod files;
mod inspect;
mod model;
mod prune;
mod recover;
mod retry;
mod run;
mod seal;
mod settings;
mod status;
mod study;
mod submit;
mod tenants;
mod verify;
mod worker;
mod workers;

use std::process::ExitCode;

use crate::args::Command;
use crate::context::Context;
use crate::failure::Outcome;

/// Runs a command to its end.
pub(crate) async fn execute(context: Context, command: Command) -> Outcome<ExitCode> {
    match command {
        Command::Run(args) => run::execute(&context, args).await,
        Command::Verify(args) => verify::execute(&context, args).await,
        Command::Inspect(args) => done(inspect::execute(&context, args).await),
        Command::Retry(args) => retry::execute(&context, args).await,
        Command::Cancel(args) => done(cancel::execute(&context, args).await),
        Command::Model(args) => model::execute(&context, args).await,
        Command::Doctor(args) => doctor::execute(&context, args).await,
        Command::Files(args) => done(files::execute(&context, args).await),
        Command::Seal(args) => done(seal::execute(&context, args).await),
        Command::Prune(args) => done(prune::execute(&context, args).await),
        Command::Coordinator(_) => coordinator::execute(&context).await,
        Command::Worker(_) => worker::execute(&context).await,
        Command::Submit(args) => submit::execute(&context, args).await,
        Command::Status(args) => status::execute(&context, args).await,
        Command::Pause(args) => done(control::pause(&context, args).await),
        Command::Resume(args) => done(control::resume(&context, args).await),
        Command::Workers(args) => done(workers::execute(&context, args).await),
        Command::Tenants(args) => done(tenants::execute(&context, args).await),
        Command::Recover(args) => recover::execute(&context, args).await,
        Command::Bench(args) => done(bench::execute(&context, args).await),
        Command::Study(args) => study::execute(&context, args).await,
        Command::Settings => done(settings::execute(&context)),
        // Answered in `main`, before anything is started.
        Command::RenderChild => Ok(ExitCode::FAILURE),
    }
}

fn done(ended: Outcome<()>) -> Outcome<ExitCode> {
    ended.map(|()| ExitCode::SUCCESS)
}
