//! Settings: defaults, under the user's file, under the environment, under flags. Below this
//! module nobody sees where a value came from, and nobody reads the environment.

mod deepseek;
mod fleet;
mod job;
mod merge;
mod secret;
mod sections;
mod show;
mod units;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use quire_core::{Fault, Faulty};
use quire_kernels::PathError;
use thiserror::Error;
use toml::{Table, Value};

pub(crate) use deepseek::DeepSeekSettings;
#[cfg_attr(
    not(feature = "deepseek-ocr"),
    allow(unused_imports, reason = "for the engine that this build left out")
)]
pub(crate) use deepseek::{DeviceKind, DeviceName, Fallback};
pub(crate) use fleet::{CoordinatorSettings, FleetSettings, RoleName, StoreAddress};
pub(crate) use job::{JobFile, is_job_file};
pub(crate) use merge::{MODE, Merged, Origin};
pub(crate) use secret::Secret;
pub(crate) use sections::{DEEPSEEK_OCR, LogFormat, LogSettings, PP_OCR, Settings, set};
pub(crate) use show::{as_json, as_toml};
pub(crate) use units::{Size, Span};

/// The defaults and their documentation.
pub(crate) const DEFAULTS: &str = include_str!("../../../configs/default.toml");

const ENVIRONMENT_PREFIX: &str = "QUIRE__";

/// Names the instructions that are used.
const CPU_PATH: &str = "QUIRE_CPU";

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SettingsError {
    #[error("cannot read settings file {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("settings file {} is not valid TOML", path.display())]
    Syntax {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("unknown setting `{key}` (from {origin})")]
    Unknown {
        key: String,
        origin: String,
        suggestion: Option<String>,
    },
    #[error("setting `{key}` must be {expected}, not {found} (from {origin})")]
    Kind {
        key: String,
        expected: &'static str,
        found: &'static str,
        origin: String,
    },
    #[error("a job has no `{key}` (from {})", path.display())]
    NotOfJob {
        key: String,
        path: PathBuf,
        suggestion: Option<String>,
        /// It is a setting, and not one of jobs.
        is_setting: bool,
    },
    #[error("settings cannot be used: {0}")]
    Value(String),
    #[error("variable {0} of the environment is not valid UTF-8")]
    NotUnicode(String),
    #[error("variable QUIRE_CPU of the environment cannot be followed")]
    CpuPath(#[source] PathError),
}

impl Faulty for SettingsError {
    fn fault(&self) -> Fault {
        Fault::Config
    }
}

impl SettingsError {
    /// What the user may do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown {
                suggestion: Some(key),
                ..
            } => Some(format!("did you mean `{key}`?")),
            Self::Unknown { .. } => {
                Some("`quire settings` prints every setting and its value".to_owned())
            }
            Self::NotOfJob {
                suggestion: Some(key),
                ..
            } => Some(format!("did you mean `{key}`?")),
            Self::NotOfJob {
                is_setting: true, ..
            } => Some(
                "this is a setting of machines, and the same for all jobs: it belongs into the                  file of `--config` on the machines that it is for"
                    .to_owned(),
            ),
            Self::NotOfJob { .. } => {
                let what = "a job's file holds `inputs`, `out`, `priority`, and keys of [render], \
                            [text_layer], [image], [split], [engine] and [job]";
                Some(what.to_owned())
            }
            _ => None,
        }
    }
}

/// A value that a flag sets.
#[derive(Debug, Clone)]
pub(crate) struct FlagValue {
    /// Dotted, or [`MODE`].
    pub key: &'static str,
    pub value: Value,
    /// The flag as typed, for messages.
    pub flag: &'static str,
}

/// Settings and where each came from.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub settings: Settings,
    pub merged: Merged,
    /// What was typed, which goes over a job's own file, too.
    pub flags: Vec<FlagValue>,
    /// From the environment alone, so that it is in no file and on no command line.
    pub database_password: Option<Secret>,
    /// Where this user's programs keep what they remember.
    pub user_state: PathBuf,
    /// Where this user's programs keep what can be had again.
    pub user_cache: PathBuf,
}

/// Merges everything for this process: file, this process's environment, flags.
pub(crate) fn load(file: Option<&Path>, flags: Vec<FlagValue>) -> Result<Loaded, SettingsError> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with(ENVIRONMENT_PREFIX)
            .then_some((name, value))
    });
    let mut pairs = Vec::new();
    for (name, value) in environment {
        let value = value.into_string();
        pairs.push((
            name.clone(),
            value.map_err(|_| SettingsError::NotUnicode(name))?,
        ));
    }
    let loaded = merge_layers(file, pairs, flags)?;
    Ok(Loaded {
        user_state: user_state(),
        user_cache: user_cache(),
        database_password: database_password(),
        ..loaded
    })
}

