//! Every tensor of a network under its published name, with its shape. Upstream's misspellings
//! (`view_seperator`, `pre_layrnorm`) stand here.

use crate::config::{ClipConfig, EncoderConfig, ModelConfig, QueryEncoderConfig, SamConfig};

/// A tensor that a checkpoint must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub group: Group,
}

impl ExpectedTensor {
    /// How many numbers it holds.
    pub fn n_values(&self) -> u64 {
        n_values(&self.shape)
    }
}

/// Product of a shape. Saturates, since a file may claim anything.
pub(crate) fn n_values(shape: &[usize]) -> u64 {
    let sides = shape.iter().map(|&side| side as u64);
    sides.fold(1, u64::saturating_mul)
}

/// Part of the network that a tensor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Sam,
    /// CLIP, or the second model's encoder with queries.
    Encoder,
    Projector,
    /// What stands between and behind the vectors of an image.
    Markers,
    Embedding,
    /// The decoder's layers and its last norm.
    Decoder,
    Head,
}

impl Group {
    /// All, in the order of a page's way.
    pub const ALL: [Self; 7] = [
        Self::Sam,
        Self::Encoder,
        Self::Projector,
        Self::Markers,
        Self::Embedding,
        Self::Decoder,
        Self::Head,
    ];

    /// Its word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sam => "sam",
            Self::Encoder => "encoder",
            Self::Projector => "projector",
            Self::Markers => "markers",
            Self::Embedding => "embedding",
            Self::Decoder => "decoder",
            Self::Head => "head",
        }
    }
}

/// CLIP's patches come from SAM, so this convolution is stored and never used.
const UNUSED: &str = "model.vision_model.embeddings.patch_embedding.weight";

/// Whether a network may leave a tensor that it must hold untouched.
pub(super) fn is_unused(name: &str) -> bool {
    name == UNUSED
}

/// Whether a tensor may be there without being asked for: positions that some programs write
/// beside CLIP's table, and queries of views that the second model was not released for (of 64,
/// 100 and 400 vectors).
pub(super) fn is_tolerated(name: &str) -> bool {
    const TOLERATED: [&str; 4] = [
        "model.vision_model.embeddings.position_ids",
        "model.qwen2_model.query_512.weight",
        "model.qwen2_model.query_640.weight",
        "model.qwen2_model.query_1280.weight",
    ];
    TOLERATED.contains(&name)
}

/// Every tensor that a checkpoint of this network holds.
pub fn expected_tensors(config: &ModelConfig) -> Vec<ExpectedTensor> {
    let mut table = Table {
        group: Group::Sam,
        tensors: Vec::new(),
    };
    table.sam(&config.sam);
    table.group = Group::Encoder;
    match &config.encoder {
        EncoderConfig::Clip(clip) => table.clip(clip),
        EncoderConfig::Queries(queries) => table.queries(queries),
    }
    table.language(config);
    table.tensors
}

struct Table {
    group: Group,
    tensors: Vec<ExpectedTensor>,
}

