//! Vectors of views in the order of the prompt's slots.

use burn::tensor::{Device, Tensor, TensorData};

use super::layers::Loader;
use crate::config::{Architecture, ModelConfig};
use crate::preprocess::{Grid, View};
use crate::weights::CheckpointError;

/// The order of vectors, and the learned vectors between them.
#[derive(Debug)]
pub(super) struct Assembly {
    /// Closes every row of a grid, `[1, hidden]`. The second model has none and takes tiles one
    /// after the other, where the first stitches them to one grid.
    newline: Option<Tensor<2>>,
    /// Closes the image: `[1, hidden]`.
    separator: Tensor<2>,
}

impl Assembly {
    pub(super) fn load(
        loader: &mut Loader<'_, '_>,
        config: &ModelConfig,
    ) -> Result<Self, CheckpointError> {
        let hidden = config.decoder.hidden;
        let newline: Option<Tensor<1>> = match config.architecture {
            Architecture::One => Some(loader.tensor("image_newline", [hidden])?),
            Architecture::Two => None,
        };
        // So spelled in the checkpoint.
        let separator: Tensor<1> = loader.tensor("view_seperator", [hidden])?;
        Ok(Self {
            newline: newline.map(|newline| newline.unsqueeze()),
            separator: separator.unsqueeze(),
        })
    }

    /// Tiles, then the global view, then the separator.
    ///
    /// # Shapes
    /// - `global`: `[q * q, hidden]`
    /// - tiles: `[columns * rows, q * q, hidden]`, row by row
    /// - output: `[n, hidden]`
    pub(super) fn assemble(
        &self,
        global: Tensor<2>,
        tiles: Option<(Tensor<3>, Grid)>,
    ) -> Tensor<2> {
        let mut parts = Vec::with_capacity(3);
        if let Some((tiles, grid)) = tiles {
            parts.push(self.tiles(tiles, grid));
        }
        let side = global.dims()[0].isqrt();
        parts.push(self.close_rows(global, side));
        parts.push(self.separator.clone());
        Tensor::cat(parts, 0)
    }

    fn tiles(&self, tiles: Tensor<3>, grid: Grid) -> Tensor<2> {
        let [n, places, hidden] = tiles.dims();
        let (columns, rows) = (grid.columns as usize, grid.rows as usize);
        assert_eq!(n, columns * rows, "tiles of the grid");
        if self.newline.is_none() {
            return tiles.reshape([n * places, hidden]);
        }
        let side = places.isqrt();
        let stitched = tiles
            .reshape([rows, columns, side, side, hidden])
            .permute([0, 2, 1, 3, 4])
            .reshape([n * places, hidden]);
        self.close_rows(stitched, columns * side)
    }

    /// Puts a newline behind each row of a grid, if there are newlines.
    ///
    /// # Shapes
    /// - `grid`: `[rows * row_len, hidden]`
    /// - output: `[rows * (row_len + 1), hidden]`
    fn close_rows(&self, grid: Tensor<2>, row_len: usize) -> Tensor<2> {
        let Some(newline) = &self.newline else {
            return grid;
        };
        let [places, hidden] = grid.dims();
        let rows = places / row_len;
        let newlines = newline.clone().unsqueeze_dim::<3>(0);
        let newlines = newlines.expand([rows, 1, hidden]);
        let grid = grid.reshape([rows, row_len, hidden]);
        Tensor::cat(vec![grid, newlines], 1).reshape([rows * (row_len + 1), hidden])
    }

    /// How many vectors there are for views whose maps have these sides.
    pub(super) fn slots(&self, global_side: usize, tile_side: usize, grid: Grid) -> usize {
        let (columns, rows) = (grid.columns as usize, grid.rows as usize);
        let newline = usize::from(self.newline.is_some());
        let tiles = match columns * rows {
            0 | 1 => 0,
            _ => rows * tile_side * (columns * tile_side + newline),
        };
        tiles + global_side * (global_side + newline) + 1
    }
}

/// Views as the towers want them, `[n, 3, side, side]` from -1 to 1.
///
/// # Panics
/// If views differ in size, or have other than 3 bytes for each pixel.
pub fn pixels(views: &[View], device: &Device) -> Tensor<4> {
    let side = views.first().map_or(0, |view| view.side as usize);
    let of_byte: [f32; 256] = std::array::from_fn(|byte| (byte as f32 / 255.0 - 0.5) / 0.5);
    let mut values = vec![0.0f32; views.len() * 3 * side * side];
    if side > 0 {
        for (view, values) in views.iter().zip(values.chunks_exact_mut(3 * side * side)) {
            assert_eq!(view.side as usize, side, "views of one size");
            assert_eq!(view.rgb.len(), values.len(), "bytes of a view");
            for (channel, plane) in values.chunks_exact_mut(side * side).enumerate() {
                let bytes = view.rgb.iter().skip(channel).step_by(3);
                for (value, byte) in plane.iter_mut().zip(bytes) {
                    *value = of_byte[usize::from(*byte)];
                }
            }
        }
    }
    let data = TensorData::new(values, [views.len(), 3, side, side]);
    Tensor::from_data(data, (device, burn::tensor::DType::F32))
}
