//! Compares this crate with a reference, stage by stage.
//!
//! A folder of the fixtures' form holds a checkpoint, questions, and what the published code
//! computes for them in f32: the README beside the fixtures of this crate's tests explains every
//! name. [`compare`] runs one folder through a [`Network`] and gives a [`Row`] for each value;
//! [`compare_all`] takes the second model's folder inside it along. The program `parity` among the
//! examples prints the rows.

mod fixture;
mod report;
mod stage;
mod writing;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use thiserror::Error;

use crate::config::DecoderConfig;
use crate::decoder::{CacheFull, Decoder, Input, Row as PageRow};
use crate::generate::NgramBlock;
use crate::preprocess::{Grid, View};
use crate::stages::Stages;
use crate::vision::{VisionModel, pixels};
use crate::weights::{Checkpoint, CheckpointError, Weights};

use self::fixture::Case;
use self::writing::Page;

pub use report::{Report, Row};

/// Fixtures that cannot be compared with.
#[derive(Debug, Error)]
pub enum ParityError {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {reason}", .path.display())]
    Fixture { path: PathBuf, reason: String },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Cache(#[from] CacheFull),
}

/// Reads a picture of the fixtures. This crate itself reads no picture files.
pub type ReadView<'a> = &'a dyn Fn(&Path) -> Result<View, String>;

/// Loads the network of a folder.
pub type OpenNetwork<'a> = &'a dyn Fn(&Path) -> Result<Box<dyn Network>, CheckpointError>;

/// What is compared.
pub trait Network {
    /// Views to vectors, as [`VisionModel::encode`].
    fn encode(&self, views: &[View], stages: &mut Stages) -> Tensor<3>;

    /// Vectors in the order of the slots, as [`VisionModel::assemble`].
    fn assemble(&self, global: Tensor<2>, tiles: Option<(Tensor<3>, Grid)>) -> Tensor<2>;

    /// The language model.
    fn decoder(&mut self) -> &mut dyn Decoder;
}

/// The network of a checkpoint.
#[derive(Debug)]
pub struct Loaded<D> {
    vision: VisionModel,
    device: Device,
    /// The language model.
    pub decoder: D,
}

impl<D: Decoder> Loaded<D> {
    /// Loads a checkpoint, all of it: towers to the device, in f32, and the decoder as told.
    ///
    /// # Errors
    /// When the checkpoint does not fit the network.
    pub fn open(
        folder: &Path,
        device: &Device,
        decoder: impl FnOnce(&mut Weights, &DecoderConfig) -> Result<D, CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::open(folder)?;
        let mut weights = checkpoint.weights();
        let vision = VisionModel::load(&mut weights, checkpoint.config(), device)?;
        let decoder = decoder(&mut weights, &checkpoint.config().decoder)?;
        weights.finish()?;
        Ok(Self {
            vision,
            device: device.clone(),
            decoder,
        })
    }
}

impl<D: Decoder> Network for Loaded<D> {
    fn encode(&self, views: &[View], stages: &mut Stages) -> Tensor<3> {
        self.vision.encode(pixels(views, &self.device), stages)
    }

    fn assemble(&self, global: Tensor<2>, tiles: Option<(Tensor<3>, Grid)>) -> Tensor<2> {
        self.vision.assemble(global, tiles)
    }

    fn decoder(&mut self) -> &mut dyn Decoder {
        &mut self.decoder
    }
}

/// Compares with a folder, and with the second model's folder `ocr2` inside it, if there is one.
///
/// # Errors
/// When the fixtures cannot be read or a checkpoint cannot be loaded.
pub fn compare_all(
    folder: &Path,
    open: OpenNetwork<'_>,
    read_view: ReadView<'_>,
) -> Result<Report, ParityError> {
    let mut report = compare(folder, &mut *open(folder)?, read_view)?;
    let second = folder.join("ocr2");
    if second.join("config.json").is_file() {
        let rows = compare(&second, &mut *open(&second)?, read_view)?;
        report.extend("ocr2", rows);
    }
    Ok(report)
}

/// Compares with one folder.
///
/// # Errors
/// When the fixtures cannot be read, or there is no room in the decoder's cache for all pages.
pub fn compare(
    folder: &Path,
    network: &mut dyn Network,
    read_view: ReadView<'_>,
) -> Result<Report, ParityError> {
    let mut report = Report::default();
    stage::compare_tables(folder, &mut report)?;
    writing::compare_bans(folder, &mut report)?;
    let cases = fixture::cases(folder)?;
    let mut pages = Vec::new();
    for case in &cases {
        let prompt = compare_case(folder, case, network, read_view, &mut report)?;
        let decoder = network.decoder();
        let page = Page {
            prompt,
            ids: case.ids()?,
            block: NgramBlock::Off,
            n_tokens: 0,
        };
        writing::compare_alone(case, &page, decoder, &mut report)?;
        pages.push(page);
    }
    writing::compare_together(&cases, pages, network.decoder(), &mut report)?;
    Ok(report)
}

/// Compares everything up to the logits of a case's prompt; gives the prompt.
fn compare_case(
    folder: &Path,
    case: &Case,
    network: &mut dyn Network,
    read_view: ReadView<'_>,
    report: &mut Report,
) -> Result<Tensor<2>, ParityError> {
    let mut stages = Stages::kept();
    let vectors = match case.views(folder, read_view)? {
        None => None,
        Some(views) => {
            stages.set_prefix("global.");
            let global = network.encode(std::slice::from_ref(&views.global), &mut stages);
            stages.set_prefix("local.");
            let tiles = match views.tiles.as_slice() {
                [] => None,
                tiles => Some((network.encode(tiles, &mut stages), views.grid)),
            };
            stages.set_prefix("");
            let vectors = network.assemble(global.squeeze_dim(0), tiles);
            stages.keep("vision_seq", &vectors);
            Some(vectors)
        }
    };
    let decoder = network.decoder();
    let prompt = case.fill(decoder.embed(&case.ids()?), vectors)?;
    stages.keep("inputs_embeds", &prompt);
    let slot = decoder.open(prompt.dims()[0])?;
    let row = PageRow {
        slot,
        input: Input::Prompt(prompt.clone()),
        banned: Vec::new(),
    };
    let logits = decoder.logits(&row, &mut stages);
    decoder.close(slot);
    stages.keep("logits", &logits);
    stage::compare_stages(case, &stages.into_kept(), report);
    Ok(prompt)
}
