//! What is typed to `quire model`.

use clap::{Args as ClapArgs, Subcommand};

#[derive(Debug, ClapArgs)]
pub(crate) struct ModelArgs {
    #[command(subcommand)]
    pub action: ModelAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelAction {
    /// Check every tensor, the tokenizer and the configuration, and reckon the memory
    Check(ModelCheckArgs),
}

#[derive(Debug, ClapArgs)]
#[cfg_attr(
    not(feature = "deepseek-ocr"),
    expect(dead_code, reason = "read by the engine that this build left out")
)]
pub(crate) struct ModelCheckArgs {
    /// The checkpoint: a folder, or a prefix of a store, which is copied first
    #[arg(value_name = "DIR | URI")]
    pub model: String,
    /// Reckon the memory for this mode only [default: every mode]
    #[arg(long)]
    pub mode: Option<String>,
    /// Pages written at the same time, for the memory
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: u16,
    /// Read every number, too: none may be infinite or no number
    #[arg(long)]
    pub values: bool,
}
