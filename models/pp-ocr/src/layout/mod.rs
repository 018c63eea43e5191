//! Finding the regions of a page.

mod network;
pub mod postprocess;

use burn::tensor::Device;
use quire_core::PageImage;
use quire_layout::Region;

pub(crate) use network::CDLA as WEIGHTS;
pub use network::{INPUT_SIZE, LayoutDetector, LayoutLevel, N_BINS, N_CLASSES};
pub use postprocess::LevelValues;

use crate::pixels::{Normalization, resampled};
use crate::times::{self, Stage};

const NORMALIZATION: Normalization =
    Normalization::of([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Regions of `image`, in fractions of it, the surest of each class first.
pub fn find_regions(detector: &LayoutDetector, device: &Device, image: &PageImage) -> Vec<Region> {
    let [height, width] = INPUT_SIZE;
    let input = resampled(image, width, height, NORMALIZATION).on(device);
    let levels = times::network(
        Stage::Layout,
        || detector.multiply_adds(),
        || detector.levels(input),
    );
    let levels = levels.map(|level| {
        let stride = level.stride;
        let scores = level.scores.into_data().convert::<f32>();
        let boxes = level.boxes.into_data().convert::<f32>();
        LevelValues {
            scores: scores.try_to_vec().unwrap_or_default(),
            boxes: boxes.try_to_vec().unwrap_or_default(),
            stride,
        }
    });
    postprocess::regions_of(&levels)
}
