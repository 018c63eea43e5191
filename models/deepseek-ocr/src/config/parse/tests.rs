//! What is read, and what is refused by name.

use serde_json::{Value, json};

use super::*;

/// The published file of the first model, with its fields that matter here.
fn published() -> Value {
    let language = json!({
        "bos_token_id": 0, "eos_token_id": 1, "first_k_dense_replace": 1, "hidden_size": 1280,
        "intermediate_size": 6848, "kv_lora_rank": null, "lm_head": true,
        "max_position_embeddings": 8192, "moe_intermediate_size": 896, "n_group": 1,
        "n_routed_experts": 64, "n_shared_experts": 2, "num_attention_heads": 10,
        "num_experts_per_tok": 6, "num_hidden_layers": 12, "num_key_value_heads": 10,
        "q_lora_rank": null, "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "rm_head": false,
        "topk_group": 1, "topk_method": "greedy", "torch_dtype": "bfloat16", "use_mla": false,
        "v_head_dim": 0, "vocab_size": 129_280
    });
    let mut root = language.clone();
    root["architectures"] = json!(["DeepseekOCRForCausalLM"]);
    root["model_type"] = json!("deepseek_vl_v2");
    root["language_config"] = language;
    root["projector_config"] =
        json!({ "input_dim": 2048, "n_embed": 1280, "projector_type": "linear" });
    root["vision_config"] = json!({
        "image_size": 1024,
        "mlp_ratio": 3.7362,
        "width": {
            "clip-l-14-224": {
                "heads": 16, "image_size": 224, "layers": 24, "patch_size": 14, "width": 1024
            },
            "sam_vit_b": {
                "downsample_channels": [512, 1024], "global_attn_indexes": [2, 5, 8, 11],
                "heads": 12, "layers": 12, "width": 768
            }
        }
    });
    root
}

/// The published file of the second model.
fn published_two() -> Value {
    let mut root = published();
    root["architectures"] = json!(["DeepseekOCR2ForCausalLM"]);
    root["projector_config"]["input_dim"] = json!(896);
    let width = &mut root["vision_config"]["width"];
    width["qwen2-0-5b"] = json!({ "dim": 896 });
    if let Some(width) = width.as_object_mut() {
        width.remove("clip-l-14-224");
    }
    root
}

fn refused(root: &Value) -> String {
    ModelConfig::parse(&root.to_string())
        .expect_err("this file is wrong")
        .to_string()
}

#[test]
fn published_files_give_the_published_networks() {
    for (file, architecture) in [
        (published(), Architecture::One),
        (published_two(), Architecture::Two),
    ] {
        let found = ModelConfig::parse(&file.to_string()).unwrap();
        assert_eq!(found, ModelConfig::published(architecture));
    }
}

#[test]
fn sizes_that_only_shrunken_checkpoints_state_are_honored() {
    let mut root = published();
    root["fixture_extra"] = json!({
        "sam_window_size": 7, "sam_mlp_ratio": 3, "sam_neck_channels": 24, "clip_ffn": 160,
        "image_token_id": 500, "rope_theta": 5000.0, "rms_norm_eps": 1e-5
    });
    let found = ModelConfig::parse(&root.to_string()).unwrap();
    assert_eq!(
        (found.sam.window, found.sam.mlp_ratio, found.sam.neck),
        (7, 3, 24)
    );
    assert_eq!(found.tokens.image, 500);
    assert_eq!(
        (found.decoder.rope_theta, found.decoder.epsilon),
        (5000.0, 1e-5)
    );
    let EncoderConfig::Clip(clip) = found.encoder else {
        panic!("the first model has CLIP");
    };
    assert_eq!((clip.mlp, clip.table_side), (160, 16));
}

