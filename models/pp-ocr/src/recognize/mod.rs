//! Reading lines of text.

mod batch;
mod network;

use burn::tensor::{Device, Tensor, TensorData};
use quire_core::PageImage;

pub(crate) use network::{SMALL as WEIGHTS, SMALL_CHARSET};
pub use network::{Step, TextRecognizer, TextRecognizerConfig};

use crate::crop::{LINE_HEIGHT, cut};
use crate::ctc::{ReadText, decode};
use crate::geometry::Rectangle;

/// Pixels of the input a step of the output.
const STEP: usize = 8;
/// Width over that of an undistorted line. A narrower line costs less in proportion. Measured on
/// 23,000 characters: at 0.9 as many errors as at 1, at 0.8 half as many again, and at 0.7 letters
/// of Latin text fall into one step and are lost.
const SQUEEZE: f32 = 0.9;
/// The widest line that is read undistorted: attention costs the square of the width. About 250
/// letters.
const MAX_WIDTH: usize = 4096;

/// Reads the lines of `image` inside `lines`; answers in the same order.
///
/// Lines of one page are batched with each other only, so that what is read on a page never
/// depends on the pages around it.
pub fn read_lines(
    recognizer: &TextRecognizer,
    charset: &[&str],
    device: &Device,
    image: &PageImage,
    lines: &[Rectangle],
) -> Vec<ReadText> {
    let widths: Vec<usize> = lines.iter().map(line_width).collect();
    let mut texts = vec![ReadText::default(); lines.len()];
    for members in batch::plan(&widths) {
        let width = members
            .iter()
            .map(|&index| widths[index])
            .max()
            .unwrap_or(0);
        let width = width.next_multiple_of(STEP);
        let row = 3 * LINE_HEIGHT;
        let mut planes = vec![0.0f32; members.len() * row * width];
        for (&index, target) in members.iter().zip(planes.chunks_exact_mut(row * width)) {
            let line = cut(image, &lines[index], widths[index]);
            for (from, to) in line
                .planes
                .chunks_exact(line.width)
                .zip(target.chunks_exact_mut(width))
            {
                to[..line.width].copy_from_slice(from);
            }
        }
        let data = TensorData::new(planes, [members.len(), 3, LINE_HEIGHT, width]);
        let steps = recognizer.steps(Tensor::<4>::from_data(data, device));
        for (&index, steps) in members.iter().zip(&steps) {
            texts[index] = decode(steps, charset);
        }
    }
    texts
}

/// Width of a line in the recognizer's input.
fn line_width(line: &Rectangle) -> usize {
    let wanted = SQUEEZE * LINE_HEIGHT as f32 * line.width() / line.height().max(1.0);
    (wanted.ceil() as usize).clamp(2 * STEP, MAX_WIDTH)
}
