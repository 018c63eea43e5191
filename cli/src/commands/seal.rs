//! `quire seal`: writes what follows from the newest version again.

use serde_json::json;

use crate::args::DatasetArgs;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Writes README.md, dataset.json, SHA256SUMS and _SUCCESS anew.
pub(crate) async fn execute(context: &Context, args: DatasetArgs) -> Outcome<()> {
    let dataset = context.open_dataset(&args.out)?;
    dataset.newest_version().await?;
    let version = quire_dataset::refresh(&dataset.output)
        .await
        .map_err(Failure::of)?;
    if context.json {
        return output::print_json(&json!({ "out": dataset.name, "version": version.version }));
    }
    output::print(&format!(
        "README.md, dataset.json, SHA256SUMS and _SUCCESS of version {} are written anew.\n",
        version.version
    ))
}
