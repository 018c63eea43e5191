//! `quire run`: coordinator and worker in one process, joined by the calls that a fleet makes
//! over the network.

mod end;
pub(crate) mod inputs;
pub(crate) mod parts;
mod session;
mod watch;

use std::process::ExitCode;

use quire_core::{EngineInfo, JobSpec};

use crate::args::RunArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::place;
use crate::settings::Settings;

pub(crate) use end::{Ran, finished, judge};
pub(crate) use session::{HAYRO_VERSION, Session, audience, seal_settings};
pub(crate) use watch::Watch;

/// Reads the inputs into the dataset, or goes on where an earlier run stopped.
pub(crate) async fn execute(context: &Context, args: RunArgs) -> Outcome<ExitCode> {
    let settings = context.settings();
    let out = &settings.run.out;
    if out.is_empty() {
        let failure = Failure::usage("no place for the dataset");
        return Err(failure.hint("name it with --out OUT, or with `run.out` in the settings"));
    }
    let inputs = inputs::canonical(&args.inputs)?;
    place::check(context, out, &inputs).await?;
    let session = Session::start(context, out).await?;
    let spec = spec(settings, inputs, session.engine().clone());
    let submitted = session.handle.submit(&session.dataset.uri, &spec).await;
    session.follow(submitted.map_err(refused)?).await
}

/// A job that asks for something else is not finished: the user decides which one counts.
pub(crate) fn refused(error: quire_coordinator::Error) -> Failure {
    let is_other_job = matches!(error, quire_coordinator::Error::JobUnfinished { .. });
    let failure = Failure::of(error);
    if !is_other_job {
        return failure;
    }
    failure.hint(
        "run the earlier command again to finish its job, or give that job up with \
         `quire cancel OUT`",
    )
}

/// What decides the content of the dataset, and nothing else.
pub(crate) fn spec(settings: &Settings, inputs: Vec<String>, engine: EngineInfo) -> JobSpec {
    JobSpec {
        inputs,
        engine,
        image_mode: settings.image.mode,
        text_layer: settings.text_layer.mode,
        render: settings.render.spec(),
        split: settings.split.spec(),
        shard_pages: settings.job.shard_pages,
        shuffle_seed: settings.job.shuffle_seed,
        retry_where: None,
    }
}
