//! What was typed. Nothing below [`crate::settings`] sees a flag.

mod bench;
mod engine;
mod fleet;
mod help;
mod model;
mod study;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use toml::Value;

use crate::settings::{FlagValue, Span};

pub(crate) use bench::BenchArgs;
pub(crate) use engine::EngineArgs;
pub(crate) use fleet::{
    CoordinatorArgs, CoordinatorUrl, JobArgs, NodeAction, NodeArgs, RecoverArgs, ResumeArgs,
    StatusArgs, SubmitArgs, TenantAction, TenantsArgs, WorkerArgs, WorkersArgs,
};
pub(crate) use model::{ModelAction, ModelArgs, ModelCheckArgs};
pub(crate) use study::{CompressionArgs, StudyArgs, StudyKind};

/// Turns documents into a dataset for training.
#[derive(Debug, Parser)]
#[command(
    name = "quire",
    version,
    propagate_version = true,
    max_term_width = 100,
    help_template = help::TEMPLATE
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
    /// Print the files of the newest version, for readers that take a list
    Files(FilesArgs),
    /// Read failed pages again: of a dataset, or those that a job gave up
    Retry(RetryArgs),
    /// Give up a job: the unfinished one of OUT, or one of the fleet
    Cancel(CancelArgs),
    /// Write README.md, dataset.json, SHA256SUMS and _SUCCESS of the newest version again
    Seal(DatasetArgs),
    /// Remove what no reader needs: files of dropped versions, and parts that were sealed
    Prune(PruneArgs),
    /// Serve the jobs of a fleet: plan, hand out shards, publish what is done
    Coordinator(CoordinatorArgs),
    /// Read shards that a coordinator hands out
    Worker(WorkerArgs),
    /// Give a job to the fleet and print its identifier
    Submit(SubmitArgs),
    /// Show jobs with their progress; with --watch a page that stays
    Status(StatusArgs),
    /// Hand out nothing more of a job until it is resumed
    Pause(JobArgs),
    /// Go on with a job that is paused or has failed
    Resume(ResumeArgs),
    /// List workers with what they do; drain, cordon or uncordon a node
    Workers(WorkersArgs),
    /// List tenants with their shares of the fleet, or set a share
    Tenants(TenantsArgs),
    /// Make a new database from what lies beside OUT, after the old one is lost
    Recover(RecoverArgs),
    /// Measure how fast this machine reads, and where the time goes
    Bench(BenchArgs),
    /// Measure how engines and modes read documents whose text is known
    Study(StudyArgs),
    /// Check the checkpoint of a model that you bring
    Model(ModelArgs),
    /// Check this machine, a place for datasets, a database, or the way to a coordinator
    Doctor(DoctorArgs),
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
    #[command(flatten)]
    pub engine: EngineArgs,
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
pub(crate) struct PruneArgs {
    /// The dataset
    pub out: String,
    /// Drop all versions but so many newest ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_versions: Option<u32>,
    /// Remove the parts of jobs whose rows a version holds, too
    #[arg(long)]
    pub parts: bool,
    /// What was of use until more recently stays
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = Span::parse)]
    pub older_than: Span,
    /// Only say what would be removed
    #[arg(long)]
    pub dry_run: bool,
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
    /// The dataset, or a job of the fleet
    #[arg(value_name = "OUT | JOB")]
    pub target: Target,
    /// SQL condition on the errors table, such as "code = 'timeout' AND attempts < 3"; for a
    /// dataset
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
    /// Only say what would be read again
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub url: CoordinatorUrl,
    #[command(flatten)]
    pub reading: ReadingArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CancelArgs {
    /// The dataset, or a job of the fleet
    #[arg(value_name = "OUT | JOB")]
    pub target: Target,
    /// Why, for whoever looks at the job
    #[arg(long)]
    pub reason: Option<String>,
    #[command(flatten)]
    pub url: CoordinatorUrl,
}

/// A dataset or a job. What looks like a job's identifier is one; a folder of such a name is
/// written `./j-...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Dataset(String),
    Job(String),
}

/// Hex digits of a job's identifier, after `j-`.
const JOB_DIGITS: usize = 12;

impl std::str::FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("j-").unwrap_or_default();
        let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let is_job = digits.len() == JOB_DIGITS && digits.chars().all(is_digit);
        let text = text.to_owned();
        Ok(if is_job {
            Self::Job(text)
        } else {
            Self::Dataset(text)
        })
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// A dataset or where one will go, or a database (sqlite:PATH, postgres://...); without it
    /// only machine and settings are checked
    #[arg(value_name = "OUT | STORE")]
    pub place: Option<String>,
    /// Check the way to this coordinator, and what it says
    #[arg(long, value_name = "URL")]
    pub coordinator: Option<String>,
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
        .chain(self.engine.flag_values())
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
    /// Whether programs are sent events, of which a failure is one.
    pub(crate) fn has_events(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Retry(_)
                | Self::Submit(_)
                | Self::Coordinator(_)
                | Self::Worker(_)
        )
    }

    /// Settings that the flags of this command set.
    pub(crate) fn flag_values(&self) -> Vec<FlagValue> {
        match self {
            Self::Run(args) => args.flag_values(),
            Self::Retry(args) => {
                let mut values = args.reading.flag_values();
                values.extend(args.url.flag_values());
                values
            }
            Self::Cancel(args) => args.url.flag_values(),
            Self::Coordinator(args) => args.flag_values(),
            Self::Worker(args) => args.flag_values(),
            Self::Submit(args) => args.flag_values(),
            Self::Status(args) => args.url.flag_values(),
            Self::Pause(args) => args.url.flag_values(),
            Self::Resume(args) => args.url.flag_values(),
            Self::Workers(args) => fleet::coordinator_url(args.coordinator.as_ref()),
            Self::Tenants(args) => fleet::coordinator_url(args.coordinator.as_ref()),
            Self::Recover(args) => args.flag_values(),
            Self::Bench(args) => args.flag_values(),
            Self::Study(args) => args.flag_values(),
            Self::Doctor(args) => fleet::coordinator_url(args.coordinator.as_ref()),
            Self::Verify(_)
            | Self::Inspect(_)
            | Self::Files(_)
            | Self::Seal(_)
            | Self::Model(_)
            | Self::Prune(_)
            | Self::Settings
            | Self::RenderChild => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
