//! A page as the views that the model was trained on.
//!
//! Pixel for pixel: Pillow's bicubic, padding and tile grid. Another resizer costs text quality.
//!
//! - `modes`: the published modes by name, and how many of the prompt's slots a page takes;
//! - `grid`: how many tiles, and in which arrangement;
//! - `resample`: the resizer, in integers;
//! - `views`: the global view and the tiles.

mod grid;
mod modes;
mod resample;
mod views;

use std::fmt;

pub use modes::UnknownMode;
pub use resample::resized;

/// Pixels of a patch's side and of a compressed cell's side, in both models.
const PATCH: u32 = 16;
const PATCHES_PER_CELL: u32 = 4;

/// How a page is cut into views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Side of the global or only view, in pixels.
    pub base_size: u32,
    /// Side of a tile, in pixels.
    pub image_size: u32,
    /// Whether there are tiles.
    pub crop: bool,
    /// At most so many tiles: 9; 6 in the second model.
    pub max_tiles: u32,
    /// No tiles when neither side is longer than this: 640; 768 in the second model.
    pub tile_threshold: u32,
}

/// Columns and rows of tiles; 1 by 1 means that there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    pub columns: u32,
    pub rows: u32,
}

/// A square picture, 8 bits a channel.
#[derive(Clone, PartialEq, Eq)]
pub struct View {
    /// Pixels of a side.
    pub side: u32,
    /// RGB, rows of pixels.
    pub rgb: Vec<u8>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({0}x{0})", self.side)
    }
}

/// All that the vision towers see of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageViews {
    pub global: View,
    /// Row by row; empty without tiles.
    pub tiles: Vec<View>,
    pub grid: Grid,
}
