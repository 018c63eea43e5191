//! DeepSeek-OCR behind the engine seam.
//!
//! One engine is one copy of the weights on one device; several devices are several engines. A
//! page's way, one file a step:
//!
//! 1. `load`: a checkpoint becomes a model, or is refused before any page is taken;
//! 2. `serve`: pages are taken while there is room, and answered as they are ready;
//! 3. `prepare`: pages become views, on threads beside the decoder;
//! 4. `model`: views become a prompt;
//! 5. `reading`: what was written becomes a recognition;
//! 6. `figures`: deep parsing asks again about each picture.

mod figures;
mod load;
mod memory;
mod model;
mod options;
mod prepare;
mod reading;
mod serve;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use quire_core::{AnswerSink, Engine, EngineError, EngineInfo, PageSource};

pub use options::{DeepSeekOptions, NgramSetting, named_with};

use crate::decoder::Decoder;
use crate::generate::BatchSettings;
use crate::generate::metrics::Meters;
use crate::preprocess::Mode;
use crate::weights::StoredType;
use model::Model;
use serve::Serving;

/// Name of the engine in rows.
const NAME: &str = "deepseek-ocr";

/// Reads pages with DeepSeek-OCR.
///
/// Pages are read as they stand: the model has no word for a turned page. Lines of a text layer
/// are of no use to it, since it writes every page out by itself; a request that brings some is
/// read from its pixels all the same.
pub struct DeepSeekOcr {
    info: EngineInfo,
    model: Model,
    decoder: Box<dyn Decoder>,
    batch: BatchSettings,
    device_name: String,
    report: LoadReport,
}

/// What loading gave and took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadReport {
    /// What the language model computes in.
    pub dtype: StoredType,
    /// Pages that are written at once.
    pub places: usize,
    /// Positions of all of them together.
    pub cache_positions: usize,
    pub spent: Duration,
    /// The most memory that the process has held so far, mapped files included; `None` where the
    /// system does not say.
    pub peak_bytes: Option<u64>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "loaded in {:.1}s: {:?}, {} pages at once, a cache of {} positions",
            self.spent.as_secs_f64(),
            self.dtype,
            self.places,
            self.cache_positions,
        )?;
        match self.peak_bytes {
            Some(bytes) => write!(
                f,
                "; peak memory {:.1} GiB",
                bytes as f64 / (1u64 << 30) as f64
            ),
            None => Ok(()),
        }
    }
}

impl DeepSeekOcr {
    /// Loads a checkpoint. All of it is checked: files, shapes, numbers, configuration, tokenizer.
    ///
    /// # Errors
    /// When the folder does not hold a checkpoint that this crate can compute, or a setting is
    /// not possible with it; the message says what is wrong.
    pub fn load(options: DeepSeekOptions) -> Result<Self, EngineError> {
        load::load(options)
    }

    /// How many pages are written at once.
    pub fn places(&self) -> usize {
        self.batch.places
    }

    /// What loading gave and took.
    pub fn load_report(&self) -> LoadReport {
        self.report
    }
}

impl fmt::Debug for DeepSeekOcr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeepSeekOcr")
            .field("info", &self.info)
            .field("device", &self.device_name)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl Engine for DeepSeekOcr {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Those that are written, and a few that are looked at meanwhile.
    fn pages_in_flight(&self) -> usize {
        self.batch.places + self.batch.places.div_ceil(4) + 1
    }

    fn info_in(&self, mode: &str) -> EngineInfo {
        EngineInfo {
            mode: self.model.named(mode),
            ..self.info.clone()
        }
    }

    fn takes_mode(&self, mode: &str) -> bool {
        mode == self.info.mode || Mode::named(mode, self.model.architecture()).is_ok()
    }

    fn takes_known_lines(&self) -> bool {
        false
    }

    fn serve(
        &mut self,
        pages: &mut dyn PageSource,
        answers: &mut dyn AnswerSink,
    ) -> Result<(), EngineError> {
        let room = self.pages_in_flight();
        let meters = Meters::of(&self.device_name);
        Serving::new(&self.model, self.decoder.as_mut(), self.batch, room, meters)
            .serve(pages, answers);
        Ok(())
    }
}