#[test]
fn what_is_not_computed_is_refused_by_the_name_of_its_field() {
    for (field, value) in [
        ("use_mla", json!(true)),
        ("topk_method", json!("noaux_tc")),
        ("n_group", json!(8)),
        ("topk_group", json!(3)),
        ("norm_topk_prob", json!(true)),
        ("scoring_func", json!("sigmoid")),
        ("routed_scaling_factor", json!(2.5)),
        ("moe_layer_freq", json!(2)),
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("tie_word_embeddings", json!(true)),
        ("lm_head", json!(false)),
        ("v_head_dim", json!(128)),
        ("num_key_value_heads", json!(2)),
        ("kv_lora_rank", json!(512)),
        ("rope_scaling", json!({ "type": "yarn" })),
        ("quantization_config", json!({ "bits": 4 })),
    ] {
        let mut root = published();
        root[field] = value.clone();
        root["language_config"][field] = value;
        let message = refused(&root);
        assert!(
            message.contains(&format!("`language_config.{field}`")),
            "{message}"
        );
    }
}

#[test]
fn every_problem_is_said_at_once() {
    let mut root = published();
    root["language_config"]["hidden_size"] = json!(-3);
    root["hidden_size"] = json!(-3);
    root["vision_config"]["width"]["sam_vit_b"]["heads"] = json!("twelve");
    root["projector_config"] = json!(null);
    let message = refused(&root);
    for part in [
        "`language_config.hidden_size` must be 1 to 1048576, not -3",
        "`vision_config.width.sam_vit_b.heads` must be 1 to 1048576, not \"twelve\"",
        "`projector_config.input_dim` is missing",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn sizes_that_do_not_fit_each_other_are_refused() {
    let check = |change: &dyn Fn(&mut Value), part: &str| {
        let mut root = published();
        change(&mut root);
        let message = refused(&root);
        assert!(message.contains(part), "{message}");
    };
    let both = |root: &mut Value, field: &str, value: Value| {
        root[field] = value.clone();
        root["language_config"][field] = value;
    };
    check(
        &|root| both(root, "num_experts_per_tok", json!(65)),
        "`num_experts_per_tok` is more",
    );
    check(
        &|root| both(root, "vocab_size", json!(1000)),
        "`image_token_id` is 128815",
    );
    check(&|root| both(root, "eos_token_id", json!(0)), "must differ");
    check(
        &|root| both(root, "first_k_dense_replace", json!(13)),
        "`first_k_dense_replace`",
    );
    check(
        &|root| root["vocab_size"] = json!(7),
        "but `vocab_size` is 7",
    );
    check(
        &|root| root["projector_config"]["input_dim"] = json!(896),
        "but the towers give 2048",
    );
    check(
        &|root| root["projector_config"]["n_embed"] = json!(640),
        "`projector_config.n_embed` is 640",
    );
    check(
        &|root| root["vision_config"]["image_size"] = json!(1000),
        "no multiple of the patch",
    );
    let sam = |root: &mut Value, field: &str, value: Value| {
        root["vision_config"]["width"]["sam_vit_b"][field] = value;
    };
    check(
        &|root| sam(root, "global_attn_indexes", json!([2, 12])),
        "names block 12 of 12",
    );
    check(
        &|root| sam(root, "heads", json!(7)),
        "does not divide into 7 heads",
    );
    check(
        &|root| sam(root, "downsample_channels", json!([512])),
        "must hold 2 numbers",
    );
    check(
        &|root| sam(root, "downsample_channels", json!([512, 896])),
        "CLIP's width is 1024",
    );
}

#[test]
fn files_of_other_networks_are_refused() {
    for (text, part) in [
        ("", "it is no JSON"),
        ("[]", "it is no JSON object"),
        ("{}", "`architectures` must be"),
        (
            "{\"architectures\": [\"LlamaForCausalLM\"]}",
            "LlamaForCausalLM",
        ),
        (
            "{\"architectures\": \"DeepseekOCRForCausalLM\"}",
            "`architectures` must be",
        ),
    ] {
        let message = ModelConfig::parse(text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn sizes_beyond_reason_are_refused_before_anything_is_reckoned_with_them() {
    let mut root = published();
    for place in ["/num_hidden_layers", "/language_config/num_hidden_layers"] {
        *root.pointer_mut(place).unwrap() = json!(1_000_000_000_u64);
    }
    assert!(refused(&root).contains("`language_config.num_hidden_layers` must be 1 to 1024"));
    let mut root = published();
    for place in ["/n_routed_experts", "/language_config/n_routed_experts"] {
        *root.pointer_mut(place).unwrap() = json!(1_000_000);
    }
    assert!(refused(&root).contains("too many"));
}
