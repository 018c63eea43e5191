//! One page for people and programs: where it came from, its Markdown, its blocks.

use quire_core::{Block, Flag, Line};
use quire_dataset::PageRow;
use serde::Serialize;

use crate::output::shortened;

/// Characters of a block's text in the list of blocks.
const TEXT_CHARS: usize = 60;

/// A page as `--json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct PageView<'a> {
    pub page_id: &'a str,
    pub doc_id: &'a str,
    pub source_uri: &'a str,
    pub source_member: Option<&'a str>,
    pub media_type: &'a str,
    pub page_number: i32,
    pub page_count: Option<i32>,
    pub split: &'a str,
    pub language: Option<&'a str>,
    pub flags: &'a [Flag],
    pub confidence: Option<f32>,
    pub quality: Option<f32>,
    pub rotation: i32,
    pub image_width: Option<i32>,
    pub image_height: Option<i32>,
    pub engine: &'a str,
    pub engine_version: &'a str,
    pub engine_mode: &'a str,
    pub fallback_from: Option<&'a str>,
    pub attempt: i32,
    pub finish_reason: Option<&'a str>,
    pub text_tokens: Option<i32>,
    pub output_tokens: Option<i32>,
    pub vision_tokens: Option<i32>,
    pub compression_ratio: Option<f32>,
    pub text: &'a str,
    pub layout: &'a [Block],
    pub lines: Option<&'a [Line]>,
    /// Where the drawing was written.
    pub png: Option<String>,
}

impl<'a> PageView<'a> {
    /// What is shown of a row.
    pub(crate) fn of(row: &'a PageRow) -> Self {
        Self {
            page_id: &row.page_id,
            doc_id: row.doc_id.as_str(),
            source_uri: &row.source_uri,
            source_member: row.source_member.as_deref(),
            media_type: &row.media_type,
            page_number: row.page_number,
            page_count: row.page_count,
            split: row.split.as_str(),
            language: row.language.as_deref(),
            flags: &row.flags,
            confidence: row.confidence,
            quality: row.quality,
            rotation: row.rotation,
            image_width: row.image_width,
            image_height: row.image_height,
            engine: &row.engine,
            engine_version: &row.engine_version,
            engine_mode: &row.engine_mode,
            fallback_from: row.fallback_from.as_deref(),
            attempt: row.attempt,
            finish_reason: row.finish_reason.as_deref(),
            text_tokens: row.text_tokens,
            output_tokens: row.output_tokens,
            vision_tokens: row.vision_tokens,
            compression_ratio: row.compression_ratio,
            text: &row.text,
            layout: &row.layout,
            lines: row.lines.as_deref(),
            png: None,
        }
    }

    /// As a person reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = self.head();
        text.push_str("\n\n");
        text.push_str(self.text);
        text.push_str("\n\n");
        for (number, block) in self.layout.iter().enumerate() {
            text.push_str(&block_line(number, block));
            text.extend(parsed_line(block));
        }
        if let Some(png) = &self.png {
            text.push_str(&format!("\nboxes drawn in {png}\n"));
        }
        text
    }

    fn head(&self) -> String {
        let member = self
            .source_member
            .map_or_else(String::new, |name| format!(" > {name}"));
        let of = self
            .page_count
            .map_or_else(String::new, |count| format!(" of {count}"));
        let mut facts = vec![
            format!("page {}{of}", self.page_number),
            format!(
                "{} {} ({})",
                self.engine, self.engine_version, self.engine_mode
            ),
        ];
        facts.extend(self.fallback_from.map(|name| format!("given up by {name}")));
        facts.extend(self.language.map(str::to_owned));
        facts.extend(self.quality.map(|quality| format!("quality {quality:.2}")));
        facts.extend(
            self.confidence
                .map(|confidence| format!("confidence {confidence:.2}")),
        );
        if let (Some(text), Some(vision)) = (self.text_tokens, self.vision_tokens) {
            facts.push(format!("{text} tokens of text from {vision} of the image"));
        }
        if self.rotation != 0 {
            facts.push(format!("turned by {} degrees", self.rotation));
        }
        if !self.flags.is_empty() {
            let flags: Vec<_> = self.flags.iter().map(|flag| flag.as_str()).collect();
            facts.push(flags.join(" "));
        }
        format!(
            "{}\n{}{member}\n{}",
            self.page_id,
            self.source_uri,
            facts.join(", ")
        )
    }
}

/// What deep parsing was told of a picture.
fn parsed_line(block: &Block) -> Option<String> {
    let parsed = block.parsed.as_ref()?;
    let text = shortened(&parsed.text, 2 * TEXT_CHARS);
    Some(format!("        {}: {text}\n", parsed.kind))
}

fn block_line(number: usize, block: &Block) -> String {
    let rect = block.rect;
    let place = format!(
        "{:.3},{:.3} to {:.3},{:.3}",
        rect.x0, rect.y0, rect.x1, rect.y1
    );
    let level = block
        .level
        .map_or_else(String::new, |level| format!(" {level}"));
    let label = format!("{}{level}", block.label);
    let text = shortened(&block.text, TEXT_CHARS);
    format!("{number:>4}  {label:<16} {place}  {text}")
        .trim_end()
        .to_owned()
        + "\n"
}

#[cfg(test)]
mod tests {
    use quire_core::{Label, Rect};

    use super::*;

    #[test]
    fn page_is_shown_with_its_source_text_and_blocks() {
        let block = Block {
            label: Label::SectionHeader,
            label_raw: "title".into(),
            rect: Rect {
                x0: 0.1,
                y0: 0.2,
                x1: 0.9,
                y1: 0.25,
            },
            quad: None,
            text: "Of reading\nmachines".into(),
            html: None,
            latex: None,
            text_range: Some(0..21),
            parent: None,
            level: Some(2),
            confidence: Some(0.9),
            parsed: None,
        };
        let view = PageView {
            page_id: "d-000003",
            doc_id: "d",
            source_uri: "file:///in/a.zip",
            source_member: Some("b.pdf"),
            media_type: "application/pdf",
            page_number: 3,
            page_count: Some(7),
            split: "train",
            language: Some("eng_Latn"),
            flags: &[Flag::Rotated],
            confidence: Some(0.987),
            quality: Some(0.9),
            rotation: 90,
            image_width: Some(10),
            image_height: Some(20),
            engine: "pp-ocr",
            engine_version: "0.1.0",
            engine_mode: "small",
            fallback_from: Some("deepseek-ocr"),
            attempt: 2,
            finish_reason: None,
            text_tokens: None,
            output_tokens: None,
            vision_tokens: None,
            compression_ratio: None,
            text: "## Of reading machines",
            layout: &[block],
            lines: None,
            png: Some("d-000003.png".into()),
        };
        let expected = "\
d-000003
file:///in/a.zip > b.pdf
page 3 of 7, pp-ocr 0.1.0 (small), given up by deepseek-ocr, eng_Latn, quality 0.90, confidence 0.99, \
turned by 90 degrees, rotated

## Of reading machines

   0  section_header 2 0.100,0.200 to 0.900,0.250  Of reading machines

boxes drawn in d-000003.png
";
        assert_eq!(view.text(), expected);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(json["layout"][0]["label"], "section_header");
    }
}
