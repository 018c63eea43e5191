//! What is typed to `quire bench`.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use toml::Value;

use crate::settings::{FlagValue, MODE};

#[derive(Debug, ClapArgs)]
pub(crate) struct BenchArgs {
    /// Images and PDFs to read [default: a page inside the program]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Mode of pp-ocr: small, tiny [default: small]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// Pages read at the same time [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
}

impl BenchArgs {
    /// Settings that these flags set.
    pub(super) fn flag_values(&self) -> Vec<FlagValue> {
        let mode = self.mode.clone().map(|mode| FlagValue {
            key: MODE,
            value: Value::String(mode),
            flag: "--mode",
        });
        let workers = self.workers.map(|workers| FlagValue {
            key: "run.workers",
            value: Value::Integer(i64::from(workers)),
            flag: "--workers",
        });
        mode.into_iter().chain(workers).collect()
    }
}
