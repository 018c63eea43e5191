//! What a checkpoint's `config.json` says of the network. Every size comes from there, so a
//! shrunken model and the published ones go through the same code.
//!
//! Reading it, and refusing what this crate does not compute, is `parse`; the sizes of the
//! published checkpoints, `published`.

mod parse;
mod published;

pub use parse::ConfigError;

/// Which published network it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `DeepseekOCRForCausalLM`: SAM and CLIP, tiles of 640.
    One,
    /// `DeepseekOCR2ForCausalLM`: SAM and an encoder with learned queries, tiles of 768.
    Two,
}

impl Architecture {
    /// As `architectures` of `config.json` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "DeepseekOCRForCausalLM",
            Self::Two => "DeepseekOCR2ForCausalLM",
        }
    }

    /// The published checkpoint.
    pub fn model_id(self) -> &'static str {
        match self {
            Self::One => "deepseek-ai/DeepSeek-OCR",
            Self::Two => "deepseek-ai/DeepSeek-OCR-2",
        }
    }
}

/// The whole network.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub architecture: Architecture,
    pub sam: SamConfig,
    pub encoder: EncoderConfig,
    /// Values that go into the projector: 2048, or 896.
    pub projector_input: usize,
    pub decoder: DecoderConfig,
    pub tokens: TokenIds,
}

/// SAM ViT-B, its neck and the compressor.
#[derive(Debug, Clone, PartialEq)]
pub struct SamConfig {
    /// 768.
    pub width: usize,
    /// 12.
    pub n_blocks: usize,
    /// 12.
    pub n_heads: usize,
    /// Blocks that attend over the whole view: 2, 5, 8, 11.
    pub global_blocks: Vec<usize>,
    /// Side of a window, in patches: 14.
    pub window: usize,
    /// Side of a patch, in pixels: 16.
    pub patch: usize,
    /// Width of the MLP's middle over the width: 4.
    pub mlp_ratio: usize,
    /// Side of the table of positions, in patches: 64.
    pub table_side: usize,
    /// 256.
    pub neck: usize,
    /// Channels after each convolution of the compressor: 512, then 1024 or 896.
    pub compressor: [usize; 2],
    /// 1e-6.
    pub epsilon: f64,
}

impl SamConfig {
    /// Values of one head: 64.
    pub fn head_size(&self) -> usize {
        self.width / self.n_heads
    }

    /// Width of the MLP's middle: 3072.
    pub fn mlp(&self) -> usize {
        self.width * self.mlp_ratio
    }

    /// Whether a block attends over the whole view.
    pub fn is_global(&self, block: usize) -> bool {
        self.global_blocks.contains(&block)
    }

    /// Rows of a block's tables of relative positions: 27, and 127 in global blocks.
    pub fn relative_rows(&self, block: usize) -> usize {
        let side = if self.is_global(block) {
            self.table_side
        } else {
            self.window
        };
        2 * side - 1
    }
}

/// What stands behind SAM.
#[derive(Debug, Clone, PartialEq)]
pub enum EncoderConfig {
    Clip(ClipConfig),
    Queries(QueryEncoderConfig),
}

/// CLIP-L, fed from SAM.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipConfig {
    /// 1024.
    pub width: usize,
    /// 24.
    pub n_blocks: usize,
    /// 16.
    pub n_heads: usize,
    /// 4096.
    pub mlp: usize,
    /// Side of the table of positions without its class row: 16.
    pub table_side: usize,
    /// Side of a patch of the convolution that nothing uses: 14.
    pub unused_patch: usize,
    /// 1e-5.
    pub epsilon: f64,
}

/// The second model's encoder: a Qwen2 with learned queries.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryEncoderConfig {
    /// 896.
    pub width: usize,
    /// 24.
    pub n_blocks: usize,
    /// 14.
    pub n_heads: usize,
    /// 2.
    pub n_kv_heads: usize,
    /// 4864.
    pub mlp: usize,
    /// 1,000,000.
    pub rope_theta: f64,
    /// 1e-6.
    pub epsilon: f64,
}

impl ClipConfig {
    /// Values of one head: 64.
    pub fn head_size(&self) -> usize {
        self.width / self.n_heads
    }
}

impl QueryEncoderConfig {
    /// Values of one head: 64.
    pub fn head_size(&self) -> usize {
        self.width / self.n_heads
    }

    /// Queries of a tile of 768 pixels, and of a view of 1024: the published code fixes them.
    pub const QUERIES: [(u32, usize); 2] = [(768, 144), (1024, 256)];
}

/// The decoder of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// 1280.
    pub hidden: usize,
    /// 12.
    pub n_layers: usize,
    /// 10; as many for keys and values.
    pub n_heads: usize,
    /// Width of the dense layers' middle: 6848.
    pub dense_mlp: usize,
    /// Layers before the first with experts: 1.
    pub n_dense_layers: usize,
    /// 64.
    pub n_experts: usize,
    /// Experts of one token: 6.
    pub experts_per_token: usize,
    /// Width of an expert's middle: 896.
    pub expert_mlp: usize,
    /// Experts that every token takes, stored as one: 2.
    pub n_shared_experts: usize,
    /// 129,280.
    pub vocabulary: usize,
    /// Prompt and answer together: 8,192.
    pub max_positions: usize,
    /// 10,000.
    pub rope_theta: f64,
    /// 1e-6.
    pub epsilon: f64,
}

impl DecoderConfig {
    /// Values of one head: 128.
    pub fn head_size(&self) -> usize {
        self.hidden / self.n_heads
    }

    /// Width of the shared expert's middle: 1792.
    pub fn shared_mlp(&self) -> usize {
        self.expert_mlp * self.n_shared_experts
    }

    /// Whether a layer has experts.
    pub fn has_experts(&self, layer: usize) -> bool {
        layer >= self.n_dense_layers
    }
}

/// Ids that the network knows by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenIds {
    /// 0.
    pub bos: u32,
    /// 1.
    pub eos: u32,
    /// A slot of the image: 128,815.
    pub image: u32,
}
