//! What every command works with: settings, the screen, and the way to stores and datasets.

use std::path::{Path, PathBuf};

use quire_corpus::{OutputLocation, Stores};
use quire_dataset::reader::Dataset as Reader;
use quire_dataset::{Output, VersionFile};

use crate::engines::EngineMaker;
use crate::failure::{Failure, Outcome};
use crate::logging::Screen;
use crate::settings::{Loaded, Settings, set};

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub loaded: Loaded,
    /// Data on standard output is JSON.
    pub json: bool,
    pub quiet: bool,
    pub screen: Screen,
    pub stores: Stores,
    /// Who reads the pages.
    pub engines: EngineMaker,
}

/// A dataset that is there.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub output: Output,
    /// Canonical URI.
    pub uri: String,
    /// As people are shown it: the path of a local folder, else the URI.
    pub name: String,
}

impl Context {
    /// Checks the settings of stores.
    pub(crate) fn new(
        loaded: Loaded,
        json: bool,
        quiet: bool,
        screen: Screen,
        engines: EngineMaker,
    ) -> Outcome<Self> {
        let settings = &loaded.settings;
        let spool = set(&settings.worker.scratch).or_else(|| set(&settings.run.scratch));
        let spool = spool.map(PathBuf::from).filter(|folder| folder.is_dir());
        let http = settings
            .http
            .allowed(settings.input.max_file_bytes.0, spool);
        let stores = Stores::open_with_http(&settings.stores, &http).map_err(Failure::of)?;
        Ok(Self {
            loaded,
            json,
            quiet,
            screen,
            stores,
            engines,
        })
    }

    /// The settings in force.
    pub(crate) fn settings(&self) -> &Settings {
        &self.loaded.settings
    }

    /// Opens a dataset to read it. Whether a version exists is for the caller to see.
    pub(crate) fn open_dataset(&self, out: &str) -> Outcome<Dataset> {
        if let Some(folder) = self.local_folder(out)?
            && !folder.is_dir()
        {
            let what = format!("there is no dataset at {}", folder.display());
            return Err(Failure::failed(what).hint("OUT is the folder that `quire run` wrote to"));
        }
        let location = self.stores.open_output(out).map_err(Failure::of)?;
        dataset_at(location)
    }

    /// Opens OUT to write to it; a local folder is made if it is missing.
    pub(crate) fn create_dataset(&self, out: &str) -> Outcome<Dataset> {
        let location = self.stores.create_output(out).map_err(|error| {
            Failure::of(error)
                .context(format!("cannot write the dataset to {out}"))
                .exit_code(1)
                .hint("choose an OUT that this user may write to, on a disk with room")
        })?;
        dataset_at(location)
    }

    /// OUT as the settings name it.
    pub(crate) fn configured_out(&self) -> Option<&str> {
        let out = self.settings().run.out.as_str();
        (!out.is_empty()).then_some(out)
    }

    /// Where the state of datasets in object stores is kept on this machine.
    pub(crate) fn state_folder(&self) -> PathBuf {
        match set(&self.settings().run.state) {
            Some(folder) => PathBuf::from(folder),
            None => self.loaded.user_state.clone(),
        }
    }

    /// Where unfinished files of a dataset go: on the disk of a local OUT, whose room was
    /// reckoned with, else among the temporary files.
    pub(crate) fn scratch_folder(&self, dataset: &Dataset, state_folder: &Path) -> PathBuf {
        match set(&self.settings().run.scratch) {
            Some(folder) => PathBuf::from(folder),
            None if dataset.output.folder().is_some() => state_folder.join("scratch"),
            None => std::env::temp_dir().join(format!("quire-{}", std::process::id())),
        }
    }

    /// The folder that OUT names, if it is local.
    pub(crate) fn local_folder(&self, out: &str) -> Outcome<Option<PathBuf>> {
        let location = self.stores.resolve(out).map_err(Failure::of)?;
        Ok(match location.place {
            quire_corpus::Place::Local(path) => Some(path),
            quire_corpus::Place::Remote { .. } => None,
        })
    }
}

impl Dataset {
    /// The newest version, which must exist.
    pub(crate) async fn newest_version(&self) -> Outcome<VersionFile> {
        let newest = self.output.newest_version().await.map_err(Failure::of)?;
        newest.ok_or_else(|| {
            let what = format!("{} holds no finished version of a dataset", self.name);
            Failure::failed(what)
                .hint("if a run was stopped, the same `quire run` command goes on and finishes it")
        })
    }

    /// The rows of the newest version, which must exist.
    pub(crate) async fn reader(&self) -> Outcome<Reader> {
        let newest = self.newest_version().await?.version;
        Reader::open_version(&self.output, newest)
            .await
            .map_err(Failure::of)
    }

    /// Where a file of the dataset lies, as other programs are told.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.name.trim_end_matches('/'))
    }
}

fn dataset_at(location: OutputLocation) -> Outcome<Dataset> {
    let output = match &location.folder {
        Some(folder) => Output::open_local(folder).map_err(Failure::of)?,
        None => Output::remote(location.store, location.prefix),
    };
    let name = location
        .folder
        .as_deref()
        .map_or(location.uri.clone(), shown);
    Ok(Dataset {
        output,
        uri: location.uri,
        name,
    })
}

fn shown(folder: &Path) -> String {
    folder.display().to_string()
}
