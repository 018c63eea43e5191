//! Times the stages of reading page images, on one thread.
//!
//! `stages IMAGE...`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Instant;

use burn::tensor::Device;
use pp_ocr::{crop, detect, layout, recognize};
use quire_core::PageImage;

/// Pages have this on average, see `recognize::squeeze_for`.
const SQUEEZE: f32 = 0.75;

fn main() -> Result<(), Box<dyn Error>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| run().map_err(|error| error.to_string()))?;
    Ok(())
}

fn run() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let detector = detect::TextDetector::load(&device)?;
    let recognizer = recognize::TextRecognizer::load(&device)?;
    let regions = layout::LayoutDetector::load(&device)?;
    let charset: Vec<&str> = recognizer.charset().collect();
    for path in std::env::args().skip(1) {
        let rgb = image::open(&path)?.to_rgb8();
        let (width, height) = rgb.dimensions();
        let image = PageImage {
            width,
            height,
            rgb: rgb.into_raw(),
            dpi: None,
        };
        let mut start = Instant::now();
        let mut lap = || {
            std::mem::replace(&mut start, Instant::now())
                .elapsed()
                .as_secs_f32()
        };
        let lines: Vec<_> = detect::find_lines(&detector, &device, &image)
            .iter()
            .map(|found| found.line)
            .collect();
        let detect = lap();
        let mut width = 0;
        for line in &lines {
            let wanted = SQUEEZE * crop::LINE_HEIGHT as f32 * line.width() / line.height().max(1.0);
            let wide = wanted as usize + 1;
            let mut pixels = vec![0.0; 3 * crop::LINE_HEIGHT * wide];
            crop::cut(&image, line, wide, &mut pixels, wide);
            width += wide;
        }
        let cut = lap();
        recognize::read_lines(&recognizer, &charset, &device, &image, &lines, SQUEEZE);
        let read = lap();
        layout::find_regions(&regions, &device, &image);
        let layout = lap();
        println!(
            "{path}: detect {detect:.3} s, cut {cut:.3} s, read {read:.3} s ({} lines, {width} px), \
             layout {layout:.3} s",
            lines.len()
        );
    }
    Ok(())
}
