//! Who reads the pages: from what the settings say to loaded engines, each with its device.

#[cfg(feature = "deepseek-ocr")]
mod deepseek;

use std::path::PathBuf;

use pp_ocr::{Mode, PpOcr, PpOcrOptions};
use quire_core::{Engine, EngineError, EngineInfo, Fault};

use crate::settings::{DEEPSEEK_OCR, DeepSeekSettings, PP_OCR};

/// Engines with the devices they run on, such as `cuda:0`.
pub type LoadedEngines = Vec<(String, Box<dyn Engine>)>;

/// Loads engines, and says who they are without loading more than that takes.
#[derive(Debug, Clone, Copy)]
pub struct EngineMaker {
    /// All engines of a worker, of one kind.
    pub load: fn(&EngineChoice) -> Result<LoadedEngines, EngineError>,
    /// Who these would be.
    pub info: fn(&EngineChoice) -> Result<EngineInfo, EngineError>,
}

impl EngineMaker {
    /// The engines of this program.
    pub const OWN: Self = Self { load, info };
}

/// Which engine is wanted, and what it is loaded with.
#[derive(Debug, Clone)]
pub struct EngineChoice {
    pub(crate) name: String,
    pub(crate) n_pages: usize,
    /// How `pp-ocr` reads, as the engine or as a fallback.
    pub(crate) mode: Mode,
    #[cfg_attr(
        not(feature = "deepseek-ocr"),
        expect(dead_code, reason = "read by the engine that this build left out")
    )]
    pub(crate) deepseek: DeepSeekSettings,
    /// Its checkpoint on this machine.
    #[cfg_attr(
        not(feature = "deepseek-ocr"),
        expect(dead_code, reason = "read by the engine that this build left out")
    )]
    pub(crate) model: Option<PathBuf>,
    /// Where it is remembered which checkpoints have been checked.
    #[cfg_attr(
        not(feature = "deepseek-ocr"),
        expect(dead_code, reason = "read by the engine that this build left out")
    )]
    pub(crate) cache: PathBuf,
}

impl EngineChoice {
    /// Pages to read at the same time, for engines that read one each.
    pub fn n_pages(&self) -> usize {
        self.n_pages
    }
}

fn load(choice: &EngineChoice) -> Result<LoadedEngines, EngineError> {
    match choice.name.as_str() {
        PP_OCR => {
            let engines = pp_ocr_engines(choice.mode, choice.n_pages)?;
            let on_cpu = |engine| ("cpu".to_owned(), Box::new(engine) as Box<dyn Engine>);
            Ok(engines.into_iter().map(on_cpu).collect())
        }
        #[cfg(feature = "deepseek-ocr")]
        DEEPSEEK_OCR => deepseek::load(choice),
        name => Err(left_out(name)),
    }
}

fn info(choice: &EngineChoice) -> Result<EngineInfo, EngineError> {
    match choice.name.as_str() {
        PP_OCR => Ok(PpOcr::info_of(choice.mode)),
        #[cfg(feature = "deepseek-ocr")]
        DEEPSEEK_OCR => deepseek::info(choice),
        name => Err(left_out(name)),
    }
}

/// Engines over the same weights, one for each page that is read at the same time.
fn pp_ocr_engines(mode: Mode, n: usize) -> Result<Vec<PpOcr>, EngineError> {
    let first = PpOcr::load(PpOcrOptions {
        mode,
        ..PpOcrOptions::default()
    })?;
    let mut engines = Vec::with_capacity(n);
    for _ in 1..n {
        engines.push(first.fork()?);
    }
    engines.push(first);
    Ok(engines)
}

fn left_out(name: &str) -> EngineError {
    let message = if name == DEEPSEEK_OCR {
        "was left out when this program was built: build it with the feature `deepseek-ocr`"
    } else {
        "is no engine of this program"
    };
    EngineError {
        engine: name.to_owned(),
        message: message.to_owned(),
        fault: Fault::Config,
    }
}
