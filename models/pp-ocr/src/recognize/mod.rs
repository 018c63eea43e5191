//! Reading lines of text.

mod batch;
mod neck;
mod network;
mod pitch;

use std::sync::Arc;

use burn::tensor::Device;
use quire_core::PageImage;

pub use network::{Step, TextRecognizer, TextRecognizerConfig};
pub(crate) use network::{charset_of, weights_of};

use crate::crew::Parts;
use crate::crop::{LINE_HEIGHT, cut};
use crate::ctc::{ReadText, decode};
use crate::line::TextLine;
use crate::mode::Mode;
use crate::nn::Images;
use crate::times::{self, Stage};
use crate::weights::WeightsError;

/// Pixels of the input a step of the output.
const STEP: usize = 8;
/// The widest line that is read undistorted: attention costs the square of the width. About 250
/// letters.
const MAX_WIDTH: usize = 4096;

/// Lines whose text is less sure say nothing about the letters of their page.
const SURE: f32 = 0.8;

/// The recognizer with what it takes to turn its answers into text.
#[derive(Debug)]
pub(crate) struct LineReader {
    pub(crate) recognizer: TextRecognizer,
    charset: Vec<&'static str>,
    device: Device,
}

impl LineReader {
    pub(crate) fn load(mode: Mode, device: &Device) -> Result<Self, WeightsError> {
        let recognizer = TextRecognizer::of(mode, device)?;
        Ok(Self {
            charset: recognizer.charset().collect(),
            recognizer,
            device: device.clone(),
        })
    }

    /// Reads the lines of `image` inside `lines`, narrowed by `squeeze`; answers in the same order.
    ///
    /// Lines of one page are batched with each other only, so that what is read on a page never
    /// depends on the pages around it.
    pub(crate) fn read(
        self: &Arc<Self>,
        parts: &Parts,
        image: &Arc<PageImage>,
        lines: &[TextLine],
        squeeze: f32,
    ) -> Vec<ReadText> {
        let widths: Vec<usize> = lines
            .iter()
            .map(|line| bounded(undistorted(line) * squeeze))
            .collect();
        let mut texts = self.read_at(parts, image, lines, &widths);
        let mut crowded = Vec::new();
        let mut wider = Vec::new();
        let pitch = &self.recognizer.pitch;
        for (index, text) in texts.iter().enumerate() {
            let width = undistorted(&lines[index]);
            if let Some(squeeze) = pitch.wider_for(&text.text, width, widths[index]) {
                crowded.push(index);
                wider.push(bounded(width * squeeze));
            }
        }
        let again: Vec<TextLine> = crowded.iter().map(|&index| lines[index]).collect();
        let read = self.read_at(parts, image, &again, &wider);
        for (index, text) in crowded.into_iter().zip(read) {
            texts[index] = text;
        }
        texts
    }

    /// How far the lines of a page may be narrowed, by those that were read before at
    /// [`TextRecognizer::first_squeeze`].
    pub(crate) fn squeeze_for(&self, lines: &[TextLine], texts: &[Option<ReadText>]) -> f32 {
        let known = lines.iter().zip(texts).filter_map(|(line, text)| {
            let text = text.as_ref().filter(|text| text.confidence >= SURE)?;
            Some((undistorted(line), text.text.as_str()))
        });
        self.recognizer.pitch.squeeze_for(known)
    }

    fn read_at(
        self: &Arc<Self>,
        parts: &Parts,
        image: &Arc<PageImage>,
        lines: &[TextLine],
        widths: &[usize],
    ) -> Vec<ReadText> {
        let offer = |members: Vec<usize>| {
            let batch: Vec<(TextLine, usize)> = members
                .iter()
                .map(|&index| (lines[index], widths[index]))
                .collect();
            let (reader, image) = (Arc::clone(self), Arc::clone(image));
            let read = parts.offer(move || reader.read_batch(&image, &batch));
            (members, read)
        };
        let offered: Vec<_> = batch::plan(widths).into_iter().map(offer).collect();
        let mut texts = vec![ReadText::default(); lines.len()];
        for (members, read) in offered {
            for (index, text) in members.into_iter().zip(parts.wait(read)) {
                texts[index] = text;
            }
        }
        texts
    }

    /// Reads lines at their widths together.
    fn read_batch(&self, image: &PageImage, batch: &[(TextLine, usize)]) -> Vec<ReadText> {
        let images = times::stage(Stage::Crop, || images_of(image, batch));
        let (dims, input) = (images.dims(), images.on(&self.device));
        let recognized = || {
            let multiply_adds = || self.recognizer.multiply_adds(dims);
            times::network(Stage::Recognize, multiply_adds, || {
                self.recognizer.steps_of(input)
            })
        };
        let steps = times::stage(Stage::Recognize, recognized);
        let text = |steps: &Vec<Step>| decode(steps, &self.charset);
        steps.iter().map(text).collect()
    }
}

/// Cuts the lines of a batch out of their page.
fn images_of(image: &PageImage, batch: &[(TextLine, usize)]) -> Images {
    let width = batch.iter().map(|&(_, width)| width).max().unwrap_or(0);
    let width = width.next_multiple_of(STEP);
    let mut images = Images::new(batch.len(), [LINE_HEIGHT, width]);
    let targets = images
        .values_mut()
        .chunks_exact_mut(3 * LINE_HEIGHT * width);
    for (&(line, line_width), target) in batch.iter().zip(targets) {
        cut(image, &line, line_width, target, width);
    }
    images
}

/// Width of a line at the recognizer's height with its aspect kept.
fn undistorted(line: &TextLine) -> f32 {
    LINE_HEIGHT as f32 * line.width() / line.height().max(1.0)
}

fn bounded(width: f32) -> usize {
    (width.ceil() as usize).clamp(2 * STEP, MAX_WIDTH)
}
