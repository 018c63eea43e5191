//! Blocks into the page's text, with every block's exact place in it.

use quire_core::{Block, Label, Line, Rect};
use unicode_normalization::UnicodeNormalization;

use crate::ComposedPage;
use crate::draft::{Body, Draft, Page};
use crate::geometry::{corners_of, finite_rect};
use crate::join::{join, row_text};
use crate::lists::{Kind, marker};

/// Spaces that set a list item one level deeper: enough under any number of up to two digits.
const INDENT: usize = 4;

/// Writes the page out.
pub(crate) fn write(page: &Page<'_>, drafts: Vec<Draft>, lines: Vec<Line>) -> ComposedPage {
    let mut text = String::new();
    let mut written: u32 = 0;
    let mut blocks = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        let mut block = block(page, draft);
        if !block.label.is_furniture() {
            let span = nfc(&markdown(draft, &block, index));
            if !text.is_empty() {
                text.push_str("\n\n");
                written += 2;
            }
            let end = written + span.chars().count() as u32;
            text.push_str(&span);
            block.text_range = Some(written..end);
            written = end;
        }
        blocks.push(block);
    }
    let lines = place_lines(page, &drafts, lines);
    ComposedPage {
        text,
        blocks,
        lines,
    }
}

fn nfc(text: &str) -> String {
    text.nfc().collect()
}

fn block(page: &Page<'_>, draft: &Draft) -> Block {
    let (text, html) = match &draft.body {
        Body::Running => (join(page, &draft.rows), None),
        Body::Picture => {
            let rows: Vec<String> = draft.rows.iter().map(|row| row_text(page, row)).collect();
            (rows.join("\n"), None)
        }
        Body::Table(grid) => (grid.plain(), Some(nfc(&grid.html()))),
        Body::Code(rows) => (rows.join("\n"), None),
    };
    let (mut sum, mut chars) = (0f32, 0f32);
    for item in draft.items() {
        let n = page.items[item].text.chars().count() as f32;
        sum += page.items[item].confidence * n;
        chars += n;
    }
    let quad = page.frame.unplace(&draft.rect);
    Block {
        label: draft.label,
        label_raw: draft.label_raw.clone(),
        rect: outline(page, draft),
        quad: page.frame.is_leaning().then_some(quad),
        text: nfc(&text),
        html,
        latex: None,
        text_range: None,
        parent: draft.parent.and_then(|parent| u32::try_from(parent).ok()),
        level: draft.level,
        confidence: (chars > 0.0).then(|| (sum / chars).clamp(0.0, 1.0)),
        parsed: None,
    }
}

/// The box around a block in fractions of the image.
fn outline(page: &Page<'_>, draft: &Draft) -> Rect {
    page.frame.unplace(&draft.rect).bounds().clamped()
}

/// A block as Markdown, without the blank lines around it.
fn markdown(draft: &Draft, block: &Block, index: usize) -> String {
    match (&draft.body, block.label) {
        (Body::Picture, _) => format!("![](#{index})"),
        (Body::Table(_), _) => block.html.clone().unwrap_or_default(),
        (Body::Code(_), _) => fenced(&block.text),
        (Body::Running, Label::Title | Label::SectionHeader) => {
            let marks = "#".repeat(draft.level.unwrap_or(1).clamp(1, 6) as usize);
            format!("{marks} {}", block.text.replace('\n', " "))
        }
        (Body::Running, Label::ListItem) => list_item(&block.text, draft.level.unwrap_or(1)),
        (Body::Running, _) => {
            let lines: Vec<String> = block.text.lines().map(escaped).collect();
            lines.join("\n")
        }
    }
}

/// Code in a fence longer than any run of backticks inside it.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}\n{text}\n{fence}")
}

/// A bullet or number of Markdown's own replaces the printed one; other marks stay as text.
fn list_item(text: &str, level: u32) -> String {
    let indent = " ".repeat(INDENT * (level.clamp(1, 6) as usize - 1));
    let (mark, rest) = match marker(text) {
        Some(found) => match found.kind {
            Kind::Bullet | Kind::Dash => ("-", text[found.len..].trim_start()),
            Kind::Number(_) => (&text[..found.len], text[found.len..].trim_start()),
            Kind::Other => ("-", text),
        },
        None => ("-", text),
    };
    let inner = format!("\n{indent}{}", " ".repeat(mark.len() + 1));
    let lines: Vec<String> = rest.lines().map(escaped).collect();
    format!("{indent}{mark} {}", lines.join(&inner))
}

