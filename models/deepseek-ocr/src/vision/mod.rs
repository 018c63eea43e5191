//! Views to vectors: SAM, the second encoder, the projector, and their order in the prompt.
//!
//! ```text
//! VisionModel::load(&mut Weights, &ModelConfig, &Device) -> Result<VisionModel, CheckpointError>
//! // [b, 3, s, s] in -1..1, all of one size -> [b, q * q, hidden]
//! VisionModel::encode(&self, views: Tensor<4>, stages: &mut Stages) -> Tensor<3>
//! // vectors in the order of the slots: tiles stitched, global view, separator -> [n, hidden]
//! VisionModel::assemble(&self, global: Tensor<2>, tiles: Option<(Tensor<3>, Grid)>) -> Tensor<2>
//! // how many slots a page takes, without computing anything
//! VisionModel::slots(&self, mode: &Mode, grid: Grid) -> usize
//! pixels(views: &[View], device: &Device) -> Tensor<4>
//! ```
