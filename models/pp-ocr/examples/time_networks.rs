//! Prints how long each network takes on one thread.
//!
//! ```text
//! cargo run --release -p pp-ocr --example time_networks [amx|avx512|avx2|portable [PART OF A NAME]]
//! ```
//!
//! `reference/time_networks.py` prints the same for onnxruntime. The least of many runs is shown, and
//! the speed that this is: run it with nothing else on the machine, and compare runs of one minute.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use pp_ocr::Mode;
use pp_ocr::classify::AngleClassifier;
use pp_ocr::detect::TextDetector;
use pp_ocr::layout::LayoutDetector;
use pp_ocr::recognize::TextRecognizer;
use quire_kernels::Vectors;

const RUNS: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    if let Some(path) = arguments.next() {
        quire_kernels::choose(path.parse()?)?;
    }
    println!("{}", Vectors::chosen().name());
    let device = Device::flex();
    let only = arguments.next().unwrap_or_default();
    let time = |name: &str, multiply_adds: u64, run: &mut dyn FnMut()| {
        if name.contains(&only) {
            let timed = |_| {
                let start = Instant::now();
                run();
                start.elapsed()
            };
            let least = (0..RUNS).map(timed).min().unwrap_or_default();
            println!(
                "{name}: {:.1} ms, {:.0} GFLOP/s",
                1000.0 * least.as_secs_f64(),
                2e-9 * multiply_adds as f64 / least.as_secs_f64()
            );
        }
    };
    for mode in Mode::ALL {
        let name = mode.name();
        let detector = TextDetector::of(mode, &device)?;
        for (height, width) in [(736, 736), (960, 736)] {
            let dims = [1, 3, height, width];
            let images = images(dims);
            let what = format!("{name} detector {height}x{width}");
            time(&what, detector.multiply_adds(dims), &mut || {
                drop(detector.forward(images.clone()));
            });
        }
        let recognizer = TextRecognizer::of(mode, &device)?;
        for (lines, width) in [(1, 320), (6, 320), (6, 640), (1, 1280)] {
            let dims = [lines, 3, 48, width];
            let images = images(dims);
            let what = format!("{name} recognizer {lines} x {width}, steps");
            time(&what, recognizer.multiply_adds(dims), &mut || {
                drop(recognizer.steps(images.clone()));
            });
        }
        let dims = [6, 3, 48, 640];
        let lines = images(dims);
        let what = format!("{name} recognizer 6 x 640, logits");
        time(&what, recognizer.multiply_adds(dims), &mut || {
            drop(recognizer.forward(lines.clone()));
        });
    }
    let classifier = AngleClassifier::load(&device)?;
    let dims = [6, 3, 48, 192];
    let lines = images(dims);
    time("classifier 6", classifier.multiply_adds(dims), &mut || {
        drop(classifier.forward(lines.clone()));
    });
    let layout = LayoutDetector::load(&device)?;
    let image = images([1, 3, 800, 608]);
    time("layout", layout.multiply_adds(), &mut || {
        drop(layout.forward(image.clone()));
    });
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
