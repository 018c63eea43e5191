//! SAM's attention with relative positions, in windows or over the whole view.

use burn::tensor::ops::PadMode;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::vision::attention::attend;
use crate::vision::host;
use crate::vision::layers::{Linear, Loader};
use crate::vision::positions::{PerSize, resample_line};
use crate::weights::CheckpointError;

/// Configuration of an [`Attention`].
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionConfig {
    pub(super) width: usize,
    pub(super) n_heads: usize,
    pub(super) window: Option<usize>,
    pub(super) table_side: usize,
}

impl AttentionConfig {
    pub(super) fn load(self, mut loader: Loader<'_, '_>) -> Result<Attention, CheckpointError> {
        let Self { width, n_heads, .. } = self;
        let head = width / n_heads;
        let mut table = |name| RelativePositions::load(&mut loader, name, self.table_side, head);
        let (rows, columns) = (table("rel_pos_h")?, table("rel_pos_w")?);
        let mix = Linear::load(&mut loader, "qkv", [width, 3 * width])?;
        Ok(Attention {
            mix,
            project: Linear::load(&mut loader, "proj", [width, width])?,
            rows,
            columns,
            n_heads,
            window: self.window,
            keys_of_positions: PerSize::new(),
        })
    }
}

#[derive(Debug)]
pub(super) struct Attention {
    /// To the queries, keys and values of all heads.
    mix: Linear,
    project: Linear,
    rows: RelativePositions,
    columns: RelativePositions,
    n_heads: usize,
    window: Option<usize>,
    /// For each side what [`one_hot_positions`] gives.
    keys_of_positions: PerSize<Tensor<3>>,
}

impl Attention {
    /// Adds to `sum` what the places of a map see.
    ///
    /// # Shapes
    /// - `sum`, `map` and output: `[n, g, g, width]`
    pub(super) fn forward_onto(&self, sum: Tensor<4>, map: Tensor<4>) -> Tensor<4> {
        let [n, grid, _, width] = map.dims();
        let attended = match (&self.mix, self.window) {
            (Linear::Packed(matrix), window) => {
                let side = window.unwrap_or(grid);
                let positions = [self.rows.values_at(side), self.columns.values_at(side)];
                // What zeros would give.
                let outside = matrix.bias();
                let windows = window.map(|side| host::Windows { side, outside });
                host::attend(
                    self.mix.forward(map),
                    self.n_heads,
                    Some(positions),
                    windows,
                )
            }
            (Linear::Tensors(_), Some(window)) => {
                let windows = cut_windows(map, window);
                let attended = self.attend(windows);
                join_windows(attended, [n, grid, width])
            }
            (Linear::Tensors(_), None) => self.attend(map),
        };
        self.project.forward_onto(sum, attended)
    }

    /// Lets all places of a map see each other.
    ///
    /// # Shapes
    /// - `maps` and output: `[m, side, side, width]`
    fn attend(&self, maps: Tensor<4>) -> Tensor<4> {
        let [m, side, _, width] = maps.dims();
        let mixed = self.mix.forward(maps);
        let (places, head) = (side * side, width / self.n_heads);
        let parts = mixed
            .reshape([m, places, 3, self.n_heads, head])
            .permute([2, 0, 3, 1, 4]);
        let part = |index: usize| {
            let part = parts.clone().slice_dim(0, index..index + 1);
            part.reshape([m * self.n_heads, places, head])
        };
        let (queries, keys) = self.with_positions(part(0), part(1), side);
        let attended = attend(
            queries.unsqueeze_dim(1),
            keys.unsqueeze_dim(1),
            part(2).unsqueeze_dim(1),
            None,
        );
        attended
            .reshape([m, self.n_heads, places, head])
            .swap_dims(1, 2)
            .reshape([m, side, side, width])
    }

    /// Queries and keys whose products are scaled and hold the relative positions.
    ///
    /// To the product of a query at row y and a key at row y' belongs the product of the query
    /// with what the table has for y - y', and the same for columns. The query carries these for
    /// all rows and columns, and a key picks its own by ones at its row and column. So one product
    /// gives everything, instead of two additions to the largest tensor of the network.
    ///
    /// # Shapes
    /// - `queries`, `keys`: `[m, side * side, head]`
    /// - output, both: `[m, side * side, head + 2 * side]`
    fn with_positions(
        &self,
        queries: Tensor<3>,
        keys: Tensor<3>,
        side: usize,
    ) -> (Tensor<3>, Tensor<3>) {
        let [m, places, head] = queries.dims();
        let map = queries.clone().reshape([m, side, side, head]);
        let by_row = map.clone().matmul(self.rows.at(side));
        let by_column = map.swap_dims(1, 2).matmul(self.columns.at(side));
        let by_column = by_column.swap_dims(1, 2);
        let scale = 1.0 / (head as f64).sqrt();
        let queries = Tensor::cat(
            vec![
                queries * scale,
                by_row.reshape([m, places, side]),
                by_column.reshape([m, places, side]),
            ],
            2,
        );
        let of_positions = self.keys_of_positions.get(side, || {
            one_hot_positions(side, &keys.device(), keys.dtype())
        });
        let of_positions = of_positions.expand([m, places, 2 * side]);
        (queries, Tensor::cat(vec![keys, of_positions], 2))
    }
}

