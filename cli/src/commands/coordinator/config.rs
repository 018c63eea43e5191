//! How the coordinator behaves, as the settings say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quire_coordinator::{CoordinatorConfig, QuarantinePause, SealSettings};

use crate::commands::run::HAYRO_VERSION;
use crate::failure::{Failure, Outcome};
use crate::settings::{CoordinatorSettings, Settings, set};

/// Inputs that are opened at once while a job is planned.
pub(crate) const SURVEY_ENTRIES: usize = 4;

/// A folder for unfinished files. One of this process alone goes with it.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    is_own: bool,
}

impl Scratch {
    /// The folder of the settings, or one among the temporary files.
    pub(crate) fn make(settings: &CoordinatorSettings) -> Outcome<Self> {
        let folder = set(&settings.scratch).map(PathBuf::from);
        let is_own = folder.is_none();
        let folder = folder
            .unwrap_or_else(|| std::env::temp_dir().join(format!("quire-{}", std::process::id())));
        std::fs::create_dir_all(&folder).map_err(|error| {
            let what = format!("cannot make the folder {}", folder.display());
            Failure::from(error).context(what)
        })?;
        Ok(Self { folder, is_own })
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.is_own {
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}

/// How the coordinator behaves.
pub(crate) fn coordinator(
    settings: &Settings,
    scratch: &Scratch,
    is_alone: bool,
) -> CoordinatorConfig {
    let own = &settings.coordinator;
    let seal = SealSettings {
        // A fleet writes many datasets: each is named after its folder.
        title: set(&settings.dataset.title),
        license: set(&settings.dataset.license),
        renderer: "hayro".to_owned(),
        renderer_version: HAYRO_VERSION.to_owned(),
        scratch: scratch.folder().to_owned(),
    };
    let fleet = CoordinatorConfig::fleet(seal);
    let reap_period = own.reap_period.0.max(Duration::from_millis(1));
    CoordinatorConfig {
        heartbeat_period: own.heartbeat_period.0,
        session_ttl: own.session_ttl.0,
        progress_timeout: own.progress_timeout.0,
        reap_period,
        publish_period: own.publish_period.0,
        quarantine_pause: QuarantinePause {
            fraction: own.quarantine_pause,
            ..fleet.quarantine_pause
        },
        survey_entries: SURVEY_ENTRIES,
        limits: settings.input.limits(),
        is_alone,
        oldest_worker: set(&own.oldest_worker),
        ..fleet
    }
}
