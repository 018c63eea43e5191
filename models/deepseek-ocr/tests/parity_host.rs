//! The whole network against the published code with the decoder that keeps to the host's memory.

#![allow(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use deepseek_ocr::config::DecoderConfig;
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
fn decoder_in_host_memory_computes_what_the_reference_computes() {
    let report = compare_all(&fixtures(), &on_the_host, &read_view).unwrap();
    let differing: Vec<String> = report.differing().map(ToString::to_string).collect();
    assert!(report.ok(), "{}", differing.join("\n"));
}