impl Table {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.tensors.push(ExpectedTensor {
            name: name.into(),
            shape: shape.to_vec(),
            group: self.group,
        });
    }

    /// A kernel and as many biases as it has outputs.
    fn with_bias(&mut self, name: &str, shape: &[usize]) {
        self.add(format!("{name}.weight"), shape);
        self.add(format!("{name}.bias"), &shape[..1]);
    }

    fn weight(&mut self, name: &str, shape: &[usize]) {
        self.add(format!("{name}.weight"), shape);
    }

    fn sam(&mut self, sam: &SamConfig) {
        let (width, side, patch) = (sam.width, sam.table_side, sam.patch);
        let at = |name: &str| format!("model.sam_model.{name}");
        self.add(at("pos_embed"), &[1, side, side, width]);
        self.with_bias(&at("patch_embed.proj"), &[width, 3, patch, patch]);
        for block in 0..sam.n_blocks {
            let at = |name: &str| format!("model.sam_model.blocks.{block}.{name}");
            self.with_bias(&at("norm1"), &[width]);
            self.with_bias(&at("attn.qkv"), &[3 * width, width]);
            self.with_bias(&at("attn.proj"), &[width, width]);
            let relative = [sam.relative_rows(block), sam.head_size()];
            self.add(at("attn.rel_pos_h"), &relative);
            self.add(at("attn.rel_pos_w"), &relative);
            self.with_bias(&at("norm2"), &[width]);
            self.with_bias(&at("mlp.lin1"), &[sam.mlp(), width]);
            self.with_bias(&at("mlp.lin2"), &[width, sam.mlp()]);
        }
        let [first, second] = sam.compressor;
        self.weight(&at("neck.0"), &[sam.neck, width, 1, 1]);
        self.with_bias(&at("neck.1"), &[sam.neck]);
        self.weight(&at("neck.2"), &[sam.neck, sam.neck, 3, 3]);
        self.with_bias(&at("neck.3"), &[sam.neck]);
        self.weight(&at("net_2"), &[first, sam.neck, 3, 3]);
        self.weight(&at("net_3"), &[second, first, 3, 3]);
    }

    fn clip(&mut self, clip: &ClipConfig) {
        let (width, patch) = (clip.width, clip.unused_patch);
        let positions = 1 + clip.table_side * clip.table_side;
        self.add("model.vision_model.embeddings.class_embedding", &[width]);
        self.add(UNUSED, &[width, 3, patch, patch]);
        let table = "model.vision_model.embeddings.position_embedding";
        self.weight(table, &[positions, width]);
        self.with_bias("model.vision_model.pre_layrnorm", &[width]);
        for block in 0..clip.n_blocks {
            let at = |name: &str| format!("model.vision_model.transformer.layers.{block}.{name}");
            self.with_bias(&at("layer_norm1"), &[width]);
            self.with_bias(&at("self_attn.qkv_proj"), &[3 * width, width]);
            self.with_bias(&at("self_attn.out_proj"), &[width, width]);
            self.with_bias(&at("layer_norm2"), &[width]);
            self.with_bias(&at("mlp.fc1"), &[clip.mlp, width]);
            self.with_bias(&at("mlp.fc2"), &[width, clip.mlp]);
        }
    }

    fn queries(&mut self, encoder: &QueryEncoderConfig) {
        let (width, mlp) = (encoder.width, encoder.mlp);
        let shared = encoder.n_kv_heads * encoder.head_size();
        for (side, n) in QueryEncoderConfig::QUERIES {
            self.weight(&format!("model.qwen2_model.query_{side}"), &[n, width]);
        }
        for layer in 0..encoder.n_blocks {
            let at = |name: &str| format!("model.qwen2_model.model.model.layers.{layer}.{name}");
            self.weight(&at("input_layernorm"), &[width]);
            self.with_bias(&at("self_attn.q_proj"), &[width, width]);
            self.with_bias(&at("self_attn.k_proj"), &[shared, width]);
            self.with_bias(&at("self_attn.v_proj"), &[shared, width]);
            self.weight(&at("self_attn.o_proj"), &[width, width]);
            self.weight(&at("post_attention_layernorm"), &[width]);
            self.swiglu(&at("mlp"), mlp, width);
        }
        self.weight("model.qwen2_model.model.model.norm", &[width]);
    }

    /// Projector, markers, embedding, decoder and head.
    fn language(&mut self, config: &ModelConfig) {
        let decoder = &config.decoder;
        let (hidden, vocabulary) = (decoder.hidden, decoder.vocabulary);
        self.group = Group::Projector;
        self.with_bias("model.projector.layers", &[hidden, config.projector_input]);
        self.group = Group::Markers;
        if matches!(config.encoder, EncoderConfig::Clip(_)) {
            self.add("model.image_newline", &[hidden]);
        }
        self.add("model.view_seperator", &[hidden]);
        self.group = Group::Embedding;
        self.weight("model.embed_tokens", &[vocabulary, hidden]);
        self.group = Group::Decoder;
        for layer in 0..decoder.n_layers {
            self.layer(config, layer);
        }
        self.weight("model.norm", &[hidden]);
        self.group = Group::Head;
        self.weight("lm_head", &[vocabulary, hidden]);
    }

    fn layer(&mut self, config: &ModelConfig, layer: usize) {
        let decoder = &config.decoder;
        let hidden = decoder.hidden;
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        self.weight(&at("input_layernorm"), &[hidden]);
        for part in ["q", "k", "v", "o"] {
            self.weight(&at(&format!("self_attn.{part}_proj")), &[hidden, hidden]);
        }
        self.weight(&at("post_attention_layernorm"), &[hidden]);
        if !decoder.has_experts(layer) {
            return self.swiglu(&at("mlp"), decoder.dense_mlp, hidden);
        }
        self.weight(&at("mlp.gate"), &[decoder.n_experts, hidden]);
        for expert in 0..decoder.n_experts {
            let name = at(&format!("mlp.experts.{expert}"));
            self.swiglu(&name, decoder.expert_mlp, hidden);
        }
        self.swiglu(&at("mlp.shared_experts"), decoder.shared_mlp(), hidden);
    }

    fn swiglu(&mut self, name: &str, middle: usize, width: usize) {
        self.weight(&format!("{name}.gate_proj"), &[middle, width]);
        self.weight(&format!("{name}.up_proj"), &[middle, width]);
        self.weight(&format!("{name}.down_proj"), &[width, middle]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Architecture;

    fn totals(architecture: Architecture) -> (usize, u64) {
        let tensors = expected_tensors(&ModelConfig::published(architecture));
        let values = tensors.iter().map(ExpectedTensor::n_values).sum();
        (tensors.len(), values)
    }

    #[test]
    fn published_networks_have_their_published_totals() {
        assert_eq!(totals(Architecture::One), (2710, 3_336_106_240));
        assert_eq!(totals(Architecture::Two), (2707, 3_389_119_360));
    }

    #[test]
    fn parts_of_the_first_network_have_their_published_totals() {
        let tensors = expected_tensors(&ModelConfig::published(Architecture::One));
        let total = |group| -> u64 {
            let own = tensors.iter().filter(|tensor| tensor.group == group);
            own.map(ExpectedTensor::n_values).sum()
        };
        let found = Group::ALL.map(total);
        let expected = [
            95_569_152,
            303_177_728,
            2_622_720,
            2_560,
            165_478_400,
            2_603_777_280,
            165_478_400,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn no_name_stands_twice() {
        for architecture in [Architecture::One, Architecture::Two] {
            let tensors = expected_tensors(&ModelConfig::published(architecture));
            let names = tensors.iter().map(|tensor| tensor.name.as_str());
            let unique: std::collections::BTreeSet<&str> = names.collect();
            assert_eq!(unique.len(), tensors.len());
        }
    }
}
