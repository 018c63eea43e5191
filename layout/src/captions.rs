//! Captions: which text belongs to which figure, table or listing, and next to it in the order.

use quire_core::{Label, Rect};

use crate::draft::{Draft, Page};

/// How far from its figure a caption may stand, in lines.
const MAX_DISTANCE: f32 = 4.0;

/// Words a caption starts with, lower case, before its number.
const WORDS: [&str; 22] = [
    "figure",
    "fig.",
    "fig",
    "table",
    "tab.",
    "listing",
    "algorithm",
    "scheme",
    "chart",
    "plate",
    "abbildung",
    "abb.",
    "tabelle",
    "bild",
    "figura",
    "tabla",
    "tableau",
    "example",
    "exhibit",
    "illustration",
    "photo",
    "diagram",
];

/// Whether text starts as a caption does: a caption's word and a number.
pub(crate) fn starts_like_caption(text: &str) -> bool {
    let lower = text.to_lowercase();
    let after_word = WORDS
        .iter()
        .filter_map(|word| lower.strip_prefix(word))
        .any(|rest| {
            rest.starts_with(' ')
                && rest
                    .trim_start()
                    .starts_with(|c: char| c.is_ascii_digit() || "ivx".contains(c))
                && rest
                    .trim_start()
                    .split([' ', ':', '.'])
                    .next()
                    .is_some_and(|number| number.len() <= 6)
        });
    let mut chars = text.chars().filter(|c| !c.is_whitespace());
    let ideographic = matches!(chars.next(), Some('图' | '圖' | '表'))
        && chars
            .next()
            .is_some_and(|c| c.is_ascii_digit() || "一二三四五六七八九十".contains(c));
    after_word || ideographic
}

/// Ties captions to what they describe and moves them next to it.
pub(crate) fn arrange(page: &Page<'_>, drafts: &mut Vec<Draft>) {
    for at in 0..drafts.len() {
        let Some(target) = target_of(page, drafts, at) else {
            continue;
        };
        drafts[at].label = Label::Caption;
        drafts[at].level = None;
        drafts[at].parent = Some(target);
    }
    move_next_to_parents(drafts);
}

/// What a draft is the caption of.
fn target_of(page: &Page<'_>, drafts: &[Draft], at: usize) -> Option<usize> {
    let draft = &drafts[at];
    let is_labelled = draft.label == Label::Caption;
    let can_be = matches!(
        draft.label,
        Label::Text | Label::SectionHeader | Label::Caption
    );
    if !can_be {
        return None;
    }
    let text = draft.rows.first()?.text(page);
    if !is_labelled && !starts_like_caption(&text) {
        return None;
    }
    let wants_table = text.to_lowercase().starts_with("tab") || text.starts_with('表');
    let reach = MAX_DISTANCE * page.em;
    (0..drafts.len())
        .filter(|&other| {
            matches!(
                drafts[other].label,
                Label::Picture | Label::Table | Label::Code
            )
        })
        .filter_map(|other| distance(&draft.rect, &drafts[other].rect).map(|d| (d, other)))
        .filter(|&(d, _)| d <= reach)
        .map(|(d, other)| {
            let fits = (drafts[other].label == Label::Table) == wants_table;
            (if fits { d } else { d + 0.5 * reach }, other)
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// How far two boxes are apart, above and below or side by side; `None` where neither faces the
/// other.
fn distance(a: &Rect, b: &Rect) -> Option<f32> {
    let shared_x = a.x1.min(b.x1) - a.x0.max(b.x0);
    let shared_y = a.y1.min(b.y1) - a.y0.max(b.y0);
    if shared_x > 0.3 * a.width().min(b.width()) {
        return Some((-shared_y).max(0.0));
    }
    (shared_y > 0.3 * a.height().min(b.height())).then_some((-shared_x).max(0.0) * 1.5)
}

/// Captions above go before what they describe, the others behind it.
fn move_next_to_parents(drafts: &mut Vec<Draft>) {
    let mut order: Vec<usize> = Vec::with_capacity(drafts.len());
    for at in 0..drafts.len() {
        if is_tied(&drafts[at]) {
            continue;
        }
        let tied = (0..drafts.len())
            .filter(|&other| drafts[other].parent == Some(at) && is_tied(&drafts[other]));
        let (above, below): (Vec<usize>, Vec<usize>) =
            tied.partition(|&other| middle(&drafts[other]) < middle(&drafts[at]));
        order.extend(above);
        order.push(at);
        order.extend(below);
    }
    let mut place = vec![0; drafts.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    let mut moved: Vec<Option<Draft>> = drafts.drain(..).map(Some).collect();
    drafts.extend(order.iter().filter_map(|&old| moved[old].take()));
    for draft in drafts {
        draft.parent = draft.parent.map(|parent| place[parent]);
    }
}

fn is_tied(draft: &Draft) -> bool {
    draft.label == Label::Caption && draft.parent.is_some()
}

fn middle(draft: &Draft) -> f32 {
    draft.rect.y0 + draft.rect.y1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_known_by_word_and_number() {
        for text in [
            "Figure 3: A tree",
            "Fig. 2",
            "Table IV",
            "Tabelle 1.2: Werte",
            "图 3 结果",
            "表1",
        ] {
            assert!(starts_like_caption(text), "{text}");
        }
        for text in [
            "Figures show",
            "Table manners",
            "Figure out",
            "表示",
            "图书馆",
        ] {
            assert!(!starts_like_caption(text), "{text}");
        }
    }
}
