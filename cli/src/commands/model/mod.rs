//! `quire model`: checkpoints that users bring.

#[cfg(feature = "deepseek-ocr")]
mod check;
#[cfg(feature = "deepseek-ocr")]
mod report;

use std::process::ExitCode;

use crate::args::{ModelAction, ModelArgs};
use crate::context::Context;
use crate::failure::Outcome;

/// Exit code 0 if the checkpoint can be used, else 1.
#[cfg(feature = "deepseek-ocr")]
pub(crate) async fn execute(context: &Context, args: ModelArgs) -> Outcome<ExitCode> {
    match args.action {
        ModelAction::Check(args) => check::execute(context, args).await,
    }
}

/// This build knows no model that users bring.
#[cfg(not(feature = "deepseek-ocr"))]
pub(crate) async fn execute(_context: &Context, args: ModelArgs) -> Outcome<ExitCode> {
    let ModelAction::Check(args) = args.action;
    let what = format!(
        "cannot check {}: DeepSeek-OCR was left out when this program was built",
        args.model
    );
    Err(crate::failure::Failure::usage(what).hint("build it with the feature `deepseek-ocr`"))
}
