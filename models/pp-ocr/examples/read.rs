//! Reads page images and prints their text.
//!
//! `read [--tiny] [--lines | --plain] [--out FOLDER] IMAGE...`
//!
//! Without `--out` the texts go to stdout, pages separated by a form feed; with it each page
//! becomes `FOLDER/NAME.txt`. `--lines` gives one recognized line a line, in reading order, with
//! its confidence and box. `--plain` gives the text of all blocks in reading order without
//! markup, which is what a ground truth made of typeset lines is compared with.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pp_ocr::{Mode, PpOcr, PpOcrOptions};
use quire_core::{Engine, PageImage, PageRequest, Recognition};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Output {
    Markdown,
    Plain,
    Lines,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = PpOcrOptions::default();
    let mut output = Output::Markdown;
    let mut folder: Option<PathBuf> = None;
    let mut inputs = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--tiny" => options.mode = Mode::Tiny,
            "--lines" => output = Output::Lines,
            "--plain" => output = Output::Plain,
            "--out" => folder = Some(arguments.next().ok_or("--out wants a folder")?.into()),
            _ => inputs.push(PathBuf::from(argument)),
        }
    }
    let engine = PpOcr::load(options)?;
    eprintln!("{:?}", engine.info());
    for (ticket, path) in inputs.iter().enumerate() {
        let image = Arc::new(open(path)?);
        let request = PageRequest {
            ticket: ticket as u64,
            image,
            known_lines: None,
            mode: None,
        };
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let page = match engine.read_page(&request) {
            Ok(page) => page,
            Err(trouble) => {
                eprintln!("{name}: {trouble}");
                continue;
            }
        };
        eprintln!(
            "{name}\t{:.2} s\tturned {}\tconfidence {:.3} p10 {:.3}\t{} lines\t{:?}",
            page.infer.as_secs_f32(),
            page.rotation.degrees(),
            page.confidence.unwrap_or(0.0),
            page.confidence_p10.unwrap_or(0.0),
            page.lines.as_ref().map_or(0, Vec::len),
            page.flags,
        );
        let text = written(&page, output);
        match &folder {
            Some(folder) => std::fs::write(folder.join(format!("{name}.txt")), text)?,
            None => println!("{text}\u{c}"),
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<PageImage, Box<dyn Error>> {
    let rgb = image::open(path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .to_rgb8();
    Ok(PageImage {
        width: rgb.width(),
        height: rgb.height(),
        rgb: rgb.into_raw(),
        dpi: None,
    })
}

fn written(page: &Recognition, output: Output) -> String {
    match output {
        Output::Markdown => page.text.clone(),
        Output::Plain => {
            let blocks: Vec<&str> = page
                .blocks
                .iter()
                .map(|block| block.text.as_str())
                .collect();
            blocks.join("\n")
        }
        Output::Lines => {
            let lines = page
                .lines
                .as_deref()
                .unwrap_or_default()
                .iter()
                .map(|line| {
                    let r = line.rect;
                    format!(
                        "{:.3}\t{:.4} {:.4} {:.4} {:.4}\t{}",
                        line.confidence, r.x0, r.y0, r.x1, r.y1, line.text
                    )
                });
            lines.collect::<Vec<_>>().join("\n")
        }
    }
}
