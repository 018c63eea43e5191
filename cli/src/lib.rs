//! The `quire` command: arguments, settings, what people see, and one file for each command.
//! Standard output and exit codes belong to this crate alone.

mod args;
mod commands;
mod context;
mod draw;
mod engines;
mod events;
mod facts;
mod failure;
mod fleet;
mod logging;
mod model_folder;
mod observe;
mod output;
mod place;
mod progress;
mod settings;
mod signals;
mod spans;
mod summary;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use context::Context;
use failure::{Failure, Outcome};
use logging::Screen;

pub use engines::{EngineChoice, EngineMaker, LoadedEngines};

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    main_with(EngineMaker::OWN)
}

/// Runs the command of this process's arguments with engines of the caller's.
pub fn main_with(engines: EngineMaker) -> ExitCode {
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
    match run(args, screen.clone(), engines) {
        Ok(code) => code,
        Err(failure) => {
            screen.hide_bars();
            output::tell(&failure.report());
            ExitCode::from(failure.exit_code)
        }
    }
}

fn run(args: Args, screen: Screen, engines: EngineMaker) -> Outcome<ExitCode> {
    let Args { common, command } = args;
    settings::choose_cpu_path().map_err(Failure::of_settings)?;
    let mut flags = common.flag_values();
    flags.extend(command.flag_values());
    let loaded = settings::load(common.config.as_deref(), flags).map_err(Failure::of_settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let spans = logging::start(&loaded.settings.log, &screen)?;
    drop(entered);
    let has_events = common.json && command.has_events();
    let context = Context::new(loaded, common.json, common.quiet, screen, engines)?;
    let ended = runtime.block_on(commands::execute(context, command));
    spans.end();
    // A thread that still reads a page must not hold the end of the process up.
    runtime.shutdown_background();
    if let Err(failure) = &ended
        && has_events
    {
        let (exit_code, message) = (failure.exit_code, failure.message());
        output::print_json(&events::Event::Failed { exit_code, message })?;
    }
    ended
}