/// For each place a one at its row, and one at its column: `[1, side * side, 2 * side]`.
fn one_hot_positions(side: usize, device: &Device, dtype: DType) -> Tensor<3> {
    let mut values = vec![0.0f32; side * side * 2 * side];
    for (place, values) in values.chunks_exact_mut(2 * side).enumerate() {
        values[place / side] = 1.0;
        values[side + place % side] = 1.0;
    }
    let data = TensorData::new(values, [1, side * side, 2 * side]);
    Tensor::from_data(data, (device, dtype))
}

/// A table of relative positions along one axis.
#[derive(Debug)]
struct RelativePositions {
    /// Rows of the table: twice the side it was made for, less one.
    len: usize,
    head: usize,
    /// `[len, head]`
    values: Vec<f32>,
    device: Device,
    dtype: DType,
    made: PerSize<Tensor<4>>,
    made_values: PerSize<host::RelativeTable>,
}

impl RelativePositions {
    fn load(
        loader: &mut Loader<'_, '_>,
        name: &str,
        side: usize,
        head: usize,
    ) -> Result<Self, CheckpointError> {
        let len = 2 * side - 1;
        Ok(Self {
            len,
            head,
            values: loader.values(name, &[len, head])?,
            device: loader.device.clone(),
            dtype: loader.dtype,
            made: PerSize::new(),
            made_values: PerSize::new(),
        })
    }

    /// For each place of a query the vectors of all places of keys, turned:
    /// `[1, side, head, side]`.
    fn at(&self, side: usize) -> Tensor<4> {
        self.made.get(side, || {
            let table = self.resampled(side);
            let mut values = Vec::with_capacity(side * self.head * side);
            for query in 0..side {
                for channel in 0..self.head {
                    let of_key = |key| table[(query + side - 1 - key) * self.head + channel];
                    values.extend((0..side).map(of_key));
                }
            }
            let data = TensorData::new(values, [1, side, self.head, side]);
            Tensor::from_data(data, (&self.device, self.dtype))
        })
    }

    /// The table for a side, in host memory.
    fn values_at(&self, side: usize) -> host::RelativeTable {
        self.made_values.get(side, || {
            host::RelativeTable::new(&self.resampled(side), side)
        })
    }

    /// `[2 * side - 1, head]`
    fn resampled(&self, side: usize) -> Vec<f32> {
        resample_line(&self.values, self.len, self.head, 2 * side - 1)
    }
}

/// Cuts maps into windows. What is missing to whole windows on the right and below is zeros; they
/// are not masked, so they take part in the attention with the bias as their keys and values.
///
/// # Shapes
/// - `map`: `[n, g, g, width]`
/// - output: `[n * windows, window, window, width]`
fn cut_windows(map: Tensor<4>, window: usize) -> Tensor<4> {
    let [n, grid, _, width] = map.dims();
    let per_side = grid.div_ceil(window);
    let missing = per_side * window - grid;
    let map = match missing {
        0 => map,
        _ => map.pad([(0, missing), (0, missing), (0, 0)], PadMode::Constant(0.0)),
    };
    map.reshape([n, per_side, window, per_side, window, width])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([n * per_side * per_side, window, window, width])
}

/// Puts windows together again and drops what was added.
///
/// # Shapes
/// - `windows`: `[n * windows, window, window, width]`
/// - output: `[n, grid, grid, width]`
fn join_windows(windows: Tensor<4>, [n, grid, width]: [usize; 3]) -> Tensor<4> {
    let [_, window, _, _] = windows.dims();
    let per_side = grid.div_ceil(window);
    let padded = per_side * window;
    let map = windows
        .reshape([n, per_side, per_side, window, window, width])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([n, padded, padded, width]);
    match padded == grid {
        true => map,
        false => map.slice_dim(1, 0..grid).slice_dim(2, 0..grid),
    }
}
