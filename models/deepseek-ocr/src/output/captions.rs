//! Which picture, table or formula a caption or footnote belongs to: the nearest of its kind on
//! the page, or in the order of reading where boxes are missing.

use quire_core::{Label, Rect};

use super::blocks::Draft;
use super::labels::{self, Kind};

/// How many blocks away a caption's owner may stand.
const REACH: usize = 4;
/// How far away, as a fraction of the image's height; the next block in order may be farther.
const MAX_DISTANCE: f32 = 0.1;

/// Sets the parents of captions.
pub(super) fn tie(drafts: &mut [Draft], image_size: (u32, u32)) {
    let aspect = image_size.0.max(1) as f32 / image_size.1.max(1) as f32;
    for at in 0..drafts.len() {
        let owner = owner_of(drafts, at, aspect);
        drafts[at].block.parent = owner.and_then(|owner| u32::try_from(owner).ok());
    }
}

fn owner_of(drafts: &[Draft], at: usize, aspect: f32) -> Option<usize> {
    let block = &drafts[at].block;
    if !matches!(block.label, Label::Caption | Label::Footnote) {
        return None;
    }
    let kind = labels::belongs_to(&block.label_raw);
    if kind.is_none() && block.label != Label::Caption {
        return None;
    }
    let is_owner = |label: Label| match kind {
        Some(kind) => kind.is(label),
        None => Kind::Picture.is(label) || Kind::Table.is(label),
    };
    let near = at.saturating_sub(REACH)..drafts.len().min(at + REACH + 1);
    near.filter(|&other| is_owner(drafts[other].block.label))
        .filter_map(|other| {
            let steps = other.abs_diff(at);
            let distance = if drafts[at].has_box() && drafts[other].has_box() {
                distance(&block.rect, &drafts[other].block.rect, aspect)
            } else {
                // As far as it may be, so that only the order tells.
                MAX_DISTANCE
            };
            (steps == 1 || distance <= MAX_DISTANCE).then_some((distance, steps, other))
        })
        // Of equals, the one before: captions more often stand below.
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)))
        .map(|(_, _, other)| other)
}

/// How far two boxes are apart, in heights of the image.
fn distance(a: &Rect, b: &Rect, aspect: f32) -> f32 {
    let across = (b.x0 - a.x1).max(a.x0 - b.x1).max(0.0) * aspect;
    let down = (b.y0 - a.y1).max(a.y0 - b.y1).max(0.0);
    across.hypot(down)
}

#[cfg(test)]
mod tests {
    use super::super::{ReadOptions, read};

    fn marker(label: &str, boxed: &str) -> String {
        format!("<|ref|>{label}<|/ref|><|det|>[[{boxed}]]<|/det|>\n")
    }

    fn parents(raw: &str) -> Vec<Option<u32>> {
        let written = read(raw, (1000, 1000), &ReadOptions::default());
        written.blocks.iter().map(|block| block.parent).collect()
    }

    #[test]
    fn captions_belong_to_the_nearest_of_their_kind() {
        let raw = [
            marker("image", "0, 0, 400, 300"),
            marker("image_caption", "0, 310, 400, 330") + "A\n\n",
            marker("image", "0, 360, 400, 700"),
            marker("table_caption", "500, 0, 900, 20") + "B\n\n",
            marker("table", "500, 30, 900, 300") + "<table><tr><td>1</td></tr></table>\n\n",
            marker("table_footnote", "500, 305, 900, 320") + "C",
        ];
        assert_eq!(
            parents(&raw.concat()),
            [None, Some(0), None, Some(4), None, Some(4)]
        );
    }

    #[test]
    fn order_decides_where_boxes_are_missing() {
        let raw = "<|ref|>image<|/ref|><|det|>[[]]<|/det|>\n\
                   <|ref|>image_caption<|/ref|><|det|>[[]]<|/det|>\nA\n\
                   <|ref|>text<|/ref|><|det|>[[]]<|/det|>\nB";
        assert_eq!(parents(raw), [None, Some(0), None]);
    }

    #[test]
    fn far_captions_and_other_kinds_belong_to_nothing() {
        let raw = [
            marker("image", "0, 0, 400, 100"),
            marker("text", "0, 200, 400, 300") + "T\n",
            marker("image_caption", "0, 900, 400, 930") + "A\n",
            marker("table_caption", "0, 940, 400, 960") + "B\n",
            marker("footnote", "0, 970, 400, 980") + "C",
        ];
        assert_eq!(parents(&raw.concat()), [None; 5]);
    }
}
