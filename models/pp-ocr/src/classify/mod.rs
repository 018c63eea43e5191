//! Telling lines that are upside down.

mod network;

use burn::tensor::Device;
use quire_core::PageImage;

pub use network::AngleClassifier;
pub(crate) use network::MOBILE as WEIGHTS;

use crate::crop::{LINE_HEIGHT, cut};
use crate::line::TextLine;
use crate::nn::Images;
use crate::times::{self, Stage};

/// Width of the classifier's input; longer lines are squeezed, shorter ones padded.
const WIDTH: usize = 192;

/// For each line the probability that it is upside down.
pub fn upside_down(
    classifier: &AngleClassifier,
    device: &Device,
    image: &PageImage,
    lines: &[TextLine],
) -> Vec<f32> {
    if lines.is_empty() {
        return Vec::new();
    }
    let mut images = Images::new(lines.len(), [LINE_HEIGHT, WIDTH]);
    let targets = images
        .values_mut()
        .chunks_exact_mut(3 * LINE_HEIGHT * WIDTH);
    for (line, target) in lines.iter().zip(targets) {
        let wanted = LINE_HEIGHT as f32 * line.width() / line.height().max(1.0);
        let width = (wanted.ceil() as usize).clamp(8, WIDTH);
        cut(image, line, width, target, WIDTH);
    }
    let (dims, input) = (images.dims(), images.on(device));
    let output = times::network(
        Stage::Classify,
        || classifier.multiply_adds(dims),
        || classifier.angles(input).into_data().convert::<f32>(),
    );
    let Ok(values) = output.as_slice::<f32>() else {
        return vec![0.0; lines.len()];
    };
    values.chunks_exact(2).map(|pair| pair[1]).collect()
}
