//! `config.json` to sizes. Everything wrong with a file is said at once, by the names of its
//! fields, and what this crate does not compute is refused rather than ignored.
//!
//! Numbers that the published code fixes (patch and window of SAM, id of an image's slot, and so
//! on) are not in the published files; a shrunken checkpoint states them in `fixture_extra`.

use serde_json::{Value, json};
use thiserror::Error;

use super::{
    Architecture, ClipConfig, DecoderConfig, EncoderConfig, ModelConfig, QueryEncoderConfig,
    SamConfig, TokenIds,
};

/// A `config.json` that describes no network of this crate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", .problems.join("; "))]
pub struct ConfigError {
    /// Each names the field that it is about.
    pub problems: Vec<String>,
}

/// No width, count or position of a network is larger: a file that says otherwise must not make
/// this process reckon with it.
const LARGEST: usize = 1 << 20;
const LARGEST_VOCABULARY: usize = 1 << 24;
const MOST_LAYERS: usize = 1 << 10;
const MOST_EXPERTS: usize = 1 << 16;

impl ModelConfig {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// When it is no JSON, lacks a field, asks for what this crate does not compute, or has sizes
    /// that do not fit each other.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |problem: String| ConfigError {
            problems: vec![problem],
        };
        let root: Value = serde_json::from_str(text)
            .map_err(|error| refuse(format!("it is no JSON: {error}")))?;
        if !root.is_object() {
            return Err(refuse("it is no JSON object".to_owned()));
        }
        let mut fields = Fields {
            root: &root,
            problems: Vec::new(),
        };
        let Some(architecture) = fields.architecture() else {
            return Err(ConfigError {
                problems: fields.problems,
            });
        };
        fields.refuse_what_is_not_computed();
        let model = fields.model(architecture);
        if fields.problems.is_empty() {
            fields.check_fit(&model);
        }
        if fields.problems.is_empty() {
            return Ok(model);
        }
        Err(ConfigError {
            problems: fields.problems,
        })
    }
}

/// A field's dotted path and its value.
type Found<'a> = Option<(String, &'a Value)>;

