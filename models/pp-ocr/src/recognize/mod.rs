//! Reading lines of text.

mod batch;
mod neck;
mod network;
mod pitch;

use burn::tensor::Device;
use quire_core::PageImage;

pub use network::{Step, TextRecognizer, TextRecognizerConfig};
pub(crate) use network::{charset_of, weights_of};

use crate::crop::{LINE_HEIGHT, cut};
use crate::ctc::{ReadText, decode};
use crate::line::TextLine;
use crate::nn::Images;
use crate::times::{self, Stage};

/// Pixels of the input a step of the output.
const STEP: usize = 8;
/// The widest line that is read undistorted: attention costs the square of the width. About 250
/// letters.
const MAX_WIDTH: usize = 4096;

/// Lines whose text is less sure say nothing about the letters of their page.
const SURE: f32 = 0.8;

/// Reads the lines of `image` inside `lines`, narrowed by `squeeze`; answers in the same order.
///
/// Lines of one page are batched with each other only, so that what is read on a page never
/// depends on the pages around it.
pub fn read_lines(
    recognizer: &TextRecognizer,
    charset: &[&str],
    device: &Device,
    image: &PageImage,
    lines: &[TextLine],
    squeeze: f32,
) -> Vec<ReadText> {
    let read = |lines: &[TextLine], widths: &[usize]| {
        read_at(recognizer, charset, device, image, lines, widths)
    };
    let widths: Vec<usize> = lines
        .iter()
        .map(|line| bounded(undistorted(line) * squeeze))
        .collect();
    let mut texts = read(lines, &widths);
    let mut crowded = Vec::new();
    let mut wider = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let width = undistorted(&lines[index]);
        if let Some(squeeze) = recognizer.pitch.wider_for(&text.text, width, widths[index]) {
            crowded.push(index);
            wider.push(bounded(width * squeeze));
        }
    }
    let again: Vec<TextLine> = crowded.iter().map(|&index| lines[index]).collect();
    for (index, text) in crowded.into_iter().zip(read(&again, &wider)) {
        texts[index] = text;
    }
    texts
}

/// How far the lines of a page may be narrowed, by those that were read before at
/// [`TextRecognizer::first_squeeze`].
pub fn squeeze_for(
    recognizer: &TextRecognizer,
    lines: &[TextLine],
    texts: &[Option<ReadText>],
) -> f32 {
    let known = lines.iter().zip(texts).filter_map(|(line, text)| {
        let text = text.as_ref().filter(|text| text.confidence >= SURE)?;
        Some((undistorted(line), text.text.as_str()))
    });
    recognizer.pitch.squeeze_for(known)
}

fn read_at(
    recognizer: &TextRecognizer,
    charset: &[&str],
    device: &Device,
    image: &PageImage,
    lines: &[TextLine],
    widths: &[usize],
) -> Vec<ReadText> {
    let mut texts = vec![ReadText::default(); lines.len()];
    for members in batch::plan(widths) {
        let width = members
            .iter()
            .map(|&index| widths[index])
            .max()
            .unwrap_or(0);
        let width = width.next_multiple_of(STEP);
        let images = times::stage(Stage::Crop, || {
            images_of(image, lines, widths, &members, width)
        });
        let (dims, input) = (images.dims(), images.on(device));
        let recognized = || {
            let multiply_adds = || recognizer.multiply_adds(dims);
            times::network(Stage::Recognize, multiply_adds, || {
                recognizer.steps_of(input)
            })
        };
        let steps = times::stage(Stage::Recognize, recognized);
        for (&index, steps) in members.iter().zip(&steps) {
            texts[index] = decode(steps, charset);
        }
    }
    texts
}

/// Cuts the lines of a batch out of their page.
fn images_of(
    image: &PageImage,
    lines: &[TextLine],
    widths: &[usize],
    members: &[usize],
    width: usize,
) -> Images {
    let mut images = Images::new(members.len(), [LINE_HEIGHT, width]);
    // What a line does not fill.
    images.values_mut().fill(0.0);
    let targets = images
        .values_mut()
        .chunks_exact_mut(3 * LINE_HEIGHT * width);
    for (&index, target) in members.iter().zip(targets) {
        cut(image, &lines[index], widths[index], target, width);
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
