//! The whole network against the published code, in f32 on the CPU: every stage, every answer, with
//! either decoder.

#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use deepseek_ocr::config::DecoderConfig;
use deepseek_ocr::decoder::{DeviceDecoder, DeviceOptions};
use deepseek_ocr::host::{HostDecoder, HostOptions};
use deepseek_ocr::parity::{Loaded, Network, compare_all};
use deepseek_ocr::preprocess::View;
use deepseek_ocr::weights::{CheckpointError, StoredType, Weights};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny")
}

fn read_view(path: &Path) -> Result<View, String> {
    let image = image::open(path).map_err(|error| error.to_string())?;
    let image = image.into_rgb8();
    Ok(View {
        side: image.width(),
        rgb: image.into_raw(),
    })
}

fn on_the_device(folder: &Path) -> Result<Box<dyn Network>, CheckpointError> {
    let decoder = |weights: &mut Weights, config: &DecoderConfig| {
        let options = DeviceOptions {
            device: Device::flex(),
            dtype: StoredType::F32,
            cache_bytes: 32 << 20,
        };
        DeviceDecoder::load(weights, config, options)
    };
    Ok(Box::new(Loaded::open(folder, &Device::flex(), decoder)?))
}

fn on_the_host(folder: &Path) -> Result<Box<dyn Network>, CheckpointError> {
    let decoder = |weights: &mut Weights, config: &DecoderConfig| {
        let options = HostOptions {
            dtype: StoredType::F32,
            cache_bytes: 32 << 20,
            threads: 2,
        };
        HostDecoder::load(weights, config, options)
    };
    Ok(Box::new(Loaded::open(folder, &Device::flex(), decoder)?))
}

#[test]
fn decoder_in_burn_computes_what_the_reference_computes() {
    let report = compare_all(&fixtures(), &on_the_device, &read_view).unwrap();
    let differing: Vec<String> = report.differing().map(ToString::to_string).collect();
    assert!(report.ok(), "{}", differing.join("\n"));
    // What must be among it, lest an empty comparison pass.
    for name in [
        "interpolation/bicubic_64_to_40",
        "ngram/0.window",
        "base/global.sam_tokens",
        "large/global.clip_out",
        "gundam_2x3/vision_seq",
        "gundam_3x1/router_2.topk_idx",
        "text_only/layer_2",
        "small/gen_off.step_logits",
        "small/gen_hf_ngram.tokens",
        "large/gen_window_whitelist.tokens (together)",
        "ocr2/crop/local.encoder_out",
        "ocr2/base/gen_off.tokens (together)",
    ] {
        assert!(report.rows.iter().any(|row| row.name == name), "{name}");
    }
}

#[test]
fn decoder_in_host_memory_computes_what_the_reference_computes() {
    let report = compare_all(&fixtures(), &on_the_host, &read_view).unwrap();
    let differing: Vec<String> = report.differing().map(ToString::to_string).collect();
    assert!(report.ok(), "{}", differing.join("\n"));
}