/// `$XDG_STATE_HOME/quire`, by default `~/.local/state/quire`.
fn user_state() -> PathBuf {
    let state = user_folder("XDG_STATE_HOME", ".local/state");
    state.unwrap_or_else(std::env::temp_dir).join("quire")
}

/// `$XDG_CACHE_HOME/quire`, by default `~/.cache/quire`.
fn user_cache() -> PathBuf {
    let cache = user_folder("XDG_CACHE_HOME", ".cache");
    cache.map_or_else(
        || std::env::temp_dir().join("quire-cache"),
        |folder| folder.join("quire"),
    )
}

fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let value = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let set = value(variable).map(PathBuf::from);
    set.or_else(|| Some(PathBuf::from(value("HOME")?).join(below_home)))
}

/// Takes the instructions that `QUIRE_CPU` names, before anything is computed. Without it the
/// widest that this CPU has are used.
pub(crate) fn choose_cpu_path() -> Result<(), SettingsError> {
    let Some(name) = std::env::var_os(CPU_PATH).filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let name = name
        .into_string()
        .map_err(|_| SettingsError::NotUnicode(CPU_PATH.to_owned()))?;
    let path: Result<quire_kernels::Path, PathError> = name.parse();
    let chosen = path.and_then(quire_kernels::choose);
    chosen.map_err(SettingsError::CpuPath)
}

/// Ours goes before the one that PostgreSQL's own tools read.
fn database_password() -> Option<Secret> {
    let variable = |name| std::env::var_os(name).and_then(|value| value.into_string().ok());
    let password = variable("QUIRE_DATABASE_PASSWORD").or_else(|| variable("PGPASSWORD"));
    password.filter(|value| !value.is_empty()).map(Secret::new)
}

/// Merges everything that is given; the environment is a list of names and values.
pub(crate) fn merge_layers(
    file: Option<&Path>,
    environment: Vec<(String, String)>,
    flags: Vec<FlagValue>,
) -> Result<Loaded, SettingsError> {
    let mut merged = Merged::new(default_table());
    if let Some(path) = file {
        merged.lay_table(read_file(path)?, &Origin::File(path.to_owned()))?;
    }
    let mut environment = environment;
    environment.sort();
    for (name, value) in environment {
        let path: Vec<String> = name
            .trim_start_matches(ENVIRONMENT_PREFIX)
            .split("__")
            .map(str::to_lowercase)
            .collect();
        merged.set_text(&path, &value, Origin::Environment(name))?;
    }
    merged.lay_flags(&flags)?;
    let settings = check(&merged)?;
    Ok(Loaded {
        settings,
        merged,
        flags,
        database_password: None,
        user_state: std::env::temp_dir().join("quire"),
        user_cache: std::env::temp_dir().join("quire-cache"),
    })
}

fn check(merged: &Merged) -> Result<Settings, SettingsError> {
    let settings: Settings = merged
        .table
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| SettingsError::Value(one_line(&error.to_string())))?;
    let mut problems = settings.validate().0;
    problems.extend(flags_of_another_engine(&settings, merged));
    if problems.is_empty() {
        return Ok(settings);
    }
    let named = problems
        .iter()
        .map(|(key, message)| match merged.origin(key) {
            Origin::Default => format!("`{key}` {message}"),
            origin => format!("`{key}` {message} (from {origin})"),
        });
    Err(SettingsError::Value(named.collect::<Vec<_>>().join("; ")))
}

/// A file may hold settings of several engines; who types a flag means the engine in use.
fn flags_of_another_engine(settings: &Settings, merged: &Merged) -> Vec<(&'static str, String)> {
    if settings.engine.is_deepseek() {
        return Vec::new();
    }
    let keys = [
        "deepseek_ocr.model",
        "deepseek_ocr.device",
        "deepseek_ocr.dtype",
    ];
    let typed = keys
        .into_iter()
        .filter(|key| matches!(merged.origin(key), Origin::Flag(_)));
    let name = &settings.engine.name;
    let wrong = format!("is none of `{name}`: add `--engine {DEEPSEEK_OCR}`");
    typed.map(|key| (key, wrong.clone())).collect()
}

fn read_file(path: &Path) -> Result<Table, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
        path: path.to_owned(),
        source,
    })?;
    text.parse().map_err(|source| SettingsError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn default_table() -> Table {
    DEFAULTS
        .parse()
        .expect("configs/default.toml is compiled in and parsed by a test")
}

/// toml writes the key on a line of its own.
fn one_line(text: &str) -> String {
    text.split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
