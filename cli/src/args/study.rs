//! What is typed to `quire study`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::EngineArgs;
use crate::settings::FlagValue;

#[derive(Debug, ClapArgs)]
pub(crate) struct StudyArgs {
    #[command(subcommand)]
    pub kind: StudyKind,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StudyKind {
    /// How much text each token of a page's image can stand for, and how well it is read
    Compression(CompressionArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CompressionArgs {
    /// Folders, files, patterns, or @FILE (a list): PDFs with text, or images with a .txt or .md
    /// of the same name beside them
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// Modes to compare, with commas between [default: the engine's own]
    #[arg(long, value_name = "MODES", value_delimiter = ',')]
    pub modes: Vec<String>,
    /// Folder for pages.csv, buckets.csv and compression.svg
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Read so many pages at most, the first ones
    #[arg(long, value_name = "N")]
    pub pages: Option<usize>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

impl StudyArgs {
    /// Settings that these flags set.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        match &self.kind {
            StudyKind::Compression(args) => args.engine.flag_values(),
        }
    }
}
