//! Finding the regions of a page.

mod network;

pub use network::{INPUT_SIZE, LayoutDetector, LayoutLevel, N_BINS, N_CLASSES};
