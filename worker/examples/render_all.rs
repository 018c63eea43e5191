//! Opens every file of some folders in the sandboxed renderer, draws its first pages and prints
//! one line a page: status, size, text layer and whether it may be trusted, warnings, time.
//!
//! ```text
//! cargo run --release -p quire-worker --example render_all -- \
//!     [--pages N] [--png FOLDER] [--text] [--password WORD]... [--fonts FOLDER] FILE_OR_FOLDER...
//! ```

#![allow(clippy::print_stdout, reason = "what this program is for")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quire_core::RenderSpec;
use quire_worker::pipeline::render::{RenderPool, RenderSettings, RenderedPage};
use quire_worker::pipeline::text_layer::trust;

#[derive(Default)]
struct Args {
    n_pages: u32,
    png: Option<PathBuf>,
    with_text: bool,
    passwords: Vec<String>,
    fonts: Option<PathBuf>,
    paths: Vec<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = Args {
        n_pages: 3,
        ..Args::default()
    };
    let mut words = std::env::args().skip(1);
    // The children are this program too.
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or("a flag lacks its value");
        match word.as_str() {
            "render-child" => {
                quire_worker::pipeline::render::render_child_main();
                return Ok(());
            }
            "--pages" => args.n_pages = next()?.parse()?,
            "--png" => args.png = Some(next()?.into()),
            "--text" => args.with_text = true,
            "--password" => args.passwords.push(next()?),
            "--fonts" => args.fonts = Some(next()?.into()),
            path => args.paths.push(path.into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let pool = RenderPool::start(RenderSettings {
        program: std::env::current_exe()?,
        args: vec!["render-child".into()],
        memory_limit_bytes: 2 << 30,
        page_timeout: Duration::from_secs(30),
        open_timeout: Duration::from_secs(30),
        passwords: args.passwords.clone(),
        font_folder: args.fonts.clone(),
        require_sandbox: false,
        children: 1,
    })
    .await?;
    println!("# sandbox: {:?}", pool.sandbox_status());
    let mut files = Vec::new();
    for path in &args.paths {
        collect(path, &mut files)?;
    }
    files.sort();
    for file in files {
        draw(&pool, &file, &args).await?;
    }
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
        return Ok(());
    }
    let is_text = path.extension().is_some_and(|e| e == "txt" || e == "tsv");
    if !is_text {
        files.push(path.to_owned());
    }
    Ok(())
}

async fn draw(pool: &RenderPool, file: &Path, args: &Args) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let media_type = sniff(&bytes);
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let start = Instant::now();
    let mut document = match pool.open(bytes.into(), media_type).await {
        Ok(document) => document,
        Err(trouble) => {
            println!("{name}\t-\t{trouble}\t{} ms", start.elapsed().as_millis());
            return Ok(());
        }
    };
    println!(
        "{name}\t*\t{:?}\t{} ms",
        document.info(),
        start.elapsed().as_millis()
    );
    let spec = RenderSpec {
        dpi: 144.0,
        max_edge_px: 4096,
        max_area_px: 16_000_000,
    };
    for page_idx in 0..document.info().n_pages.min(args.n_pages) {
        let start = Instant::now();
        match document.page(page_idx, &spec, true).await {
            Ok(page) => {
                println!("{name}\t{page_idx}\tok\t{}", describe(&page));
                if args.with_text
                    && let Some(layer) = &page.text_layer
                {
                    println!("{}", layer.visible_text);
                }
                if let (Some(folder), Some(layer)) = (&args.png, &page.text_layer) {
                    let to = folder.join(format!("{name}.{page_idx}.txt"));
                    std::fs::write(to, &layer.visible_text)?;
                    let boxes = layer.lines.iter().map(|line| {
                        let rect = line.rect;
                        format!(
                            "{}\t{}\t{}\t{}\t{}\n",
                            rect.x0, rect.y0, rect.x1, rect.y1, line.text
                        )
                    });
                    let to = folder.join(format!("{name}.{page_idx}.tsv"));
                    std::fs::write(to, boxes.collect::<String>())?;
                }
                if let Some(folder) = &args.png {
                    let image = &page.image;
                    let to = folder.join(format!("{name}.{page_idx}.png"));
                    let kind = image::ColorType::Rgb8;
                    image::save_buffer(to, &image.rgb, image.width, image.height, kind)?;
                }
            }
            Err(trouble) => {
                println!(
                    "{name}\t{page_idx}\t{trouble}\t{} ms",
                    start.elapsed().as_millis()
                );
            }
        }
    }
    Ok(())
}

fn describe(page: &RenderedPage) -> String {
    let image = &page.image;
    let text = page.text_layer.as_ref().map_or_else(String::new, |layer| {
        format!(
            "{} glyphs={} invisible={} unknown={} odd={} outside={} images={:.2} lines={} trust={:?}",
            layer.kind().as_str(),
            layer.n_glyphs,
            layer.n_invisible,
            layer.n_unknown_unicode,
            layer.n_odd,
            layer.n_outside,
            layer.image_coverage,
            layer.lines.len(),
            trust(layer),
        )
    });
    format!(
        "{}x{} dpi={:?} turned={} pt={:?} {text} {:?} {} ms",
        image.width,
        image.height,
        image.dpi,
        page.rotation.degrees(),
        page.width_pt.zip(page.height_pt),
        page.warnings,
        page.render.as_millis()
    )
}

/// The kinds of file this example meets.
fn sniff(bytes: &[u8]) -> &'static str {
    let head = &bytes[..bytes.len().min(1024)];
    match head {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => "image/tiff",
        [b'G', b'I', b'F', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        _ => "application/pdf",
    }
}
