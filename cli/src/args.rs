//! What was typed. Nothing below [`crate::settings`] sees a flag.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use toml::Value;

use crate::settings::FlagValue;

/// Turns documents into a dataset for training.
#[derive(Debug, Parser)]
#[command(
    name = "quire",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 bad usage or settings.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct CommonArgs {
    /// Settings file, laid over the defaults
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Print JSON on standard output instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Log what is going on inside, twice in detail, three times everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log warnings and errors only, draw no bar
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read documents and write a dataset; go on where an earlier run stopped
    Run(RunArgs),
    /// Check a dataset against every promise its format makes
    Verify(DatasetArgs),
    /// Show what is in a dataset, or one of its pages
    Inspect(InspectArgs),
    /// Read failed pages again; what succeeds is in the next version
    Retry(RetryArgs),
    /// Give up the unfinished job of OUT; versions that exist stay as they are
    Cancel(DatasetArgs),
    /// Check this machine, the settings, and whether OUT can hold a dataset
    Doctor(DoctorArgs),
    /// Print the files of the newest version, for readers that take a list
    Files(FilesArgs),
    /// Write README.md, dataset.json, SHA256SUMS and _SUCCESS of the newest version again
    Seal(DatasetArgs),
    /// Print the settings in force and where each came from
    Settings,
    /// Opens and draws documents for a parent process
    #[command(hide = true)]
    RenderChild,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    /// Folders, files, patterns, or @FILE (a list); local paths or URIs of a store
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// Where the dataset goes: a folder, or a URI of a configured store
    #[arg(long, short, value_name = "OUT")]
    pub out: Option<String>,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// Flags that decide how pages are read.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct ReadingArgs {
    /// What goes into the `image` column
    #[arg(long, value_name = "MODE")]
    pub image_mode: Option<ImageModeArg>,
    /// What is done with the text that a PDF carries itself
    #[arg(long, value_name = "MODE")]
    pub text_layer: Option<TextLayerArg>,
    /// Dots an inch at which vector pages are drawn [default: 144]
    #[arg(long)]
    pub dpi: Option<f64>,
    /// Pages read at the same time [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Refuse to run where the kernel offers no sandbox
    #[arg(long)]
    pub require_sandbox: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageModeArg {
    None,
    Embed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextLayerArg {
    Compare,
    Prefer,
    Ignore,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DatasetArgs {
    /// The dataset
    pub out: String,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InspectArgs {
    /// The dataset
    pub out: String,
    /// Show this page: Markdown, blocks, and a PNG with its boxes drawn
    #[arg(long, value_name = "PAGE_ID")]
    pub page: Option<String>,
    /// Where the PNG goes [default: {page_id}.png]
    #[arg(long, value_name = "FILE.png", requires = "page")]
    pub png: Option<PathBuf>,
    /// Draw no PNG
    #[arg(long, requires = "page", conflicts_with = "png")]
    pub no_png: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RetryArgs {
    /// The dataset
    pub out: String,
    /// SQL condition on the errors table, such as "code = 'timeout' AND attempts < 3"
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: String,
    /// Only say what would be read again
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// A dataset, or where one will go; without it only machine and settings are checked
    pub out: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct FilesArgs {
    /// The dataset
    pub out: String,
    /// Only files of this table
    #[arg(long)]
    pub table: Option<TableArg>,
    /// Only files of this split
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableArg {
    Pages,
    Documents,
    Errors,
}

impl TableArg {
    /// As files are listed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Documents => "documents",
            Self::Errors => "errors",
        }
    }
}

impl CommonArgs {
    /// Settings that these flags set.
    pub(crate) fn flag_values(&self) -> Vec<FlagValue> {
        let level = |level: &str, flag| FlagValue {
            key: "log.level",
            value: Value::String(level.to_owned()),
            flag,
        };
        match (self.quiet, self.verbose) {
            (true, _) => vec![level("warn", "--quiet")],
            (false, 0) => Vec::new(),
            (false, 1) => vec![level("info", "--verbose")],
            (false, 2) => vec![level("debug", "--verbose")],
            (false, _) => vec![level("trace", "--verbose")],
        }
    }
}

impl ReadingArgs {
    /// Settings that these flags set.
    pub(crate) fn flag_values(&self) -> Vec<FlagValue> {
        let text = |value: &str| Value::String(value.to_owned());
        let image_mode = self.image_mode.map(|mode| match mode {
            ImageModeArg::None => text("none"),
            ImageModeArg::Embed => text("embed"),
        });
        let text_layer = self.text_layer.map(|mode| match mode {
            TextLayerArg::Compare => text("compare"),
            TextLayerArg::Prefer => text("prefer"),
            TextLayerArg::Ignore => text("ignore"),
        });
        let workers = self
            .workers
            .map(|workers| Value::Integer(i64::from(workers)));
        let sandbox = self.require_sandbox.then_some(Value::Boolean(true));
        let values = [
            ("image.mode", image_mode, "--image-mode"),
            ("text_layer.mode", text_layer, "--text-layer"),
            ("render.dpi", self.dpi.map(Value::Float), "--dpi"),
            ("run.workers", workers, "--workers"),
            ("render.require_sandbox", sandbox, "--require-sandbox"),
        ];
        let set = values.into_iter();
        set.filter_map(|(key, value, flag)| {
            Some(FlagValue {
                key,
                value: value?,
                flag,
            })
        })
        .collect()
    }
}

impl RunArgs {
    /// Settings that these flags set.
    pub(crate) fn flag_values(&self) -> Vec<FlagValue> {
        let out = self.out.clone().map(Value::String);
        let out = out.map(|value| FlagValue {
            key: "run.out",
            value,
            flag: "--out",
        });
        out.into_iter().chain(self.reading.flag_values()).collect()
    }
}

impl Command {
    /// Settings that the flags of this command set.
    pub(crate) fn flag_values(&self) -> Vec<FlagValue> {
        match self {
            Self::Run(args) => args.flag_values(),
            Self::Retry(args) => args.reading.flag_values(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::settings::merge_layers;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split(' '))
    }

    #[test]
    fn command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_reaches_its_setting() {
        let line = "quire run scans --out data --image-mode embed --text-layer prefer --dpi 200 \
                    --workers 3 --require-sandbox --json -v";
        let args = parse(line).unwrap();
        assert!(args.common.json);
        let mut flags = args.common.flag_values();
        flags.extend(args.command.flag_values());
        let settings = merge_layers(None, Vec::new(), flags).unwrap().settings;
        assert_eq!(settings.run.out, "data");
        assert_eq!(settings.run.workers, 3);
        assert_eq!(settings.render.dpi, 200.0);
        assert!(settings.render.require_sandbox);
        assert_eq!(settings.image.mode, quire_core::ImageMode::Embed);
        assert_eq!(settings.text_layer.mode, quire_core::TextLayerMode::Prefer);
        assert_eq!(settings.log.level, "info");
    }

    #[test]
    fn wrong_usage_is_refused() {
        for line in [
            "quire",
            "quire run",
            "quire run a --image-mode some",
            "quire run a --dpi many",
            "quire inspect out --png x.png",
            "quire retry out",
            "quire files out --table lines",
            "quire run a -q -v",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
