//! Prints how long each network takes on one thread.
//!
//! ```text
//! cargo run --release -p pp-ocr --example time_networks
//! ```
//!
//! `reference/time_networks.py` prints the same for onnxruntime. Time is what the thread spent on
//! the CPU where the system tells (Linux), so a busy machine does little harm; the least of
//! several runs is shown. Other threads still share caches and memory: compare runs of one minute.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use pp_ocr::Mode;
use pp_ocr::classify::AngleClassifier;
use pp_ocr::detect::TextDetector;
use pp_ocr::layout::LayoutDetector;
use pp_ocr::recognize::TextRecognizer;

const RUNS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let only = std::env::args().nth(1).unwrap_or_default();
    let time = |name: &str, run: &mut dyn FnMut()| {
        if name.contains(&only) {
            let least = (0..RUNS).map(|_| timed(run)).min().unwrap_or_default();
            println!("{name}: {:.1} ms", 1000.0 * least.as_secs_f64());
        }
    };
    for mode in Mode::ALL {
        let name = mode.name();
        let detector = TextDetector::of(mode, &device)?;
        for (height, width) in [(736, 736), (960, 736)] {
            let images = images([1, 3, height, width]);
            time(&format!("{name} detector {height}x{width}"), &mut || {
                drop(detector.forward(images.clone()));
            });
        }
        let recognizer = TextRecognizer::of(mode, &device)?;
        for (lines, width) in [(1, 320), (6, 320), (6, 640), (1, 1280)] {
            let images = images([lines, 3, 48, width]);
            let what = format!("{name} recognizer {lines} x {width}, steps");
            time(&what, &mut || drop(recognizer.steps(images.clone())));
        }
        let lines = images([6, 3, 48, 640]);
        let what = format!("{name} recognizer 6 x 640, logits");
        time(&what, &mut || drop(recognizer.forward(lines.clone())));
    }
    let classifier = AngleClassifier::load(&device)?;
    let lines = images([6, 3, 48, 192]);
    time("classifier 6", &mut || {
        drop(classifier.forward(lines.clone()))
    });
    let layout = LayoutDetector::load(&device)?;
    let image = images([1, 3, 800, 608]);
    time("layout", &mut || drop(layout.forward(image.clone())));
    Ok(())
}

/// Noise from -1 to 1: networks take the same time whatever they see.
fn images(dims: [usize; 4]) -> Tensor<4> {
    let mut state = 1u32;
    let values: Vec<f32> = (0..dims.iter().product())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, dims), &Device::flex())
}

fn timed(run: &mut dyn FnMut()) -> Duration {
    let (wall, cpu) = (Instant::now(), on_cpu());
    run();
    match (cpu, on_cpu()) {
        (Some(before), Some(after)) => after - before,
        _ => wall.elapsed(),
    }
}

/// Time that this thread has spent on a CPU.
fn on_cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}
