//! Views to vectors: SAM, the second encoder, the projector, and their order in the prompt.
//!
//! ```text
//! views ──► SAM ──► neck, compressor ──┬──► CLIP ──┬─► concatenated ─► projector ─► assembled
//!           [b, g, g, 768]             └───────────┘
//! second model:                        └──► encoder with queries ──► projector ─► assembled
//! ```
//!
//! Everything is written in burn's operations, for any device. On the CPU in f32 products, attention
//! and activations have loops of their own (`host`), which give the same values sooner.

mod assembly;
mod attention;
mod clip;
mod host;
mod layers;
pub mod positions;
mod query_encoder;
mod sam;

use burn::tensor::{DType, Device, Tensor};

use self::assembly::Assembly;
pub use self::assembly::pixels;
use self::clip::Clip;
use self::layers::{Linear, Loader, Noise, Source};
use self::query_encoder::QueryEncoder;
use self::sam::Sam;
use crate::config::{EncoderConfig, ModelConfig};
use crate::preprocess::{Grid, Mode};
use crate::stages::Stages;
use crate::weights::{CheckpointError, Weights};

/// Memory that views on their way through the towers take together, unless set otherwise.
const DEFAULT_BATCH_BYTES: u64 = 1 << 30;

/// Values that exist at once for a patch, in widths of SAM: what goes around a block, its queries,
/// keys and values, and the middle of its MLP.
const WIDTHS_PER_PATCH: u64 = 16;

/// All that turns views into vectors.
#[derive(Debug)]
pub struct VisionModel {
    sam: Sam,
    encoder: Encoder,
    projector: Linear,
    assembly: Assembly,
    /// Pixels of a patch's side.
    patch: usize,
    /// Channels of SAM's maps.
    width: usize,
    dtype: DType,
    batch_bytes: u64,
}

#[derive(Debug)]
enum Encoder {
    Clip(Box<Clip>),
    Queries(Box<QueryEncoder>),
}

/// How the towers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VisionOptions {
    /// Type of weights and of what is between them. Norms and softmax are in f32 in any case.
    pub dtype: DType,
    /// Bytes that views on their way through the towers may take together; at least one view goes.
    pub batch_bytes: u64,
    /// Uses the loops for the CPU where they can be used (f32 on the device `flex`). Without them
    /// the CPU does what other devices do; for comparisons.
    pub host_loops: bool,
}

impl VisionOptions {
    /// Everything in this type, views batched within 1 GiB.
    pub fn new(dtype: DType) -> Self {
        Self {
            dtype,
            batch_bytes: DEFAULT_BATCH_BYTES,
            host_loops: true,
        }
    }
}

impl VisionModel {
    /// Loads the towers in f32.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load(
        weights: &mut Weights,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<Self, CheckpointError> {
        Self::load_with(weights, config, device, VisionOptions::new(DType::F32))
    }

    /// Loads the towers.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape than the configuration says.
    pub fn load_with(
        weights: &mut Weights,
        config: &ModelConfig,
        device: &Device,
        options: VisionOptions,
    ) -> Result<Self, CheckpointError> {
        Self::from_source(Source::Checkpoint(weights), config, device, options)
    }

    /// Towers of these sizes whose weights are noise: they take as long as real ones.
    ///
    /// # Errors
    /// Never, in fact: noise has every shape.
    pub fn noise(
        config: &ModelConfig,
        device: &Device,
        options: VisionOptions,
    ) -> Result<Self, CheckpointError> {
        Self::from_source(Source::Noise(Noise(1)), config, device, options)
    }

    fn from_source(
        mut source: Source<'_>,
        config: &ModelConfig,
        device: &Device,
        options: VisionOptions,
    ) -> Result<Self, CheckpointError> {
        let VisionOptions {
            dtype,
            batch_bytes,
            host_loops,
        } = options;
        let on_host = host_loops && dtype == DType::F32 && host::is_host(device);
        let mut loader = Loader::new(&mut source, device, dtype, on_host);
        let mut loader = loader.at("model");
        // What SAM gives is what the second encoder takes, so one width stands for both.
        let (encoder_width, projector_input) = match &config.encoder {
            EncoderConfig::Clip(clip) => (clip.width, 2 * clip.width),
            EncoderConfig::Queries(queries) => (queries.width, queries.width),
        };
        let sam = Sam::load(loader.at("sam_model"), &config.sam, encoder_width)?;
        let encoder = match &config.encoder {
            EncoderConfig::Clip(clip) => {
                let loader = loader.at("vision_model");
                Encoder::Clip(Box::new(Clip::load(loader, clip)?))
            }
            EncoderConfig::Queries(queries) => {
                let loader = loader.at("qwen2_model");
                Encoder::Queries(Box::new(QueryEncoder::load(loader, queries)?))
            }
        };
        let hidden = config.decoder.hidden;
        Ok(Self {
            sam,
            encoder,
            projector: Linear::load(&mut loader, "projector.layers", [projector_input, hidden])?,
            assembly: Assembly::load(&mut loader, config)?,
            patch: config.sam.patch,
            width: config.sam.width,
            dtype,
            batch_bytes,
        })
    }

