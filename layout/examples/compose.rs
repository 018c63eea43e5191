//! Composes one page from JSON on standard input and prints what became of it as JSON, or with
//! `--markdown` the page's text, with `--plain` its blocks' texts one after the other.
//!
//! ```text
//! {"width_px": 1241, "height_px": 1754,
//!  "lines": [{"text": "…", "quad": [[x, y], …4], "confidence": 0.98}, …],
//!  "image": "page.ppm",
//!  "regions": [{"label_raw": "title", "rect": [x0, y0, x1, y1], "confidence": 0.9}, …]}
//! ```

use std::io::{Read as _, Write as _};

use quire_core::{Label, Line, PageImage, Quad, Rect};
use quire_layout::{PageInput, Region, compose};
use serde_json::{Value, json};

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap_or(f64::NAN) as f32
}

fn line(value: &Value) -> Line {
    let corner = |n: usize| [number(&value["quad"][n][0]), number(&value["quad"][n][1])];
    let quad = Quad([corner(0), corner(1), corner(2), corner(3)]);
    Line {
        block: None,
        text: value["text"].as_str().unwrap_or_default().to_owned(),
        rect: quad.bounds(),
        quad: Some(quad),
        confidence: number(&value["confidence"]),
    }
}

fn region(value: &Value) -> Region {
    let raw = value["label_raw"].as_str().unwrap_or_default();
    let label = match raw {
        "text" => Label::Text,
        "title" => Label::Title,
        "figure" => Label::Picture,
        "figure_caption" | "table_caption" => Label::Caption,
        "table" => Label::Table,
        "header" => Label::PageHeader,
        "footer" => Label::PageFooter,
        "reference" => Label::Reference,
        "equation" => Label::Formula,
        _ => Label::Other,
    };
    let side = |n: usize| number(&value["rect"][n]);
    Region {
        label,
        label_raw: raw.to_owned(),
        rect: Rect {
            x0: side(0),
            y0: side(1),
            x1: side(2),
            y1: side(3),
        },
        confidence: number(&value["confidence"]),
    }
}

/// A binary PPM (`P6`, 8 bits a channel).
fn picture(path: &str) -> Option<PageImage> {
    let bytes = std::fs::read(path).ok()?;
    let mut words = bytes.splitn(5, u8::is_ascii_whitespace);
    (words.next()? == b"P6").then_some(())?;
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u32>().ok();
    let (width, height, _most) = (number()?, number()?, number()?);
    Some(PageImage {
        width,
        height,
        rgb: words.next()?.to_vec(),
        dpi: None,
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut json_text = String::new();
    std::io::stdin().read_to_string(&mut json_text)?;
    let page: Value = serde_json::from_str(&json_text)?;
    let list = |name: &str| page[name].as_array().cloned().unwrap_or_default();
    let image = page["image"].as_str().and_then(picture);
    let composed = compose(PageInput {
        width_px: page["width_px"].as_u64().unwrap_or(0) as u32,
        height_px: page["height_px"].as_u64().unwrap_or(0) as u32,
        lines: list("lines").iter().map(line).collect(),
        regions: list("regions").iter().map(region).collect(),
        image: image.as_ref(),
    });
    let out = match std::env::args().nth(1).as_deref() {
        Some("--markdown") => composed.text,
        Some("--plain") => {
            let texts: Vec<&str> = composed
                .blocks
                .iter()
                .map(|block| block.text.as_str())
                .collect();
            texts.join("\n")
        }
        _ => serde_json::to_string(&json!({
            "text": composed.text,
            "blocks": composed.blocks,
            "lines": composed.lines,
        }))?,
    };
    writeln!(std::io::stdout(), "{out}")?;
    Ok(())
}
