//! PP-OCR behind the engine seam.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use burn::tensor::Device;
use quire_core::{
    AnswerSink, Engine, EngineError, EngineInfo, Fault, PageAnswer, PageImage, PageRequest,
    PageSource, Recognition, Stage, Trouble, TroubleCode,
};
use sha2::{Digest, Sha256};

use crate::crew::{Crew, Parts, Seat};
use crate::mode::Mode;
use crate::read::Reader;
use crate::times::{self, Times};
use crate::{classify, detect, layout, recognize};

/// Name of the engine in rows.
const NAME: &str = "pp-ocr";

/// What an engine is loaded with.
#[derive(Debug, Clone)]
pub struct PpOcrOptions {
    pub mode: Mode,
    /// Where the networks run.
    pub device: Device,
    /// Threads of one instance on the CPU. One is best, with as many instances as cores: pages side
    /// by side share nothing, layers cut up do. Instances without a page help the others.
    pub threads: usize,
}

impl Default for PpOcrOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            device: Device::flex(),
            threads: 1,
        }
    }
}

/// Reads pages with PP-OCRv6. One instance a thread; [`PpOcr::fork`] makes further ones.
#[derive(Debug)]
pub struct PpOcr {
    info: EngineInfo,
    reader: Reader,
    threads: usize,
    seat: Arc<Seat>,
}

impl PpOcr {
    /// Loads the networks from the weights inside the program.
    ///
    /// # Errors
    /// When the embedded weights are damaged or no thread can be started.
    pub fn load(options: PpOcrOptions) -> Result<Self, EngineError> {
        let mode = options.mode;
        let reader = Reader::load(mode, &options.device).map_err(|error| EngineError {
            engine: NAME.to_owned(),
            message: with_sources(&error),
            fault: Fault::Bug,
        })?;
        let info = Self::info_of(mode);
        Ok(Self {
            info,
            reader,
            threads: options.threads,
            seat: join(&Arc::default(), options.threads)?,
        })
    }

    /// Who reads in a mode, without the networks in memory.
    pub fn info_of(mode: Mode) -> EngineInfo {
        EngineInfo {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model_id: mode.model_id().to_owned(),
            model_revision: revision(mode),
            mode: mode.name().to_owned(),
        }
    }

    /// Another instance for another thread, over the same weights. While it has no page, it
    /// computes parts of pages that its siblings read.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn fork(&self) -> Result<Self, EngineError> {
        Ok(Self {
            info: self.info.clone(),
            reader: self.reader.clone(),
            threads: self.threads,
            seat: join(self.seat.crew(), self.threads)?,
        })
    }

    /// Reads one page.
    ///
    /// # Errors
    /// When the page took the engine down; the engine itself goes on.
    pub fn read_page(&self, request: &PageRequest) -> Result<Recognition, Trouble> {
        self.seat.work(|parts| self.read_contained(parts, request))
    }

    /// Reads one page and tells where the time went.
    ///
    /// # Errors
    /// As [`Self::read_page`].
    pub fn read_page_timed(&self, request: &PageRequest) -> Result<(Recognition, Times), Trouble> {
        let read = |parts: &Parts| times::recorded(|| self.read_contained(parts, request));
        let (result, times) = self.seat.work(read);
        result.map(|recognition| (recognition, times))
    }

    fn read_contained(&self, parts: &Parts, request: &PageRequest) -> Result<Recognition, Trouble> {
        check(&request.image)?;
        let read = || {
            self.reader
                .read(parts, &request.image, request.known_lines.clone())
        };
        // Nothing of the reader changes while it reads, so a panic leaves it whole.
        catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
            let message = format!("the engine panicked: {}", panic_message(panic.as_ref()));
            tracing::error!(ticket = request.ticket, %message, "page took the engine down");
            Trouble::new(Stage::Recognize, TroubleCode::Crash, message)
        })
    }
}

impl Engine for PpOcr {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// One is read and one waits.
    fn pages_in_flight(&self) -> usize {
        2
    }

    fn serve(
        &mut self,
        pages: &mut dyn PageSource,
        answers: &mut dyn AnswerSink,
    ) -> Result<(), EngineError> {
        while let Some(request) = pages.next() {
            answers.answer(PageAnswer {
                ticket: request.ticket,
                result: self.read_page(&request),
            });
        }
        Ok(())
    }
}

/// SHA-256 over all weights and the charset: what decides an answer besides the code.
fn revision(mode: Mode) -> String {
    let mut hash = Sha256::new();
    for weights in [
        detect::weights_of(mode),
        classify::WEIGHTS,
        recognize::weights_of(mode),
        layout::WEIGHTS,
    ] {
        hash.update(weights);
    }
    hash.update(recognize::charset_of(mode));
    hex::encode(hash.finalize())
}

fn join(crew: &Arc<Crew>, threads: usize) -> Result<Arc<Seat>, EngineError> {
    Seat::join(crew, threads, NAME).map_err(|error| EngineError {
        engine: NAME.to_owned(),
        message: format!("no thread could be started: {error}"),
        fault: Fault::Unavailable,
    })
}

/// Whether the pixels are as many as the size says.
fn check(image: &PageImage) -> Result<(), Trouble> {
    let wanted = u64::from(image.width) * u64::from(image.height) * 3;
    if wanted == image.rgb.len() as u64 {
        return Ok(());
    }
    let message = format!("{} bytes of pixels for {image:?}", image.rgb.len());
    Err(Trouble::new(
        Stage::Recognize,
        TroubleCode::Damaged,
        message,
    ))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
