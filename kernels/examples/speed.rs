//! Prints how fast one thread multiplies on each path of this CPU, and which share that is of what
//! it reaches in registers, measured in the same run.
//!
//! ```text
//! cargo run --release -p quire-kernels --example speed [PATH...]
//! ```
//!
//! A product of fixed point counts as one of f32 would, so its share of the peak of f32 may be above
//! one. Each figure is the best of many short runs.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use quire_kernels::{
    Activation, DepthwiseKernel, DepthwiseShape, Ending, PackedMatrix, Path, Rounding, RowView,
    Vectors, activate, multiply_floats, multiply_tiles,
};

/// Rows of a tile of pixels.
const ROWS: usize = 192;
const SHAPES: [[usize; 2]; 6] = [
    [96, 192],
    [192, 96],
    [192, 384],
    [384, 192],
    [384, 768],
    [768, 384],
];
/// How long one thing is measured.
const TIME: Duration = Duration::from_millis(300);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for path in Path::of_this_cpu() {
        if asked.is_empty() || asked.iter().any(|name| name == path.name()) {
            measure(Vectors::of(path).ok_or("the path was just there")?);
        }
    }
    Ok(())
}

fn measure(vectors: Vectors) {
    let peak = best(multiply_floats(vectors, 50_000).operations, || {
        black_box(multiply_floats(vectors, 50_000).result);
    });
    println!(
        "{} ({}): peak of f32 {peak:.1} GFLOP/s",
        vectors.path(),
        vectors.name()
    );
    let of_tiles = multiply_tiles(vectors, 50_000).map(|multiplied| {
        let peak = best(multiplied.operations, || {
            black_box(multiply_tiles(vectors, 50_000));
        });
        println!("  peak of bf16 {peak:.1} GFLOP/s");
        peak
    });
    for [n_inputs, n_outputs] in SHAPES {
        let mut before = "";
        for rounding in Rounding::ALL {
            let weight = |input, output| noise(input * n_outputs + output);
            let shape = [n_inputs, n_outputs];
            let matrix = PackedMatrix::new(vectors, shape, weight, noise, rounding);
            // What this path computes in the same way as with less rounding.
            let kept = matrix.kept();
            if kept == before {
                continue;
            }
            before = kept;
            let rows: Vec<f32> = (0..ROWS * n_inputs).map(noise).collect();
            let mut out = vec![0.0; ROWS * n_outputs];
            for ending in [Ending::PLAIN, Activation::Gelu.into()] {
                let speed = best((2 * ROWS * n_inputs * n_outputs) as u64, || {
                    let rows = RowView::whole(black_box(&rows), n_inputs);
                    matrix.multiply(rows, ROWS, ending, &mut out);
                });
                let peak = match matrix.kept() {
                    "bf16" => of_tiles.unwrap_or(peak),
                    _ => peak,
                };
                let then = match ending.activation {
                    Activation::Identity => "",
                    _ => ", then GELU",
                };
                println!(
                    "  {ROWS} x {n_inputs} x {n_outputs} in {}{then}: {speed:.1} GFLOP/s, {:.0}%",
                    matrix.kept(),
                    100.0 * speed / peak
                );
            }
        }
    }
    mixers(vectors);
    others(vectors);
}

/// Rows that pass through two matrices, which widen and narrow them again, with GELU between.
fn mixers(vectors: Vectors) {
    for narrow in [48, 96, 192, 384] {
        let wide = 2 * narrow;
        let matrix = |shape: [usize; 2]| {
            let weight = |input, output| noise(input * shape[1] + output);
            PackedMatrix::new(vectors, shape, weight, noise, Rounding::Coarse)
        };
        let (expand, project) = (matrix([narrow, wide]), matrix([wide, narrow]));
        let rows: Vec<f32> = (0..ROWS * narrow).map(noise).collect();
        let mut out = vec![0.0; ROWS * narrow];
        let speed = best((4 * ROWS * narrow * wide) as u64, || {
            let rows = RowView::whole(black_box(&rows), narrow);
            let passed = expand.pass(rows, ROWS, Activation::Gelu, &project);
            project.multiply_passed(&passed, Ending::PLAIN, &mut out);
        });
        println!(
            "  {ROWS} x {narrow} x {wide} x {narrow} in {}, GELU between: {speed:.1} GFLOP/s",
            expand.kept()
        );
    }
}

/// What is no product of matrices.
fn others(vectors: Vectors) {
    let mut values: Vec<f32> = (0..16 * 1024).map(noise).collect();
    let speed = best(values.len() as u64, || {
        activate(vectors, Activation::Gelu, black_box(&mut values));
    });
    println!("  GELU: {speed:.2} G values/s");
    let (size, channels) = ([12, 80], 96);
    for side in [3, 5, 7] {
        let shape = DepthwiseShape {
            channels,
            kernel: [side; 2],
            stride: [1, 1],
        };
        let weights: Vec<f32> = (0..side * side * channels).map(noise).collect();
        let layer = DepthwiseKernel::new(vectors, shape, &weights, &weights[..channels]);
        let pixels = size[0] * size[1];
        let image: Vec<f32> = (0..pixels * channels).map(noise).collect();
        let mut out = image.clone();
        let speed = best((2 * side * side * pixels * channels) as u64, || {
            layer.apply(black_box(&image), size, 0..size[0], &mut out);
        });
        println!("  depthwise {side}x{side}: {speed:.1} GFLOP/s");
    }
}

/// Values from -1 to 1.
fn noise(index: usize) -> f32 {
    (index * 7919 % 2003) as f32 / 1001.0 - 1.0
}

/// Billions a second, the best of many runs.
fn best(count: u64, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut least = Duration::MAX;
    while start.elapsed() < TIME {
        let before = Instant::now();
        run();
        least = least.min(before.elapsed());
    }
    count as f64 / least.as_secs_f64() / 1e9
}
