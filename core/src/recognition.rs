//! What an engine says of a page. All coordinates are fractions of the **upright** page image:
//! 0 to 1, origin top left, x right, y down.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::EngineInfo;
use crate::page::Rotation;
use crate::trouble::closed_list;

closed_list! {
    /// What a block of a page is.
    Label {
        Title = "title",
        SectionHeader = "section_header",
        Text = "text",
        ListItem = "list_item",
        Table = "table",
        Formula = "formula",
        Picture = "picture",
        Caption = "caption",
        Code = "code",
        Footnote = "footnote",
        PageHeader = "page_header",
        PageFooter = "page_footer",
        PageNumber = "page_number",
        Reference = "reference",
        Form = "form",
        Stamp = "stamp",
        Other = "other",
    }
}

impl Label {
    /// Whether blocks of this kind are left out of the page's `text`.
    pub fn is_furniture(self) -> bool {
        matches!(self, Self::PageHeader | Self::PageFooter | Self::PageNumber)
    }
}

closed_list! {
    /// Something a reader should know about a page.
    Flag {
        Blank = "blank",
        Truncated = "truncated",
        Repetition = "repetition",
        Rotated = "rotated",
        LowConfidence = "low_confidence",
        TextLayerMismatch = "text_layer_mismatch",
        BoxesMissing = "boxes_missing",
        Fallback = "fallback",
    }
}

/// An upright box, `x0 <= x1`, `y0 <= y1`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rect {
    pub x0: f32,
    pub y0: f32,
    pub x1: f32,
    pub y1: f32,
}

impl Rect {
    pub fn width(&self) -> f32 {
        self.x1 - self.x0
    }

    pub fn height(&self) -> f32 {
        self.y1 - self.y0
    }

    pub fn area(&self) -> f32 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// The smallest box around both.
    pub fn union(&self, other: &Self) -> Self {
        Self {
            x0: self.x0.min(other.x0),
            y0: self.y0.min(other.y0),
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
        }
    }

    /// Area that both cover.
    pub fn overlap(&self, other: &Self) -> f32 {
        let width = self.x1.min(other.x1) - self.x0.max(other.x0);
        let height = self.y1.min(other.y1) - self.y0.max(other.y0);
        width.max(0.0) * height.max(0.0)
    }

    /// The box with its corners ordered and inside 0 to 1.
    pub fn clamped(&self) -> Self {
        let (x0, x1) = (self.x0.clamp(0.0, 1.0), self.x1.clamp(0.0, 1.0));
        let (y0, y1) = (self.y0.clamp(0.0, 1.0), self.y1.clamp(0.0, 1.0));
        Self {
            x0: x0.min(x1),
            y0: y0.min(y1),
            x1: x0.max(x1),
            y1: y0.max(y1),
        }
    }
}

/// Four corners, clockwise from the text's top left.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quad(pub [[f32; 2]; 4]);

impl Quad {
    /// The smallest upright box around the corners.
    pub fn bounds(&self) -> Rect {
        let [first, rest @ ..] = self.0;
        let start = Rect {
            x0: first[0],
            y0: first[1],
            x1: first[0],
            y1: first[1],
        };
        rest.iter().fold(start, |rect, &[x, y]| {
            rect.union(&Rect {
                x0: x,
                y0: y,
                x1: x,
                y1: y,
            })
        })
    }

    /// The corners inside 0 to 1.
    pub fn clamped(&self) -> Self {
        Self(self.0.map(|[x, y]| [x.clamp(0.0, 1.0), y.clamp(0.0, 1.0)]))
    }
}

impl From<Rect> for Quad {
    fn from(r: Rect) -> Self {
        Self([[r.x0, r.y0], [r.x1, r.y0], [r.x1, r.y1], [r.x0, r.y1]])
    }
}

/// What deep parsing asked of a picture, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    /// The question as it was put.
    pub asked: String,
    /// What the answer was taken for: `table` (of a chart), `smiles`, `geometry`, `description`.
    pub kind: String,
    /// The answer: an HTML table, a SMILES string, a dictionary as JSON, or prose.
    pub text: String,
}

/// One block of a page, in reading order among its siblings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    pub label: Label,
    /// The engine's own word for the label.
    pub label_raw: String,
    pub rect: Rect,
    /// Set when the block is not an upright box.
    pub quad: Option<Quad>,
    /// Plain text; of a table: cells by tab, rows by newline.
    pub text: String,
    /// Tables only.
    pub html: Option<String>,
    /// Formulas only.
    pub latex: Option<String>,
    /// Half-open range in the page's text, in Unicode code points; `None` for furniture.
    pub text_range: Option<Range<u32>>,
    /// Index of the block this one belongs to: caption to figure, item to list.
    pub parent: Option<u32>,
    /// Depth of a heading or list item, from 1.
    pub level: Option<u32>,
    /// 0 to 1.
    pub confidence: Option<f32>,
    /// Pictures that were asked about by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parsed: Option<Parsed>,
}

