//! The sections of the settings file, each with what it may hold. What a key means stands in
//! `configs/default.toml`, once.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quire_core::{ImageMode, RenderSpec, SplitSpec, TextLayerMode};
use quire_corpus::{Limits, StoreSettings};
use serde::Deserialize;

use super::deepseek::{DeepSeekSettings, is_deepseek_mode};
use super::fleet::{CoordinatorSettings, FleetSettings, HttpSettings, WorkerSettings};
use super::secret::Secret;
use super::units::{Size, Span};

/// All settings, merged and checked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub run: RunSettings,
    pub input: InputSettings,
    pub stores: BTreeMap<String, StoreSettings>,
    pub http: HttpSettings,
    pub fleet: FleetSettings,
    pub coordinator: CoordinatorSettings,
    pub worker: WorkerSettings,
    pub render: RenderSettings,
    pub text_layer: TextLayerSettings,
    pub image: ImageSettings,
    pub split: SplitSettings,
    pub dataset: DatasetSettings,
    pub engine: EngineSettings,
    pub deepseek_ocr: DeepSeekSettings,
    pub job: JobSettings,
    pub log: LogSettings,
}

/// Values that cannot be: dotted key and what is wrong with its value.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub Vec<(&'static str, String)>);

impl Problems {
    pub(super) fn unless(&mut self, holds: bool, key: &'static str, message: &str) {
        if !holds {
            self.0.push((key, message.to_owned()));
        }
    }
}

impl Settings {
    /// Every value that cannot be.
    pub(crate) fn validate(&self) -> Problems {
        let mut problems = Problems::default();
        self.run.validate(&mut problems);
        self.input.validate(&mut problems);
        self.fleet.validate(&mut problems);
        self.coordinator.validate(&mut problems);
        self.worker.validate(&mut problems);
        self.render.validate(&mut problems);
        self.split.validate(&mut problems);
        self.engine.validate(&mut problems);
        self.deepseek_ocr.validate(&mut problems);
        self.job.validate(&mut problems);
        self.log.validate(&mut problems);
        problems
    }
}

/// `[run]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunSettings {
    pub out: String,
    pub workers: usize,
    pub failed_allowance: f64,
    pub scratch: String,
    pub state: String,
    pub drain_deadline: Span,
}

impl RunSettings {
    fn validate(&self, problems: &mut Problems) {
        problems.unless(self.workers <= 1024, "run.workers", "must be at most 1024");
        let share = (0.0..=1.0).contains(&self.failed_allowance);
        problems.unless(share, "run.failed_allowance", "must be between 0 and 1");
    }

    /// Pages read at the same time: what was set, or one a core.
    pub(crate) fn n_workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            set => set,
        }
    }
}

/// `[input]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputSettings {
    pub max_file_bytes: Size,
    pub max_member_bytes: Size,
    pub max_members: u64,
    pub max_expansion: u64,
}

impl InputSettings {
    fn validate(&self, problems: &mut Problems) {
        let some = "must be more than 0";
        problems.unless(self.max_file_bytes.0 > 0, "input.max_file_bytes", some);
        problems.unless(self.max_member_bytes.0 > 0, "input.max_member_bytes", some);
        problems.unless(
            self.max_members > 0,
            "input.max_members",
            "must be at least 1",
        );
        problems.unless(
            self.max_expansion > 1,
            "input.max_expansion",
            "must be at least 2",
        );
    }

    /// What opening an entry may cost.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            file_bytes: self.max_file_bytes.0,
            member_bytes: self.max_member_bytes.0,
            members: self.max_members,
            expansion_ratio: self.max_expansion,
            ..Limits::default()
        }
    }
}

/// `[render]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenderSettings {
    pub dpi: f32,
    pub max_edge_px: u32,
    pub max_area_px: u64,
    pub passwords: Vec<Secret>,
    pub font_folder: String,
    pub memory_limit: Size,
    pub open_timeout: Span,
    pub page_timeout: Span,
    pub require_sandbox: bool,
}

