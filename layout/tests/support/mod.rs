//! Pages for tests: from JSON, or typeset from text.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use quire_core::{Label, Line, Quad, Rect};
use quire_layout::{PageInput, Region};
use serde_json::Value;

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

/// A page as `examples/compose.rs` takes it.
pub(crate) fn page_input(page: &Value) -> PageInput<'static> {
    let lines = page["lines"].as_array().unwrap().iter().map(|line| {
        let corner = |n: usize| [number(&line["quad"][n][0]), number(&line["quad"][n][1])];
        let quad = Quad([corner(0), corner(1), corner(2), corner(3)]);
        Line {
            block: None,
            text: line["text"].as_str().unwrap().to_owned(),
            rect: quad.bounds(),
            quad: Some(quad),
            confidence: number(&line["confidence"]),
        }
    });
    let regions = page["regions"].as_array().unwrap().iter().map(|region| {
        let side = |n: usize| number(&region["rect"][n]);
        let raw = region["label_raw"].as_str().unwrap();
        Region {
            label: label(raw),
            label_raw: raw.to_owned(),
            rect: Rect {
                x0: side(0),
                y0: side(1),
                x1: side(2),
                y1: side(3),
            },
            confidence: number(&region["confidence"]),
        }
    });
    PageInput {
        width_px: page["width_px"].as_u64().unwrap() as u32,
        height_px: page["height_px"].as_u64().unwrap() as u32,
        lines: lines.collect(),
        regions: regions.collect(),
        image: None,
    }
}

/// The label that a CDLA class stands for.
pub(crate) fn label(raw: &str) -> Label {
    match raw {
        "title" => Label::Title,
        "figure" => Label::Picture,
        "figure_caption" | "table_caption" => Label::Caption,
        "table" => Label::Table,
        "header" => Label::PageHeader,
        "footer" => Label::PageFooter,
        "reference" => Label::Reference,
        "equation" => Label::Formula,
        _ => Label::Text,
    }
}

/// A page of 1000 by 1400 pixels that is typeset line by line.
#[derive(Debug, Default)]
pub(crate) struct Sheet {
    pub(crate) lines: Vec<Line>,
    pub(crate) regions: Vec<Region>,
}

impl Sheet {
    /// A line whose left end and top are given in pixels; a character is half as wide as high.
    pub(crate) fn line(&mut self, x: f32, y: f32, height: f32, text: &str) -> &mut Self {
        let units: f32 = text
            .chars()
            .map(|c| if c > '\u{2E80}' { 2.0 } else { 1.0 })
            .sum();
        let width = units * height * 0.5;
        self.boxed([x, y, x + width, y + height], text)
    }

    /// Lines of 20 pixels, 24 apart.
    pub(crate) fn lines(&mut self, x: f32, y: f32, texts: &[&str]) -> &mut Self {
        for (at, text) in texts.iter().enumerate() {
            self.line(x, y + 24.0 * at as f32, 20.0, text);
        }
        self
    }

    pub(crate) fn boxed(&mut self, [x0, y0, x1, y1]: [f32; 4], text: &str) -> &mut Self {
        let rect = Rect {
            x0: x0 / 1e3,
            y0: y0 / 1.4e3,
            x1: x1 / 1e3,
            y1: y1 / 1.4e3,
        };
        let quad = Some(Quad::from(rect));
        self.lines.push(Line {
            block: None,
            text: text.to_owned(),
            rect,
            quad,
            confidence: 0.9,
        });
        self
    }

    pub(crate) fn region(&mut self, raw: &str, [x0, y0, x1, y1]: [f32; 4]) -> &mut Self {
        self.regions.push(Region {
            label: label(raw),
            label_raw: raw.to_owned(),
            rect: Rect {
                x0: x0 / 1e3,
                y0: y0 / 1.4e3,
                x1: x1 / 1e3,
                y1: y1 / 1.4e3,
            },
            confidence: 0.9,
        });
        self
    }

    pub(crate) fn input(&self) -> PageInput<'static> {
        // Reading order must not come from the order in which lines arrive.
        let mut lines = self.lines.clone();
        lines.reverse();
        PageInput {
            width_px: 1000,
            height_px: 1400,
            lines,
            regions: self.regions.clone(),
            image: None,
        }
    }
}