    /// Turns views into vectors. Many views are taken in batches of bounded memory, unless the
    /// values on the way are kept.
    ///
    /// # Shapes
    /// - `views`: `[b, 3, s, s]` from -1 to 1 ([`pixels`])
    /// - output: `[b, q * q, hidden]`
    ///
    /// # Panics
    /// If there is no view, or they are not square, or of a side that [`Self::accepts`] not.
    pub fn encode(&self, views: Tensor<4>, stages: &mut Stages) -> Tensor<3> {
        let [n, _, side, _] = views.dims();
        let views = views.cast(self.dtype);
        let at_once = match stages.keeps() {
            true => n,
            false => self.views_at_once(side),
        };
        if n <= at_once {
            return self.encode_batch(views, stages);
        }
        let batches = (0..n).step_by(at_once).map(|first| {
            let batch = views.clone().slice_dim(0, first..n.min(first + at_once));
            self.encode_batch(batch, stages)
        });
        Tensor::cat(batches.collect(), 0)
    }

    fn encode_batch(&self, views: Tensor<4>, stages: &mut Stages) -> Tensor<3> {
        let map = self.sam.forward(views, stages);
        let [n, channels, height, width] = map.dims();
        let tokens = map.reshape([n, channels, height * width]).swap_dims(1, 2);
        let seen = match &self.encoder {
            Encoder::Clip(clip) => {
                let seen = clip.forward(tokens.clone(), stages);
                Tensor::cat(vec![seen, tokens], 2)
            }
            Encoder::Queries(encoder) => encoder.forward(tokens, stages),
        };
        let vectors = self.projector.forward(seen);
        stages.keep("projector", &vectors);
        vectors
    }

    /// Puts a page's vectors in the order of its slots: tiles, global view, separator. The first
    /// model stitches the tiles to one grid and closes each row by a newline.
    ///
    /// # Shapes
    /// - `global`: `[q * q, hidden]`
    /// - tiles: `[columns * rows, q * q, hidden]`, row by row
    /// - output: `[n, hidden]`, with n as [`Self::slots`] says
    ///
    /// # Panics
    /// If the tiles are not those of the grid.
    pub fn assemble(&self, global: Tensor<2>, tiles: Option<(Tensor<3>, Grid)>) -> Tensor<2> {
        self.assembly.assemble(global, tiles)
    }

    /// How many slots a page takes, without computing anything. A grid of 1 by 1 means that there
    /// are no tiles.
    pub fn slots(&self, mode: &Mode, grid: Grid) -> usize {
        let global = self.map_side(mode.base_size as usize);
        let tile = self.map_side(mode.image_size as usize);
        self.assembly.slots(global, tile, grid)
    }

    /// Whether views of this side can be turned into vectors. The second model was trained for
    /// two sizes and has queries for these only.
    pub fn accepts(&self, side: u32) -> bool {
        let map = self.map_side(side as usize);
        match &self.encoder {
            Encoder::Clip(_) => map > 0,
            Encoder::Queries(encoder) => encoder.knows(map * map),
        }
    }

    /// Views of a side that go through the towers together.
    pub fn views_at_once(&self, side: usize) -> usize {
        let patches = (side / self.patch).pow(2) as u64;
        let per_view = patches * self.width as u64 * WIDTHS_PER_PATCH * self.dtype.size() as u64;
        let views = self.batch_bytes / per_view.max(1);
        usize::try_from(views).unwrap_or(usize::MAX).max(1)
    }

    /// Side of the map that the compressor gives for a view.
    fn map_side(&self, side: usize) -> usize {
        (side / self.patch).div_ceil(4)
    }
}

#[cfg(test)]
impl VisionModel {
    /// Makes the tables for views of a side without antialiasing, as others did by mistake.
    pub(crate) fn plant_plain_resampling(&self, side: usize) {
        self.sam.positions.plant_plain_resampling(side / self.patch);
        if let Encoder::Clip(clip) = &self.encoder {
            clip.positions.plant_plain_resampling(self.map_side(side));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::preprocess::View;
    use crate::weights::Checkpoint;

    fn model() -> VisionModel {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny");
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let (mut weights, config) = (checkpoint.weights(), checkpoint.config());
        VisionModel::load(&mut weights, config, &Device::flex()).unwrap()
    }

    fn vectors(model: &VisionModel, side: u32) -> Vec<f32> {
        let rgb = (0..3 * side * side).map(|index| (index * 31 % 251) as u8);
        let view = View {
            side,
            rgb: rgb.collect(),
        };
        let view = pixels(&[view], &Device::flex());
        let vectors = model.encode(view, &mut Stages::ignored());
        vectors.into_data().try_into_vec().unwrap()
    }

    #[test]
    fn tables_without_antialiasing_change_the_vectors_of_small_views() {
        // 256 pixels are what the tables were made for.
        for (side, changes) in [(256, false), (192, true), (128, true)] {
            let (right, wrong) = (model(), model());
            wrong.plant_plain_resampling(side);
            let side = side as u32;
            let pairs = vectors(&right, side).into_iter().zip(vectors(&wrong, side));
            let error = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert_eq!(error > 0.01, changes, "{side}: {error}");
        }
    }
}
