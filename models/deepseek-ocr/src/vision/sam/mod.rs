//! SAM ViT-B: patches of a view through blocks of window attention, with a few that see the whole
//! view, then a neck and a compressor that leave a sixteenth of the places.
//!
//! Maps are `[views, rows, columns, channels]` up to the neck.

mod attention;
mod block;
mod neck;

use burn::tensor::Tensor;

use self::block::{Block, BlockConfig};
use self::neck::Neck;
use super::layers::{Linear, Loader};
use super::positions::GridPositions;
use crate::config::SamConfig;
use crate::stages::Stages;
use crate::weights::CheckpointError;

/// The first tower.
#[derive(Debug)]
pub(super) struct Sam {
    patch_side: usize,
    patches: Linear,
    pub(super) positions: GridPositions,
    blocks: Vec<Block>,
    neck: Neck,
}

impl Sam {
    /// `channels_out`: what stands behind the compressor takes so many.
    pub(super) fn load(
        mut loader: Loader<'_, '_>,
        config: &SamConfig,
        channels_out: usize,
    ) -> Result<Self, CheckpointError> {
        let SamConfig { width, patch, .. } = *config;
        let side = config.table_side;
        let patches = Linear::load_patches(
            &mut loader.at("patch_embed"),
            "proj",
            [3, width],
            patch,
            true,
        )?;
        let positions = loader.values("pos_embed", &[1, side, side, width])?;
        let positions = GridPositions::new(positions, side, loader.device, loader.dtype);
        let blocks = (0..config.n_blocks)
            .map(|index| {
                let is_global = config.global_blocks.contains(&index);
                BlockConfig {
                    width,
                    n_heads: config.n_heads,
                    window: (!is_global).then_some(config.window),
                    table_side: if is_global { side } else { config.window },
                    mlp: config.mlp_ratio * width,
                    epsilon: config.epsilon,
                }
                .load(loader.at(&format!("blocks.{index}")))
            })
            .collect::<Result<_, _>>()?;
        let neck = Neck::load(&mut loader, config, channels_out)?;
        Ok(Self {
            patch_side: patch,
            patches,
            positions,
            blocks,
            neck,
        })
    }

    /// # Shapes
    /// - `views`: `[n, 3, s, s]`
    /// - output: `[n, channels, q, q]`, with q a quarter of the patches on a side, rounded up
    pub(super) fn forward(&self, views: Tensor<4>, stages: &mut Stages) -> Tensor<4> {
        let [_, _, side, _] = views.dims();
        let grid = side / self.patch_side;
        let map = self.patches.forward(self.cut(views));
        let [_, _, _, width] = map.dims();
        let mut map = map + self.positions.at(grid).reshape([1, grid, grid, width]);
        stages.keep("sam_tokens", &map);
        for (index, block) in self.blocks.iter().enumerate() {
            map = block.forward(map);
            stages.keep(&format!("sam_block_{index}"), &map);
        }
        self.neck.forward(map, stages)
    }

    /// Cuts views into patches, each with its values in the order of the convolution's weights:
    /// channel, row, column.
    ///
    /// # Shapes
    /// - `views`: `[n, 3, s, s]`
    /// - output: `[n, g, g, 3 * patch * patch]`
    fn cut(&self, views: Tensor<4>) -> Tensor<4> {
        let [n, channels, height, width] = views.dims();
        assert_eq!(height, width, "views are squares");
        let patch = self.patch_side;
        let grid = width / patch;
        // What does not fill a patch is not seen, as with a convolution.
        let seen = grid * patch;
        let views = match seen == width {
            true => views,
            false => views.slice_dim(2, 0..seen).slice_dim(3, 0..seen),
        };
        views
            .reshape([n, channels, grid, patch, grid, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([n, grid, grid, channels * patch * patch])
    }
}