/// One line of text as read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Index of the block that holds the line.
    pub block: Option<u32>,
    pub text: String,
    pub rect: Rect,
    /// Set when the line is not an upright box.
    pub quad: Option<Quad>,
    /// 0 to 1.
    pub confidence: f32,
}

/// A page as an engine read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recognition {
    /// Turn that makes the image the engine was given upright; coordinates are after this turn.
    pub rotation: Rotation,
    /// Markdown in reading order, NFC, `\n`; empty for a blank page.
    pub text: String,
    /// In reading order, furniture included.
    pub blocks: Vec<Block>,
    /// Where the engine reads lines.
    pub lines: Option<Vec<Line>>,
    /// Mean and 10th percentile over what was read, 0 to 1; `None` if nothing was.
    pub confidence: Option<f32>,
    pub confidence_p10: Option<f32>,
    /// `stop`, `length` or `repetition`; `None` for engines that do not generate.
    pub finish_reason: Option<String>,
    /// Tokens generated.
    pub output_tokens: Option<u32>,
    /// Tokens of the page image that the decoder saw.
    pub vision_tokens: Option<u32>,
    /// `text` in the engine's own tokenizer; `None` for engines that have none.
    #[serde(default)]
    pub text_tokens: Option<u32>,
    pub flags: Vec<Flag>,
    /// The page's own time in the engine; in a batch, its share.
    pub infer: Duration,
    /// Who read the page, where it was not the engine that was asked.
    #[serde(default, with = "shared")]
    pub read_by: Option<Arc<EngineInfo>>,
    /// The engine that gave the page up first, if another one read it.
    #[serde(default)]
    pub fallback_from: Option<String>,
    /// Tries that led to this, from 1.
    #[serde(default = "once")]
    pub attempt: u32,
}

impl Default for Recognition {
    /// A blank page that was read at once.
    fn default() -> Self {
        Self {
            rotation: Rotation::None,
            text: String::new(),
            blocks: Vec::new(),
            lines: None,
            confidence: None,
            confidence_p10: None,
            finish_reason: None,
            output_tokens: None,
            vision_tokens: None,
            text_tokens: None,
            flags: Vec::new(),
            infer: Duration::ZERO,
            read_by: None,
            fallback_from: None,
            attempt: once(),
        }
    }
}

fn once() -> u32 {
    1
}

/// What is shared in memory is written out as it is.
mod shared {
    use super::{Arc, Deserialize, EngineInfo, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        value: &Option<Arc<EngineInfo>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<EngineInfo>>, D::Error> {
        Ok(Option::<EngineInfo>::deserialize(from)?.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clamped_box_is_ordered_and_inside() {
        let rect = Rect {
            x0: 1.2,
            y0: -0.1,
            x1: 0.4,
            y1: 0.5,
        }
        .clamped();
        assert_eq!(
            rect,
            Rect {
                x0: 0.4,
                y0: 0.0,
                x1: 1.0,
                y1: 0.5
            }
        );
    }

    #[test]
    fn recognition_comes_back_from_json_and_older_ones_were_read_at_once() {
        let read_by = EngineInfo {
            name: "pp-ocr".into(),
            version: "1".into(),
            model_id: "m".into(),
            model_revision: "r".into(),
            mode: "small".into(),
        };
        let page = Recognition {
            read_by: Some(Arc::new(read_by)),
            fallback_from: Some("deepseek-ocr".into()),
            attempt: 3,
            ..Recognition::default()
        };
        let mut json = serde_json::to_value(&page).unwrap();
        assert_eq!(
            serde_json::from_value::<Recognition>(json.clone()).unwrap(),
            page
        );
        let fields = json.as_object_mut().unwrap();
        for newer in ["text_tokens", "read_by", "fallback_from", "attempt"] {
            assert!(fields.remove(newer).is_some(), "{newer}");
        }
        assert_eq!(
            serde_json::from_value::<Recognition>(json).unwrap(),
            Recognition::default()
        );
    }

    #[test]
    fn labels_parse_back() {
        for &label in Label::ALL {
            assert_eq!(Label::parse(label.as_str()), Some(label));
        }
    }
}
