//! What a job asks for: everything that decides the content of its dataset, and nothing that
//! only decides how fast it is made. Two runs with equal specs over equal bytes give equal rows.

use serde::{Deserialize, Serialize};

use crate::engine::EngineInfo;

/// What goes into the `image` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageMode {
    None,
    Embed,
}

/// What is done with the text that a PDF carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextLayerMode {
    /// Read the pixels, record how far the layer agrees.
    Compare,
    /// Use a layer that passes every trust test; read 1% of such pages to check.
    Prefer,
    Ignore,
}

/// How pages become images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenderSpec {
    /// Dots an inch for vector pages.
    pub dpi: f32,
    /// Longest edge of a page image, pixels; a larger page is drawn or scaled smaller.
    pub max_edge_px: u32,
    /// Largest area of a page image, pixels.
    pub max_area_px: u64,
}

/// Which documents are held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitSpec {
    pub salt: String,
    /// 0 to 1.
    pub validation_fraction: f64,
}

/// What a job asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Inputs as canonical URIs or patterns, in the order given.
    pub inputs: Vec<String>,
    pub engine: EngineInfo,
    pub image_mode: ImageMode,
    pub text_layer: TextLayerMode,
    pub render: RenderSpec,
    pub split: SplitSpec,
    /// Pages of a shard aimed at.
    pub shard_pages: u32,
    /// Seed of the shuffled order of entries.
    pub shuffle_seed: u64,
    /// Set by `retry`: pages of this dataset version that are read again, as a SQL condition on
    /// its errors table.
    pub retry_where: Option<String>,
}
