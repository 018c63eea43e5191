//! The `quire` command: arguments, settings, what people see, and one file for each command.
//! Standard output and exit codes belong to this crate alone.

mod args;
mod commands;
mod context;
mod draw;
mod events;
mod facts;
mod failure;
mod logging;
mod output;
mod place;
mod progress;
mod settings;
mod signals;
mod summary;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use context::Context;
use failure::{Failure, Outcome};
use logging::Screen;

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version end here too; a closed terminal has nobody to be told.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // Before any thread or runtime is started: the child locks itself up.
    if matches!(args.command, Command::RenderChild) {
        return quire_worker::pipeline::render::render_child_main();
    }
    let screen = Screen::new();
    match run(args, screen.clone()) {
        Ok(code) => code,
        Err(failure) => {
            screen.hide_bars();
            output::tell(&failure.report());
            ExitCode::from(failure.exit_code)
        }
    }
}

fn run(args: Args, screen: Screen) -> Outcome<ExitCode> {
    let Args { common, command } = args;
    let mut flags = common.flag_values();
    flags.extend(command.flag_values());
    let loaded = settings::load(common.config.as_deref(), flags).map_err(|error| {
        let hint = error.hint();
        let failure = Failure::of(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    logging::start(&loaded.settings.log, &screen)?;
    let context = Context::new(loaded, common.json, common.quiet, screen)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(commands::execute(context, command));
    // A thread that still reads a page must not hold the end of the process up.
    runtime.shutdown_background();
    ended
}
