//! Checkpoints of random numbers, under real names and of any sizes: for measurements, and for
//! tests that need a checkpoint and not its meaning.
//!
//! Numbers are scaled by what they are multiplied with, so that values stay finite through all
//! layers. They depend on the seed and on the tensor's place only, not on threads.

mod words;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use burn::tensor::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Value, json};

use super::expected::{ExpectedTensor, expected_tensors};
use super::{CONFIG_FILE, INDEX_FILE, StoredType, TOKENIZER_FILE};
use crate::config::{EncoderConfig, ModelConfig};

/// How a checkpoint is written.
#[derive(Debug, Clone, Copy)]
pub struct RandomOptions {
    pub seed: u64,
    pub stored: StoredType,
    /// Files to spread the tensors over.
    pub n_shards: usize,
}

impl Default for RandomOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            stored: StoredType::Bf16,
            n_shards: 1,
        }
    }
}

/// Numbers made at once; a piece has its own seed.
const PIECE: usize = 1 << 20;
/// Pieces made before they are written, which bounds memory.
const PIECES: usize = 32;
/// Data starts at a multiple of so many bytes, for whoever reads it in place.
const ALIGNMENT: usize = 64;

/// Writes `config.json`, the index, the files with tensors and, if the vocabulary has room for
/// one, a tokenizer into a folder, which is made if it is missing and must hold no checkpoint.
/// Gives the bytes of all tensors.
///
/// # Errors
/// When the folder holds a checkpoint, or cannot be written to.
pub fn write_random(
    folder: &Path,
    config: &ModelConfig,
    options: RandomOptions,
) -> io::Result<u64> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join(CONFIG_FILE);
    if path.exists() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is there already", path.display()),
        ));
    }
    let tensors: Vec<(usize, ExpectedTensor)> =
        expected_tensors(config).into_iter().enumerate().collect();
    let size = options.stored.size() as u64;
    let total: u64 = tensors
        .iter()
        .map(|(_, tensor)| tensor.n_values() * size)
        .sum();
    let shards = spread(
        tensors,
        total.div_ceil(options.n_shards.max(1) as u64),
        size,
    );
    let mut weight_map = serde_json::Map::new();
    for (at, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:06}.safetensors", at + 1, shards.len());
        write_shard(&folder.join(&name), shard, options)?;
        for (_, tensor) in shard {
            weight_map.insert(tensor.name.clone(), json!(name));
        }
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    write_json(&folder.join(INDEX_FILE), &index)?;
    if let Some(tokenizer) = words::tokenizer_json(config) {
        write_json(&folder.join(TOKENIZER_FILE), &tokenizer)?;
    }
    // Last, so that a folder that was left half written is no checkpoint.
    write_json(&path, &config_json(config))?;
    Ok(total)
}

fn write_json(path: &Path, value: &Value) -> io::Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(value)?)
}

type Shard = Vec<(usize, ExpectedTensor)>;

fn spread(tensors: Shard, bytes: u64, size: u64) -> Vec<Shard> {
    let mut shards = vec![Shard::new()];
    let mut filled = 0;
    for (at, tensor) in tensors {
        if filled >= bytes {
            shards.push(Shard::new());
            filled = 0;
        }
        filled += tensor.n_values() * size;
        if let Some(last) = shards.last_mut() {
            last.push((at, tensor));
        }
    }
    shards
}

fn write_shard(path: &Path, shard: &Shard, options: RandomOptions) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let header = header(shard, options.stored)?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (at, tensor) in shard {
        let scale = Scale::of(tensor);
        let n = tensor.n_values() as usize;
        let starts: Vec<usize> = (0..n).step_by(PIECE).collect();
        for starts in starts.chunks(PIECES) {
            let pieces: Vec<Vec<u8>> = starts
                .par_iter()
                .map(|&start| {
                    let seed = [options.seed, *at as u64, start as u64];
                    piece(seed, PIECE.min(n - start), scale, options.stored)
                })
                .collect();
            for piece in pieces {
                file.write_all(&piece)?;
            }
        }
    }
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

