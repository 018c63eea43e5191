//! What the published code makes of an answer: Markdown with numbered image files, the boxes in
//! pixels, the files' sizes. For comparisons; readers of datasets get [`super::read`].
//!
//! One thing differs on purpose: of an image block with several boxes, every file is named in the
//! Markdown, where the published code names the first number it has not used and drifts.

use super::boxes::{self, Bins};
use super::crop::pixel_box;
use super::markers::{DET_END, REF};

const BETWEEN: &str = "<|/ref|><|det|>";
const EOS: &str = "<｜end▁of▁sentence｜>";

/// An answer as the published code saves it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reference {
    pub markdown: String,
    pub refs: Vec<Ref>,
    pub crops: Vec<Crop>,
}

/// A marker of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Ref {
    pub label: String,
    /// In bins of 0 to 999.
    pub boxes: Vec<[i64; 4]>,
    /// In pixels of the original image.
    pub pixel_boxes: Vec<[i64; 4]>,
}

/// An image file beside the Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crop {
    pub file: String,
    /// Width and height, in pixels.
    pub size: (i64, i64),
}

/// The Markdown alone.
pub fn reference_markdown(raw: &str) -> String {
    reference(raw, (0, 0)).markdown
}

/// All that the published code saves of an answer about an image of this width and height.
pub fn reference(raw: &str, image_size: (u32, u32)) -> Reference {
    let raw = raw.trim();
    let raw = raw.strip_suffix(EOS).unwrap_or(raw).trim();
    let mut page = Reference::default();
    let mut has_others = false;
    let mut rest = raw;
    while let Some((start, label, list, end)) = marker(rest) {
        page.markdown.push_str(&rest[..start]);
        let (boxes, _) = boxes::parse(list);
        let pixel_boxes: Vec<Bins> = boxes
            .iter()
            .map(|&bins| pixel_box(bins, image_size))
            .collect();
        if label == "image" {
            for [x0, y0, x1, y1] in &pixel_boxes {
                let file = format!("{}.jpg", page.crops.len());
                page.markdown.push_str(&format!("![](images/{file})\n"));
                let size = (x1 - x0, y1 - y0);
                page.crops.push(Crop { file, size });
            }
        } else {
            has_others = true;
        }
        page.refs.push(Ref {
            label: label.to_owned(),
            boxes,
            pixel_boxes,
        });
        rest = &rest[end..];
    }
    page.markdown.push_str(rest);
    if has_others {
        let markdown = page.markdown.replace("\\coloneqq", ":=");
        page.markdown = markdown.replace("\\eqqcolon", "=:");
    }
    page
}

/// The first whole marker: where it starts, its label, its list of boxes, where it ends.
fn marker(text: &str) -> Option<(usize, &str, &str, usize)> {
    let start = text.find(REF)?;
    let label_at = start + REF.len();
    let label_end = label_at + text[label_at..].find(BETWEEN)?;
    let list_at = label_end + BETWEEN.len();
    let list_end = list_at + text[list_at..].find(DET_END)?;
    Some((
        start,
        &text[label_at..label_end],
        &text[list_at..list_end],
        list_end + DET_END.len(),
    ))
}