/// Escapes a line's start where Markdown would take it for something else than text.
fn escaped(line: &str) -> String {
    let mut out = String::with_capacity(line.len() + 1);
    if let Some(at) = escape_at(line) {
        out.push_str(&line[..at]);
        out.push('\\');
        out.push_str(&line[at..]);
    } else {
        out.push_str(line);
    }
    out
}

/// Where a backslash is needed, if anywhere: at the line's start, or before the dot of a number.
fn escape_at(line: &str) -> Option<usize> {
    let first = line.chars().next()?;
    let rest = &line[first.len_utf8()..];
    let ends_mark = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']);
    let is_rule = |mark: char| line.chars().all(|c| c == mark || c == ' ');
    let needed = match first {
        '#' => {
            line.len() - line.trim_start_matches('#').len() <= 6
                && ends_mark(line.trim_start_matches('#'))
        }
        '>' => true,
        '-' | '+' | '*' => ends_mark(rest) || is_rule(first),
        '=' | '_' => is_rule(first),
        '`' | '~' => rest.starts_with(&[first].repeat(2).iter().collect::<String>()),
        '<' => rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')),
        '[' => rest.contains("]:"),
        '!' => rest.starts_with('['),
        '|' => true,
        _ => false,
    };
    if needed {
        return Some(0);
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let is_number = (1..=9).contains(&digits)
        && line[digits..].starts_with(['.', ')'])
        && ends_mark(&line[digits + 1..]);
    is_number.then_some(digits)
}

/// The lines in reading order, each with its block; lines without text come last.
fn place_lines(page: &Page<'_>, drafts: &[Draft], lines: Vec<Line>) -> Vec<Line> {
    let mut waiting: Vec<Option<Line>> = lines.into_iter().map(Some).collect();
    let mut placed = Vec::with_capacity(waiting.len());
    for (index, draft) in drafts.iter().enumerate() {
        for item in draft.items() {
            let item = &page.items[item];
            let Some(mut line) = waiting.get_mut(item.line).and_then(Option::take) else {
                continue;
            };
            line.block = u32::try_from(index).ok();
            line.text.clone_from(&item.text);
            placed.push(tidy(line));
        }
    }
    placed.extend(waiting.into_iter().flatten().map(|mut line| {
        line.block = None;
        line.text = String::new();
        tidy(line)
    }));
    placed
}

/// A line with numbers that can be stored.
fn tidy(mut line: Line) -> Line {
    let corners = corners_of(&line);
    line.quad = line.quad.map(|_| corners);
    let rect = finite_rect(&line.rect);
    line.rect = if rect.area() > 0.0 || line.quad.is_none() {
        rect
    } else {
        corners.bounds()
    };
    line.confidence = if line.confidence.is_finite() {
        line.confidence.clamp(0.0, 1.0)
    } else {
        0.0
    };
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_line_starts_that_mean_something_are_escaped() {
        for (line, expected) in [
            ("# not a heading", "\\# not a heading"),
            ("#hash", "#hash"),
            ("- 5 degrees", "\\- 5 degrees"),
            ("-5 degrees", "-5 degrees"),
            ("---", "\\---"),
            ("***", "\\***"),
            ("1. May", "1\\. May"),
            ("1.5 kg", "1.5 kg"),
            ("2015) end", "2015\\) end"),
            ("> said", "\\> said"),
            ("<b>", "\\<b>"),
            ("< 5", "< 5"),
            ("[1]: x", "\\[1]: x"),
            ("[1] x", "[1] x"),
            ("![x]", "\\![x]"),
            ("```", "\\```"),
            ("a * b _c_", "a * b _c_"),
            ("", ""),
        ] {
            assert_eq!(escaped(line), expected, "{line}");
        }
    }

    #[test]
    fn fences_outlast_backticks_inside() {
        assert_eq!(fenced("a ```` b"), "`````\na ```` b\n`````");
    }
}