impl RenderSettings {
    fn validate(&self, problems: &mut Problems) {
        let dpi = (18.0..=1200.0).contains(&self.dpi);
        problems.unless(dpi, "render.dpi", "must be between 18 and 1200");
        let edge = (64..=32_768).contains(&self.max_edge_px);
        problems.unless(edge, "render.max_edge_px", "must be between 64 and 32768");
        let area = (4096..=1 << 30).contains(&self.max_area_px);
        problems.unless(
            area,
            "render.max_area_px",
            "must be between 4096 and 1073741824",
        );
        let memory = self.memory_limit.0 >= 128 << 20;
        problems.unless(memory, "render.memory_limit", "must be at least 128 MiB");
        let second = std::time::Duration::from_secs(1);
        problems.unless(
            self.open_timeout.0 >= second,
            "render.open_timeout",
            "must be at least 1s",
        );
        problems.unless(
            self.page_timeout.0 >= second,
            "render.page_timeout",
            "must be at least 1s",
        );
        if let Some(folder) = self.font_folder() {
            let there = folder.is_dir();
            problems.unless(there, "render.font_folder", "must be a folder that exists");
        }
    }

    /// What decides how a page looks.
    pub(crate) fn spec(&self) -> RenderSpec {
        RenderSpec {
            dpi: self.dpi,
            max_edge_px: self.max_edge_px,
            max_area_px: self.max_area_px,
        }
    }

    /// The folder of fonts, if one is set.
    pub(crate) fn font_folder(&self) -> Option<PathBuf> {
        set(&self.font_folder).map(PathBuf::from)
    }
}

/// `[text_layer]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextLayerSettings {
    pub mode: TextLayerMode,
}

/// `[image]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSettings {
    pub mode: ImageMode,
}

/// `[split]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitSettings {
    pub validation_fraction: f64,
    pub salt: String,
}

impl SplitSettings {
    fn validate(&self, problems: &mut Problems) {
        let share = (0.0..=1.0).contains(&self.validation_fraction);
        problems.unless(
            share,
            "split.validation_fraction",
            "must be between 0 and 1",
        );
    }

    /// Which documents are held out.
    pub(crate) fn spec(&self) -> SplitSpec {
        SplitSpec {
            salt: self.salt.clone(),
            validation_fraction: self.validation_fraction,
        }
    }
}

/// `[dataset]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatasetSettings {
    pub title: String,
    pub license: String,
}

/// A text setting for which "" means that nothing is set.
pub(crate) fn set(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// `[engine]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EngineSettings {
    pub name: String,
    pub mode: String,
}

/// The engine that is part of the program.
pub(crate) const PP_OCR: &str = "pp-ocr";
/// The engine whose model the user brings.
pub(crate) const DEEPSEEK_OCR: &str = "deepseek-ocr";

impl EngineSettings {
    /// How `pp-ocr` reads, as the engine or as a fallback.
    pub(crate) fn pp_ocr_mode(&self) -> pp_ocr::Mode {
        pp_ocr::Mode::named(&self.mode).unwrap_or_default()
    }

    /// Whether the engine of `[deepseek_ocr]` reads.
    pub(crate) fn is_deepseek(&self) -> bool {
        self.name == DEEPSEEK_OCR
    }

    fn validate(&self, problems: &mut Problems) {
        let known = [PP_OCR, DEEPSEEK_OCR].contains(&self.name.as_str());
        let names = "must be `pp-ocr` or `deepseek-ocr`";
        problems.unless(known, "engine.name", names);
        let is_built = !self.is_deepseek() || cfg!(feature = "deepseek-ocr");
        let left_out = "names an engine that was left out when this program was built: build it \
                        with the feature `deepseek-ocr`";
        problems.unless(is_built, "engine.name", left_out);
        if pp_ocr::Mode::named(&self.mode).is_none() {
            let wrong = match is_deepseek_mode(&self.mode) {
                true => format!(
                    "must be `small` or `tiny`: `{}` is a mode of `{DEEPSEEK_OCR}`, which \
                     `--engine {DEEPSEEK_OCR}` chooses",
                    self.mode
                ),
                false => "must be `small` or `tiny`".to_owned(),
            };
            problems.unless(false, "engine.mode", &wrong);
        }
    }
}

/// `[job]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobSettings {
    pub shard_pages: u32,
    pub shuffle_seed: u64,
}

impl JobSettings {
    fn validate(&self, problems: &mut Problems) {
        let pages = (1..=100_000).contains(&self.shard_pages);
        problems.unless(pages, "job.shard_pages", "must be between 1 and 100000");
    }
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    pub level: String,
    pub format: LogFormat,
    pub otlp_endpoint: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Plain,
    Json,
}

impl LogSettings {
    fn validate(&self, problems: &mut Problems) {
        let filter = tracing_subscriber::EnvFilter::builder().parse(&self.level);
        problems.unless(
            filter.is_ok(),
            "log.level",
            "must be a level such as `info`, or a filter",
        );
    }
}
