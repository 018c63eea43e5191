//! The global view and the tiles of a page.

use quire_core::PageImage;

use super::resample::resized;
use super::{Grid, Mode, PageViews, View};

/// Color of the margin around a page that is not square.
const MARGIN: u8 = 127;
/// Views of at most this side are stretched to a square; larger ones get a margin.
const LARGEST_STRETCHED: u32 = 640;

impl PageViews {
    /// What the model sees of a page in a mode. A page without pixels is seen as a margin only.
    pub fn of(image: &PageImage, mode: &Mode) -> Self {
        let grid = Grid::of(image.width, image.height, mode);
        let stretches = !mode.crop && mode.base_size <= LARGEST_STRETCHED;
        let global = if image.width == 0 || image.height == 0 {
            View::margin(mode.base_size)
        } else if stretches {
            View::stretched(image, mode.base_size)
        } else {
            View::padded(image, mode.base_size)
        };
        let tiles = if grid.has_tiles() {
            tiles(image, mode.image_size, grid)
        } else {
            Vec::new()
        };
        Self {
            global,
            tiles,
            grid,
        }
    }

    /// Views of all kinds: the global one and the tiles.
    pub fn n_views(&self) -> usize {
        1 + self.tiles.len()
    }
}

impl View {
    fn margin(side: u32) -> Self {
        Self {
            side,
            rgb: vec![MARGIN; square(side)],
        }
    }

    /// The page squeezed or stretched into a square.
    fn stretched(image: &PageImage, side: u32) -> Self {
        Self {
            side,
            rgb: resized(&image.rgb, (image.width, image.height), (side, side)),
        }
    }

    /// The page in its own shape, as large as it goes, in the middle of a square.
    fn padded(image: &PageImage, side: u32) -> Self {
        let (width, height) = fitted(image.width, image.height, side);
        let page = resized(&image.rgb, (image.width, image.height), (width, height));
        if (width, height) == (side, side) {
            return Self { side, rgb: page };
        }
        let left = half_to_even(side - width);
        let top = half_to_even(side - height);
        let mut view = Self::margin(side);
        let rows = view.rgb.chunks_exact_mut(side as usize * 3);
        let pixels = page.chunks_exact(width as usize * 3);
        for (row, pixels) in rows.skip(top).zip(pixels) {
            row[left * 3..][..pixels.len()].copy_from_slice(pixels);
        }
        view
    }
}

fn square(side: u32) -> usize {
    side as usize * side as usize * 3
}

/// The largest size of this shape in a square; at least a pixel each way.
fn fitted(width: u32, height: u32, side: u32) -> (u32, u32) {
    let scaled = |short: u32, long: u32| {
        let length = f64::from(short) / f64::from(long) * f64::from(side);
        (length.round_ties_even() as u32).max(1)
    };
    match width.cmp(&height) {
        std::cmp::Ordering::Greater => (side, scaled(height, width)),
        std::cmp::Ordering::Less => (scaled(width, height), side),
        std::cmp::Ordering::Equal => (side, side),
    }
}

/// Half of a margin; of an odd one, the even neighbor.
fn half_to_even(margin: u32) -> usize {
    (f64::from(margin) / 2.0).round_ties_even() as usize
}

/// The page stretched over the whole grid and cut up, row by row.
fn tiles(image: &PageImage, side: u32, grid: Grid) -> Vec<View> {
    let size = (side * grid.columns, side * grid.rows);
    let sheet = resized(&image.rgb, (image.width, image.height), size);
    let (side_bytes, sheet_bytes) = (side as usize * 3, size.0 as usize * 3);
    let mut tiles = Vec::with_capacity(grid.tiles());
    for band in sheet.chunks_exact(sheet_bytes * side as usize) {
        for column in 0..grid.columns as usize {
            let mut rgb = Vec::with_capacity(square(side));
            for row in band.chunks_exact(sheet_bytes) {
                rgb.extend_from_slice(&row[column * side_bytes..][..side_bytes]);
            }
            tiles.push(View { side, rgb });
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbor() {
        for (margin, half) in [(0, 0), (1, 0), (2, 1), (3, 2), (5, 2), (7, 4)] {
            assert_eq!(half_to_even(margin), half);
        }
        assert_eq!(fitted(1024, 3, 1024), (1024, 3));
        assert_eq!(fitted(10_000, 1, 1024), (1024, 1));
        // 2.5 is 2, 3.5 is 4.
        assert_eq!(fitted(2048, 5, 1024), (1024, 2));
        assert_eq!(fitted(7, 2048, 1024), (4, 1024));
    }

    #[test]
    fn a_page_without_pixels_is_a_margin() {
        let empty = PageImage::white(0, 0);
        for mode in [Mode::tiny(), Mode::gundam(), Mode::second()] {
            let views = PageViews::of(&empty, &mode);
            assert!(views.global.rgb.iter().all(|&value| value == MARGIN));
            assert_eq!((views.tiles.len(), views.grid), (0, Grid::NONE));
        }
    }
}
