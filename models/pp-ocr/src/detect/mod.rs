//! Finding lines of text on a page.

mod bend;
mod join;
pub(crate) mod network;
pub mod postprocess;
pub mod preprocess;

use burn::tensor::Device;
use quire_core::PageImage;

pub(crate) use network::weights_of;
pub use network::{TextDetector, TextDetectorConfig};
pub use postprocess::{ProbabilityMap, TextBox};
pub use preprocess::{InputSize, Look};

use crate::pixels::{Normalization, resampled};
use crate::times::{self, Stage};

/// Looks at a page at most; a newspaper page takes three.
const MAX_LOOKS: usize = 3;

/// Lines of text on `image`, from the top of the page down, in pixels of `image`.
///
/// The page is looked at in a size that is small for the time it takes and grows only if the
/// lines found turn out to be small: nearly all pages are looked at once.
pub fn find_lines(detector: &TextDetector, device: &Device, image: &PageImage) -> Vec<TextBox> {
    let mut size = InputSize::first(image);
    let mut found = look(detector, device, image, size);
    for _ in 1..MAX_LOOKS {
        let Some(larger) = size.grown_for(&found, image) else {
            break;
        };
        size = larger;
        found = look(detector, device, image, size);
    }
    let lines = match detector.splits_lines {
        true => join::joined(found.lines),
        false => found.lines,
    };
    lines
        .into_iter()
        .map(|text_box| text_box.scaled_to(size, image))
        .collect()
}

fn look(detector: &TextDetector, device: &Device, image: &PageImage, size: InputSize) -> Look {
    let InputSize { width, height } = size;
    let input = resampled(image, width, height, Normalization::SIGNED).on(device);
    let output = times::network(
        Stage::Detect,
        || detector.multiply_adds([1, 3, height, width]),
        || detector.probabilities(input).into_data().convert::<f32>(),
    );
    let values = output.as_slice::<f32>().unwrap_or_default();
    postprocess::look_at(&ProbabilityMap {
        width,
        height,
        values,
    })
}
