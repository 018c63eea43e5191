//! List items: what a line's mark says, and how deep an item stands.

use quire_core::Label;

use crate::draft::{Draft, Page};

/// What a list item starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) kind: Kind,
    /// Bytes of the mark itself, without the space after it.
    pub(crate) len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bullet that is hardly ever anything else.
    Bullet,
    /// A dash or asterisk that may be one.
    Dash,
    /// `3.` or `3)`: Markdown's own numbered items.
    Number(u32),
    /// `(a)`, `iv)`, `①`, `（2）`, `2、`: a mark that Markdown does not know.
    Other,
}

/// The mark at the start of a line, if it has one.
pub(crate) fn marker(text: &str) -> Option<Marker> {
    let first = text.chars().next()?;
    let rest = &text[first.len_utf8()..];
    let spaced = rest.starts_with(' ');
    match first {
        '•' | '◦' | '▪' | '■' | '□' | '●' | '○' | '‣' | '◆' | '◇' | '►' | '▶' | '➢' | '➤' | '✓'
        | '✔' | '☐' | '☑' | '\u{F0B7}' | '∙'
            if !rest.is_empty() =>
        {
            return Some(Marker {
                kind: Kind::Bullet,
                len: first.len_utf8(),
            });
        }
        '-' | '–' | '—' | '*' | '+' | '·' | '»' if spaced => {
            return Some(Marker {
                kind: Kind::Dash,
                len: first.len_utf8(),
            });
        }
        '①'..='⑳' | '⑴'..='⒇' => {
            return Some(Marker {
                kind: Kind::Other,
                len: first.len_utf8(),
            });
        }
        _ => {}
    }
    numbered(text).or_else(|| enclosed(text))
}

/// `3.`, `3)`, `a)`, `iv)`, `3、`.
fn numbered(text: &str) -> Option<Marker> {
    let head = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let stop = text[head..].chars().next()?;
    let after = text[head + stop.len_utf8()..].chars().next();
    let name = &text[..head];
    let is_number = !name.is_empty() && name.len() <= 3 && name.bytes().all(|b| b.is_ascii_digit());
    let len = head + stop.len_utf8();
    match stop {
        '.' | ')' if is_number && after == Some(' ') => Some(Marker {
            kind: Kind::Number(name.parse().ok()?),
            len,
        }),
        '、' | '．' | '）' if is_number && after.is_some() => Some(Marker {
            kind: Kind::Other,
            len,
        }),
        ')' if is_letter_mark(name) && after == Some(' ') => Some(Marker {
            kind: Kind::Other,
            len,
        }),
        _ => None,
    }
}

/// `(3)`, `(a)`, `(iv)`, `（2）`.
fn enclosed(text: &str) -> Option<Marker> {
    let open = text.chars().next().filter(|c| matches!(c, '(' | '（'))?;
    let inner = &text[open.len_utf8()..];
    let close_at = inner.find([')', '）'])?;
    let name = &inner[..close_at];
    let close = inner[close_at..].chars().next()?;
    let is_number = !name.is_empty() && name.len() <= 2 && name.bytes().all(|b| b.is_ascii_digit());
    let is_ideographic = name.chars().count() <= 2
        && !name.is_empty()
        && name.chars().all(|c| "一二三四五六七八九十".contains(c));
    let len = open.len_utf8() + close_at + close.len_utf8();
    let has_text = !text[len..].trim().is_empty();
    ((is_number || is_letter_mark(name) || is_ideographic) && has_text).then_some(Marker {
        kind: Kind::Other,
        len,
    })
}

fn is_letter_mark(name: &str) -> bool {
    let single = name.len() == 1 && name.bytes().all(|b| b.is_ascii_lowercase());
    let roman = !name.is_empty()
        && name.len() <= 4
        && name.bytes().all(|b| matches!(b, b'i' | b'v' | b'x'));
    single || roman
}

/// Sets levels and parents of list items; a lone numbered line is no list.
pub(crate) fn level(page: &Page<'_>, drafts: &mut [Draft]) {
    demote_lone_numbers(page, drafts);
    let mut at = 0;
    while at < drafts.len() {
        if drafts[at].label != Label::ListItem {
            at += 1;
            continue;
        }
        let end = drafts[at..]
            .iter()
            .position(|draft| draft.label != Label::ListItem)
            .map_or(drafts.len(), |n| at + n);
        nest(page, drafts, at, end);
        at = end;
    }
}

fn number_of(page: &Page<'_>, draft: &Draft) -> Option<u32> {
    let text = draft.rows.first()?.text(page);
    match marker(&text)?.kind {
        Kind::Number(number) => Some(number),
        _ => None,
    }
}

fn demote_lone_numbers(page: &Page<'_>, drafts: &mut [Draft]) {
    let numbers: Vec<Option<u32>> = drafts
        .iter()
        .map(|draft| {
            (draft.label == Label::ListItem)
                .then(|| number_of(page, draft))
                .flatten()
        })
        .collect();
    for (at, number) in numbers.iter().enumerate() {
        let Some(number) = *number else { continue };
        let near = at.saturating_sub(6)..(at + 7).min(numbers.len());
        let has_neighbour = near
            .filter(|&other| other != at)
            .any(|other| numbers[other].is_some_and(|n| n.abs_diff(number) == 1));
        if !has_neighbour {
            drafts[at].label = Label::Text;
        }
    }
}

/// Depth by indentation within one run of items.
fn nest(page: &Page<'_>, drafts: &mut [Draft], from: usize, to: usize) {
    // Items that are open, by their left edge.
    let mut open: Vec<(f32, usize)> = Vec::new();
    for at in from..to {
        let x0 = drafts[at].rows.first().map_or(0.0, |row| row.rect.x0);
        // In another column everything starts anew.
        let moved = at > from && drafts[at].rect.y1 < drafts[at - 1].rect.y0;
        if moved {
            open.clear();
        }
        while open
            .last()
            .is_some_and(|&(edge, _)| x0 < edge + 0.7 * page.em)
        {
            open.pop();
        }
        drafts[at].parent = open.last().map(|&(_, parent)| parent);
        drafts[at].level = Some(open.len() as u32 + 1);
        open.push((x0, at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<Kind> {
        marker(text).map(|marker| marker.kind)
    }

    #[test]
    fn marks_are_told_from_words_and_numbers() {
        assert_eq!(kind("• one"), Some(Kind::Bullet));
        assert_eq!(kind("•one"), Some(Kind::Bullet));
        assert_eq!(kind("- one"), Some(Kind::Dash));
        assert_eq!(kind("12. one"), Some(Kind::Number(12)));
        assert_eq!(kind("2) one"), Some(Kind::Number(2)));
        assert_eq!(kind("(iv) one"), Some(Kind::Other));
        assert_eq!(kind("（二）标题"), Some(Kind::Other));
        assert_eq!(kind("3、标题"), Some(Kind::Other));
        for text in [
            "-5 degrees",
            "1.2 Section",
            "12.5 kg",
            "(see below)",
            "2015. ",
            "A. Smith",
            "",
            "•",
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
    }
}
