//! Prints how long the vision towers of the published size take, and what that is in operations.
//!
//! ```text
//! cargo run --release -p deepseek-ocr --example vision_bench -- [one|two] [SIDE COUNT]...
//! ```
//!
//! Weights are noise, which takes as long as real ones. Without sizes a page in tiles is timed: one
//! view of 1024 and six tiles of 640. The second model has views of 1024 and tiles of 768.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use deepseek_ocr::config::{Architecture, ModelConfig};
use deepseek_ocr::stages::Stages;
use deepseek_ocr::vision::{VisionModel, VisionOptions};

const RUNS: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let by_burn = arguments
        .iter()
        .position(|argument| argument == "--by-burn");
    if let Some(index) = by_burn {
        arguments.remove(index);
    }
    let (architecture, tile) = match arguments.first().map(String::as_str) {
        Some("two") => (Architecture::Two, 768),
        _ => (Architecture::One, 640),
    };
    let mut sizes = Vec::new();
    for pair in arguments.get(1..).unwrap_or_default().chunks_exact(2) {
        sizes.push((pair[0].parse()?, pair[1].parse()?));
    }
    if sizes.is_empty() {
        sizes = vec![(1024, 1), (tile, 6)];
    }
    let options = VisionOptions {
        host_loops: by_burn.is_none(),
        ..VisionOptions::new(DType::F32)
    };
    let device = Device::flex();
    let config = ModelConfig::published(architecture);
    let started = Instant::now();
    let model = VisionModel::noise(&config, &device, options)?;
    println!("made in {:.1} s", started.elapsed().as_secs_f64());
    for (side, count) in sizes {
        let views = noise([count, 3, side, side], &device);
        let mut least = f64::MAX;
        for _ in 0..RUNS {
            let started = Instant::now();
            drop(
                model
                    .encode(views.clone(), &mut Stages::ignored())
                    .into_data(),
            );
            least = least.min(started.elapsed().as_secs_f64());
        }
        println!(
            "{count} of {side}: {least:.2} s, {:.2} s each",
            least / count as f64
        );
    }
    Ok(())
}

/// Noise from -1 to 1: towers take the same time whatever they see.
fn noise(dims: [usize; 4], device: &Device) -> Tensor<4> {
    let mut state = 1u32;
    let values: Vec<f32> = (0..dims.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, dims), device)
}
