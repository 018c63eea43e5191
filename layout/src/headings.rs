//! Which heading is the page's title, and how deep the others stand.

use quire_core::Label;

use crate::draft::{Draft, Page};

/// Markdown knows six.
const MAX_LEVEL: u32 = 6;

/// Sets the level of headings; the flow has labelled all of them section headers.
pub(crate) fn level(page: &Page<'_>, drafts: &mut [Draft]) {
    let heads: Vec<usize> = (0..drafts.len())
        .filter(|&at| drafts[at].label == Label::SectionHeader)
        .collect();
    let title = title_of(page, drafts, &heads);
    if let Some(title) = title {
        drafts[title].label = Label::Title;
        drafts[title].level = Some(1);
    }
    // Sizes of the unnumbered ones, largest first, in steps that the eye can tell apart.
    let mut sizes: Vec<f32> = Vec::new();
    let mut heights: Vec<f32> = heads
        .iter()
        .filter(|&&at| Some(at) != title && number_of(page, &drafts[at]).is_none())
        .map(|&at| drafts[at].text_height())
        .collect();
    heights.sort_by(|a, b| b.total_cmp(a));
    for height in heights {
        if sizes.last().is_none_or(|&last| height < last / 1.3) {
            sizes.push(height);
        }
    }
    let numbers: Vec<Number> = heads
        .iter()
        .filter_map(|&at| number_of(page, &drafts[at]))
        .collect();
    let has = |number: Number| numbers.contains(&number);
    for &at in heads.iter().filter(|&&at| Some(at) != title) {
        // Roman numbers stand over letters, letters over digits, where a page has them.
        let rank = match number_of(page, &drafts[at]) {
            Some(Number::Roman) => 1,
            Some(Number::Letter) => 1 + u32::from(has(Number::Roman)),
            Some(Number::Digits(depth)) => {
                depth + u32::from(has(Number::Roman)) + u32::from(has(Number::Letter))
            }
            None => {
                let height = drafts[at].text_height();
                sizes.iter().filter(|&&size| height < size / 1.3).count() as u32 + 1
            }
        };
        drafts[at].level = Some((rank + 1).min(MAX_LEVEL));
    }
}

/// The one heading that is larger than all others and stands before the text.
fn title_of(page: &Page<'_>, drafts: &[Draft], heads: &[usize]) -> Option<usize> {
    let &first = heads.first()?;
    let before = drafts[..first]
        .iter()
        .filter(|draft| !draft.label.is_furniture())
        .count();
    let height = drafts[first].text_height();
    let others = heads[1..]
        .iter()
        .map(|&at| drafts[at].text_height())
        .fold(0.0, f32::max);
    let is_high = drafts[first].rect.y0 < 0.45 * page.frame.extent().1;
    let is_large = height > 1.25 * page.em && height > 1.15 * others;
    (is_high && is_large && before <= 2 && number_of(page, &drafts[first]).is_none())
        .then_some(first)
}

/// How a heading is numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// `IV.`
    Roman,
    /// `B.`
    Letter,
    /// `2` is 1 deep, `2.1` is 2 deep.
    Digits(u32),
}

fn number_of(page: &Page<'_>, draft: &Draft) -> Option<Number> {
    let text = draft.rows.first()?.text(page);
    if let Some(depth) = section_depth(&text) {
        return Some(Number::Digits(depth));
    }
    let (mark, _) = text.split_once(". ")?;
    match mark {
        _ if !is_letter_number(mark) => None,
        _ if mark.bytes().all(|b| b"IVX".contains(&b)) => Some(Number::Roman),
        _ => Some(Number::Letter),
    }
}

/// Depth of the section number that a line starts with.
pub(crate) fn section_depth(text: &str) -> Option<u32> {
    let (number, rest) = text.split_once([' ', '\u{3000}'])?;
    if rest.trim().is_empty() {
        return None;
    }
    let parts: Vec<&str> = number.trim_end_matches('.').split('.').collect();
    let is_part = |part: &&str| {
        !part.is_empty() && part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit())
    };
    let appendix = |part: &&str| part.len() == 1 && part.bytes().all(|b| b.is_ascii_uppercase());
    let (first, others) = parts.split_first()?;
    let is_number = is_part(first) || (appendix(first) && !others.is_empty());
    (is_number && others.iter().all(is_part) && parts.len() <= 5).then_some(parts.len() as u32)
}

/// Whether a line starts as a heading does: a section number, a chapter word.
pub(crate) fn starts_like_heading(text: &str) -> bool {
    let has_capital = |rest: &str| {
        rest.chars()
            .next()
            .is_some_and(|c| c.is_uppercase() || crate::chars::is_cjk(c))
    };
    if section_depth(text).is_some() {
        return text
            .split_once([' ', '\u{3000}'])
            .is_some_and(|(_, rest)| has_capital(rest.trim()));
    }
    let mark = text
        .split_once(". ")
        .filter(|(_, rest)| has_capital(rest.trim()));
    if mark.is_some_and(|(mark, _)| is_letter_number(mark)) {
        return true;
    }
    let chapter = |c: char| matches!(c, '章' | '节' | '節' | '篇' | '编');
    let ideographic = |c: char| "一二三四五六七八九十百零〇".contains(c) || c.is_ascii_digit();
    if let Some(rest) = text.strip_prefix('第') {
        let name: Vec<char> = rest
            .chars()
            .filter(|c| !c.is_whitespace())
            .take(5)
            .collect();
        let n = name.iter().take_while(|&&c| ideographic(c)).count();
        return n > 0 && name.get(n).copied().is_some_and(chapter);
    }
    let n = text
        .chars()
        .take_while(|&c| "一二三四五六七八九十".contains(c))
        .count();
    n > 0 && n <= 3 && text.chars().nth(n) == Some('、')
}

/// `IV`, `B`.
fn is_letter_number(mark: &str) -> bool {
    let roman = !mark.is_empty() && mark.len() <= 4 && mark.bytes().all(|b| b"IVX".contains(&b));
    roman || (mark.len() == 1 && mark.bytes().all(|b| b.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_numbers_give_depth() {
        assert_eq!(section_depth("2 Methods"), Some(1));
        assert_eq!(section_depth("2.1. Data"), Some(2));
        assert_eq!(section_depth("A.1 Proofs"), Some(2));
        assert_eq!(section_depth("2015 was a year"), None);
        assert_eq!(section_depth("A man"), None);
        assert_eq!(section_depth("2"), None);
    }

    #[test]
    fn chinese_headings_are_known_by_their_start() {
        assert!(starts_like_heading("第三章 方法"));
        assert!(starts_like_heading("二、材料"));
        assert!(starts_like_heading("1.2 安装"));
        assert!(!starts_like_heading("第三次试验"));
        assert!(!starts_like_heading("一些文字"));
        assert!(starts_like_heading("IV. Results"));
        assert!(!starts_like_heading("Mr. Smith"));
    }
}