fn header(shard: &Shard, stored: StoredType) -> io::Result<Vec<u8>> {
    let dtype = match stored {
        StoredType::Bf16 => Dtype::BF16,
        StoredType::F16 => Dtype::F16,
        StoredType::F32 => Dtype::F32,
    };
    let mut start = 0;
    let mut tensors = Vec::with_capacity(shard.len());
    for (_, tensor) in shard {
        let end = start + tensor.n_values() as usize * stored.size();
        let info = TensorInfo {
            dtype,
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        tensors.push((tensor.name.clone(), info));
        start = end;
    }
    let metadata = Metadata::new(None, tensors).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    let length = (header.len() + 8).next_multiple_of(ALIGNMENT) - 8;
    header.resize(length, b' ');
    Ok(header)
}

/// Numbers are spread evenly over `middle - width ..= middle + width`.
#[derive(Debug, Clone, Copy)]
struct Scale {
    middle: f32,
    width: f32,
}

impl Scale {
    /// Norms are near 1. Kernels keep the variance of what they are applied to, so a sum over
    /// their inputs stays of the size of one. What is added to the stream is small.
    fn of(tensor: &ExpectedTensor) -> Self {
        let is_norm = tensor.name.contains("norm")
            || tensor.name.contains("neck.1")
            || tensor.name.contains("neck.3");
        let is_added = ["pos_embed", "rel_pos", "embedding"]
            .iter()
            .any(|part| tensor.name.contains(part));
        let (middle, deviation) = match tensor.shape[..] {
            [_] if is_norm && tensor.name.ends_with(".weight") => (1.0, 0.02),
            [_] => (0.0, 0.02),
            _ if is_added => (0.0, 0.02),
            [_, ref inputs @ ..] => {
                let inputs: usize = inputs.iter().product();
                (0.0, 1.0 / (inputs.max(1) as f32).sqrt())
            }
            [] => (0.0, 0.02),
        };
        Self {
            middle,
            width: deviation * 3.0_f32.sqrt(),
        }
    }
}

fn piece(seed: [u64; 3], n: usize, scale: Scale, stored: StoredType) -> Vec<u8> {
    let mut state = seed.into_iter().fold(0, |state, part| mix(state ^ part));
    let mut bytes = Vec::with_capacity(n * stored.size());
    let factor = scale.width / 32_768.0;
    while bytes.len() < n * stored.size() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let drawn = mix(state).to_le_bytes();
        let left = n - bytes.len() / stored.size();
        for pair in drawn.as_chunks::<2>().0.iter().take(left) {
            let value = scale.middle + f32::from(i16::from_le_bytes(*pair)) * factor;
            match stored {
                StoredType::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
                StoredType::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
                StoredType::F32 => bytes.extend(value.to_le_bytes()),
            }
        }
    }
    bytes
}

/// The finisher of SplitMix64: every bit of what goes in changes half of those that come out.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A `config.json` that describes this network, as the published files are written.
pub fn config_json(config: &ModelConfig) -> Value {
    let (decoder, sam) = (&config.decoder, &config.sam);
    let language = json!({
        "architectures": ["DeepseekV2ForCausalLM"],
        "bos_token_id": config.tokens.bos,
        "eos_token_id": config.tokens.eos,
        "first_k_dense_replace": decoder.n_dense_layers,
        "hidden_size": decoder.hidden,
        "intermediate_size": decoder.dense_mlp,
        "kv_lora_rank": null,
        "lm_head": true,
        "max_position_embeddings": decoder.max_positions,
        "moe_intermediate_size": decoder.expert_mlp,
        "n_group": 1,
        "n_routed_experts": decoder.n_experts,
        "n_shared_experts": decoder.n_shared_experts,
        "num_attention_heads": decoder.n_heads,
        "num_experts_per_tok": decoder.experts_per_token,
        "num_hidden_layers": decoder.n_layers,
        "num_key_value_heads": decoder.n_heads,
        "q_lora_rank": null,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": false,
        "topk_group": 1,
        "topk_method": "greedy",
        "torch_dtype": "bfloat16",
        "use_mla": false,
        "v_head_dim": 0,
        "vocab_size": decoder.vocabulary,
    });
    let mut width = json!({
        "sam_vit_b": {
            "downsample_channels": sam.compressor,
            "global_attn_indexes": sam.global_blocks,
            "heads": sam.n_heads,
            "layers": sam.n_blocks,
            "width": sam.width,
        }
    });
    let mut extra = json!({
        "sam_patch_size": sam.patch,
        "sam_window_size": sam.window,
        "sam_mlp_ratio": sam.mlp_ratio,
        "sam_neck_channels": sam.neck,
        "sam_layer_norm_eps": sam.epsilon,
        "image_token_id": config.tokens.image,
        "rope_theta": decoder.rope_theta,
        "rms_norm_eps": decoder.epsilon,
    });
    match &config.encoder {
        EncoderConfig::Clip(clip) => {
            width["clip-l-14-224"] = json!({
                "heads": clip.n_heads,
                "image_size": clip.table_side * clip.unused_patch,
                "layers": clip.n_blocks,
                "patch_size": clip.unused_patch,
                "width": clip.width,
            });
            extra["clip_ffn"] = json!(clip.mlp);
            extra["clip_layer_norm_eps"] = json!(clip.epsilon);
        }
        EncoderConfig::Queries(queries) => {
            width["qwen2-0-5b"] = json!({ "dim": queries.width });
            extra["encoder"] = json!({
                "layers": queries.n_blocks,
                "heads": queries.n_heads,
                "kv_heads": queries.n_kv_heads,
                "intermediate": queries.mlp,
                "rope_theta": queries.rope_theta,
                "rms_norm_eps": queries.epsilon,
            });
        }
    }
    let mut root = json!({
        "architectures": [config.architecture.name()],
        "global_view_pos": "head",
        "language_config": language,
        "model_type": "deepseek_vl_v2",
        "projector_config": {
            "input_dim": config.projector_input,
            "n_embed": decoder.hidden,
            "projector_type": "linear",
        },
        "tile_tag": "2D",
        "torch_dtype": "bfloat16",
        "vision_config": {
            "image_size": sam.table_side * sam.patch,
            "model_type": "vision",
            "width": width,
        },
    });
    // The published files lack what the published code fixes.
    let plain = ModelConfig::parse(&root.to_string());
    if plain.as_ref() != Ok(config) {
        root["fixture_extra"] = extra;
    }
    root
}
