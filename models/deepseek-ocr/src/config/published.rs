//! Sizes of the published checkpoints.

use super::{
    Architecture, ClipConfig, DecoderConfig, EncoderConfig, ModelConfig, QueryEncoderConfig,
    SamConfig, TokenIds,
};

impl ModelConfig {
    /// The network of a published checkpoint, as its `config.json` describes it.
    pub fn published(architecture: Architecture) -> Self {
        let (encoder, projector_input, compressed) = match architecture {
            Architecture::One => (EncoderConfig::Clip(clip()), 2048, 1024),
            Architecture::Two => (EncoderConfig::Queries(queries()), 896, 896),
        };
        Self {
            architecture,
            sam: sam(compressed),
            encoder,
            projector_input,
            decoder: decoder(),
            tokens: TokenIds {
                bos: 0,
                eos: 1,
                image: 128_815,
            },
        }
    }
}

fn sam(compressed: usize) -> SamConfig {
    SamConfig {
        width: 768,
        n_blocks: 12,
        n_heads: 12,
        global_blocks: vec![2, 5, 8, 11],
        window: 14,
        patch: 16,
        mlp_ratio: 4,
        table_side: 64,
        neck: 256,
        compressor: [512, compressed],
        epsilon: 1e-6,
    }
}

fn clip() -> ClipConfig {
    ClipConfig {
        width: 1024,
        n_blocks: 24,
        n_heads: 16,
        mlp: 4096,
        table_side: 16,
        unused_patch: 14,
        epsilon: 1e-5,
    }
}

fn queries() -> QueryEncoderConfig {
    QueryEncoderConfig {
        width: 896,
        n_blocks: 24,
        n_heads: 14,
        n_kv_heads: 2,
        mlp: 4864,
        rope_theta: 1_000_000.0,
        epsilon: 1e-6,
    }
}

fn decoder() -> DecoderConfig {
    DecoderConfig {
        hidden: 1280,
        n_layers: 12,
        n_heads: 10,
        dense_mlp: 6848,
        n_dense_layers: 1,
        n_experts: 64,
        experts_per_token: 6,
        expert_mlp: 896,
        n_shared_experts: 2,
        vocabulary: 129_280,
        max_positions: 8192,
        rope_theta: 10_000.0,
        epsilon: 1e-6,
    }
}
