//! A page as the views that the model was trained on.
//!
//! Pixel for pixel: Pillow's bicubic, padding and tile grid. Another resizer costs text quality.

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Pixels of a side.
    pub side: u32,
    /// RGB, rows of pixels.
    pub rgb: Vec<u8>,
}

/// All that the vision towers see of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageViews {
    pub global: View,
    /// Row by row; empty without tiles.
    pub tiles: Vec<View>,
    pub grid: Grid,
}
