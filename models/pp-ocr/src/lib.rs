//! Reads pages on any machine: PP-OCRv6 small and tiny in burn, with their weights inside.
//!
//! A page's way through this crate:
//!
//! 1. `detect`: where lines of text are;
//! 2. `orientation`: which way the page must be turned, judged from a few lines;
//! 3. `recognize`, `ctc`: what the lines say;
//! 4. `classify`: single lines that are upside down, where a line reads badly;
//! 5. `layout`: the regions of the page;
//! 6. `quire_layout::compose`: lines and regions become the page's text.
//!
//! [`PpOcr`] is all of it as an engine; `crew` lets engines without a page help the others.
//! Geometry, sampling and decoding are plain Rust on slices; the networks are burn modules and run
//! on any burn device.

pub mod classify;
mod crew;
pub mod crop;
pub mod ctc;
pub mod detect;
mod engine;
pub mod geometry;
pub mod layout;
pub mod line;
mod mode;
mod nn;
mod orientation;
pub mod pixels;
mod read;
pub mod recognize;
mod times;
mod weights;

pub use engine::{PpOcr, PpOcrOptions};
pub use mode::Mode;
pub use times::{Stage, StageTime, Times};
pub use weights::WeightsError;
