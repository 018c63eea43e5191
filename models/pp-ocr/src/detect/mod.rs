//! Finding lines of text on a page.

mod bend;
mod network;
pub mod postprocess;
pub mod preprocess;

use burn::tensor::{Device, Tensor, TensorData};
use quire_core::PageImage;

pub(crate) use network::SMALL as WEIGHTS;
pub use network::{TextDetector, TextDetectorConfig};
pub use postprocess::{ProbabilityMap, TextBox};
pub use preprocess::InputSize;

use crate::pixels::{Normalization, resampled};

/// Lines of text on `image`, from the top of the page down, in pixels of `image`.
///
/// The page is looked at in a size that is small for the time it takes and grows only if the
/// lines found turn out to be small: most pages are looked at once.
pub fn find_lines(detector: &TextDetector, device: &Device, image: &PageImage) -> Vec<TextBox> {
    let mut size = InputSize::first(image);
    let mut found = look(detector, device, image, size);
    if let Some(larger) = size.grown_for(&found, image) {
        size = larger;
        found = look(detector, device, image, size);
    }
    found
        .into_iter()
        .map(|text_box| text_box.scaled_to(size, image))
        .collect()
}

/// Lines in pixels of the detector's input.
fn look(
    detector: &TextDetector,
    device: &Device,
    image: &PageImage,
    size: InputSize,
) -> Vec<TextBox> {
    let InputSize { width, height } = size;
    let planes = resampled(image, width, height, Normalization::SIGNED);
    let input = Tensor::<4>::from_data(TensorData::new(planes, [1, 3, height, width]), device);
    let output = detector.forward(input).into_data().convert::<f32>();
    let Ok(values) = output.as_slice::<f32>() else {
        return Vec::new();
    };
    postprocess::lines_of(&ProbabilityMap {
        width,
        height,
        values,
    })
}
