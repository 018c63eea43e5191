//! How many tiles a page is cut into, and in which arrangement.

use super::{Grid, Mode};

/// Fewest tiles of a page that has any.
const MIN_TILES: u32 = 2;

impl Grid {
    /// No tiles: the page is one view.
    pub const NONE: Self = Self {
        columns: 1,
        rows: 1,
    };

    /// The tiles of a page of this size, in pixels.
    pub fn of(width: u32, height: u32, mode: &Mode) -> Self {
        let is_small = width <= mode.tile_threshold && height <= mode.tile_threshold;
        if !mode.crop || is_small || width == 0 || height == 0 {
            return Self::NONE;
        }
        Self::nearest(width, height, mode.image_size, mode.max_tiles)
    }

    /// The arrangement of 2 to `max_tiles` tiles whose shape is nearest to that of the page. Of
    /// two that are as near, the larger one if the page would fill more than half of it.
    pub fn nearest(width: u32, height: u32, tile: u32, max_tiles: u32) -> Self {
        let ratio = f64::from(width) / f64::from(height);
        let area = u64::from(width) * u64::from(height);
        let tile_area = u64::from(tile) * u64::from(tile);
        let mut best = Self::NONE;
        let mut least = f64::INFINITY;
        for n_tiles in MIN_TILES..=max_tiles {
            for columns in (1..=n_tiles).filter(|columns| n_tiles % columns == 0) {
                let rows = n_tiles / columns;
                let distance = (ratio - f64::from(columns) / f64::from(rows)).abs();
                let fills_half = 2 * area > tile_area * u64::from(n_tiles);
                // Equal to the last bit is what the reference calls a tie.
                if distance < least || (distance == least && fills_half) {
                    least = distance;
                    best = Self { columns, rows };
                }
            }
        }
        best
    }

    /// Tiles in the grid; 1 where there are none.
    pub const fn tiles(self) -> usize {
        self.columns as usize * self.rows as usize
    }

    /// Whether there are tiles beside the global view.
    pub const fn has_tiles(self) -> bool {
        self.columns * self.rows > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pages_and_modes_without_tiles_have_none() {
        assert_eq!(Grid::of(640, 640, &Mode::gundam()), Grid::NONE);
        assert_eq!(Grid::of(768, 700, &Mode::second()), Grid::NONE);
        assert_eq!(Grid::of(4000, 4000, &Mode::large()), Grid::NONE);
        assert_eq!(Grid::of(0, 4000, &Mode::gundam()), Grid::NONE);
        assert!(Grid::of(641, 640, &Mode::gundam()).has_tiles());
    }

    #[test]
    fn a_page_of_paper_is_two_by_three() {
        let page = Grid::of(1191, 1684, &Mode::gundam());
        assert_eq!((page.columns, page.rows), (2, 3));
        let page = Grid::of(1191, 1684, &Mode::second());
        assert_eq!((page.columns, page.rows), (2, 3));
    }
}