/// The file, and what is wrong with it so far. Where a value is wrong, reading goes on with 1.
struct Fields<'a> {
    root: &'a Value,
    problems: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The value at a dotted path; `null` is no value.
    fn at(&self, path: &str) -> Option<&'a Value> {
        let mut keys = path.split('.');
        let found = keys.try_fold(self.root, |value, key| value.get(key))?;
        (!found.is_null()).then_some(found)
    }

    fn found(&self, path: &str) -> Found<'a> {
        Some((path.to_owned(), self.at(path)?))
    }

    /// A field of the decoder. The published files state them twice.
    fn of_decoder(&mut self, field: &str) -> Found<'a> {
        let path = format!("language_config.{field}");
        let (inner, outer) = (self.at(&path), self.at(field));
        if let (Some(inner), Some(outer)) = (inner, outer)
            && inner != outer
        {
            self.problems
                .push(format!("`{path}` is {inner}, but `{field}` is {outer}"));
        }
        match inner {
            Some(value) => Some((path, value)),
            None => Some((field.to_owned(), outer?)),
        }
    }

    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// A count of at least 1, or 0 where `least` allows it.
    fn count(&mut self, found: Found<'a>, field: &str, range: (usize, usize)) -> usize {
        let (least, most) = range;
        let Some((path, value)) = found else {
            self.problems.push(format!("`{field}` is missing"));
            return least.max(1);
        };
        let number = value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok());
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => number,
            None => {
                self.problems
                    .push(format!("`{path}` must be {least} to {most}, not {value}"));
                least.max(1)
            }
        }
    }

    fn size(&mut self, path: &str) -> usize {
        self.count(self.found(path), path, (1, LARGEST))
    }

    fn decoder_size(&mut self, field: &str) -> usize {
        let found = self.of_decoder(field);
        self.count(found, &format!("language_config.{field}"), (1, LARGEST))
    }

    /// A size that only shrunken checkpoints state.
    fn extra(&mut self, path: &str, published: usize) -> usize {
        match self.found(&format!("fixture_extra.{path}")) {
            Some(found) => self.count(Some(found), path, (1, LARGEST)),
            None => published,
        }
    }

    /// A number above 0.
    fn number(&mut self, found: Found<'a>, default: f64) -> f64 {
        let Some((path, value)) = found else {
            return default;
        };
        match value
            .as_f64()
            .filter(|number| number.is_finite() && *number > 0.0)
        {
            Some(number) => number,
            None => {
                self.problems
                    .push(format!("`{path}` must be a number above 0, not {value}"));
                default
            }
        }
    }

    fn extra_number(&mut self, path: &str, published: f64) -> f64 {
        let found = self.found(&format!("fixture_extra.{path}"));
        self.number(found, published)
    }

    fn sizes(&mut self, path: &str, least: usize) -> Vec<usize> {
        let Some(values) = self.at(path).and_then(Value::as_array) else {
            self.problems.push(format!("`{path}` must be a list"));
            return Vec::new();
        };
        if values.len() > MOST_LAYERS {
            self.problems.push(format!("`{path}` is too long"));
            return Vec::new();
        }
        let count = |value| self.count(Some((path.to_owned(), value)), path, (least, LARGEST));
        values.iter().map(count).collect()
    }

    fn architecture(&mut self) -> Option<Architecture> {
        let names = self.at("architectures").and_then(Value::as_array);
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let known = [Architecture::One, Architecture::Two];
        let found = known.into_iter().find(|known| names == [known.name()]);
        self.check(found.is_some(), || {
            format!(
                "`architectures` must be [\"{}\"] or [\"{}\"], not {names:?}",
                known[0].name(),
                known[1].name()
            )
        });
        found
    }

    /// Fields that change what is computed, each with the only value that is computed here. A
    /// field that is absent has that value in the published code, too.
    fn refuse_what_is_not_computed(&mut self) {
        let only = [
            ("use_mla", json!(false)),
            ("topk_method", json!("greedy")),
            ("n_group", json!(1)),
            ("topk_group", json!(1)),
            ("norm_topk_prob", json!(false)),
            ("scoring_func", json!("softmax")),
            ("routed_scaling_factor", json!(1.0)),
            ("moe_layer_freq", json!(1)),
            ("hidden_act", json!("silu")),
            ("attention_bias", json!(false)),
            ("tie_word_embeddings", json!(false)),
            ("lm_head", json!(true)),
            ("rm_head", json!(false)),
            ("qk_nope_head_dim", json!(0)),
            ("qk_rope_head_dim", json!(0)),
            ("v_head_dim", json!(0)),
        ];
        for (field, wanted) in only {
            let Some((path, value)) = self.of_decoder(field) else {
                continue;
            };
            self.check(is_same(value, &wanted), || {
                format!("`{path}` is {value}, and only {wanted} is supported")
            });
        }
        for field in [
            "q_lora_rank",
            "kv_lora_rank",
            "rope_scaling",
            "quantization_config",
        ] {
            if let Some((path, _)) = self.of_decoder(field) {
                self.problems.push(format!("`{path}` is not supported"));
            }
        }
        let projector = self.found("projector_config.projector_type");
        if let Some((path, value)) = projector {
            self.check(value == "linear", || {
                format!("`{path}` is {value}, and only \"linear\" is supported")
            });
        }
    }

    fn model(&mut self, architecture: Architecture) -> ModelConfig {
        let mut sam = self.sam();
        let encoder = match architecture {
            Architecture::One => EncoderConfig::Clip(self.clip()),
            Architecture::Two => EncoderConfig::Queries(self.queries()),
        };
        if let EncoderConfig::Queries(queries) = &encoder {
            // The published file still lists the first model's channels.
            sam.compressor[1] = queries.width;
        }
        ModelConfig {
            architecture,
            sam,
            encoder,
            projector_input: self.size("projector_config.input_dim"),
            decoder: self.decoder(),
            tokens: self.tokens(),
        }
    }

    fn sam(&mut self) -> SamConfig {
        let at = |field: &str| format!("vision_config.width.sam_vit_b.{field}");
        let patch = self.extra("sam_patch_size", 16);
        let mut global_blocks = self.sizes(&at("global_attn_indexes"), 0);
        global_blocks.sort_unstable();
        global_blocks.dedup();
        let channels = self.sizes(&at("downsample_channels"), 1);
        self.check(channels.len() == 2, || {
            format!("`{}` must hold 2 numbers", at("downsample_channels"))
        });
        SamConfig {
            width: self.size(&at("width")),
            n_blocks: self.layers(&at("layers")),
            n_heads: self.size(&at("heads")),
            global_blocks,
            window: self.extra("sam_window_size", 14),
            patch,
            mlp_ratio: self.extra("sam_mlp_ratio", 4),
            table_side: self.side("vision_config.image_size", patch),
            neck: self.extra("sam_neck_channels", 256),
            compressor: channels.try_into().unwrap_or([1, 1]),
            epsilon: self.extra_number("sam_layer_norm_eps", 1e-6),
        }
    }

    fn clip(&mut self) -> ClipConfig {
        let at = |field: &str| format!("vision_config.width.clip-l-14-224.{field}");
        let patch = self.size(&at("patch_size"));
        ClipConfig {
            width: self.size(&at("width")),
            n_blocks: self.layers(&at("layers")),
            n_heads: self.size(&at("heads")),
            mlp: self.extra("clip_ffn", 4096),
            table_side: self.side(&at("image_size"), patch),
            unused_patch: patch,
            epsilon: self.extra_number("clip_layer_norm_eps", 1e-5),
        }
    }

    fn queries(&mut self) -> QueryEncoderConfig {
        QueryEncoderConfig {
            width: self.size("vision_config.width.qwen2-0-5b.dim"),
            n_blocks: self.extra("encoder.layers", 24),
            n_heads: self.extra("encoder.heads", 14),
            n_kv_heads: self.extra("encoder.kv_heads", 2),
            mlp: self.extra("encoder.intermediate", 4864),
            rope_theta: self.extra_number("encoder.rope_theta", 1_000_000.0),
            epsilon: self.extra_number("encoder.rms_norm_eps", 1e-6),
        }
    }

    fn decoder(&mut self) -> DecoderConfig {
        let n_heads = self.decoder_size("num_attention_heads");
        if let Some((path, value)) = self.of_decoder("num_key_value_heads") {
            self.check(value.as_u64() == Some(n_heads as u64), || {
                format!(
                    "`{path}` is {value}, and only as many as `num_attention_heads` are supported"
                )
            });
        }
        let epsilon = self.of_decoder("rms_norm_eps");
        let theta = self.of_decoder("rope_theta");
        let (epsilon, theta) = (self.number(epsilon, 1e-6), self.number(theta, 10_000.0));
        let dense = self.of_decoder("first_k_dense_replace");
        let vocabulary = self.of_decoder("vocab_size");
        let layers = self.of_decoder("num_hidden_layers");
        let at = |field: &str| format!("language_config.{field}");
        DecoderConfig {
            hidden: self.decoder_size("hidden_size"),
            n_layers: self.count(layers, &at("num_hidden_layers"), (1, MOST_LAYERS)),
            n_heads,
            dense_mlp: self.decoder_size("intermediate_size"),
            n_dense_layers: self.count(dense, &at("first_k_dense_replace"), (0, MOST_LAYERS)),
            n_experts: self.decoder_size("n_routed_experts"),
            experts_per_token: self.decoder_size("num_experts_per_tok"),
            expert_mlp: self.decoder_size("moe_intermediate_size"),
            n_shared_experts: self.decoder_size("n_shared_experts"),
            vocabulary: self.count(vocabulary, &at("vocab_size"), (1, LARGEST_VOCABULARY)),
            max_positions: self.decoder_size("max_position_embeddings"),
            rope_theta: self.extra_number("rope_theta", theta),
            epsilon: self.extra_number("rms_norm_eps", epsilon),
        }
    }

    fn tokens(&mut self) -> TokenIds {
        let bos = self.of_decoder("bos_token_id");
        let eos = self.of_decoder("eos_token_id");
        let image = self.found("fixture_extra.image_token_id");
        TokenIds {
            bos: self.id(bos, 0),
            eos: self.id(eos, 1),
            image: self.id(image, 128_815),
        }
    }

    fn id(&mut self, found: Found<'a>, default: u32) -> u32 {
        let Some((path, value)) = found else {
            return default;
        };
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.unwrap_or_else(|| {
            let problem = format!("`{path}` must be one token's id, not {value}");
            self.problems.push(problem);
            default
        })
    }

    fn layers(&mut self, path: &str) -> usize {
        self.count(self.found(path), path, (1, MOST_LAYERS))
    }

    /// Patches of a side of the view that a table of positions is for.
    fn side(&mut self, path: &str, patch: usize) -> usize {
        let pixels = self.size(path);
        let fits = pixels.is_multiple_of(patch);
        self.check(fits, || {
            format!("`{path}` is {pixels}, which is no multiple of the patch of {patch}")
        });
        (pixels / patch).max(1)
    }

    /// Whether sizes fit each other.
    fn check_fit(&mut self, model: &ModelConfig) {
        let (sam, decoder) = (&model.sam, &model.decoder);
        self.check_heads("SAM", sam.width, sam.n_heads, 1);
        self.check_heads("the decoder", decoder.hidden, decoder.n_heads, 2);
        let last = sam.global_blocks.last().copied().unwrap_or(0);
        self.check(last < sam.n_blocks, || {
            format!(
                "`global_attn_indexes` names block {last} of {}",
                sam.n_blocks
            )
        });
        let wanted = match &model.encoder {
            EncoderConfig::Clip(clip) => {
                self.check_heads("CLIP", clip.width, clip.n_heads, 1);
                self.check(sam.compressor[1] == clip.width, || {
                    format!(
                        "`downsample_channels` ends in {}, but CLIP's width is {}",
                        sam.compressor[1], clip.width
                    )
                });
                clip.width + sam.compressor[1]
            }
            EncoderConfig::Queries(queries) => {
                self.check_heads("the encoder", queries.width, queries.n_heads, 2);
                let shared = queries.n_heads.is_multiple_of(queries.n_kv_heads);
                self.check(shared, || {
                    "`fixture_extra.encoder.kv_heads` does not divide its heads".to_owned()
                });
                queries.width
            }
        };
        self.check(model.projector_input == wanted, || {
            let found = model.projector_input;
            format!("`projector_config.input_dim` is {found}, but the towers give {wanted}")
        });
        let projected = self.size("projector_config.n_embed");
        self.check(projected == decoder.hidden, || {
            let hidden = decoder.hidden;
            format!("`projector_config.n_embed` is {projected}, but `hidden_size` is {hidden}")
        });
        self.check_decoder(model);
    }

    fn check_decoder(&mut self, model: &ModelConfig) {
        let decoder = &model.decoder;
        self.check(decoder.experts_per_token <= decoder.n_experts, || {
            "`num_experts_per_tok` is more than `n_routed_experts`".to_owned()
        });
        self.check(decoder.n_dense_layers <= decoder.n_layers, || {
            "`first_k_dense_replace` is more than `num_hidden_layers`".to_owned()
        });
        let experts = decoder.n_experts.saturating_mul(decoder.n_layers);
        self.check(experts <= MOST_EXPERTS, || {
            format!("`n_routed_experts` in all layers are {experts}: too many")
        });
        let TokenIds { bos, eos, image } = model.tokens;
        for (field, id) in [
            ("bos_token_id", bos),
            ("eos_token_id", eos),
            ("image_token_id", image),
        ] {
            self.check((id as usize) < decoder.vocabulary, || {
                format!(
                    "`{field}` is {id}, but `vocab_size` is {}",
                    decoder.vocabulary
                )
            });
        }
        self.check(bos != eos && bos != image && eos != image, || {
            "`bos_token_id`, `eos_token_id` and the image's id must differ".to_owned()
        });
    }

    fn check_heads(&mut self, what: &str, width: usize, heads: usize, factor: usize) {
        self.check(width.is_multiple_of(heads * factor), || {
            let even = if factor == 2 { " of an even size" } else { "" };
            format!("{what}'s width {width} does not divide into {heads} heads{even}")
        });
    }
}

/// Numbers are equal however they are written.
fn is_same(found: &Value, wanted: &Value) -> bool {
    match (found.as_f64(), wanted.as_f64()) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests;
