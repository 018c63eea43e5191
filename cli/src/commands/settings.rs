//! `quire settings`: the settings in force and where each came from.

use crate::context::Context;
use crate::failure::Outcome;
use crate::output;
use crate::settings::{as_json, as_toml};

/// Prints every setting; secrets are masked.
pub(crate) fn execute(context: &Context) -> Outcome<()> {
    let merged = &context.loaded.merged;
    if context.json {
        output::print_json(&as_json(merged))
    } else {
        output::print(&as_toml(merged))
    }
}
