//! The whole network against the published code on a device that is not the CPU of burn.
//!
//! Built with the feature `wgpu`. Debian's `mesa-vulkan-drivers` has a device in software that is
//! enough; it wants `XDG_RUNTIME_DIR` to be set, and some minutes. Without a device the test says so
//! and passes; `--nocapture` shows which it was.
#![cfg(feature = "wgpu")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail by panic and tell what it did"
)]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, DeviceKind, DeviceType};
use deepseek_ocr::config::DecoderConfig;
use deepseek_ocr::decoder::{DeviceDecoder, DeviceOptions};
use deepseek_ocr::parity::{Loaded, Network, compare_all};
use deepseek_ocr::preprocess::View;
use deepseek_ocr::weights::{StoredType, Weights};

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

/// The best device, if there is one. One that is there and does not come up fails the test.
fn device() -> Option<Device> {
    // Without any driver the library panics.
    let found = std::panic::catch_unwind(|| Device::enumerate(DeviceType::Wgpu).into_vec());
    let is_there = found.is_ok_and(|found| !found.is_empty());
    is_there.then(|| Device::wgpu(DeviceKind::DefaultDevice))
}

#[test]
fn network_on_wgpu_computes_what_the_reference_computes() {
    let Some(device) = device() else {
        println!("skipped: wgpu finds no device here (mesa-vulkan-drivers, XDG_RUNTIME_DIR)");
        return;
    };
    println!("on {device:?}");
    let open = |folder: &Path| {
        let decoder = |weights: &mut Weights, config: &DecoderConfig| {
            let options = DeviceOptions {
                device: device.clone(),
                dtype: StoredType::F32,
                cache_bytes: 16 << 20,
            };
            DeviceDecoder::load(weights, config, options)
        };
        let network = Loaded::open(folder, &device, decoder)?;
        Ok(Box::new(network) as Box<dyn Network>)
    };
    let report = compare_all(&fixtures(), &open, &read_view).unwrap();
    let differing: Vec<String> = report.differing().map(ToString::to_string).collect();
    assert!(report.ok(), "{}", differing.join("\n"));
}
